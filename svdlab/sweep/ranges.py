"""Values of an axis as text: ``"20..200:20"``, ``"1,2,5..8"``, ``"0..1:0.25"``, read exactly and written back.

Arithmetic is decimal, so ``"0..1:0.1"`` holds 0.3 and not 0.30000000000000004.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from svdlab.errors import SpecError

MAX_VALUES = 100_000  # of one text; more is a slip of the keyboard
_NUMBER = r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_PART = re.compile(rf"({_NUMBER})(?:\.\.({_NUMBER})(?::({_NUMBER}))?)?")
SYNTAX = "numbers and ranges with both ends included, such as '1,2,5..8', '20..200:20' or '0..1:0.25'"

Number = int | float


def parse_values(text: str) -> tuple[Number, ...]:
    """The numbers that `text` lists, in its order.

    Parts are separated by commas. A part is a number, or a range ``first..last`` or ``first..last:step``; the last
    value belongs to the range if a step lands on it. A range counts down if `last` is below `first`. The step is 1 if
    left out, which only ranges of whole numbers may do. A part made of whole numbers gives ints, any other floats.

    Raises:
        SpecError: the text is not of this form, or lists more than 100,000 values.

    Example:
        >>> parse_values("1,2,5..8")
        (1, 2, 5, 6, 7, 8)
        >>> parse_values("0..1:0.25")
        (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    values: list[Number] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise SpecError(f"{text!r}: cannot read {part.strip()!r}. Allowed are {SYNTAX}.")
        values += _expand(text, *match.groups())
        if len(values) > MAX_VALUES:
            raise SpecError(f"{text!r}: lists more than {MAX_VALUES:,} values. Use a larger step.")
    return tuple(values)


def _expand(text: str, first: str, last: str | None, step: str | None) -> list[Number]:
    kind = int if all(_is_whole(number) for number in (first, last, step) if number is not None) else float
    if last is None:
        return [kind(first)]
    if step is None and kind is float:
        raise SpecError(f"{text!r}: {first}..{last} needs a step, such as {first}..{last}:0.1.")
    start, stop, stride = Decimal(first), Decimal(last), Decimal(step or 1)
    if stride <= 0:
        raise SpecError(f"{text!r}: the step {step} must be above 0. To count down, write the larger end first.")
    count = int(abs(stop - start) / stride) + 1
    if count > MAX_VALUES:
        raise SpecError(f"{text!r}: {first}..{last}:{stride} has {count:,} values, more than {MAX_VALUES:,}.")
    stride = stride if stop >= start else -stride
    return [kind(start + k * stride) for k in range(count)]


def _is_whole(number: str) -> bool:
    return number.lstrip("+-").isdigit()


def format_values(values: Iterable[object]) -> str:
    """Values as short text; for numbers the inverse of `parse_values`: three or more in even steps become a range.

    Example:
        >>> format_values([1, 2, 5, 6, 7, 8])
        '1, 2, 5..8'
        >>> format_values([0.0, 0.25, 0.5])
        '0.0..0.5:0.25'
    """
    values, parts, k = list(values), [], 0
    while k < len(values):
        length = _run_length(values[k:])
        if length >= 3:
            parts.append(_range_text(values[k], values[k + 1], values[k + length - 1]))
        else:
            length = 1
            parts.append(str(values[k]) if isinstance(values[k], str) else repr(values[k]))
        k += length
    return ", ".join(parts)


def _run_length(values: Sequence[object]) -> int:
    """How many of the first values are numbers of one type in equal, non-zero decimal steps."""
    if len(values) < 3 or type(values[0]) not in (int, float):
        return 1
    step, length = None, 1
    for before, after in itertools.pairwise(values):
        if type(after) is not type(before):
            break
        difference = Decimal(repr(after)) - Decimal(repr(before))
        if difference == 0 or (step is not None and difference != step):
            break
        step, length = difference, length + 1
    return length


def _range_text(first: object, second: object, last: object) -> str:
    step = abs(Decimal(repr(second)) - Decimal(repr(first)))
    return f"{first!r}..{last!r}" + ("" if step == 1 and isinstance(first, int) else f":{step}")

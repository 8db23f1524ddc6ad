"""Words: numbers, units and counts as they stand in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from svdlab.metrics import registry

UNITS: Mapping[str, str] = MappingProxyType(
    {
        "seconds": "s",
        "seconds_denoise": "s",
        "seconds_decode": "s",
        "seconds_spent": "s",
        "vram_peak_mb": "MB",
        "width": "px",
        "height": "px",
    }
)
NOUNS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"image": ("picture", "pictures"), "seed": ("seed", "seeds"), "model": ("model", "models")}
)


def unit_of(column: str) -> str:
    """The unit of a column, as the registry of metrics knows it; ``""`` for a plain number.

    Example:
        >>> unit_of("flow_mean"), unit_of("warp_error"), unit_of("seconds")
        ('px/frame', '', 's')
    """
    return registry.get(column).unit if column in registry.names() else UNITS.get(column, "")


def better_of(column: str) -> str:
    """``"higher"`` or ``"lower"``, whichever is better of a metric, or ``"neutral"``.

    Example:
        >>> better_of("warp_error"), better_of("flow_mean"), better_of("seconds_spent")
        ('lower', 'neutral', 'lower')
    """
    if column in registry.names():
        return registry.get(column).direction
    return "lower" if UNITS.get(column) in ("s", "MB") else "neutral"


def number(value: float) -> str:
    """A number with three digits.

    Example:
        >>> number(0.31415), number(-12.0), number(0.0000412)
        ('0.314', '-12', '4.12e-05')
    """
    if not math.isfinite(value):
        return "unknown"
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e7 else "0" if float(text) == 0 else text


def quantity(value: float, column: str) -> str:
    """A number with the unit of its column.

    Example:
        >>> quantity(0.3142, "flow_mean"), quantity(0.3142, "warp_error")
        ('0.314 px/frame', '0.314')
    """
    return f"{number(value)} {unit_of(column)}".rstrip()


def percent(value: float) -> str:
    """A share in percent.

    Example:
        >>> percent(0.623), percent(0.004), percent(0.0)
        ('62 %', '0.4 %', '0 %')
    """
    if not math.isfinite(value):
        return "an unknown share"
    return f"{100 * value:.1g} %" if 0 < abs(value) < 0.01 else f"{100 * value:.0f} %"


def level(value: float) -> str:
    """The level of an interval in percent.

    Example:
        >>> level(0.95), level(1 - 0.05 / 12)
        ('95 %', '99.58 %')
    """
    return f"{100 * value:.4g} %"


def show(value: Any) -> str:
    """A setting's value: floats without trailing zeros.

    Example:
        >>> show(0.020), show("rocket")
        ('0.02', 'rocket')
    """
    return f"{value:g}" if isinstance(value, float) else str(value)


def count(column: str, number: int) -> str:
    """A number of values of a column in words.

    Example:
        >>> count("image", 2), count("seed", 1), count("cond_aug", 3)
        ('2 pictures', '1 seed', '3 values of cond_aug')
    """
    if column in NOUNS:
        return f"{number} {NOUNS[column][number != 1]}"
    return f"{number} {'value' if number == 1 else 'values'} of {column}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "cell"), plural(3, "cell")
        ('1 cell', '3 cells')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def joined(parts: Iterable[str]) -> str:
    """Parts as a list in a sentence.

    Example:
        >>> joined(["a", "b", "c"]), joined(["a"])
        ('a, b and c', 'a')
    """
    *rest, last = list(parts)
    return f"{', '.join(rest)} and {last}" if rest else last


def units(groups: Mapping[str, int]) -> str:
    """What the units of repetition are, in the plural.

    Example:
        >>> units({"image": 2, "seed": 4}), units({"image": 1, "seed": 4})
        ('pairs of picture and seed', 'seeds')
    """
    varying = [name for name, number in groups.items() if number > 1]
    if len(varying) == 1:
        return NOUNS[varying[0]][1] if varying[0] in NOUNS else f"values of {varying[0]}"
    nouns = [NOUNS[name][0] if name in NOUNS else name for name in varying]
    return f"{'pairs' if len(nouns) == 2 else 'combinations'} of {joined(nouns)}" if nouns else "units"


def left_out(reasons: Mapping[str, int]) -> str:
    """What is not in a statistic, as a sentence with a leading space; empty if everything is.

    Example:
        >>> left_out({"failed": 2, "without flow_mean": 1})
        ' Left out: 2 failed, 1 without flow_mean.'
    """
    parts = ", ".join(f"{number} {reason}" for reason, number in reasons.items() if number)
    return f" Left out: {parts}." if parts else ""

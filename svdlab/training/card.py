"""The table of a small model's card: what was measured, what it should reach, and what it must never fall below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["reached", "enough", "failed", "not measured", "no bar"]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What a value is held against.

    Attributes:
        aim: the value to reach.
        limit: the value never to fall below (or above, where lower is better); None: no such limit.
        lower: whether a lower value is better.

    Example:
        >>> Bar(aim=30, limit=27).judge(28.1)
        'enough'
    """

    aim: float
    limit: float | None = None
    lower: bool = False

    def judge(self, value: float) -> Verdict:
        """`reached` the aim, `enough` for the limit (or no limit is set), or `failed`. NaN fails."""
        if self._as_good(value, self.aim):
            return "reached"
        if math.isnan(value) or (self.limit is not None and not self._as_good(value, self.limit)):
            return "failed"
        return "enough"

    def _as_good(self, value: float, bar: float) -> bool:
        # A share of 0.8 minus one of 0.85 is a hair below -0.05 in binary.
        slack = 1e-9 * max(1.0, abs(bar))
        return value <= bar + slack if self.lower else value >= bar - slack


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        name: short, for JSON.
        title: what it is, for people.
        unit: such as `dB`; empty for a plain number.
        value: the number; None if it could not be measured.
        bar: what it is held against; None: shown for comparison only.
        pictures: value for each picture, by its name.
        note: what must be known to read it.
    """

    name: str
    title: str
    value: float | None
    unit: str = ""
    bar: Bar | None = None
    pictures: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """How the value stands against its bar."""
        if self.value is None:
            return "not measured"
        return "no bar" if self.bar is None else self.bar.judge(self.value)

    def to_json(self) -> dict[str, Any]:
        """Plain values, all finite or None."""
        bar = {"aim": self.bar.aim, "limit": self.bar.limit, "lower_is_better": self.bar.lower} if self.bar else None
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "value": self.value,
            "bar": bar,
            "verdict": self.verdict,
            "pictures": dict(self.pictures),
            "note": self.note,
        }


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, with its final newline.

    Example:
        >>> print(markdown([Row(name="psnr", title="PSNR", unit="dB", value=31.2, bar=Bar(aim=30, limit=27))]))
        | what | measured | to reach | never beyond | verdict |
        |---|---|---|---|---|
        | PSNR | 31.2 dB | >= 30 dB | 27 dB | reached |
    """
    lines = ["| what | measured | to reach | never beyond | verdict |", "|---|---|---|---|---|"]
    for row in rows:
        aim = limit = ""
        if row.bar:
            aim = f"{'<=' if row.bar.lower else '>='} {_number(row.bar.aim, row.unit)}"
            limit = "" if row.bar.limit is None else _number(row.bar.limit, row.unit)
        cells = [row.title, _number(row.value, row.unit), aim, limit, row.verdict]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{text}{unit}" if unit in ("", "x") else f"{text} {unit}"

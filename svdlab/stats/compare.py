"""Comparison: the paired difference of two settings, or of two sweeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

from svdlab.errors import StatsError
from svdlab.stats import words
from svdlab.stats.design import (
    SETTING_COLUMNS,
    UNIT,
    Design,
    check_column,
    check_metric,
    check_names,
    frame_of,
    read_design,
)
from svdlab.stats.intervals import LEVEL, Estimate, check_level, clustered_mean
from svdlab.stats.power import pairs_needed
from svdlab.stats.result import Result

if TYPE_CHECKING:
    from svdlab.sweep import Sweep

SIDE = "which"
POWER = 0.8


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison(Result):
    """What the second of two settings or sweeps does to a metric, against the first.

    Attributes:
        metric: its column.
        first, second: the two in words.
        difference: second minus first, the mean over units, with its interval.
        means: mean of the first and of the second, over the same pairs.
        effect_size: d_z, the mean difference over the standard deviation of the differences of units; NaN for one unit.
        up, down, same: units in which the second is higher, lower, equal.
        pairs: pairs of cells.
        needed: how many values of `needed_of` would show the smallest difference of interest with 80 % power; None if
            that cannot be said.
        needed_of: ``"seed"`` with several seeds (of these pictures), or else ``"image"``.
        smallest: the difference that `needed` is for; None: the one that was found.
        units: DataFrame [units]: the difference of each.
        left_out: reason -> number of cells.
    """

    metric: str
    first: str
    second: str
    difference: Estimate
    means: tuple[float, float]
    effect_size: float
    up: int
    down: int
    same: int
    pairs: int
    needed: int | None
    needed_of: str | None
    smallest: float | None
    units: pd.DataFrame
    left_out: Mapping[str, int]

    @property
    def better(self) -> str | None:
        """``"first"`` or ``"second"``, if the interval settles it and the metric has a better direction."""
        direction = words.better_of(self.metric)
        if not self.difference.settled or direction == "neutral":
            return None
        return "second" if (self.difference.value > 0) == (direction == "higher") else "first"

    @property
    def sentence(self) -> str:
        """The difference in words, with its interval, over how many units, and how many it would take."""
        parts = [self._found(), self._better(), self._signs(), self._needed()]
        return " ".join(part for part in parts if part) + words.left_out(self.left_out)

    def _found(self) -> str:
        d = self.difference
        size = f"{words.quantity(abs(d.value), self.metric)} {'higher' if d.value > 0 else 'lower'}"
        head = f"{self.metric} is {size} with {self.second} than with {self.first}"
        if d.value == 0:
            head = f"{self.metric} is on average the same with {self.second} as with {self.first}"
        if not d.known:
            return f"{head} ({d.scope}; {d.size})."
        limits = f"{words.level(d.level)} interval {words.number(d.low)} to {words.number(d.high)}, {d.scope}; {d.size}"
        unsure = (
            "" if d.settled or d.low == d.high == 0 else " The interval includes zero: the direction is not settled."
        )
        return f"{head} ({limits}).{unsure}"

    def _better(self) -> str:
        if self.better is None:
            return ""
        winner = self.second if self.better == "second" else self.first
        return f"{words.better_of(self.metric).capitalize()} is better: {winner} wins."

    def _signs(self) -> str:
        if self.difference.n < 2:
            return ""
        counts = {"higher": self.up, "lower": self.down, "the same": self.same}
        found = ", ".join(f"{way} in {number}" for way, number in counts.items() if number)
        size = f"; effect size d_z = {self.effect_size:.2f}" if math.isfinite(self.effect_size) else ""
        return f"Of {self.difference.n} {words.units(self.difference.groups)} it is {found}{size}."

    def _needed(self) -> str:
        if self.needed_of is None or (self.smallest is None and self.difference.value == 0):
            return ""
        size = "it is really this large" if self.smallest is None else f"it is really {words.number(self.smallest)}"
        of = "of these pictures" if self.difference.groups.get("image", 1) > 1 else "of this picture"
        noun = f"seeds {of}" if self.needed_of == "seed" else "pictures"
        if self.needed is None:
            return f"How many {noun} would show it, if {size}, cannot be said."
        return f"If {size}, about {self.needed} {noun} show it with {words.percent(POWER)} power."

    def to_frame(self) -> pd.DataFrame:
        """One row: the two, the means, the difference with its limits, effect size, counts and what is needed."""
        d = self.difference
        row = {
            "metric": self.metric, "first": self.first, "second": self.second, "mean_first": self.means[0],
            "mean_second": self.means[1], "difference": d.value, "low": d.low, "high": d.high, "level": d.level,
            "d_z": self.effect_size, "n": d.n, "up": self.up, "down": self.down, "same": self.same,
            "needed": self.needed, "needed_of": self.needed_of,
        }  # fmt: skip
        return pd.DataFrame([row])


@overload
def compare(
    first: pd.DataFrame | Sweep,
    second: pd.DataFrame | Sweep,
    metric: str,
    *,
    names: tuple[str, str] = ...,
    axes: Sequence[str] = ...,
    over: Sequence[str] = ...,
    level: float = ...,
    smallest: float | None = ...,
    **settings: Any,
) -> Comparison: ...


@overload
def compare(
    first: pd.DataFrame | Sweep,
    second: str,
    *,
    axes: Sequence[str] = ...,
    over: Sequence[str] = ...,
    level: float = ...,
    smallest: float | None = ...,
    **settings: Any,
) -> Comparison: ...


def compare(
    first: Any,
    second: Any,
    metric: str | None = None,
    *,
    names: tuple[str, str] = ("the first", "the second"),
    axes: Sequence[str] = (),
    over: Sequence[str] = UNIT,
    level: float = LEVEL,
    smallest: float | None = None,
    **settings: Any,
) -> Comparison:
    """The paired difference of a metric between two sweeps, or between two settings of one.

    ``compare(df, metric, steps=(2, 4))`` pairs cells that agree in picture, seed and every setting but `steps`;
    several settings can change at once, and a single value (``cond_aug=0.02``) narrows the table first.
    ``compare(a, b, metric)`` pairs the cells of two tables that agree in picture, seed and every setting that varies; a
    setting that has one value in each, but not the same, is part of what is compared.

    Pairs are averaged within each unit (a picture with a seed), units count equally, and the interval is that of
    `clustered_mean` over them. The number needed is that of a paired t-interval over seeds (the pictures being these),
    or over pictures if there is one seed, if the true difference and its spread are as found. From few units it is
    rough; with `smallest`, the least difference that matters to you, only the spread is taken from what was found.

    Args:
        first: a sweep or DataFrame.
        second: another one; or the metric, to compare within `first`.
        metric: numeric column.
        names: what to call two sweeps.
        axes: further columns that are settings, beyond those of a request.
        over: what the interval generalises over: new pictures and seeds; ``("seed",)``: these pictures, new seeds.
        level: of the interval.
        smallest: the least difference worth seeing, in units of the metric, for the number needed.
        settings: setting -> (first value, second value), or setting -> value for both.

    Raises:
        StatsError: no such column or value, nothing differs, no pairs, or cells cannot be told apart.

    Example:
        >>> print(compare(sweep, "flow_mean", steps=(2, 4)))
        flow_mean is 0.31 px/frame higher with steps = 4 than with steps = 2 (95 % interval 0.12 to 0.5, ...
        >>> compare(teacher, student, "warp_error", names=("teacher", "student")).needed
        6
    """
    check_level(level)
    axes = check_names("axes", axes)
    if smallest is not None and not (isinstance(smallest, int | float) and 0 < smallest < math.inf):
        raise StatsError(f"smallest = {smallest!r}: must be a difference above 0, in units of the metric.")
    if isinstance(second, str):
        if metric is not None:
            raise StatsError(
                f"second = {second!r} with metric = {metric!r}: compare(df, metric, steps=(2, 4)) takes one table, "
                "compare(a, b, metric) takes two."
            )
        sides, called = _narrow(frame_of(first, "first"), settings)
        metric = second
    else:
        if metric is None:
            raise StatsError("metric = None: name the column to compare, such as compare(a, b, 'flow_mean').")
        a, b = frame_of(first, "first"), frame_of(second, "second")
        sides, called = _fixed(a, b, settings), _pair_of("names", names)
    for frame in sides:
        check_metric(frame, metric)
    design, left_out = _together(sides, axes, over, metric)
    table, missing = design.lines(metric, [SIDE])
    paired = table.dropna() if len(table.columns) == 2 else table.iloc[:0]
    if paired.empty:
        raise StatsError(
            f"no pairs: no cell of {called[0]} with a {metric!r} agrees with one of {called[1]} in "
            f"{words.joined((*design.units, *design.settings) or ('anything',))}. Look at the values of these columns."
        )
    left_out = {**left_out, **missing}
    if alone := int(table.notna().to_numpy().sum()) - 2 * len(paired):
        left_out["without a partner"] = alone
    return _comparison(
        design, paired, left_out, metric=metric, called=called, over=over, level=level, smallest=smallest
    )


def _comparison(
    design: Design, paired: pd.DataFrame, left_out: Mapping[str, int], *, metric: str, called: tuple[str, str],
    over: Sequence[str], level: float, smallest: float | None,
) -> Comparison:  # fmt: skip
    differences, labels = design.unit_means(paired[1] - paired[0])
    means = tuple(float(np.mean(design.unit_means(paired[side])[0])) for side in (0, 1))
    estimate = clustered_mean(differences, labels, over=over, level=level)
    needed, needed_of = _needed(differences, labels, smallest, level)
    return Comparison(
        metric=metric, first=called[0], second=called[1], difference=estimate, means=(means[0], means[1]),
        effect_size=_ratio(estimate.value, estimate.sd), up=int((differences > 0).sum()),
        down=int((differences < 0).sum()), same=int((differences == 0).sum()), pairs=len(paired), needed=needed,
        needed_of=needed_of, smallest=smallest, units=pd.DataFrame({**labels, "difference": differences}),
        left_out=left_out,
    )  # fmt: skip


def _needed(
    differences: np.ndarray, labels: Mapping[str, np.ndarray], smallest: float | None, level: float
) -> tuple[int | None, str | None]:
    """How many seeds, with these pictures, or how many pictures; and which of the two it is."""
    for name in reversed(UNIT):
        if name in labels:
            means = pd.Series(differences).groupby(labels[name]).mean().to_numpy()
            if len(means) > 1:
                size = float(np.mean(means)) if smallest is None else smallest
                return pairs_needed(_ratio(size, float(np.std(means, ddof=1))), power=POWER, level=level), name
    return None, None


def _ratio(value: float, sd: float) -> float:
    """A standardised difference: infinite if all units agree, unknown if there is no difference either."""
    if not sd > 0:
        return math.nan if value == 0 or math.isnan(sd) else math.copysign(math.inf, value)
    return value / sd


def _narrow(
    frame: pd.DataFrame, settings: Mapping[str, Any]
) -> tuple[tuple[pd.DataFrame, pd.DataFrame], tuple[str, str]]:
    """The rows of the first and of the second values, and what to call them."""
    pairs = {name: value for name, value in settings.items() if isinstance(value, tuple | list)}
    if not pairs:
        raise StatsError(
            "nothing to compare: name a setting with its two values, such as steps=(2, 4), or pass two sweeps and a "
            "metric."
        )
    sides, called = [], []
    for side in (0, 1):
        chosen = {name: _pair_of(name, value)[side] if name in pairs else value for name, value in settings.items()}
        sides.append(_chosen(frame, chosen))
        called.append(" and ".join(f"{name} = {words.show(chosen[name])}" for name in pairs))
    if called[0] == called[1]:
        raise StatsError(f"the two are the same ({called[0]}): give two different values.")
    return (sides[0], sides[1]), (called[0], called[1])


def _fixed(a: pd.DataFrame, b: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    both = {name: value if isinstance(value, tuple | list) else (value, value) for name, value in settings.items()}
    values = {name: _pair_of(name, value) for name, value in both.items()}
    first, second = ({name: pair[side] for name, pair in values.items()} for side in (0, 1))
    return _chosen(a, first), _chosen(b, second)


def _chosen(frame: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    for name, value in values.items():
        check_column(frame, "setting", name)
        chosen = frame[frame[name] == value]
        if chosen.empty:
            there = ", ".join(words.show(level) for level in frame[name].dropna().unique()[:20])
            raise StatsError(f"{name} = {value!r}: no row has this value. There are {there or 'none'}.")
        frame = chosen
    return frame


def _pair_of(argument: str, value: Any) -> tuple[Any, Any]:
    if isinstance(value, str) or len(value) != 2:
        raise StatsError(f"{argument} = {value!r}: must be two values, the first and the second.")
    return value[0], value[1]


def _together(
    sides: Sequence[pd.DataFrame], axes: Sequence[str], over: Sequence[str], metric: str
) -> tuple[Design, dict[str, int]]:
    """Both tables as one design, without the settings in which they differ as a whole."""
    designs = [read_design(side, metrics=[metric], axes=axes, over=over) for side in sides]
    left_out: dict[str, int] = {}
    for design in designs:
        for reason, number in design.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + number
    names = [
        name
        for name in dict.fromkeys((*SETTING_COLUMNS, *axes, *over))
        if any(name in design.rows for design in designs)
    ]
    frames = [design.rows[[name for name in names if name in design.rows]] for design in designs]
    for name in names:
        if frames[0].get(name) is None or frames[1].get(name) is None:
            _check_absent(name, frames)
            frames = [frame.drop(columns=name, errors="ignore") for frame in frames]
        elif all(frame[name].nunique() == 1 for frame in frames) and frames[0][name].iloc[0] != frames[1][name].iloc[0]:
            frames = [frame.drop(columns=name) for frame in frames]
    whole = []
    for side, (frame, design) in enumerate(zip(frames, designs, strict=True)):
        values = design.rows[metric].to_numpy(dtype=float, na_value=np.nan)
        whole.append(pd.DataFrame({**{name: frame[name] for name in frame}, metric: values, SIDE: side}))
    both = pd.concat(whole, ignore_index=True)
    units = tuple(name for name in dict.fromkeys((*UNIT, *over)) if name in both)
    return read_design(
        both, metrics=[metric], axes=[*(name for name in axes if name in both), SIDE], over=units
    ), left_out


def _check_absent(name: str, frames: Sequence[pd.DataFrame]) -> None:
    """A column that one table lacks must have one value in the other."""
    for frame in frames:
        if name in frame and frame[name].nunique() > 1:
            there = ", ".join(words.show(level) for level in frame[name].dropna().unique()[:20])
            raise StatsError(
                f"{name!r} is in one of the two tables only, and varies there ({there}): "
                f"narrow that table to one value first."
            )

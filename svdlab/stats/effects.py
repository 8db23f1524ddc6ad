"""Effects: what each setting does to each metric, and which settings depend on each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from svdlab.errors import StatsError
from svdlab.stats import words
from svdlab.stats.design import (
    UNIT,
    Design,
    check_column,
    check_metric,
    check_names,
    frame_of,
    levels_of,
    metric_columns,
    read_design,
)
from svdlab.stats.grid import full_grid, own_seeds, sums_of_squares
from svdlab.stats.intervals import LEVEL, Estimate, check_level, clustered_mean
from svdlab.stats.result import Result

if TYPE_CHECKING:
    from svdlab.sweep import Sweep

MAIN = ["metric", "axis", "value", "against", "difference", "low", "high", "n", "up", "down", "share"]
INTERACTIONS = ["metric", "axes", "corners", "difference", "low", "high", "n", "up", "down", "share"]
SHOWN = 5  # of the largest shares in the sentence


@dataclass(frozen=True, kw_only=True, eq=False)
class Effects(Result):
    """Main effects and two-way interactions.

    Attributes:
        main: DataFrame, a row for each metric, axis and value but the one compared `against`: `difference`, the mean
            over units, its limits `low` and `high`, `n` units, in how many of them it is `up` and `down`, and `share`,
            the part of the metric's sum of squares that the axis has (eta squared; the same for all its values).
        interactions: DataFrame, a row for each metric and pair of axes: `difference` of differences between the
            `corners`, its limits, counts, and the `share` of the pair.
        level: of each interval, as asked for.
        simultaneous: whether all intervals hold together at that level.
        tally: number of intervals.
        size: the units in words; an effect may rest on fewer of them.
        sentences: a sentence for each row of `main`, then of `interactions`.
        notes: what was left out, a sentence for each metric that lost something.
    """

    main: pd.DataFrame
    interactions: pd.DataFrame
    level: float
    simultaneous: bool
    tally: int
    size: str
    sentences: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """How many effects are settled, how many would seem so by chance, the largest shares, and what was left out."""
        both = pd.concat([self.main[["low", "high"]], self.interactions[["low", "high"]]])
        settled = int(((both["low"] > 0) | (both["high"] < 0)).sum())
        head = f"{words.plural(len(self.main), 'main effect')}"
        if len(self.interactions):
            head += f" and {words.plural(len(self.interactions), 'interaction')}"
        if not self.tally:
            known = "there are no intervals, because only one unit (a picture with a seed) has them"
        else:
            known = f"{settled} of {words.plural(self.tally, 'interval')} ({words.level(self.level)}) exclude zero"
            chance = (1 - self.level) * self.tally
            known += (
                "; the intervals hold all together" if self.simultaneous
                else f"; if nothing had an effect, {words.number(chance)} of them would by chance"
            )  # fmt: skip
        return " ".join([f"{head} ({self.size}): {known}.", *self._shares(), *self.notes])

    def _shares(self) -> list[str]:
        shares = self.main.drop_duplicates(["metric", "axis"]).dropna(subset="share").nlargest(SHOWN, "share")
        if shares.empty:
            return []
        columns = (shares[name].tolist() for name in ("metric", "axis", "share"))
        found = [f"{metric} by {axis} ({words.percent(share)})" for metric, axis, share in zip(*columns, strict=True)]
        return [f"Largest shares of variance: {', '.join(found)}."]

    def to_frame(self) -> pd.DataFrame:
        """The main effects, as a new DataFrame."""
        return self.main.copy()

    def _repr_html_(self) -> str:
        below = ""
        if len(self.interactions):
            below = self.interactions.to_html(
                index=False, escape=True, border=0, na_rep="", float_format="{:.3g}".format
            )
        return super()._repr_html_() + below


def effects(
    df: pd.DataFrame | Sweep,
    metrics: Sequence[str] | None = None,
    *,
    axes: Sequence[str] | None = None,
    against: Mapping[str, Any] | None = None,
    interactions: bool = True,
    over: Sequence[str] = UNIT,
    level: float = LEVEL,
    simultaneous: bool = False,
) -> Effects:
    """Main effects of each axis on each metric, and two-way interactions, paired by picture, seed and other settings.

    A main effect is the difference between a value of the axis and the one it is compared `against`, taken between
    cells that agree in everything else, averaged over the other settings within a unit (a picture with a seed), then
    over units, with the interval of `clustered_mean`. An interaction is a difference of differences: how much more the
    change from the first to the last value of one axis does at the last value of the other than at its first. Cells
    without a partner drop out of that comparison alone. `share` is eta squared on the full grid, as in `variance`.

    There are no p-values: an interval says how large an effect is and how sure, and whether it excludes zero can be
    seen. A table of many intervals holds some that exclude zero by chance; the sentence says how many to expect, and
    ``simultaneous=True`` widens them (Bonferroni) until all hold together at `level`.

    Args:
        df: a sweep, or a DataFrame such as `Sweep.frame()`.
        metrics: numeric columns; None: all measurements of the table.
        axes: columns; None: all settings that vary. Columns beyond the settings of a request may be named.
        against: axis -> the value to compare with; by default its first (smallest).
        interactions: whether to compute them.
        over: what intervals generalise over: new pictures and seeds; ``("seed",)``: these pictures, new seeds.
        level: of the intervals.
        simultaneous: widen the intervals so that all hold together.

    Raises:
        StatsError: no such column or value, nothing varies, or cells cannot be told apart.

    Example:
        >>> found = effects(sweep, ["flow_mean", "warp_error"])
        >>> found.main.query("axis == 'steps'")
        >>> print(found.sentences[0])
        flow_mean with steps = 2 against steps = 1: 0.21 px/frame higher (95 % interval 0.1 to 0.32, ...
    """
    check_level(level)
    frame = frame_of(df)
    metrics = metric_columns(frame) if metrics is None else check_names("metrics", metrics)
    if not metrics:
        raise StatsError("metrics: the table has no measured columns.")
    for metric in metrics:
        check_metric(frame, metric, "metrics")
    named = () if axes is None else check_names("axes", axes)
    design = read_design(frame, metrics=metrics, axes=named, over=over)
    chosen = list(named or design.settings)
    for axis in chosen:
        if design.rows[axis].nunique() < 2:
            raise StatsError(f"axes = {axis!r}: has one value only, so it has no effect to show.")
    if not chosen:
        raise StatsError("no setting varies in the finished cells: there are no effects to show.")
    bases = _bases(design, chosen, against or {})
    pairs = list(combinations(chosen, 2)) if interactions else []
    compared = [(metric, axis, value) for metric in metrics for axis in chosen
                for value in levels_of(design.rows[axis]) if value != bases[axis]]  # fmt: skip
    tally = len(compared) + len(metrics) * len(pairs)
    each = 1 - (1 - level) / tally if simultaneous else level
    tables = [
        _Table(design=design, metric=metric, axes=chosen, bases=bases, pairs=pairs, over=over, level=each)
        for metric in metrics
    ]
    main = [row for table in tables for row in table.main()]
    crossed = [row for table in tables for row in table.interactions()]
    return Effects(
        main=_rows(main, MAIN),
        interactions=_rows(crossed, INTERACTIONS),
        level=level, simultaneous=simultaneous,
        size=design.size,
        tally=sum(math.isfinite(row["low"]) for row, _ in [*main, *crossed]),
        sentences=tuple(sentence for _, sentence in [*main, *crossed]),
        notes=tuple(note for table in tables if (note := table.note)),
    )  # fmt: skip


class _Table:
    """The effects on one metric, each a row and a sentence."""

    def __init__(self, *, design: Design, metric: str, axes: Sequence[str], bases: Mapping[str, Any],
                 pairs: Sequence[tuple[str, str]], over: Sequence[str], level: float) -> None:  # fmt: skip
        self.design, self.metric, self.axes, self.bases, self.pairs = design, metric, axes, bases, pairs
        self.over, self.level = over, level
        self.shares, gaps = _shares(design, metric)
        missing = words.left_out(design.cells(metric)[1])
        self.note = f"{metric}:{missing}{gaps}" if missing or gaps else ""

    def main(self) -> list[tuple[dict[str, Any], str]]:
        """The effects of each axis."""
        found = []
        for axis in self.axes:
            lines, _ = self.design.lines(self.metric, [axis])
            base = self.bases[axis]
            share = self.shares.get(frozenset([axis]), math.nan)
            for value in levels_of(self.design.rows[axis]):
                if value == base:
                    continue
                there = base in lines and value in lines
                counts, estimate = self._estimate(lines[value] - lines[base] if there else None)
                row = {"metric": self.metric, "axis": axis, "value": value, "against": base, **counts, "share": share}
                what = f"{self.metric} with {axis} = {words.show(value)} against {axis} = {words.show(base)}"
                found.append((row, self._sentence(what, row, estimate)))
        return found

    def interactions(self) -> list[tuple[dict[str, Any], str]]:
        """The interactions of each pair of axes."""
        found = []
        for a, b in self.pairs:
            lines, _ = self.design.lines(self.metric, [a, b])
            ends = [(levels[0], levels[-1]) for levels in (levels_of(self.design.rows[name]) for name in (a, b))]
            (a0, a1), (b0, b1) = ends
            there = all(corner in lines for corner in ((a0, b0), (a0, b1), (a1, b0), (a1, b1)))
            change = (lines[a1, b1] - lines[a0, b1]) - (lines[a1, b0] - lines[a0, b0]) if there else None
            counts, estimate = self._estimate(change)
            show = words.show
            corners = f"{a} {show(a0)} to {show(a1)}, at {b} {show(b1)} less at {b} {show(b0)}"
            share = self.shares.get(frozenset([a, b]), math.nan)
            row = {"metric": self.metric, "axes": f"{a} x {b}", "corners": corners, **counts, "share": share}
            what = f"The change of {self.metric} from {a} = {show(a0)} to {show(a1)}, "
            what += f"at {b} = {show(b1)} against {show(b0)}"
            found.append((row, self._sentence(what, row, estimate)))
        return found

    def _estimate(self, change: pd.Series | None) -> tuple[dict[str, Any], Estimate | None]:
        values, labels = (np.array([]), {}) if change is None else self.design.unit_means(change)
        if not len(values):
            return {"difference": math.nan, "low": math.nan, "high": math.nan, "n": 0, "up": 0, "down": 0}, None
        found = clustered_mean(values, labels, over=self.over, level=self.level)
        counts = {"n": found.n, "up": int((values > 0).sum()), "down": int((values < 0).sum())}
        return {"difference": found.value, "low": found.low, "high": found.high, **counts}, found

    def _sentence(self, what: str, row: Mapping[str, Any], found: Estimate | None) -> str:
        if found is None:
            return f"{what}: no cells to compare."
        size = words.quantity(abs(found.value), self.metric)
        head = f"{what}: {size} {'higher' if found.value > 0 else 'lower'}" if found.value else f"{what}: no difference"
        share = f" The share of variance is {words.percent(row['share'])}." if math.isfinite(row["share"]) else ""
        if not found.known:
            return f"{head} ({found.scope}; {found.size}).{share}"
        signs = f"up in {row['up']}, down in {row['down']}"
        limits = f"{words.level(found.level)} interval {words.number(found.low)} to {words.number(found.high)}"
        unsure = "" if found.settled else " The interval includes zero."
        return f"{head} ({limits}, {found.scope}; {found.size}; {signs}).{unsure}{share}"


def _rows(found: Sequence[tuple[dict[str, Any], str]], columns: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame({name: [row[name] for row, _ in found] for name in columns})
    for name in {"value", "against"} & set(columns):  # values of several axes in one column stay what they are
        table[name] = pd.Series([row[name] for row, _ in found], dtype=object)
    return table


def _shares(design: Design, metric: str) -> tuple[dict[frozenset[str], float], str]:
    """Eta squared of each effect on the full grid, and what was left out to make it full."""
    series, _ = design.cells(metric)
    try:
        grid = full_grid(own_seeds(series), give_up=UNIT[::-1])
    except StatsError:
        return {}, " There is no full grid, so there are no shares of variance."
    if not np.ptp(grid.values):
        return {}, ""
    names = list(grid.factors)
    sums = sums_of_squares(grid.values)
    total = sum(square for square, _ in sums.values())
    words_gaps = (
        grid.words_dropped.replace("To make the grid full", "For the shares of variance") if grid.dropped else ""
    )
    return {frozenset(names[axis] for axis in axes): square / total for axes, (square, _) in sums.items()}, words_gaps


def _bases(design: Design, axes: Sequence[str], against: Mapping[str, Any]) -> dict[str, Any]:
    """Axis -> the value to compare with."""
    for axis, value in against.items():
        check_column(design.rows, "against", axis)
        if axis not in axes:
            raise StatsError(f"against: {axis!r} is not among the axes {', '.join(axes)}.")
        if value not in (levels := levels_of(design.rows[axis])):
            there = ", ".join(map(words.show, levels))
            raise StatsError(f"against = {{{axis!r}: {value!r}}}: no finished cell has this value. There are {there}.")
    return {axis: against.get(axis, levels_of(design.rows[axis])[0]) for axis in axes}

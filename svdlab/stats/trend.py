"""Trend: does a metric rise or fall with a setting, and how steadily."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from svdlab.errors import StatsError
from svdlab.stats import words
from svdlab.stats.design import UNIT, Design, check_column, check_metric, check_names, frame_of, levels_of, read_design
from svdlab.stats.intervals import LEVEL, Estimate, check_level, clustered_mean
from svdlab.stats.resample import FEWEST, bootstrap_interval, check_resamples, fewest_clusters
from svdlab.stats.result import Result

if TYPE_CHECKING:
    from svdlab.sweep import Sweep

Method = Literal["auto", "bootstrap", "t"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trend(Result):
    """Rank correlation of a metric with a setting, all else equal.

    Attributes:
        x, metric: the columns.
        rho: mean Spearman correlation of the units, with its interval.
        method: ``"bootstrap"`` or ``"t"``: what the interval is.
        rising, falling: units whose correlation is above, below zero.
        lines: lines of clips that differ in `x` alone.
        flat: lines on which the metric does not change at all; they count as 0.
        curve: DataFrame: `x`, the mean of `metric` over the complete lines, and the limits of its interval.
        units: DataFrame [units]: the correlation of each.
        left_out: reason -> number of cells.
    """

    x: str
    metric: str
    rho: Estimate
    method: str
    rising: int
    falling: int
    lines: int
    flat: int
    curve: pd.DataFrame
    units: pd.DataFrame
    left_out: Mapping[str, int]

    @property
    def monotone(self) -> Literal["rising", "falling", "flat", "turning"] | None:
        """What the mean curve does from each value of `x` to the next; None if no line is complete."""
        steps = np.diff(self.curve[self.metric].to_numpy())
        if not len(steps):
            return None
        if (steps == 0).all():
            return "flat"
        return "rising" if (steps >= 0).all() else "falling" if (steps <= 0).all() else "turning"

    @property
    def sentence(self) -> str:
        """The trend in words, with the interval, over how many units, and what the mean curve does."""
        return " ".join([self._found(), *self._curve()]) + words.left_out(self.left_out)

    def _found(self) -> str:
        rho = self.rho
        if self.flat == self.lines:
            return f"{self.metric} does not change with {self.x} at all ({rho.size})."
        way = "rises" if rho.value > 0 else "falls"
        if rho.known and not rho.settled:
            head = f"Whether {self.metric} rises or falls with {self.x} is not settled"
        else:
            head = f"{self.metric} {way} with {self.x}" if rho.value else f"{self.metric} has no trend along {self.x}"
        known = f"{words.level(rho.level)} {self.method} interval {words.number(rho.low)} to {words.number(rho.high)}, "
        few = ""
        if rho.known and self.method == "bootstrap" and fewest_clusters(rho) < FEWEST:
            few = f"; a bootstrap of {fewest_clusters(rho)} is too narrow"
        spread = f"{known if rho.known else ''}{rho.scope}; {rho.size}{few}"
        agree = (
            f"; of {rho.n} {words.units(rho.groups)}, {self.rising} rise and {self.falling} fall" if rho.n > 1 else ""
        )
        return f"{head}: Spearman's rho is {words.number(rho.value)} on average ({spread}){agree}."

    def _curve(self) -> list[str]:
        if self.curve.empty or self.flat == self.lines:
            return []
        x, y = self.curve[self.x].tolist(), self.curve[self.metric].to_numpy()
        ends = " and ".join(f"{words.quantity(y[i], self.metric)} at {words.show(x[i])}" for i in (0, -1))
        shape = f"it is {self.monotone} throughout"
        if self.monotone == "turning":
            top, bottom = (words.show(x[int(find(y))]) for find in (np.argmax, np.argmin))
            shape = f"in between it turns, with its top at {top} and its bottom at {bottom}"
        return [f"The mean is {ends}; {shape}."]

    def to_frame(self) -> pd.DataFrame:
        """One row: the correlation with its limits, counts, and the means at both ends."""
        y = self.curve[self.metric].to_numpy()
        row = {
            "metric": self.metric, "x": self.x, "rho": self.rho.value, "low": self.rho.low, "high": self.rho.high,
            "level": self.rho.level, "method": self.method if self.rho.known else None, "n": self.rho.n,
            "rising": self.rising, "falling": self.falling, "monotone": self.monotone,
            "at_first": y[0] if len(y) else math.nan, "at_last": y[-1] if len(y) else math.nan,
        }  # fmt: skip
        return pd.DataFrame([row])


def trend(
    df: pd.DataFrame | Sweep,
    x: str,
    metric: str,
    *,
    over: Sequence[str] = UNIT,
    axes: Sequence[str] = (),
    level: float = LEVEL,
    method: Method = "auto",
    resamples: int = 4000,
    seed: int = 0,
) -> Trend:
    """Whether `metric` rises or falls with `x`: Spearman's rank correlation, with an interval over pictures and seeds.

    The correlation is taken on each line of clips that differ in `x` alone, with average ranks for ties, is averaged
    over the other settings within each unit (a picture with a seed), and then over units. So neither pictures nor
    other settings can feign or hide a trend. rho says how steadily the metric moves, not how far: the means at the ends
    and `effects` say that. A line on which the metric does not change counts as 0; one of fewer than 3 values is left
    out.

    The bootstrap draws pictures and seeds with replacement, independently of each other (`bootstrap_interval`). With
    fewer than 5 of either it is too narrow; there ``"auto"`` takes the t-interval of `clustered_mean`. Both are cut at
    -1 and 1.

    Args:
        df: a sweep, or a DataFrame such as `Sweep.frame()`.
        x: numeric setting with at least 3 values.
        metric: numeric column.
        over: what the interval generalises over: new pictures and seeds; ``("seed",)``: these pictures, new seeds.
        axes: further columns that are settings, beyond those of a request.
        level: of the interval.
        method: ``"auto"``, ``"bootstrap"`` or ``"t"``.
        resamples: of the bootstrap, at least 100.
        seed: of the bootstrap; equal seeds give equal intervals.

    Raises:
        StatsError: no such column, fewer than 3 values, no complete line, or an option that is not allowed.

    Example:
        >>> print(trend(sweep, "motion_bucket_id", "flow_mean"))
        flow_mean rises with motion_bucket_id: Spearman's rho is 0.83 on average (95 % t interval 0.61 to 1, ...
    """
    check_level(level)
    if method not in get_args(Method):
        raise StatsError(f"method = {method!r}: must be one of {', '.join(map(repr, get_args(Method)))}.")
    check_resamples(resamples)
    frame = frame_of(df)
    check_column(frame, "x", x)
    check_metric(frame, x, "x")
    if x == metric:
        raise StatsError(f"x and metric are both {x!r}: give each its own column.")
    design = read_design(frame, metrics=[metric], axes=[*check_names("axes", axes), x], over=over)
    table, left_out = design.lines(metric, [x])
    if len(table.columns) < 3:
        raise StatsError(
            f"x = {x!r}: has {words.plural(len(table.columns), 'value')} with a {metric!r}, and a rank correlation "
            f"needs 3 or more. For two, compare(df, {metric!r}, {x}=(first, second)) is the question."
        )
    enough = table.notna().sum(axis=1) >= 3
    if short := int(table[~enough].notna().to_numpy().sum()):
        left_out["on lines of fewer than 3 values"] = short
    table = table[enough]
    if table.empty:
        raise StatsError(f"x = {x!r}: nowhere are there 3 finished cells that differ in it alone.")
    places = np.asarray(table.columns, dtype=float)
    rho, flat = spearman_rows(table.to_numpy(), places)
    values, labels = design.unit_means(pd.Series(rho, index=table.index))
    estimate = clustered_mean(values, labels, over=over, level=level)
    if method == "auto":
        method = "bootstrap" if fewest_clusters(estimate) >= FEWEST else "t"
    limits = (estimate.low, estimate.high)
    if method == "bootstrap":
        limits = bootstrap_interval(values, labels, estimate=estimate, resamples=resamples, seed=seed)
    low, high = np.clip(limits, -1, 1)
    return Trend(
        x=x, metric=metric, rho=replace(estimate, low=float(low), high=float(high)), method=method,
        rising=int((values > 0).sum()), falling=int((values < 0).sum()), lines=len(table), flat=int(flat.sum()),
        curve=_mean_curve(design, table.dropna(), x, metric, over=over, level=level),
        units=pd.DataFrame({**labels, "rho": values}), left_out=left_out,
    )  # fmt: skip


def spearman_rows(values: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spearman's correlation of each row with `x`: Pearson's of the ranks, equal values sharing their mean rank.

    Args:
        values: `[rows, places]`; NaN is left out, with its place.
        x: `[places]`, all different.

    Returns:
        float64 `[rows]`, 0 where a row does not change; bool `[rows]`: which these are.

    Example:
        >>> spearman_rows(np.array([[1.0, 2.0, 4.0], [3.0, 3.0, 3.0]]), np.array([1, 2, 4]))
        (array([1., 0.]), array([False,  True]))
    """
    there = ~np.isnan(values)
    ranks = [
        pd.DataFrame(np.where(there, part, np.nan)).rank(axis=1).to_numpy()
        for part in (values, np.broadcast_to(x, values.shape))
    ]
    y, x = (np.where(there, rank - np.nanmean(rank, axis=1, keepdims=True), 0.0) for rank in ranks)
    size = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    flat = (y**2).sum(axis=1) == 0
    return np.where(flat, 0.0, (x * y).sum(axis=1) / np.where(flat, 1.0, size)), flat


def _mean_curve(
    design: Design, whole: pd.DataFrame, x: str, metric: str, *, over: Sequence[str], level: float
) -> pd.DataFrame:
    """Mean over units at each place, from the lines that have all places, so that the places compare."""
    rows = []
    for place in levels_of(pd.Series(whole.columns)) if len(whole) else []:
        at = clustered_mean(*design.unit_means(whole[place]), over=over, level=level)
        rows.append({x: place, metric: at.value, "low": at.low, "high": at.high, "n": at.n})
    return pd.DataFrame(rows, columns=[x, metric, "low", "high", "n"])

"""Pareto front: the settings that nothing else beats in everything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from svdlab.errors import StatsError
from svdlab.stats import words
from svdlab.stats.design import UNIT, Design, check_column, check_metric, check_names, frame_of, read_design
from svdlab.stats.grid import full_grid
from svdlab.stats.intervals import LEVEL, check_level, clustered_mean, words_units
from svdlab.stats.resample import FEWEST, check_resamples, cluster_weights
from svdlab.stats.result import Result

if TYPE_CHECKING:
    from svdlab.sweep import Sweep

FIRM = 0.95  # of the resamples
LISTED = 6  # settings in the sentence


@dataclass(frozen=True, kw_only=True, eq=False)
class Pareto(Result):
    """The front of several metrics over settings.

    Attributes:
        by: the columns that make a setting.
        maximise, minimise: the metrics.
        table: DataFrame, a row for each setting, those of the front first: the columns `by`; for each metric its mean
            over units, and the limits in `<metric>_low` and `<metric>_high`; `front`; `beaten_by`, how many settings
            dominate it; and `kept`, the share of resamples in which it is on the front, NaN without repetition.
        level: of the limits.
        n: units behind each mean, the same for all settings.
        groups: column -> number of its values among the units.
        over: what limits and resamples generalise over.
        left_out: reason -> number of cells or settings.
    """

    by: tuple[str, ...]
    maximise: tuple[str, ...]
    minimise: tuple[str, ...]
    table: pd.DataFrame
    level: float
    n: int
    groups: Mapping[str, int]
    over: tuple[str, ...]
    left_out: Mapping[str, int]

    @property
    def front(self) -> pd.DataFrame:
        """The rows of the front, as a new DataFrame."""
        return self.table[self.table["front"]].copy()

    @property
    def sentence(self) -> str:
        """Which settings are on the front, and how firmly."""
        rows = self.table.loc[self.table["front"], list(self.by)].itertuples(index=False)
        pairs = [zip(self.by, row, strict=True) for row in rows]
        names = [", ".join(f"{name} = {words.show(value)}" for name, value in pair) for pair in pairs]
        listed = "; ".join(names[:LISTED]) + (f"; and {len(names) - LISTED} more" if len(names) > LISTED else "")
        metrics = words.joined([*(f"more {m}" for m in self.maximise), *(f"less {m}" for m in self.minimise)])
        on = f"{len(names)} of {words.plural(len(self.table), 'setting')} {'is' if len(names) == 1 else 'are'}"
        size = f"{words_units(self.n, self.groups)} behind each mean"
        return f"{on} on the front of {metrics} ({size}): {listed}. {self._firm()}{words.left_out(self.left_out)}"

    def _firm(self) -> str:
        kept = self.table["kept"]
        if kept.isna().any():
            return "With a single unit there is no telling how firm that is."
        stay = int((kept[self.table["front"]] >= FIRM).sum())
        come = int((kept[~self.table["front"]] > 1 - FIRM).sum())
        drawn = words.joined([words.NOUNS[name][1] if name in words.NOUNS else name for name in self.over])
        rough = " From so few it is rough." if min(self.groups[name] for name in self.over) < FEWEST else ""
        firm = f"{stay} of these {'stays' if stay == 1 else 'stay'} on it in {words.percent(FIRM)} of draws"
        loose = f"{words.plural(come, 'other')} {'comes' if come == 1 else 'come'} onto it in more than"
        return f"With {drawn} drawn anew, {firm}, and {loose} {words.percent(1 - FIRM)}.{rough}"

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table.copy()


def pareto(
    df: pd.DataFrame | Sweep,
    *,
    maximise: Sequence[str] = ("flow_mean",),
    minimise: Sequence[str] = ("warp_error", "seconds"),
    by: Sequence[str] | None = None,
    axes: Sequence[str] = (),
    over: Sequence[str] = UNIT,
    level: float = LEVEL,
    resamples: int = 1000,
    seed: int = 0,
) -> Pareto:
    """The Pareto front over settings: by default of motion, consistency and runtime.

    Each setting is the mean over all units (pictures with seeds). One is dominated, and off the front, if another's
    means are at least as good in every metric and better in one; equal settings stay together. Means are of the same
    units throughout: where a cell is missing, the unit or the setting with most gaps is left out, and counted.

    How firm that is: `kept`, the share of resamples of pictures and seeds (`cluster_weights`) in which the setting is
    on the front. All settings are resampled together, so that what units share cancels. A setting of the front that
    others come close to has a low share; one off the front that might belong there has more than none.

    Args:
        df: a sweep, or a DataFrame such as `Sweep.frame()`.
        maximise, minimise: numeric columns; together at least one.
        by: columns that make a setting; None: all settings that vary. Settings that are not named are averaged.
        axes: further columns that are settings, beyond those of a request.
        over: what is drawn anew: pictures and seeds; ``("seed",)``: seeds, for these pictures.
        level: of the limits of the means.
        resamples: draws, at least 100.
        seed: of the draws; equal seeds give equal shares.

    Raises:
        StatsError: no such column, no metric, a metric in both lists, or no full grid.

    Example:
        >>> pareto(sweep, minimise=["warp_error"]).front[["steps", "motion_bucket_id", "kept"]]
    """
    check_level(level)
    check_resamples(resamples)
    frame = frame_of(df)
    maximise, minimise = check_names("maximise", maximise), check_names("minimise", minimise)
    metrics = (*maximise, *minimise)
    if not metrics:
        raise StatsError("maximise and minimise are both empty: name at least one metric.")
    if both := set(maximise) & set(minimise):
        raise StatsError(f"{sorted(both)[0]!r} is in maximise and in minimise: leave it in one.")
    for argument, names in (("maximise", maximise), ("minimise", minimise)):
        for name in names:
            check_metric(frame, name, argument)
    named = check_names("by", by) if by is not None else ()
    design = read_design(frame, metrics=metrics, axes=[*check_names("axes", axes), *named], over=over)
    chosen = named or design.settings
    if not chosen:
        raise StatsError("no setting varies in the finished cells: there is nothing to choose between.")
    for name in chosen:
        check_column(frame, "by", name)
        if name in design.units:
            raise StatsError(f"by = {name!r}: pictures and seeds are what settings are averaged over, not settings.")
    values, settings, labels, left_out = _means(design, metrics, chosen)
    weights = cluster_weights(labels, over=over, resamples=resamples, seed=seed) if labels else None
    signs = np.array([1.0] * len(maximise) + [-1.0] * len(minimise))
    return _pareto(
        values, settings, labels, weights, signs, metrics=metrics, by=tuple(chosen), count=len(maximise), over=over,
        level=level, left_out=left_out,
    )  # fmt: skip


def dominated(values: np.ndarray) -> np.ndarray:
    """By how many others each point is dominated, more being better.

    Args:
        values: `[..., points, metrics]`.

    Returns:
        int `[..., points]`: others that are at least as good in every metric, and better in one. 0: on the front.

    Example:
        >>> dominated(np.array([[1, 1], [2, 2], [0, 3], [2, 2]]))
        array([2, 0, 0, 0])
    """
    other, own = values[..., :, None, :], values[..., None, :, :]
    return ((other >= own).all(axis=-1) & (other > own).any(axis=-1)).sum(axis=-2)


def _pareto(
    values: np.ndarray, settings: pd.DataFrame, labels: Mapping[str, np.ndarray], weights: np.ndarray | None,
    signs: np.ndarray, *, metrics: Sequence[str], by: tuple[str, ...], count: int, over: Sequence[str], level: float,
    left_out: Mapping[str, int],
) -> Pareto:  # fmt: skip
    table = settings.copy()
    groups: Mapping[str, int] = {}
    kept_over: tuple[str, ...] = ()
    for k, metric in enumerate(metrics):
        estimates = [clustered_mean(row, labels, over=over, level=level) for row in values[k]]
        table[metric] = [estimate.value for estimate in estimates]
        table[f"{metric}_low"] = [estimate.low for estimate in estimates]
        table[f"{metric}_high"] = [estimate.high for estimate in estimates]
        groups, kept_over = estimates[0].groups, estimates[0].over
    beaten = dominated(table[list(metrics)].to_numpy() * signs)
    table["front"], table["beaten_by"] = beaten == 0, beaten
    table["kept"] = math.nan if weights is None else _kept(values, weights, signs)
    table = table.sort_values("front", ascending=False, kind="stable", ignore_index=True)
    return Pareto(
        by=by, maximise=tuple(metrics[:count]), minimise=tuple(metrics[count:]), table=table, level=level,
        n=values.shape[-1], groups=groups, over=kept_over, left_out=left_out,
    )  # fmt: skip


def _kept(values: np.ndarray, weights: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Share of draws in which each setting is on the front, `[settings]`; `values` is `[metrics, settings, units]`."""
    on = np.zeros(values.shape[1])
    for draw in weights:  # one at a time: all together would take settings^2 numbers for each
        on += dominated((values @ (draw / draw.sum())).T * signs) == 0
    return on / len(weights)


def _means(
    design: Design, metrics: Sequence[str], by: Sequence[str]
) -> tuple[np.ndarray, pd.DataFrame, dict[str, np.ndarray], dict[str, int]]:
    """Values `[metrics, settings, units]` without gaps, the settings, the labels of the units, and what is left out."""
    cells = pd.DataFrame({metric: design.cells(metric)[0] for metric in metrics})
    left_out = dict(design.left_out)
    if gaps := len(design.rows) - int(cells.notna().all(axis=1).sum()):
        left_out[f"without {words.joined(metrics)}"] = gaps
    index = cells.dropna().index.to_frame(index=False)
    if index.empty:
        raise StatsError(f"no finished cell has all of {words.joined(metrics)}.")
    others = [name for name in design.settings if name not in by]
    unit = [name for name in design.units if name in index]
    codes = {"setting": _codes(index, by), "rest": _codes(index, others), "unit": _codes(index, unit)}
    found = []
    for metric in metrics:
        series = pd.Series(cells.dropna()[metric].to_numpy(), index=pd.MultiIndex.from_frame(pd.DataFrame(codes)))
        grid = full_grid(series, give_up=("unit", "setting"))
        found.append(grid.values.mean(axis=list(grid.factors).index("rest")))
    if grid.lost:
        left_out["to compare all settings over the same units"] = grid.lost
    firsts = {name: np.unique(codes[name], return_index=True)[1] for name in ("setting", "unit")}
    table = index[list(by)].iloc[firsts["setting"][list(grid.factors["setting"])]].reset_index(drop=True)
    units = index.iloc[firsts["unit"][list(grid.factors["unit"])]]
    labels = {name: units[name].to_numpy(dtype=object) for name in unit}
    return np.array(found), table, labels, left_out


def _codes(index: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """A number for each combination of some columns, in their sorted order."""
    if not names:
        return np.zeros(len(index), dtype=int)
    return index.groupby(list(names), sort=True, observed=True).ngroup().to_numpy()

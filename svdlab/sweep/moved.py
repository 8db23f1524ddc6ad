"""Moved: how far a metric moved between two sweeps, held against how far seeds alone move it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.request import SETTINGS
from svdlab.sweep.columns import describe_columns

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95
RULE = (
    "Differences are b minus a, over pairs of cells with equal picture, settings and seed. A metric moved more than"
    " seeds do if the mean difference is larger than the standard deviation between seeds of one picture and setting,"
    " pooled over both sweeps; the interval is Student's t at 95 % over the pairs, taken as independent."
)
_GROUP = ["digest", *(name for name in SETTINGS if name != "seed")]  # what cells of other seeds have in common


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How far one metric moved between two sweeps.

    Attributes:
        name, unit: of the metric.
        pairs: cells that have a value in both.
        mean: mean of the paired differences b - a.
        low, high: 95 % interval of the mean, by Student's t; NaN with fewer than two pairs.
        largest: largest absolute difference of a pair.
        seeds: standard deviation between seeds of one picture and setting, pooled over settings and both sweeps; NaN
            if no setting has two seeds.
        settings: combinations of picture and settings among the pairs.
        settings_moved: those whose own mean difference is larger than `seeds`.
    """

    name: str
    unit: str
    pairs: int
    mean: float
    low: float
    high: float
    largest: float
    seeds: float
    settings: int
    settings_moved: int

    @property
    def verdict(self) -> str:
        """``same`` (bit for bit), ``unjudged`` (no seeds to judge by), ``more``, ``partly`` or ``less`` than seeds do.

        ``partly``: less on average, but more in some settings.
        """
        if self.largest == 0:
            return "same"
        if math.isnan(self.seeds):
            return "unjudged"
        if abs(self.mean) > self.seeds:
            return "more"
        return "partly" if self.settings_moved else "less"

    def __str__(self) -> str:
        if self.verdict == "same":
            return f"{self.name}: equal in all {self.pairs} pairs."
        unit = f" {self.unit}" if self.unit else ""
        within = f"95 % interval {self.low:+.3g} to {self.high:+.3g}, " if self.pairs > 1 else ""
        said = f"{self.name}: moved by {self.mean:+.3g}{unit} ({within}{count_of(self.pairs, 'pair')})"
        seeds = f"seeds move it by {self.seeds:.3g}"
        return {
            "unjudged": f"{said}; no setting has two seeds in one sweep, so there is nothing to judge it by.",
            "more": f"{said}, more than seeds do: {seeds}.",
            "partly": f"{said}, less than seeds do on average: {seeds}; but more than that in {self.settings_moved} of"
            f" {count_of(self.settings, 'setting')}.",
            "less": f"{said}, no more than seeds do: {seeds}.",
        }[self.verdict]


def measure_move(name: str, a: pd.DataFrame, b: pd.DataFrame, both: list[str]) -> Moved:
    """How far the metric `name` moved from a to b, over the pairs that have a value in both.

    Args:
        a, b: tables as `svdlab.sweep.tables.read_table` gives them, indexed by `point`.
        both: the points that are done in both.
    """
    left, right = a.loc[both], b.loc[both]
    values = (right[name] - left[name]).to_numpy()
    known = np.isfinite(values)
    differences = values[known]
    seeds = seed_deviation([frame.loc[frame["status"] == "done"] for frame in (a, b)], name)
    means = [part.mean() for part in _grouped(left.loc[known, _GROUP], differences)]
    low, high = interval(differences)
    return Moved(
        name=name,
        unit=describe_columns([name])[name].unit,
        pairs=int(known.sum()),
        mean=float(differences.mean()) if known.any() else math.nan,
        low=low,
        high=high,
        largest=float(np.abs(differences).max()) if known.any() else math.nan,
        seeds=seeds,
        settings=len(means),
        settings_moved=sum(abs(part) > seeds for part in means),
    )


def seed_deviation(frames: Iterable[pd.DataFrame], name: str) -> float:
    """Standard deviation of column `name` between seeds of one picture and setting, pooled over settings and frames.

    Pooled by degrees of freedom: s^2 = sum (x - group mean)^2 / sum (n - 1). NaN if no setting has two seeds.

    Args:
        frames: with the columns `digest` and all settings (`svdlab.sweep.tables.Table.frame`).
    """
    squares, freedom = 0.0, 0
    for frame in frames:
        known = frame[frame[name].notna()]
        for part in _grouped(known[_GROUP], known[name].to_numpy()):
            squares += float(((part - part.mean()) ** 2).sum())
            freedom += len(part) - 1
    return math.sqrt(squares / freedom) if freedom else math.nan


def _grouped(keys: pd.DataFrame, values: np.ndarray) -> list[np.ndarray]:
    """The values of each distinct row of `keys`."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for key, value in zip(keys.itertuples(index=False, name=None), values, strict=True):
        groups.setdefault(key, []).append(float(value))
    return [np.asarray(group) for group in groups.values()]


def interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's t interval of the mean: mean -+ t(n - 1) s / sqrt(n); NaN for fewer than two values.

    Example:
        >>> interval(np.array([1.0, 2.0, 3.0]))
        (-0.48, 4.48)
    """
    if len(values) < 2:
        return math.nan, math.nan
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2) * values.std(ddof=1) / math.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def count_of(count: int, noun: str) -> str:
    """A number of things in words.

    Example:
        >>> count_of(1, "pair"), count_of(2, "pair")
        ('1 pair', '2 pairs')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"

"""Intervals of means, when the values share pictures and seeds.

The noise of a clip is a function of its seed alone, so seed 3 is the same noise on every picture: values that share a
seed are related, and so are values that share a picture. An interval that took all of them for independent would be too
narrow. `clustered_mean` counts both relations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # far lighter to import than scipy.stats

from svdlab.errors import StatsError
from svdlab.stats.words import NOUNS, count, joined

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over units, and what it is known within.

    Attributes:
        value: the mean.
        low, high: limits of the interval; NaN if there is none.
        level: how often such an interval holds the true mean.
        se: standard error; NaN if there is no interval.
        df: degrees of freedom of the t distribution; NaN if there is no interval.
        sd: standard deviation of the units, n - 1 in the denominator; NaN for one unit.
        n: number of units.
        groups: column -> number of its values among the units, for example ``{"image": 2, "seed": 4}``.
        over: the columns that the interval generalises over: new values of these, the others as they were.
    """

    value: float
    low: float
    high: float
    level: float
    se: float
    df: float
    sd: float
    n: int
    groups: Mapping[str, int]
    over: tuple[str, ...]

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.se)

    @property
    def settled(self) -> bool:
        """Whether there is an interval, and zero is outside it."""
        return self.known and not self.low <= 0 <= self.high

    @property
    def scope(self) -> str:
        """What the interval speaks about, or why there is none.

        Example:
            >>> estimate.scope
            'for new pictures and new seeds'
        """
        if not self.over:
            return "no interval: " + (
                "a single unit" if self.n == 1 else "nothing that it could generalise over varies"
            )
        new = [f"new {_noun(name)}" for name in self.over]
        fixed = [f"{'this' if groups == 1 else 'these'} {_noun(name, groups)}" for name, groups in self.groups.items()
                 if name not in self.over]  # fmt: skip
        return f"for {joined([*fixed, *new])}"

    @property
    def size(self) -> str:
        """The number of units in words.

        Example:
            >>> estimate.size
            'n = 8: 2 pictures x 4 seeds'
        """
        return words_units(self.n, self.groups)


def words_units(n: int, groups: Mapping[str, int]) -> str:
    """A number of units and what they are made of; with a cross if every combination is there."""
    if not groups:
        return f"n = {n}"
    cross = " x " if n == math.prod(groups.values()) else ", "
    return f"n = {n}: {cross.join(count(name, number) for name, number in groups.items())}"


def t_interval(values: Any, level: float = LEVEL) -> tuple[float, float, float]:
    """Mean of independent values and its t-interval, m ± t(n - 1) s / sqrt(n) (Student 1908); NaN limits for one value.

    Example:
        >>> t_interval([1.0, 2.0, 3.0])
        (2.0, -0.48413771175033027, 4.4841377117503305)
    """
    values = np.asarray(values, dtype=float)
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    reach = t_quantile(len(values) - 1, level) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, mean - reach, mean + reach


def t_quantile(df: float, level: float = LEVEL) -> float:
    """How many standard errors an interval of this level reaches to either side.

    Example:
        >>> round(t_quantile(1), 3), round(t_quantile(10), 3)
        (12.706, 2.228)
    """
    return float(stdtrit(df, (1 + level) / 2))


def clustered_mean(
    values: Any, labels: Mapping[str, Any], *, over: Sequence[str] = (), level: float = LEVEL
) -> Estimate:
    """Mean of units, with an interval that counts how they are related.

    For each column of `over` the units with equal label make a cluster, and the columns' variances are added:

        V = sum_c  G_c / (G_c - 1) * sum_g (sum of (y - mean) in cluster g)^2 / n^2

    with G_c clusters in column c. On a full cross of pictures and seeds that is s^2 / G of the picture means plus
    s^2 / G of the seed means; with one column and one unit a cluster it is the ordinary t-interval. It is the variance
    for clusters in two ways of Cameron, Gelbach and Miller (2011, "Robust inference with multiway clustering", Journal
    of Business & Economic Statistics 29) without its subtracted term: that keeps it positive and, where pictures and
    seeds hardly matter, errs on the wide side. Degrees of freedom are Satterthwaite's, V^2 / sum_c (V_c^2 / (G_c - 1)).

    A column with a single value says nothing and is left out of the interval, which then speaks about that value
    alone; so is one whose clusters lie inside those of another, such as seeds of their own for each picture.

    Args:
        values: finite numbers, `[units]`.
        labels: column -> labels, `[units]`.
        over: the columns to generalise over; those that `labels` lacks are ignored.
        level: how often the interval shall hold the true mean, in (0, 1).

    Example:
        >>> clustered_mean([1, 2, 3, 4], {"seed": [0, 1, 2, 3]}, over=["seed"]).scope
        'for new seeds'
    """
    values = np.asarray(values, dtype=float)
    codes = {name: pd.factorize(np.asarray(label, dtype=object))[0] for name, label in labels.items()}
    groups = {name: int(code.max()) + 1 for name, code in codes.items()}
    kept = clusterings({name: code for name, code in codes.items() if name in over})
    mean = float(np.mean(values))
    parts = [(_cluster_variance(values - mean, codes[name]), groups[name] - 1) for name in kept]
    variance = sum(part for part, _ in parts)
    se = math.sqrt(variance) if parts else math.nan
    df = _satterthwaite(parts) if parts else math.nan
    reach = t_quantile(df, level) * se if parts else math.nan
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Estimate(
        value=mean, low=mean - reach, high=mean + reach, level=level, se=se, df=df, sd=sd, n=len(values),
        groups=groups, over=tuple(kept),
    )  # fmt: skip


def clusterings(codes: Mapping[str, np.ndarray]) -> list[str]:
    """The columns that say something: more than one value, and not nested in another one.

    Args:
        codes: column -> cluster numbers from 0, `[units]`.
    """
    several = {name: code for name, code in codes.items() if len(np.unique(code)) > 1}
    kept: list[str] = []
    for name, code in several.items():
        within = [other for other in several if other != name and _nested(code, several[other])]
        twins = [other for other in within if _nested(several[other], code)]
        if len(twins) == len(within) and not set(twins) & set(kept):
            kept.append(name)
    return kept


def check_level(level: Any) -> None:
    """Refuse a level that is no share between 0 and 1."""
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise StatsError(f"level = {level!r}: must be a share between 0 and 1, such as 0.95.")


def _nested(inner: np.ndarray, outer: np.ndarray) -> bool:
    """Whether each cluster of `inner` lies in one of `outer`."""
    return len(np.unique(np.stack([inner, outer]), axis=1).T) == len(np.unique(inner))


def _cluster_variance(residuals: np.ndarray, code: np.ndarray) -> float:
    sums = np.bincount(code, weights=residuals)
    return float(len(sums) / (len(sums) - 1) * np.sum(sums**2) / len(residuals) ** 2)


def _satterthwaite(parts: Sequence[tuple[float, int]]) -> float:
    total = sum(part for part, _ in parts)
    below = sum(part**2 / df for part, df in parts)
    return total**2 / below if below > 0 else float(min(df for _, df in parts))


def _noun(name: str, number: int = 2) -> str:
    return NOUNS[name][number != 1] if name in NOUNS else f"{'value' if number == 1 else 'values'} of {name}"

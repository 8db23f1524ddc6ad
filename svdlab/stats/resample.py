"""Resampling: the bootstrap of units that share pictures and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from svdlab.errors import StatsError
from svdlab.stats.intervals import Estimate, clusterings, t_quantile

FEWEST = 5  # clusters in each direction, below which even the expanded bootstrap interval is too narrow


def cluster_weights(labels: Mapping[str, Any], *, over: Sequence[str], resamples: int, seed: int) -> np.ndarray | None:
    """How often each unit is drawn, float64 `[resamples, units]`; None if nothing can be resampled.

    Each column's clusters are drawn with replacement, independently of the other columns', and a unit counts as often
    as the product: the pigeonhole bootstrap of Owen (2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1).
    Nested columns are left out, as in `clustered_mean`. Draws that happen to contain no unit are left out.
    """
    codes = {name: pd.factorize(np.asarray(label, dtype=object))[0] for name, label in labels.items() if name in over}
    kept = clusterings(codes)
    if not kept:
        return None
    random = np.random.default_rng(seed)
    weights = np.ones((resamples, len(codes[kept[0]])))
    for name in kept:
        groups = int(codes[name].max()) + 1
        drawn = random.multinomial(groups, np.full(groups, 1 / groups), size=resamples)
        weights *= drawn[:, codes[name]]
    return weights[weights.sum(axis=1) > 0]


def bootstrap_interval(
    values: np.ndarray, labels: Mapping[str, Any], *, estimate: Estimate, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile interval of the mean of units under `cluster_weights`, at the level and over what `estimate` is.

    A percentile interval of few clusters is too narrow. This one is expanded as Hesterberg proposes (2015, "What
    teachers should know about the bootstrap", The American Statistician 69): its tails are those of a normal
    distribution beyond t(df) sqrt(n / (n - 1)) instead of beyond 1.96, with n the smaller number of clusters. NaN if
    nothing can be resampled.

    Args:
        values: finite numbers, `[units]`.
        labels: column -> labels, `[units]`.
        estimate: `clustered_mean` of the same.
    """
    weights = cluster_weights(labels, over=estimate.over, resamples=resamples, seed=seed)
    if weights is None:
        return math.nan, math.nan
    n = fewest_clusters(estimate)
    tail = float(ndtr(-t_quantile(estimate.df, estimate.level) * math.sqrt(n / (n - 1))))
    means = weights @ values / weights.sum(axis=1)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def check_resamples(resamples: Any) -> None:
    """Refuse a number of resamples that gives no interval."""
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 100:
        raise StatsError(f"resamples = {resamples!r}: must be a whole number of at least 100, such as 4000.")


def fewest_clusters(estimate: Estimate) -> int:
    """The smaller number of clusters that the interval of an estimate rests on; 0 if it has none."""
    return min((estimate.groups[name] for name in estimate.over), default=0)

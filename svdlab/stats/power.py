"""Power: how many pairs it takes to see a difference."""

from __future__ import annotations

import math

from scipy.special import nctdtr

from svdlab.errors import StatsError
from svdlab.stats.intervals import LEVEL, check_level, t_quantile

MOST = 100_000  # pairs; an effect that needs more is none


def paired_power(effect: float, pairs: int, *, level: float = LEVEL) -> float:
    """The chance that the t-interval of `pairs` paired differences lies on the right side of zero.

    The noncentral t distribution with n - 1 degrees of freedom and noncentrality d sqrt(n) (Cohen 1988, "Statistical
    power analysis for the behavioral sciences", chapter 2). It assumes independent and about normal differences.

    Args:
        effect: d_z, the mean difference over the standard deviation of the differences; its sign does not matter.
        pairs: at least 2.
        level: of the interval.

    Raises:
        StatsError: fewer than 2 pairs, or a level that is no share.

    Example:
        >>> round(paired_power(0.5, 34), 3)
        0.808
    """
    check_level(level)
    if pairs < 2:
        raise StatsError(f"pairs = {pairs!r}: an interval needs at least 2.")
    noncentrality = min(abs(effect) * math.sqrt(pairs), 1e3)  # above that, power is 1
    power = 1 - float(nctdtr(pairs - 1, noncentrality, t_quantile(pairs - 1, level)))
    return power if math.isfinite(power) else 1.0


def pairs_needed(effect: float, *, power: float = 0.8, level: float = LEVEL) -> int | None:
    """The smallest number of pairs whose interval excludes zero with probability `power`.

    Args:
        effect: d_z, as for `paired_power`.
        power: in (0, 1).
        level: of the interval.

    Returns:
        At least 2; None if the effect is zero or unknown, or more than 100,000 pairs are needed.

    Raises:
        StatsError: a power or level that is no share.

    Example:
        >>> [pairs_needed(d) for d in (0.2, 0.5, 0.8)]
        [199, 34, 15]
    """
    if not 0 < power < 1:
        raise StatsError(f"power = {power!r}: must be a share between 0 and 1, such as 0.8.")
    check_level(level)
    if math.isnan(effect) or paired_power(effect, MOST, level=level) < power:
        return None
    low, high = 1, 2
    while paired_power(effect, high, level=level) < power:
        low, high = high, 2 * high
    while high - low > 1:  # power grows with the number of pairs
        middle = (low + high) // 2
        low, high = (low, middle) if paired_power(effect, middle, level=level) >= power else (middle, high)
    return high

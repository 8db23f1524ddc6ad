"""Statistics that respect the design of a sweep: cells of one picture and seed share their noise, so they are paired.

Every function takes a sweep or its DataFrame and returns a small result with the numbers, a table (`to_frame`), and a
`sentence` in plain words with the uncertainty and what it was found over. There are intervals and no p-values.

Example:
    >>> import svdlab as sl
    >>> print(sl.stats.compare(sweep, "flow_mean", steps=(2, 4)))
    >>> sl.stats.effects(sweep).main
    >>> print(sl.stats.variance(sweep, "warp_error"))
"""

from svdlab.stats.compare import Comparison, compare
from svdlab.stats.effects import Effects, effects
from svdlab.stats.intervals import Estimate, clustered_mean, t_interval
from svdlab.stats.pareto import Pareto, pareto
from svdlab.stats.power import paired_power, pairs_needed
from svdlab.stats.result import Result
from svdlab.stats.trend import Trend, trend
from svdlab.stats.variance import Variance, variance

__all__ = [
    "Comparison",
    "Effects",
    "Estimate",
    "Pareto",
    "Result",
    "Trend",
    "Variance",
    "clustered_mean",
    "compare",
    "effects",
    "paired_power",
    "pairs_needed",
    "pareto",
    "t_interval",
    "trend",
    "variance",
]

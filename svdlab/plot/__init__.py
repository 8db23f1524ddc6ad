"""Plots: DataFrames, sweeps and clips -> matplotlib figures.

Every function returns a figure that a notebook shows once, with units and directions from the registry of metrics,
and says above the plot what was averaged and what was left out. Those with one panel draw into ``ax=`` if it is given.

Example:
    >>> import svdlab as sl
    >>> sl.plot.heatmap(df, x="motion_bucket_id", y="cond_aug", value="flow_mean")
    >>> sl.plot.tradeoff(df).savefig("tradeoff.pdf")
"""

from svdlab.plot.convergence import convergence, to_reference
from svdlab.plot.curves import response
from svdlab.plot.frames import frames
from svdlab.plot.heatmap import heatmap
from svdlab.plot.per_frame import per_frame
from svdlab.plot.schedules import schedules
from svdlab.plot.tradeoff import tradeoff

__all__ = ["convergence", "frames", "heatmap", "per_frame", "response", "schedules", "to_reference", "tradeoff"]

"""Metrics: frames -> numbers. One module a family, one registry.

`score` measures a clip, `score_frames` gives the curves behind the numbers, `describe` says what each number means, and
`metric` registers your own. Motion (`flow_mean`) belongs beside every measure of consistency: a frozen clip is
perfectly consistent.

Example:
    >>> from svdlab import metrics
    >>> metrics.score(clip, names=["flow_mean", "warp_error", "lpips_input"])
    {'flow_mean': 1.93, 'warp_error': 0.00041, 'lpips_input': 0.21}
"""

from svdlab.metrics import flow, pixel, drift, perceptual, clip_similarity, runtime  # noqa: F401, I001 (table order)
from svdlab.metrics.context import Encoder, Scoring
from svdlab.metrics.registry import Metric, describe, get, metric, names, versions
from svdlab.metrics.score import require, score, score_frames, scoring_of

__all__ = [
    "Encoder",
    "Metric",
    "Scoring",
    "describe",
    "get",
    "metric",
    "names",
    "require",
    "score",
    "score_frames",
    "scoring_of",
    "versions",
]

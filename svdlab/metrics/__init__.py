"""Metrics: frames -> numbers. One module a family, one registry.

`score` measures a clip, `score_frames` gives the curves behind the numbers, `describe` says what each number means, and
`metric` registers your own. Motion (`flow_mean`) belongs beside every measure of consistency: a frozen clip is
perfectly consistent. `known_clips` makes clips of known truth, and `calibration_table` shows what each metric reads on
them.

Example:
    >>> from svdlab import metrics
    >>> metrics.score(clip, names=["flow_mean", "warp_error", "lpips_input"])
    {'flow_mean': 1.93, 'warp_error': 0.00041, 'lpips_input': 0.21}
"""

# The order of these is that of the table.
from svdlab.metrics import flow, camera, pixel, drift, perceptual, clip_similarity, reference, runtime  # noqa: F401, I001
from svdlab.metrics.calibration import calibration_checks, calibration_table
from svdlab.metrics.camera import Camera
from svdlab.metrics.context import Encoder, Scoring
from svdlab.metrics.known import known_clips
from svdlab.metrics.known_stage import Expectation, KnownClip
from svdlab.metrics.registry import Metric, describe, get, metric, names, versions
from svdlab.metrics.score import require, score, score_frames, scoring_of

__all__ = [
    "Camera",
    "Encoder",
    "Expectation",
    "KnownClip",
    "Metric",
    "Scoring",
    "calibration_checks",
    "calibration_table",
    "describe",
    "get",
    "known_clips",
    "metric",
    "names",
    "require",
    "score",
    "score_frames",
    "scoring_of",
    "versions",
]

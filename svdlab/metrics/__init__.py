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
from svdlab.metrics.frechet import Frechet, clip_features, compare_sets, frechet_distance
from svdlab.metrics.known import known_clips
from svdlab.metrics.known_stage import Expectation, KnownClip
from svdlab.metrics.registry import Metric, describe, get, metric, names, versions
from svdlab.metrics.score import require, score, score_frames, scoring_of
from svdlab.metrics.vbench_forms import use_vbench_forms
from svdlab.metrics.vbench_networks import use_aesthetic, use_encoder, use_raft
from svdlab.metrics.video_networks import load_video_network

__all__ = [
    "Camera",
    "Encoder",
    "Expectation",
    "Frechet",
    "KnownClip",
    "Metric",
    "Scoring",
    "calibration_checks",
    "calibration_table",
    "clip_features",
    "compare_sets",
    "describe",
    "frechet_distance",
    "get",
    "known_clips",
    "load_video_network",
    "metric",
    "names",
    "require",
    "score",
    "score_frames",
    "scoring_of",
    "use_aesthetic",
    "use_encoder",
    "use_raft",
    "use_vbench_forms",
    "versions",
]

"""VBench's formulas with what every clip has: the pipeline's own CLIP encoder, and OpenCV's DIS flow.

They are not in the table until `use_vbench_forms` puts them there. None of them is VBench's number: it uses CLIP
ViT-B/32, AMT-S and RAFT where these use the pipeline's encoder and DIS.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.errors import MetricError
from svdlab.metrics import vbench
from svdlab.metrics.flow import FLOW_MIN_SIDE, FLOW_WIDTH, estimate_flow, warp, working_size
from svdlab.metrics.flow import SETTINGS as FLOW_SETTINGS
from svdlab.metrics.registry import NotComputableError, get, metric, names

if TYPE_CHECKING:
    from svdlab.metrics.context import Scoring

FAMILY = "vbench"
SOURCE = "VBench (Huang et al. 2024, arXiv:2311.17982), {}"
I2V_SOURCE = "VBench-I2V (Huang et al. 2024, arXiv:2411.13503), {}"


def use_vbench_forms() -> tuple[str, ...]:
    """Put VBench's formulas that need no further weights into the registry, and return their names.

    `clip_consistency` and `clip_i2v` with the pipeline's CLIP encoder; `dis_smoothness`, `dis_dynamic` and
    `dis_dynamic_ratio` with DIS flow. From then on they are in the default table of this process too.

    Raises:
        MetricError: one of the names is taken by a metric of your own.

    Example:
        >>> metrics.score(clip, encoder=pipe, names=metrics.use_vbench_forms())
        {'clip_consistency': 0.97, 'clip_i2v': 0.98, 'dis_smoothness': 0.98, 'dis_dynamic': 0.0, ...}
    """
    check_free(_FORMS)
    for name, (function, about) in _FORMS.items():
        metric(name, family=FAMILY, **about)(function)
    return tuple(_FORMS)


def check_free(wanted: Iterable[str]) -> None:
    """Refuse names that metrics of another family have, before any is registered.

    Raises:
        MetricError: a name is taken.
    """
    if taken := [name for name in wanted if name in names() and get(name).family != FAMILY]:
        raise MetricError(
            f"the metric name {taken[0]!r} is taken by a metric of the family {get(taken[0]).family!r}: register that "
            "one under another name, in a fresh process."
        )


def forms() -> tuple[str, ...]:
    """Names of the metrics that `use_vbench_forms` adds."""
    return tuple(_FORMS)


def clip_consistency(scoring: Scoring) -> np.ndarray:
    """Steadiness of content: mean of the cosines of each frame to the one before and to the first, cut off at 0.

    The formula of VBench's background consistency, with the pipeline's encoder. 1 for a frozen clip, so read it beside
    `flow_mean`. Unlike `clip_temporal` it sees a slow departure from the first frame. One value per pair of neighbours.
    """
    return vbench.consistency(scoring.embeddings.frames)


def clip_i2v(scoring: Scoring) -> float:
    """Likeness to the input and of neighbours: 0.4 max cos(input, f) + 0.3 mean + 0.3 min of cos(f_t, f_t+1).

    The formula of VBench-I2V's background (DreamSim) and subject (DINO), with the pipeline's encoder. Takes the best
    frame, so it hardly sees a clip that leaves its input: read `clip_input` beside it. The model was given this
    embedding of the picture, so the number flatters.
    """
    image = scoring.embeddings.image
    assert image is not None
    return vbench.i2v(image, scoring.embeddings.frames)


def dis_smoothness(scoring: Scoring) -> float:
    """Even motion: every second frame made again from its neighbours along DIS flow; 1 - mean |difference| / 255.

    The formula of VBench's motion smoothness with a plain flow interpolation in place of AMT-S, at the working
    resolution of the flow. 1 for a frozen clip. Falls with motion that flow does not follow, evenly or not; slow faults
    and brightness that changes evenly are not seen.
    """
    import cv2

    width, height = working_size(scoring.width, scoring.height)
    if min(width, height) < FLOW_MIN_SIDE:
        raise NotComputableError(
            f"metric 'dis_smoothness' needs frames of at least {FLOW_MIN_SIDE}x{FLOW_MIN_SIDE} px after reduction to "
            f"at most {FLOW_WIDTH} px width; these are {scoring.width}x{scoring.height} px."
        )
    whole = (width, height) == (scoring.width, scoring.height)
    small = [f if whole else cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in scoring.frames]
    return vbench.smoothness(np.stack(small), along_flow)


def dis_dynamic(scoring: Scoring) -> float:
    """Whether the clip moves, 1 or 0: VBench's rule for its dynamic degree, on DIS flow in place of RAFT.

    1 if about a quarter of the pairs, at 8 frames a second, have a top-5-% flow above 6 min(height, width) / 256 px.
    Depends on the clip's fps. The mean over a sweep is the share of moving clips.
    """
    return float(dis_dynamic_ratio(scoring) > 1)


def dis_dynamic_ratio(scoring: Scoring) -> float:
    """The motion that `dis_dynamic` decides by, over its threshold: above 1 the clip counts as moving."""
    frames = vbench.at_motion_rate(scoring.frames, needed_fps(scoring))
    need_two(frames)
    flow = scoring.flow if len(frames) == len(scoring.frames) else estimate_flow(frames)
    tops = np.array([vbench.top_lengths(lengths) for lengths in flow.magnitude])
    return vbench.dynamic_ratio(tops, width=scoring.width, height=scoring.height)


def along_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The frame halfway between two, uint8 [height, width, 3]: each moved half the way along DIS flow, then the mean.

    The motion halfway is taken to be (F - B) / 2, the mean of the flow there and the reversed flow back at the same
    place: exact for a shift, an approximation elsewhere, and occlusion is not handled.
    """
    import cv2

    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second)]
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    half = (dis.calc(grey[0], grey[1], None) - dis.calc(grey[1], grey[0], None)) / 4
    mean = (warp(first.astype(np.float32), -half) + warp(second.astype(np.float32), half)) / 2
    return np.rint(mean).clip(0, 255).astype(np.uint8)


def needed_fps(scoring: Scoring) -> float:
    """The clip's frames a second.

    Raises:
        NotComputableError: the clip does not say.
    """
    if scoring.fps is None:
        raise NotComputableError(
            "the rule of dynamic degree looks at 8 frames a second, and this clip carries no fps: score a clip that "
            "has one, such as Clip(frames=frames, fps=8)."
        )
    return scoring.fps


def need_two(frames: np.ndarray) -> None:
    """Refuse fewer than two frames at 8 frames a second.

    Raises:
        NotComputableError: there are fewer.
    """
    if len(frames) < 2:
        raise NotComputableError(
            "the rule of dynamic degree needs at least 2 frames at 8 frames a second; this clip is too short at its "
            "fps. Score a longer clip."
        )


_FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "clip_consistency": (
        clip_consistency,
        {
            "range": (0, 1),
            "direction": "higher",
            "needs": {"encoder"},
            "per_frame": True,
            "min_frames": 2,
            "source": SOURCE.format("background consistency, with the pipeline's encoder"),
        },
    ),
    "clip_i2v": (
        clip_i2v,
        {
            "range": (0, 1),
            "direction": "higher",
            "needs": {"encoder", "image"},
            "min_frames": 2,
            "source": I2V_SOURCE.format("image-to-video likeness, with the pipeline's encoder"),
        },
    ),
    "dis_smoothness": (
        dis_smoothness,
        {
            "range": (0, 1),
            "direction": "higher",
            "min_frames": 3,
            "settings": FLOW_SETTINGS,
            "source": SOURCE.format("motion smoothness, with interpolation along DIS flow"),
        },
    ),
    "dis_dynamic": (
        dis_dynamic,
        {
            "range": (0, 1),
            "min_frames": 2,
            "settings": FLOW_SETTINGS,
            "source": SOURCE.format("dynamic degree, with DIS flow"),
        },
    ),
    "dis_dynamic_ratio": (
        dis_dynamic_ratio,
        {
            "range": (0, np.inf),
            "min_frames": 2,
            "settings": FLOW_SETTINGS,
            "source": SOURCE.format("the quantity that dynamic degree thresholds, with DIS flow"),
        },
    ),
}

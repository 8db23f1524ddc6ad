"""Motion, and what is left of a frame difference once motion is taken out: metrics on dense optical flow.

The flow is DIS (Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search", arXiv:1603.03590) as in OpenCV,
medium preset, on grey frames at a fixed working resolution: at most `FLOW_WIDTH` px wide, made smaller by area
averaging, never made larger. Magnitudes are reported in px of the original frame per frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.metrics.registry import NotComputableError, metric

if TYPE_CHECKING:
    from svdlab.metrics.context import Scoring

FLOW_WIDTH = 512
FLOW_MIN_SIDE = 16  # DIS matches 8x8 patches on at least two scales
SETTINGS = MappingProxyType({"flow": "opencv DIS medium", "flow_max_width": FLOW_WIDTH})


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Optical flow of a clip at working resolution, and what it says about each pair of neighbours.

    Attributes:
        forward: float32 [pairs, h, w, 2], displacement (x, y) in working px from frame t to frame t + 1.
        backward: the same from frame t + 1 to frame t.
        magnitude: float32 [pairs, h, w], length of `forward` in px of the original frame.
        visible: bool [pairs, h, w], pixels of frame t that are also seen in frame t + 1.
        error: float64 [pairs], warping error of each pair (see `warp_error`).
    """

    forward: np.ndarray
    backward: np.ndarray
    magnitude: np.ndarray
    visible: np.ndarray
    error: np.ndarray


def estimate_flow(frames: np.ndarray) -> Flow:
    """Forward and backward flow, visibility and warping error of `frames` uint8 [frames, height, width, 3].

    Raises:
        NotComputableError: fewer than two frames, or a working resolution under 16 px on a side.
    """
    import cv2

    count, height, width = frames.shape[:3]
    w, h = working_size(width, height)
    if count < 2 or min(w, h) < FLOW_MIN_SIDE:
        raise NotComputableError(
            f"optical flow needs at least 2 frames of at least {FLOW_MIN_SIDE}x{FLOW_MIN_SIDE} px after reduction to "
            f"at most {FLOW_WIDTH} px width; got {count} of {width}x{height} px, {w}x{h} after reduction."
        )
    small = frames if (w, h) == (width, height) else np.stack([_shrink(frame, w, h) for frame in frames])
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in small]
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward = np.stack([dis.calc(a, b, None) for a, b in pairwise(grey)])
    backward = np.stack([dis.calc(b, a, None) for a, b in pairwise(grey)])
    visible = np.stack([visible_pixels(f, b) for f, b in zip(forward, backward, strict=True)])
    pairs = zip(small, small[1:], forward, visible, strict=False)
    error = np.array([warped_difference(a, b, f, v) for a, b, f, v in pairs])
    scale = np.array([width / w, height / h], dtype=np.float32)
    magnitude = np.linalg.norm(forward * scale, axis=-1)
    return Flow(forward=forward, backward=backward, magnitude=magnitude, visible=visible, error=error)


def working_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) at which flow is computed: at most `FLOW_WIDTH` wide, same aspect, never larger.

    Example:
        >>> working_size(1024, 576)
        (512, 288)
    """
    if width <= FLOW_WIDTH:
        return width, height
    return FLOW_WIDTH, max(1, round(height * FLOW_WIDTH / width))


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`image` [h, w] or [h, w, channels] read at x + flow(x), bilinear, with the border held outside the frame.

    With the flow from frame t to t + 1 and the image t + 1, this is frame t as frame t + 1 shows it.
    """
    import cv2

    where = _grid(flow) + flow
    return cv2.remap(image, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def visible_pixels(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Pixels [h, w] of frame t that frame t + 1 shows too: they stay in frame, and going there and back returns.

    A pixel is hidden if |F + B'|^2 > 0.01 (|F|^2 + |B'|^2) + 0.5, with B' the backward flow read at x + F(x)
    (Sundaram et al. 2010, constants of Ruder et al. 2016, arXiv:1604.08610, eq. 5).
    """
    h, w = forward.shape[:2]
    x, y = np.moveaxis(_grid(forward) + forward, -1, 0)
    inside = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    back = warp(backward, forward)
    apart = ((forward + back) ** 2).sum(-1)
    size = (forward**2).sum(-1) + (back**2).sum(-1)
    return inside & (apart <= 0.01 * size + 0.5)


def warped_difference(first: np.ndarray, second: np.ndarray, flow: np.ndarray, visible: np.ndarray) -> float:
    """Mean squared difference, in [0, 1]^2 per channel, of `first` and `second` warped back to it, over `visible`.

    If no pixel is visible the plain frame difference stands in: a pair without any match is not rewarded for it.
    """
    if not visible.any():
        return float(np.mean(((first.astype(np.float64) - second) / 255) ** 2))
    warped = warp(second.astype(np.float32), flow)
    return float(np.mean(((first[visible] - warped[visible]) / 255) ** 2, dtype=np.float64))


@metric(
    "flow_mean",
    unit="px/frame",
    range=(0, np.inf),
    per_frame=True,
    min_frames=2,
    settings=SETTINGS,
    source="magnitude of DIS optical flow (Kroeger et al. 2016); as flow score in EvalCrafter (Liu et al. 2024)",
)
def flow_mean(scoring: Scoring) -> np.ndarray:
    """Amount of motion: mean length of the optical flow, in px of the original frame per frame.

    Neither good nor bad; read every consistency metric beside it, since a frozen clip is perfectly consistent. One
    value per pair of neighbours. Exactly 0 for a frozen clip.
    """
    return scoring.flow.magnitude.mean(axis=(1, 2), dtype=np.float64)


@metric(
    "flow_top5",
    unit="px/frame",
    range=(0, np.inf),
    per_frame=True,
    min_frames=2,
    settings=SETTINGS,
    source="top 5 % of flow magnitude as in VBench dynamic degree (Huang et al. 2024), with DIS in place of RAFT",
)
def flow_top5(scoring: Scoring) -> np.ndarray:
    """Motion of what moves most: mean of the largest 5 % of flow lengths, in px of the original frame per frame.

    Sees a small moving object before a still background, which `flow_mean` dilutes. One value per pair of neighbours,
    and never below `flow_mean`.
    """
    lengths = scoring.flow.magnitude.reshape(len(scoring.flow.magnitude), -1)
    top = max(1, round(0.05 * lengths.shape[1]))
    return np.partition(lengths, -top, axis=1)[:, -top:].mean(axis=1, dtype=np.float64)


@metric(
    "warp_error",
    range=(0, 1),
    direction="lower",
    per_frame=True,
    min_frames=2,
    settings=SETTINGS,
    source="Lai et al. 2018, Learning Blind Video Temporal Consistency, eq. 8-9, on DIS flow of the clip itself",
)
def warp_error(scoring: Scoring) -> np.ndarray:
    """Flicker with motion taken out: squared difference between a frame and its neighbour warped back onto it.

    E = mean over pairs of sum(M (I_t - warp(I_t+1, F_t->t+1))^2) / sum(M), frames in [0, 1], a mean over channels,
    M the visible pixels (`visible_pixels`; no motion-boundary term). Computed at the working resolution of the flow;
    usually shown times 1000. Exactly 0 for a frozen clip, so read it beside `flow_mean`; and it judges only
    the visible share, so do not trust it where `occlusion_ratio` is above about 0.3. A pair without any visible pixel
    counts with its plain difference.
    """
    return scoring.flow.error


@metric(
    "occlusion_ratio",
    range=(0, 1),
    per_frame=True,
    min_frames=2,
    settings=SETTINGS,
    source="forward-backward check of Ruder et al. 2016, Artistic Style Transfer for Videos, eq. 5",
)
def occlusion_ratio(scoring: Scoring) -> np.ndarray:
    """Share of pixels without a match in the next frame: covered, gone out of the frame, or changed beyond tracking.

    Says how much of the clip `warp_error` has judged. Cuts, shuffled frames and boiling texture drive it up.
    """
    return 1 - scoring.flow.visible.mean(axis=(1, 2), dtype=np.float64)


def _grid(flow: np.ndarray) -> np.ndarray:
    """Pixel coordinates (x, y), float32 [h, w, 2], of a flow [h, w, 2]."""
    h, w = flow.shape[:2]
    return np.stack(np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)), axis=-1)


def _shrink(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    import cv2

    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)

"""Likeness to a reference run: the same picture and seed, made with many steps, compared frame by frame.

What few steps lose is what separates a clip from its own many-step version; no other clip can serve as truth. Two runs
that share their noise follow each other; with other noise they show another, equally good film, and these numbers mean
nothing. They say how near a clip comes to the reference, faults of the reference included.
"""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.metrics.flow import FLOW_MIN_SIDE, FLOW_WIDTH, working_size
from svdlab.metrics.perceptual import SETTINGS as LPIPS_SETTINGS
from svdlab.metrics.perceptual import SOURCE as LPIPS_SOURCE
from svdlab.metrics.perceptual import lpips_curves
from svdlab.metrics.pixel import PSNR_CAP, psnr
from svdlab.metrics.registry import NotComputableError, metric

if TYPE_CHECKING:
    from svdlab.metrics.context import Scoring

# Those of TecoGAN's evaluation: pyramid of 3 levels, each half as large, window 15, 3 iterations, neighbourhood of 5.
FARNEBACK = MappingProxyType(
    {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2, "flags": 0}
)


@metric(
    "psnr_ref",
    unit="dB",
    range=(0, PSNR_CAP),
    direction="higher",
    needs={"reference"},
    per_frame=True,
    settings={"cap_db": PSNR_CAP},
    source="10 log10(255^2 / mean squared error)",
)
def psnr_ref(scoring: Scoring) -> np.ndarray:
    """Peak signal-to-noise ratio of each frame to the same frame of the reference run, in dB, mean over the clip.

    On RGB, capped at 100 dB per frame, which identical frames get. Blind to motion that both runs share; the smallest
    shift between them weighs heavily, so read it beside `lpips_ref`.
    """
    return np.array([psnr(a, b) for a, b in zip(scoring.frames, _reference(scoring), strict=True)])


@metric(
    "lpips_ref",
    range=(0, np.inf),
    direction="lower",
    needs={"lpips", "reference"},
    per_frame=True,
    settings=LPIPS_SETTINGS,
    source=LPIPS_SOURCE,
)
def lpips_ref(scoring: Scoring) -> np.ndarray:
    """Perceived difference to the reference run: mean LPIPS of each frame to the same frame of it. 0 is identical.

    At the working resolution of all LPIPS metrics. Hardly sees differences of brightness.
    """
    frames = scoring.frames
    woven = np.stack([frames, _reference(scoring)], axis=1).reshape(-1, *frames.shape[1:])  # clip, reference, clip, ...
    return lpips_curves(woven, None, device=scoring.device).adjacent[::2]


@metric(
    "tof_ref",
    unit="px/frame",
    range=(0, np.inf),
    direction="lower",
    needs={"reference"},
    per_frame=True,
    min_frames=2,
    settings={"flow": "opencv Farneback", **FARNEBACK, "flow_max_width": FLOW_WIDTH},
    source="tOF of TecoGAN (Chu et al. 2020, Learning Temporal Coherence via Self-Supervision for GAN-based Video "
    "Generation, section 5), with its Farneback settings, on whole frames",
)
def tof_ref(scoring: Scoring) -> np.ndarray:
    """Difference in motion to the reference run: mean length of the difference of their optical flows (tOF).

    |OF(r_t, r_t+1) - OF(f_t, f_t+1)|, Farneback flow (Farneback 2003) on grey frames, in px of the original frame per
    frame, one value per pair of neighbours. Computed at most 512 px wide, smaller frames as they are; TecoGAN crops a
    border and leaves out the first and last two frames, this does not. 0 for equal motion, whatever the frames look
    like: a frozen clip reads the motion of its reference. Blind to faults that do not move, such as blur.
    """
    own, wanted = _farneback(scoring.frames), _farneback(_reference(scoring))
    scale = np.array([scoring.width / own.shape[2], scoring.height / own.shape[1]], dtype=np.float32)
    return np.linalg.norm((own - wanted) * scale, axis=-1).mean(axis=(1, 2), dtype=np.float64)


def _reference(scoring: Scoring) -> np.ndarray:
    assert scoring.reference is not None
    return scoring.reference


def _farneback(frames: np.ndarray) -> np.ndarray:
    """Farneback flow float32 [pairs, h, w, 2] between neighbours, in working px."""
    import cv2

    size = working_size(frames.shape[2], frames.shape[1])
    if min(size) < FLOW_MIN_SIDE:
        raise NotComputableError(
            f"optical flow needs frames of at least {FLOW_MIN_SIDE}x{FLOW_MIN_SIDE} px after reduction to at most "
            f"{FLOW_WIDTH} px width; these are {frames.shape[2]}x{frames.shape[1]} px, {size[0]}x{size[1]} after it."
        )
    small = [f if f.shape[1::-1] == size else cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames]
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in small]
    farneback: Any = cv2.calcOpticalFlowFarneback
    return np.stack([farneback(a, b, None, **FARNEBACK) for a, b in pairwise(grey)])

"""Differences of pixel values, without any network: flicker, jerk, and likeness of each frame to the input picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from svdlab.metrics.registry import NotComputableError, metric

if TYPE_CHECKING:
    from svdlab.metrics.context import Scoring

PSNR_CAP = 100.0
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


@metric(
    "flicker",
    range=(0, 1),
    direction="higher",
    per_frame=True,
    min_frames=2,
    source="temporal flickering of VBench (Huang et al. 2024, CVPR)",
)
def flicker(scoring: Scoring) -> np.ndarray:
    """Steadiness of pixel values: 1 - mean |I_t - I_t+1| / 255. 1 is a frozen clip.

    VBench means it for scenes without motion: a perfect camera pan lowers it more than noise does. Read it beside
    `flow_mean`, and `warp_error` for clips that move. One value per pair of neighbours.
    """
    pairs = zip(scoring.frames, scoring.frames[1:], strict=False)
    return np.array([1 - np.abs(a.astype(np.int16) - b).mean(dtype=np.float64) / 255 for a, b in pairs])


@metric(
    "jerk",
    range=(0, 1),
    direction="lower",
    per_frame=True,
    min_frames=3,
    source="second temporal difference; a weight-free stand-in for VBench motion smoothness",
)
def jerk(scoring: Scoring) -> np.ndarray:
    """How far each frame is from the middle of its neighbours: mean |I_t-1 - 2 I_t + I_t+1| / (2 * 255).

    0 for a frozen clip and for a fade at constant speed. One value per inner frame.
    """
    frames = scoring.frames
    bends = (
        a.astype(np.int16) - 2 * b.astype(np.int16) + c for a, b, c in zip(frames, frames[1:], frames[2:], strict=False)
    )
    return np.array([np.abs(bend).mean(dtype=np.float64) / (2 * 255) for bend in bends])


@metric(
    "ssim_input",
    range=(-1, 1),
    direction="higher",
    needs={"image"},
    per_frame=True,
    settings={"window": SSIM_WINDOW, "sigma": SSIM_SIGMA, "data_range": 255},
    source="Wang et al. 2004, Image Quality Assessment: From Error Visibility to Structural Similarity, eq. 13",
)
def ssim_input(scoring: Scoring) -> np.ndarray:
    """Structural similarity of each frame to the input picture, mean over the clip. 1 is identical.

    On RGB, mean over channels. Falls with any motion, since it compares place by place; read it beside `flow_mean`.
    Two flat pictures of equal colour give 1.
    """
    if min(scoring.height, scoring.width) < SSIM_WINDOW:
        raise NotComputableError(
            f"SSIM needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW} px; these are {scoring.width}x{scoring.height}."
        )
    assert scoring.image is not None
    reference = _Moments(scoring.image)
    return np.array([reference.ssim(frame) for frame in scoring.frames])


@metric(
    "psnr_input",
    unit="dB",
    range=(0, PSNR_CAP),
    direction="higher",
    needs={"image"},
    per_frame=True,
    settings={"cap_db": PSNR_CAP},
    source="10 log10(255^2 / mean squared error)",
)
def psnr_input(scoring: Scoring) -> np.ndarray:
    """Peak signal-to-noise ratio of each frame to the input picture in dB, mean over the clip.

    Capped at 100 dB per frame, which identical frames get: their true value is infinite. Falls with any motion.
    """
    assert scoring.image is not None
    return np.array([psnr(frame, scoring.image) for frame in scoring.frames])


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """10 log10(255^2 / mean squared error) in dB of two uint8 arrays of one shape, at most 100 dB.

    Example:
        >>> psnr(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8))
        0.0
    """
    error = float(((first.astype(np.int32) - second) ** 2).mean(dtype=np.float64))
    return float(10 * np.log10(255**2 / max(error, 255**2 / 10 ** (PSNR_CAP / 10))))


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Mean SSIM of two uint8 [height, width, channels] pictures: Gaussian window 11, sigma 1.5, data range 255.

    ((2 m_x m_y + C1)(2 s_xy + C2)) / ((m_x^2 + m_y^2 + C1)(s_x^2 + s_y^2 + C2)), C1 = (0.01 * 255)^2,
    C2 = (0.03 * 255)^2, in float64, over the places where the whole window fits.
    """
    return _Moments(first).ssim(second)


class _Moments:
    """A picture with its local mean and variance, computed once to be compared with many."""

    def __init__(self, image: np.ndarray) -> None:
        self.x = image.astype(np.float64)
        self.mean = _blur(self.x)
        self.variance = _blur(self.x**2) - self.mean**2

    def ssim(self, other: np.ndarray) -> float:
        y = other.astype(np.float64)
        mean = _blur(y)
        variance = _blur(y**2) - mean**2
        covariance = _blur(self.x * y) - self.mean * mean
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        top = (2 * self.mean * mean + c1) * (2 * covariance + c2)
        bottom = (self.mean**2 + mean**2 + c1) * (self.variance + variance + c2)
        return float((top / bottom).mean())


def _blur(image: np.ndarray) -> np.ndarray:
    """Gaussian-weighted local mean of `image` float64 [h, w, channels], where the whole window fits."""
    import cv2

    offset = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    window = np.exp(-(offset**2) / (2 * SSIM_SIGMA**2))
    window /= window.sum()
    pad = SSIM_WINDOW // 2
    return cv2.sepFilter2D(image, cv2.CV_64F, window, window)[pad:-pad, pad:-pad]

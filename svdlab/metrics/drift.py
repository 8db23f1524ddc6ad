"""Slow change over a clip: brightness, colour and sharpness running away, as few-step samplers tend to let them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from svdlab.metrics.registry import metric

if TYPE_CHECKING:
    from svdlab.metrics.context import Scoring

# Rounding to 8 bits adds a variance of 1/12 to each pixel; the kernel (1, 1, -4, 1, 1) has a sum of squares of 20.
LAPLACIAN_FLOOR = 20 / 12


@metric(
    "luma_drift", unit="levels/frame", range=(-255, 255), min_frames=2, source="least-squares slope of mean BT.601 luma"
)
def luma_drift(scoring: Scoring) -> float:
    """Brightening (+) or darkening (-): least-squares slope of mean luma, in 8-bit levels per frame. 0 is best."""
    return slope(scoring.luma.mean(axis=(1, 2), dtype=np.float64))


@metric(
    "saturation_drift",
    unit="levels/frame",
    range=(-255, 255),
    min_frames=2,
    source="least-squares slope of mean chroma, max(R, G, B) - min(R, G, B)",
)
def saturation_drift(scoring: Scoring) -> float:
    """Colours growing stronger (+) or paler (-): slope of mean chroma, in 8-bit levels per frame. 0 is best.

    Chroma is max(R, G, B) - min(R, G, B). HSV saturation divides it by max(R, G, B), which makes noise of dark pixels.
    """
    return slope(np.array([_mean_chroma(frame) for frame in scoring.frames]))


@metric(
    "sharpness_ratio",
    range=(0, np.inf),
    min_frames=2,
    settings={"floor": LAPLACIAN_FLOOR},
    source="variance of the Laplacian (Pech-Pacheco et al. 2000), last frame over first",
)
def sharpness_ratio(scoring: Scoring) -> float:
    """Fine detail of the last frame over that of the first: variance of the Laplacian of luma. 1 is best, < 1 is blur.

    Both variances are held at or above 20/12, which rounding to 8 bits makes alone, so that flat pictures give a finite
    number, and 1 among themselves.
    """
    first, last = (max(laplacian_variance(scoring.luma[t]), LAPLACIAN_FLOOR) for t in (0, -1))
    return last / first


def slope(values: np.ndarray) -> float:
    """Least-squares slope of `values` against 0, 1, 2, ...; for two values their difference.

    Example:
        >>> slope(np.array([1.0, 3.0, 5.0]))
        2.0
    """
    t = np.arange(len(values)) - (len(values) - 1) / 2
    return float(t @ values / (t @ t))


def laplacian_variance(luma: np.ndarray) -> float:
    """Variance of the 4-neighbour Laplacian of `luma` [height, width], the border mirrored."""
    padded = np.pad(luma.astype(np.float64), 1, mode="reflect" if min(luma.shape) > 1 else "edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return float((around - 4 * padded[1:-1, 1:-1]).var())


def _mean_chroma(frame: np.ndarray) -> float:
    r, g, b = (frame[..., channel] for channel in range(3))  # planes: a reduction over the last axis is 20 times slower
    chroma = np.maximum(np.maximum(r, g), b) - np.minimum(np.minimum(r, g), b)
    return float(chroma.mean(dtype=np.float64))

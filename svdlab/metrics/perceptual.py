"""LPIPS: distance as people see it (Zhang et al. 2018), of each frame to the input picture and to its neighbour.

AlexNet backbone, version 0.1, on [-1, 1] RGB at a fixed working resolution: frames whose short side is above
`LPIPS_SHORT_SIDE` are reduced to it by area averaging, smaller ones stay. The value depends on the resolution: compare
only clips of one size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from svdlab.metrics.registry import NotComputableError, metric

if TYPE_CHECKING:
    import torch

    from svdlab.metrics.context import Scoring
    from svdlab.metrics.lpips_network import LpipsNetwork

LPIPS_SHORT_SIDE = 256
LPIPS_MIN_SIDE = 31  # below, AlexNet pools to nothing
CHUNK = 8
SETTINGS = MappingProxyType({"backbone": "alex", "lpips": "0.1", "short_side": LPIPS_SHORT_SIDE})
SOURCE = "Zhang et al. 2018, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, eq. 1"


@dataclass(frozen=True, kw_only=True)
class LpipsCurves:
    """LPIPS of a clip: `input` float64 [frames] to the picture (None without one), `adjacent` float64 [frames - 1]."""

    input: np.ndarray | None
    adjacent: np.ndarray


def lpips_curves(
    frames: np.ndarray, image: np.ndarray | None, *, device: str | torch.device = "cpu", chunk: int = CHUNK
) -> LpipsCurves:
    """Both curves in one pass: the network sees each frame once, `chunk` of them at a time.

    Args:
        frames: uint8 [frames, height, width, 3] RGB.
        image: uint8 [height, width, 3] RGB, or None.
        device: where the network runs.
        chunk: frames in memory at once; changes the values by rounding at most.

    Raises:
        NotComputableError: frames smaller than 31x31 px.
        WeightsError: the weights cannot be had.
    """
    from svdlab.metrics.lpips_network import load_network

    height, width = frames.shape[1:3]
    if min(height, width) < LPIPS_MIN_SIDE:
        raise NotComputableError(
            f"LPIPS needs frames of at least {LPIPS_MIN_SIDE}x{LPIPS_MIN_SIDE} px; these are {width}x{height}."
        )
    network = load_network(device=device)
    return _curves(network, frames, image, chunk)


def lpips_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) at which LPIPS is computed: short side at most `LPIPS_SHORT_SIDE`, same aspect, never larger.

    Example:
        >>> lpips_size(1024, 576)
        (455, 256)
    """
    scale = min(1.0, LPIPS_SHORT_SIDE / min(width, height))
    return round(width * scale), round(height * scale)


@metric(
    "lpips_input",
    range=(0, np.inf),
    direction="lower",
    needs={"lpips", "image"},
    per_frame=True,
    settings=SETTINGS,
    source=SOURCE,
)
def lpips_input(scoring: Scoring) -> np.ndarray:
    """How far the clip departs from the input picture: mean LPIPS of its frames to it. 0 is identical.

    A departure is no fault: a harmless camera pan reaches 0.4. Read it beside `flow_mean`.
    """
    curve = scoring.lpips.input
    assert curve is not None
    return curve


@metric(
    "lpips_input_last", range=(0, np.inf), direction="lower", needs={"lpips", "image"}, settings=SETTINGS, source=SOURCE
)
def lpips_input_last(scoring: Scoring) -> float:
    """How far the clip has departed from the input picture in the end: LPIPS of the last frame to it."""
    return lpips_input(scoring)[-1]


@metric(
    "lpips_adjacent",
    range=(0, np.inf),
    direction="lower",
    needs={"lpips"},
    per_frame=True,
    min_frames=2,
    settings=SETTINGS,
    source=SOURCE,
)
def lpips_adjacent(scoring: Scoring) -> np.ndarray:
    """Perceived change from frame to frame: mean LPIPS of neighbours. 0 for a frozen clip.

    Grows with motion as well as with flicker, and hardly sees flicker of brightness. One value per pair of neighbours.
    """
    return scoring.lpips.adjacent


def _curves(network: LpipsNetwork, frames: np.ndarray, image: np.ndarray | None, chunk: int) -> LpipsCurves:
    pictures = frames if image is None else np.concatenate([image[None], frames])
    to_first: list[np.ndarray] = []
    adjacent: list[np.ndarray] = []
    first = last = None
    for batch, count in _equal_batches(pictures, chunk):
        now = [layer[:count] for layer in network.features(_resized(batch))]
        first = first or [layer[:1] for layer in now]
        to_first.append(network.distances(now, first))
        window = now if last is None else network.join(last, now)  # neighbours across two batches count too
        adjacent.append(network.distances([layer[:-1] for layer in window], [layer[1:] for layer in window]))
        last = [layer[-1:] for layer in now]
    if image is None:
        return LpipsCurves(input=None, adjacent=np.concatenate(adjacent))
    return LpipsCurves(input=np.concatenate(to_first)[1:], adjacent=np.concatenate(adjacent)[1:])


def _equal_batches(pictures: np.ndarray, chunk: int) -> Iterator[tuple[np.ndarray, int]]:
    """(batch, pictures that count in it), all batches of one size, at most `chunk`, the last filled up with repeats.

    A convolution rounds differently for another batch size. With one size, equal pictures have equal features to the
    last bit, and a frozen clip is at a distance of exactly 0.
    """
    size = math.ceil(len(pictures) / math.ceil(len(pictures) / chunk))
    for start in range(0, len(pictures), size):
        batch = pictures[start : start + size]
        filling = np.repeat(batch[-1:], size - len(batch), axis=0)
        yield np.concatenate([batch, filling]), len(batch)


def _resized(pictures: np.ndarray) -> np.ndarray:
    import cv2

    height, width = pictures.shape[1:3]
    size = lpips_size(width, height)
    if size == (width, height):
        return pictures
    return np.stack([cv2.resize(p.astype(np.float32), size, interpolation=cv2.INTER_AREA) for p in pictures])

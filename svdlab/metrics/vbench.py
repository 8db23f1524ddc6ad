"""VBench's per-video formulas on whatever frames, vectors and flows they are given.

VBench (Huang et al. 2024, arXiv:2311.17982; image-to-video: VBench++, arXiv:2411.13503) is these formulas, and certain
networks, and certain preprocessing. The formulas are here, free of any network. A number that they give is VBench's
only with all three; that is why no metric of svdlab carries VBench's name.

VBench's temporal flickering has no network and is the metric `flicker`.

Example:
    >>> consistency(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    array([1., 0.])
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from svdlab.errors import MetricError

RATE = 8  # frames a second at which VBench looks for motion
I2V_WEIGHTS = (0.4, 0.3, 0.3)  # of the best likeness to the input, the mean and the worst of neighbours

Interpolator = Callable[[np.ndarray, np.ndarray], np.ndarray]


def consistency(frames: np.ndarray) -> np.ndarray:
    """Subject and background consistency: how like each frame is to the one before and to the first.

    For frames t = 2..T: (max(0, cos(f_t-1, f_t)) + max(0, cos(f_1, f_t))) / 2. The mean is VBench's per-video score,
    with DINO ViT-B/16 features for the subject and CLIP ViT-B/32 for the background.

    Args:
        frames: unit vectors [frames, size].

    Returns:
        float64 [frames - 1] in 0..1, 1 for a frozen clip.
    """
    return (_likeness(frames[:-1], frames[1:]) + _likeness(frames[0], frames[1:])) / 2


def i2v(image: np.ndarray, frames: np.ndarray) -> float:
    """Image-to-video likeness: 0.4 max cos(input, f_t) + 0.3 mean cos(f_t, f_t+1) + 0.3 min cos(f_t, f_t+1).

    Each cosine is cut off at 0. These are the weights of VBench's code in March 2026 (commit 45e79ec); there are
    versions with 0.5, 0.5 and 0. The link to the input is its best frame, which for a model that begins at its input is
    the first: read it beside the mean likeness.

    Args:
        image: unit vector [size] of the input picture.
        frames: unit vectors [frames, size], two frames at least.

    Returns:
        0..1.
    """
    neighbours = _likeness(frames[:-1], frames[1:])
    best, mean, worst = I2V_WEIGHTS
    return float(best * _likeness(image, frames).max() + mean * neighbours.mean() + worst * neighbours.min())


def smoothness(frames: np.ndarray, interpolate: Interpolator) -> float:
    """Motion smoothness: drop every second frame, make it again from its two neighbours, and compare.

    1 - mean |made - dropped| / 255 over the dropped frames 2, 4, ...; the last frame of an even number has only one
    neighbour and does not count. VBench interpolates with AMT-S.

    Args:
        frames: uint8 [frames, height, width, 3], three at least.
        interpolate: of two frames uint8 [height, width, 3], the one halfway between them in time.

    Returns:
        0..1, 1 for a frozen clip.

    Raises:
        MetricError: fewer than three frames, or `interpolate` returns something else than such a frame.

    Example:
        >>> smoothness(clip.frames, lambda a, b: cv2.addWeighted(a, 0.5, b, 0.5, 0))
        0.98
    """
    if len(frames) < 3:
        raise MetricError(
            f"frames: motion smoothness needs at least 3 frames, two around one; there are {len(frames)}."
        )
    errors = []
    for t in range(1, len(frames) - 1, 2):
        made = interpolate(frames[t - 1], frames[t + 1])
        if not isinstance(made, np.ndarray) or made.dtype != np.uint8 or made.shape != frames[t].shape:
            got = f"{made.dtype} {list(made.shape)}" if isinstance(made, np.ndarray) else type(made).__name__
            raise MetricError(
                f"interpolate must return uint8 {list(frames[t].shape)}, a frame like those given; got {got}."
            )
        errors.append(np.abs(made.astype(np.int16) - frames[t]).mean(dtype=np.float64))
    return float(1 - np.mean(errors) / 255)


def at_motion_rate(frames: np.ndarray, fps: float) -> np.ndarray:
    """Every round(fps / 8)-th frame, as VBench looks at a clip for its dynamic degree; all of them below 12 fps."""
    return frames[:: max(1, round(fps / RATE))]


def top_lengths(lengths: np.ndarray) -> float:
    """Mean of the largest 5 % of flow lengths [height, width], as many as int(0.05 height width), one at least."""
    flat = lengths.ravel()
    top = max(1, int(0.05 * flat.size))
    return float(np.partition(flat, -top)[-top:].mean(dtype=np.float64))


def dynamic_ratio(tops: np.ndarray, *, width: int, height: int) -> float:
    """Dynamic degree before its yes or no: how much of the motion that it asks for the clip has.

    VBench calls a clip of n frames dynamic if at least round(n / 4) of its pairs have a top-5-% flow above
    6 min(height, width) / 256 px. That is so exactly if the round(n / 4)-th largest of them, over that threshold, is
    above 1; this ratio is returned. There are versions of VBench whose threshold is 8 / fps times that below 8 frames a
    second; this one has the same for all.

    Args:
        tops: float [pairs], of `top_lengths`, in px of the frame, of frames taken `at_motion_rate`.
        width, height: of the frame, px.

    Example:
        >>> dynamic_ratio(np.array([3.0, 3.0, 0.0]), width=128, height=64)
        2.0
    """
    needed = max(1, round((len(tops) + 1) / 4))  # half to even, as VBench's round
    return float(np.sort(tops)[-needed] / (6 * min(width, height) / 256))


def _likeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of unit vectors, cut off at 0, and rounding at 1."""
    return np.clip((a * b).sum(-1), 0, 1)

"""How good a small image-to-video model is, in numbers: one function a row of its model card.

Each function takes frames and what is true of them, and nothing else: a model, a rendered truth and a damaged truth
are measured alike. `svdlab.training.exam` makes the clips and puts the rows together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from svdlab import metrics
from svdlab.clip import Clip
from svdlab.metrics.drift import LAPLACIAN_FLOOR, laplacian_variance
from svdlab.metrics.pixel import psnr
from svdlab.training.locate import Found, Target, best_shift, best_zoom, camera_shift, camera_zoom, find, presence_near

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline

LOST = 0.25  # presence below which an object counts as gone
RIVAL = 0.6  # most that there may be of it at the end of another way, as a share of the first
EXPLAINED = 0.55  # how far from the average of futures towards one of them a decided picture must lie
FAINT = 0.2  # least contrast at which a picture can be decided, as a share of the true one
STILL = 0.1  # px; displacements below cannot be told from none
FROM_MIDDLE = 0.3826  # mean distance of a square's points from its middle, as a share of its side
CROP = 64  # px, side at which crops of objects are compared


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A held-out picture, and what is true of the clip that it begins.

    Attributes:
        name: for people, such as `arrow 12`.
        picture: uint8 `[height, width, 3]`, what the model sees.
        target: the object to be found; None if the camera moves instead.
        reach: px, how far to look for a camera's shift, each way; objects have a reach of their own.
        ends: float64 `[futures, 2]`, displacement (x, y) in px of object or scene in the last frame at bucket 255,
            for every way that things may go; one row where the picture decides.
        truths: uint8 `[futures, frames, height, width, 3]`, the clips at bucket 255.
        size: px, side of the square that holds the object.
        zoom: the camera goes forward, and displacement is the mean over the frame that its zoom gives.
    """

    name: str
    picture: np.ndarray
    target: Target | None
    reach: int
    ends: np.ndarray
    truths: np.ndarray
    size: int = 0
    zoom: bool = False


# ---------------------------------------------------------------- small mathematics


def ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Rank of each value from 1, equal values sharing the mean of their ranks.

    Example:
        >>> ranks([10.0, 30.0, 10.0])
        array([1.5, 3. , 1.5])
    """
    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Spearman's rank correlation rho, -1 to 1: Pearson's correlation of `ranks` (Spearman 1904).

    0 if either does not vary at all: a knob that changes nothing is not followed.

    Raises:
        ValueError: fewer than two values, unequal lengths, or values that are not finite.

    Example:
        >>> spearman([0, 32, 64, 96], [0.0, 0.4, 0.3, 1.1])
        0.8
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(f"x {a.shape} and y {b.shape} must be two lists of at least two finite numbers each.")
    p, q = ranks(a) - (len(a) + 1) / 2, ranks(b) - (len(b) + 1) / 2
    norm = float(np.sqrt((p @ p) * (q @ q)))
    return round(float(p @ q) / norm, 12) if norm else 0.0


# ---------------------------------------------------------------- motion


def locate(frames: np.ndarray, case: Case) -> Found:
    """The object of a case in the last of `frames`."""
    assert case.target is not None
    return find(frames[-1], case.target)


def displacement(frames: np.ndarray, case: Case) -> float:
    """How far the object, or the scene before the camera, is in the last frame from where the picture has it, in px.

    The object's place is where its matched filter explains most (`locate.find`), the scene's shift the peak of its
    correlation with the input picture (`locate.camera_shift`). Where the camera goes forward, it is the mean over the
    frame of what its zoom (`locate.camera_zoom`) moves: |zoom - 1| times the mean distance from the middle. An object
    that is gone (presence below 0.25) has not moved: a model earns nothing by dissolving what it should move.
    """
    if case.zoom:
        return zoom_px(camera_zoom(case.picture, frames[-1]), frames.shape[2])
    if case.target is None:
        return float(np.hypot(*camera_shift(case.picture, frames[-1], reach=case.reach)))
    found = locate(frames, case)
    return float(np.hypot(*(found.position - case.target.position))) if found.presence >= LOST else 0.0


def camera_displacement(picture: np.ndarray, frame: np.ndarray, *, reach: int) -> float:
    """How far a scene has moved, in px, where it is not known whether the camera goes aside or forward.

    The shift or the mean over the frame of what the zoom moves, whichever correlates better with the frame.
    """
    shift, like_shift = best_shift(picture, frame, reach=reach)
    zoom, like_zoom = best_zoom(picture, frame)
    return float(np.hypot(*shift)) if like_shift >= like_zoom else zoom_px(zoom, frame.shape[1])


def zoom_px(zoom: float, width: int) -> float:
    """Mean distance in px by which a zoom about the middle moves the points of a square frame."""
    return abs(zoom - 1) * FROM_MIDDLE * width


def flow_mean(frames: np.ndarray) -> float:
    """The metric `flow_mean` of the clip: mean length of the optical flow in px per frame. Flicker adds to it."""
    return metrics.score(Clip(frames=frames), names=["flow_mean"])["flow_mean"]


def displacement_ratio(fast: Sequence[float] | np.ndarray, still: Sequence[float] | np.ndarray) -> float:
    """Mean displacement at motion bucket 255 over the mean at bucket 0, over all pictures.

    The latter counts as at least 0.1 px, below which nothing can be measured; so a perfect model has a finite ratio.
    """
    return float(np.mean(fast) / max(float(np.mean(still)), STILL))


def position_error(frames: np.ndarray, case: Case) -> float:
    """Distance of the object in the last frame from where it truly is at bucket 255, in px of a 64 px wide frame.

    An object that is gone (presence below 0.25) counts as if it had stayed at its start, and so does no better than
    the still picture.
    """
    assert case.target is not None
    found = locate(frames, case)
    moved = found.position - case.target.position if found.presence >= LOST else np.zeros(2)
    return float(np.hypot(*(moved - case.ends[0]))) * 64 / frames.shape[2]


def still_error(case: Case) -> float:
    """`position_error` of the still picture: the length of the true way, in px of a 64 px wide frame."""
    return float(np.hypot(*case.ends[0])) * 64 / case.picture.shape[1]


def psnr_gain(frames: np.ndarray, case: Case) -> float:
    """PSNR of the last frame to the true last frame at bucket 255, less the input picture's own, in dB.

    Where the picture allows several futures, against the one for which this is largest.
    """
    return max(psnr(frames[-1], truth) - psnr(case.picture, truth) for truth in case.truths[:, -1])


# ---------------------------------------------------------------- appearance


def object_lpips(frames: np.ndarray, case: Case) -> tuple[float, float]:
    """LPIPS of the object as the last frame shows it to the true object there, and to the object of the input picture.

    Crops of the object's size, cut around the object (where it was found; where it truly is; where the picture has
    it), enlarged to 64 px. So an object in a wrong place but of good colour and shape scores well.
    """
    import cv2

    assert case.target is not None
    start, half = case.target.position, case.size / 2

    def crop(frame: np.ndarray, centre: np.ndarray) -> np.ndarray:
        x, y = np.clip(centre, 0, np.array(frame.shape[1::-1]) - 1)
        patch = cv2.getRectSubPix(frame, (case.size, case.size), (float(x), float(y)))
        return cv2.resize(patch, (CROP, CROP), interpolation=cv2.INTER_LINEAR)

    assert half > 0
    shown = crop(frames[-1], locate(frames, case).position)
    true, given = crop(case.truths[0, -1], start + case.ends[0]), crop(case.picture, start)
    clip = Clip(frames=shown[None], image=true)
    return (
        metrics.score(clip, names=["lpips_input"])["lpips_input"],
        metrics.score(clip, image=given, names=["lpips_input"])["lpips_input"],
    )


def lpips_input(frames: np.ndarray, picture: np.ndarray) -> float:
    """The metric `lpips_input`: mean LPIPS of the clip's frames to the input picture."""
    return metrics.score(Clip(frames=frames), image=picture, names=["lpips_input"])["lpips_input"]


def decided_object(frame: np.ndarray, case: Case) -> bool:
    """Whether the last frame shows one object at the end of one of its possible ways, and no second one.

    The object's presence (`locate.presence_near`) is read near the end of every way, within a quarter of the
    way's length. Decided: at least 0.25 at one end, and at every other at most 0.6 of that. Two half-transparent
    ghosts have 0.5 and 0.5; a blend of eight ways has 1/8 each; an object that stayed or dissolved has none at any end.
    """
    assert case.target is not None
    presences = sorted(
        (
            presence_near(frame, case.target, case.target.position + end, tolerance=0.25 * float(np.hypot(*end)))
            for end in case.ends
        ),
        reverse=True,
    )
    return presences[0] >= LOST and presences[1] <= RIVAL * presences[0]


def decided_picture(frame: np.ndarray, futures: np.ndarray) -> bool:
    """Whether one of the possible last frames explains `frame` clearly better than their average does.

    With A the average of the futures F_k and T_k = F_k - A, the frame is written as a A + c T_k + rest by least
    squares, for each k, after every channel has lost its mean. p = c / a is 1 for the future itself and 0 for the
    average, however pale both are; at equal contrast (a = 1) F_k is nearer to the frame than A exactly if p > 1/2.
    Decided: p >= 0.55 for some k with a >= 0.2. For what has no single object: clouds, or a camera's way.

    Args:
        frame: uint8 `[height, width, 3]`.
        futures: uint8 `[futures, height, width, 3]`.
    """
    pictures = np.concatenate([frame[None], futures]).astype(np.float64)
    pictures -= pictures.mean(axis=(1, 2), keepdims=True)
    seen, ways = pictures[0].ravel(), pictures[1:].reshape(len(futures), -1)
    average = ways.mean(axis=0)
    for towards in ways - average:
        amount, along = np.linalg.lstsq(np.stack([average, towards], axis=1), seen, rcond=None)[0]
        if amount >= FAINT and along >= EXPLAINED * amount:
            return True
    return False


def decided(frames: np.ndarray, case: Case) -> bool:
    """Whether the last frame of a clip from an ambiguous picture, at bucket 255, shows one future and not a blend.

    `decided_object` where there is an object to be found. Else `decided_picture`, by the futures as they are at the end
    or in any frame of the last third, since a clip may well be late on its way.
    """
    if case.target is not None:
        return decided_object(frames[-1], case)
    count = case.truths.shape[1]
    return any(decided_picture(frames[-1], case.truths[:, t]) for t in range(2 * count // 3, count))


def tells_apart(case: Case) -> bool:
    """Whether `decided` can judge this case: it must call every true future decided, and their average undecided.

    Also when they are as soft as a model's clips may be: a green ball in green fields is then hardly told from them.
    """
    average = case.truths.mean(axis=0).round().astype(np.uint8)
    sure = all(decided(clip, case) for truth in case.truths for clip in (truth, _softened(truth)))
    return sure and not any(decided(clip, case) for clip in (average, _softened(average)))


def _softened(frames: np.ndarray) -> np.ndarray:
    """Every frame blurred by a Gaussian of 1/64 of its side."""
    return np.stack([cv2.GaussianBlur(frame, (0, 0), frame.shape[1] / 64) for frame in frames])


# ---------------------------------------------------------------- the decoder, photographs, costs


def vae_psnr(pipe: Pipeline, frames: np.ndarray) -> float:
    """PSNR in dB of true frames after the VAE's encoder and decoder, over one whole clip.

    Every frame is encoded as the pipeline encodes its picture (mode of the posterior, no noise), the clip is decoded
    as the pipeline decodes a sample.
    """
    import torch

    from svdlab.conditioning import encode_picture

    blank = torch.zeros(3, *frames.shape[1:3])
    latents = torch.stack([encode_picture(pipe.components, frame, blank, 0.0) for frame in frames])
    scale = pipe.components.vae.config["scaling_factor"]
    return psnr(pipe.decode(latents * scale, decode_chunk=pipe.defaults.decode_chunk), frames)


def photo_measures(fast: np.ndarray, still: np.ndarray, picture: np.ndarray, *, reach: int) -> dict[str, float]:
    """What becomes of a real photograph: is it recognised, does it move, does it collapse.

    Args:
        fast: uint8 `[frames, height, width, 3]`, the clip at bucket 255.
        still: the same at bucket 0.
        picture: the photograph as the model saw it.
        reach: px, largest camera shift looked for.

    Returns:
        `photo_lpips`, `photo_ssim`: metrics `lpips_input` and `ssim_input` of frame 0 at bucket 255.
        `photo_moved`: `camera_displacement` in the last frame at bucket 255 less that at bucket 0, px.
        `photo_saturation`: mean chroma (max less min of R, G, B) of the last frame over the picture's.
        `photo_sharpness`: variance of the Laplacian of luma of the last frame over the picture's.
    """
    first = metrics.score(Clip(frames=fast[:1]), image=picture, names=["lpips_input", "ssim_input"])
    moved = [camera_displacement(picture, frames[-1], reach=reach) for frames in (fast, still)]
    chroma = [float(np.ptp(frame.astype(np.int16), axis=-1).mean()) for frame in (fast[-1], picture)]
    luma = [frame @ np.array([0.299, 0.587, 0.114]) for frame in (fast[-1], picture)]
    sharp = [max(laplacian_variance(part), LAPLACIAN_FLOOR) for part in luma]
    return {
        "photo_lpips": first["lpips_input"],
        "photo_ssim": first["ssim_input"],
        "photo_moved": moved[0] - moved[1],
        "photo_saturation": chroma[0] / max(chroma[1], 1.0),
        "photo_sharpness": sharp[0] / sharp[1],
    }


def clip_seconds(pipe: Pipeline, picture: Any, *, steps: int = 4, repeats: int = 3) -> float:
    """Wall-clock seconds of one clip from picture to frames: the median of `repeats`, after one that does not count.

    Nothing is taken from the cache of conditioning.
    """
    seconds = []
    for _ in range(repeats + 1):
        pipe.clear_cache()
        began = time.perf_counter()
        pipe(picture, steps=steps, seed=0)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[1:]))


def files_megabytes(folders: Sequence[Path]) -> float:
    """Size of all files below `folders` in MB (10^6 bytes); a file that two of them share counts once."""
    files = {path.resolve() for folder in folders for path in folder.rglob("*") if path.is_file()}
    return sum(path.stat().st_size for path in files) / 1e6

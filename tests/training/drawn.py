"""Drawn scenes with known truths, and ways to spoil a clip as a poor model would."""

from __future__ import annotations

import cv2
import numpy as np
from skimage import data

from svdlab.training.evaluate import Case
from svdlab.training.locate import background_of, target_of

SIZE, FRAMES = 64, 25


def backdrop(seed: int = 0, size: int = SIZE) -> np.ndarray:
    """A shaded background with soft texture, float32 [size, size, 3] in 0..255."""
    rng = np.random.default_rng(seed)
    y = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    shade = (1 - y) * rng.uniform(30, 80, 3) + y * rng.uniform(60, 140, 3)
    texture = cv2.GaussianBlur(rng.normal(0, 60, (size, size, 1)).astype(np.float32), (0, 0), 3)[..., None]
    return np.clip(shade + texture, 0, 255).astype(np.float32)


def cover(centre: tuple[float, float], size: int = SIZE) -> np.ndarray:
    """How much of each pixel an arrow-like object covers, float32 [size, size, 1] in 0..1, to 1/8 px."""
    outline = np.array([[9, 0], [-7, -6], [-3, 0], [-7, 6]], dtype=np.float64) + centre
    large = np.zeros((size * 8, size * 8), np.uint8)
    cv2.fillPoly(large, [np.round((outline + 0.5) * 8).astype(np.int32)], 255)
    return cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] / 255


def paint(behind: np.ndarray, centre: tuple[float, float], opacity: float = 1.0) -> np.ndarray:
    """The object on a background, float32."""
    share = opacity * cover(centre, behind.shape[0])
    return behind * (1 - share) + np.array([240, 190, 60], np.float32) * share


def to_uint8(frames: np.ndarray) -> np.ndarray:
    return np.clip(np.round(frames), 0, 255).astype(np.uint8)


def way(end: tuple[float, float], speed: float = 1.0, start: tuple[float, float] = (30, 31)) -> np.ndarray:
    """Centres [frames, 2] along a straight way."""
    return np.array(start) + np.linspace(0, speed, FRAMES)[:, None] * np.array(end)


def drive(end: tuple[float, float], speed: float = 1.0, seed: int = 0, opacity: float = 1.0) -> np.ndarray:
    """A clip of the object going to `end` (displacement at full speed), uint8."""
    behind = backdrop(seed)
    faded = np.linspace(1, opacity, FRAMES)
    return to_uint8(np.stack([paint(behind, tuple(c), o) for c, o in zip(way(end, speed), faded, strict=True)]))


def case_of(ends: list[tuple[float, float]], seed: int = 0) -> Case:
    """The case whose futures lead to `ends`."""
    truths = np.stack([drive(end, seed=seed) for end in ends])
    picture, share = truths[0, 0], cover((30, 31))[..., 0]
    target = target_of(picture, share, np.array([30.0, 31.0]), background_of(picture, share), reach=24)
    where = np.array(ends, dtype=np.float64)
    return Case(name="drawn", picture=picture, target=target, reach=24, ends=where, truths=truths, size=21)


def pan(shift: tuple[float, float]) -> np.ndarray:
    """A camera over a photograph, to the left by `shift` px in all: what is seen moves by +shift; uint8."""
    photo = cv2.resize(data.astronaut(), (160, 160), interpolation=cv2.INTER_AREA)
    frames = []
    for share in np.linspace(0, 1, FRAMES):
        matrix = np.array([[1, 0, -48 + share * shift[0]], [0, 1, -30 + share * shift[1]]], dtype=np.float64)
        frames.append(cv2.warpAffine(photo, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR))
    return np.stack(frames)


def pan_case(shift: tuple[float, float]) -> Case:
    truth = pan(shift)
    return Case(name="pan", picture=truth[0], target=None, reach=24, ends=np.array([shift]), truths=truth[None])


# Damage: each takes a clip and gives one.


def blurred(frames: np.ndarray, sigma: float = 1.5) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames])


def noisy(frames: np.ndarray, sigma: float = 10.0, seed: int = 3) -> np.ndarray:
    return to_uint8(frames + np.random.default_rng(seed).normal(0, sigma, frames.shape))


def pale(frames: np.ndarray) -> np.ndarray:
    """Washed out, and off in colour and brightness."""
    grey = frames.mean(axis=-1, keepdims=True)
    return to_uint8(0.6 * (0.6 * frames + 0.4 * grey) + np.array([60, 45, 30]))


def uneven(frames: np.ndarray) -> np.ndarray:
    """A slow change of brightness over the frame."""
    return to_uint8(frames + np.linspace(-25, 25, frames.shape[2])[:, None])


def frozen(frames: np.ndarray) -> np.ndarray:
    return np.repeat(frames[:1], len(frames), axis=0)


def ghosts(clips: np.ndarray) -> np.ndarray:
    """The average of several futures: half-transparent objects on every way."""
    return to_uint8(clips.mean(axis=0))


SPOILT = {"blurred": blurred, "noisy": noisy, "pale": pale, "uneven": uneven}

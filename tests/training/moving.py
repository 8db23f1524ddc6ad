"""Small real videos for the tests of training: a random picture that moves sideways."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from svdlab.video import write_video


def moving_frames(count: int, *, speed: int, seed: int = 0, width: int = 64, height: int = 48) -> np.ndarray:
    """uint8 `[count, height, width, 3]`: soft blobs that move `speed` px a frame to the right."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 225, (height // 8, 32, 3)).astype(np.float32)
    picture = coarse.repeat(8, axis=0).repeat(8, axis=1)
    return np.stack([np.roll(picture, speed * t, axis=1)[:, :width] for t in range(count)]).astype(np.uint8)


def write_videos(folder: Path, *, speeds: tuple[int, ...] = (1, 2, 3), count: int = 12, fps: float = 12) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, speed in enumerate(speeds):
        frames = moving_frames(count, speed=speed, seed=number)
        write_video(folder / f"{number}.mp4", frames, fps=fps, crf=5)
    return folder

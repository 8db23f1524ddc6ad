"""A small world with the contract of the real one: a bright disc on a dark ground; warm go right, cold go left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Discs:
    size: int = 32
    num_frames: int = 6
    seed: int = 0

    def batch(self, indices: Sequence[int]) -> dict[str, np.ndarray]:
        scenes = [self._scene(index) for index in indices]
        return {key: np.stack([scene[key] for scene in scenes]) for key in scenes[0]}

    def _scene(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, index])
        bucket = int(rng.integers(0, 256))
        warm = bool(rng.integers(0, 2))
        x, y = rng.uniform(0.35, 0.65, 2) * self.size
        speed = (1 if warm else -1) * 0.06 * self.size * bucket / 255
        colour = np.array([230, 150, 60] if warm else [60, 150, 230], np.float32)
        ground = rng.uniform(10, 60, 3).astype(np.float32)
        row, column = np.mgrid[: self.size, : self.size].astype(np.float32)
        frames = []
        for t in range(self.num_frames):
            away = np.hypot(column - x - speed * t, row - y)
            cover = np.clip(0.2 * self.size + 0.5 - away, 0, 1)[..., None]
            frames.append((ground * (1 - cover) + colour * cover).round().astype(np.uint8))
        return {
            "frames": np.stack(frames),
            "motion_bucket_id": np.asarray(bucket),
            "fps": np.asarray(int(rng.integers(5, 15))),
        }

"""Rendered clips for training: which scenes a step sees, and processes that render them.

A batch is a pure function of step and rank; how many processes render it, and how far ahead, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Protocol

import numpy as np

from svdlab.errors import TrainingError

Scenes = Mapping[str, np.ndarray]
"""`frames` uint8 `[batch, frames, height, width, 3]`, `motion_bucket_id` `[batch]`, `fps` `[batch]`, and what else is
known of the scenes."""

WANTED = ("frames", "motion_bucket_id", "fps")


class Source(Protocol):
    """What teacher training needs of a world; `svdlab.training.world.World` keeps this contract."""

    def batch(self, indices: Sequence[int]) -> Scenes:
        """The scenes with these numbers, from 0 without end; a pure function of them."""
        ...


def scene_numbers(step: int, *, rank: int, world: int, batch: int) -> range:
    """Numbers of the scenes of one process at one step: no two steps, and no two processes, share a scene.

    Example:
        >>> scene_numbers(3, rank=1, world=2, batch=4)
        range(28, 32)
    """
    first = (step * world + rank) * batch
    return range(first, first + batch)


class Renderer:
    """A source whose scenes are rendered by some processes; 0: by the one that asks.

    Example:
        >>> with Renderer(world, processes=8) as renderer:
        ...     renderer.batch(range(32))["frames"].shape
        (32, 25, 64, 64, 3)
    """

    def __init__(self, source: Source, *, processes: int = 0) -> None:
        self._source = source
        self._processes = processes
        # Started anew: a fork of a process that has threads, or a GPU, may hang.
        self._pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn")) if processes else None

    def batch(self, indices: Sequence[int]) -> dict[str, np.ndarray]:
        """The scenes with these numbers.

        Raises:
            TrainingError: the source gave something else than clips with bucket and fps.
        """
        indices = list(indices)
        if self._pool is None:
            return _checked(self._source.batch(indices))
        size = -(-len(indices) // self._processes)
        pieces = [indices[first : first + size] for first in range(0, len(indices), size)]
        parts = [_checked(part) for part in self._pool.map(_render, [self._source] * len(pieces), pieces)]
        return {key: np.concatenate([part[key] for part in parts]) for key in WANTED}

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)


def _render(source: Any, indices: list[int]) -> dict[str, np.ndarray]:
    return {key: value for key, value in source.batch(indices).items() if key in WANTED}


def _checked(scenes: Scenes) -> dict[str, np.ndarray]:
    lacking = [key for key in WANTED if key not in scenes]
    if lacking:
        raise TrainingError(f"world: its batches lack {', '.join(lacking)}. Give a World, or what has its contract.")
    found = {key: np.asarray(scenes[key]) for key in WANTED}
    frames = found["frames"]
    if frames.ndim != 5 or frames.dtype != np.uint8 or frames.shape[-1] != 3:
        raise TrainingError(
            f"world: frames must be uint8 [batch, frames, height, width, 3], not {frames.dtype} {list(frames.shape)}."
        )
    return found

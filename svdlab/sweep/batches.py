"""Batches: which cells go through the denoiser together, and how many of them it pays to take."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from svdlab.errors import SweepError
from svdlab.memory import free_memory
from svdlab.sharing import CONDITIONS
from svdlab.sweep.cells import Cell, quiet_request

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline

log = logging.getLogger("svdlab")

Batch = int | Literal["auto"]
MOST = 64  # cells of a batch that may be asked for
TRIED = (2, 4, 8)  # sizes that "auto" looks at
WORTH = 0.95  # a larger batch is taken if a clip in it costs at most this share of what it costs in the next smaller

_SIZE = ("num_frames", "width", "height")
_WALK = ("steps", "schedule", "sigma_max", "gamma", "decode_chunk")  # with the size, what a batch must agree in


def check_batch_size(batch: Any, *, timing: str, hosted: bool = False) -> None:
    """Raise SweepError unless `batch` is a number of cells, or "auto", that fits the sweep's timing and model.

    Example:
        >>> check_batch_size(4, timing="shared")
    """
    whole = isinstance(batch, int) and not isinstance(batch, bool) and 1 <= batch <= MOST
    if not whole and batch != "auto":
        raise SweepError(
            f"batch = {batch!r}: must be a whole number from 1 to {MOST}, or 'auto' to choose by measurement."
        )
    if batch == "auto" and hosted:
        raise SweepError(
            "batch = 'auto': measuring would spend paid calls of a hosted model. Give a number: so many are under way"
            " at once, as far as the model's concurrency allows."
        )
    if whole and batch > 1 and timing == "isolated":
        raise SweepError(
            f"batch = {batch}: timing = 'isolated' lets each cell run alone. Leave batch out, or use timing='shared'."
        )


def order_batches(cells: Sequence[Cell], size: int) -> list[list[Cell]]:
    """Every cell once, in batches of at most `size` that the pipeline can take.

    Cells that have calls in common (they differ in steps, schedule, gamma or decode_chunk alone) stay near one another,
    so that what they share need not be kept for long: `size` such families are taken at a time, and of these the
    cells with equal noise levels together. With size 1 the order is that of the cells.

    Example:
        >>> [[cell.settings["steps"] for cell in batch] for batch in order_batches(cells, 2)]
        [[1, 1], [2, 2], [4, 4]]
    """
    if size == 1:
        return [[cell] for cell in cells]
    return [batch for group in order_groups(cells, size) for batch in group]


def order_groups(cells: Sequence[Cell], size: int) -> list[list[list[Cell]]]:
    """Every cell once, in groups of batches; no denoiser call is common to two groups.

    A group holds `size` families of cells that have calls in common, see `order_batches`.

    Example:
        >>> [[cell.settings["steps"] for [cell] in group] for group in order_groups(cells, 1)]
        [[1, 2, 4], [1, 2, 4]]
    """
    shapes = _grouped(cells, lambda cell: (*_of(cell, _SIZE), _guided(cell)))
    return [block for group in shapes for block in _blocks(group, size)]


def _blocks(cells: Iterable[Cell], size: int) -> Iterator[list[list[Cell]]]:
    families = _grouped(cells, lambda cell: (cell.image, *_of(cell, CONDITIONS), *_guidance(cell)))
    for first in range(0, len(families), size):
        some = families[first : first + size]
        yield _grouped((cell for family in some for cell in family), lambda cell: _of(cell, _WALK))


def _grouped(cells: Iterable[Cell], key: Any) -> list[list[Cell]]:
    groups: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.values())


def _of(cell: Cell, names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(cell.settings[name] for name in names)


def _guided(cell: Cell) -> bool:
    return bool(cell.settings["max_guidance"] > 1)


def _guidance(cell: Cell) -> tuple[Any, ...]:
    return _of(cell, ("min_guidance", "max_guidance"))


def choose_batch(cells: Sequence[Cell], images: Mapping[str, Any], pipe: Pipeline) -> int:
    """How many cells to take at a time: what is measured to be fastest and fits the memory.

    One denoiser call of the first cell's size is timed alone and in growing batches, each twice after a warm-up, until
    a larger batch no longer saves 5 % a clip or memory runs out. The reason is logged.
    """
    sizes = [size for size in TRIED if any(len(batch) == size for batch in order_batches(cells, size))]
    if not sizes:
        return 1
    request = quiet_request(images[cells[0].image], dict(cells[0].settings, steps=1))
    chosen, best, found = 1, math.inf, []
    for size in (1, *sizes):
        try:
            seconds = _seconds(pipe, [request] * size)
        except Exception as error:  # out of memory, or what the cells will meet too, and keep with them
            found.append(f"a batch of {size} does not run ({type(error).__name__})")
            break
        found.append(f"{seconds:.3g} s a clip and step in a batch of {size}")
        if seconds > WORTH * best:
            break
        chosen, best = size, seconds
    free_memory()
    pipe.clear_cache()
    log.info("batch = %d, by measurement: %s", chosen, ", ".join(found))
    return chosen


def _seconds(pipe: Pipeline, requests: list[Any]) -> float:
    """Seconds a clip takes to be denoised in this batch: the better of two, after a warm-up."""
    pipe.denoise(requests)
    times = []
    for _ in range(2):
        began = time.perf_counter()
        pipe.denoise(requests)  # looks at its values, so the device is done when it returns
        times.append(time.perf_counter() - began)
    return min(times) / len(requests)

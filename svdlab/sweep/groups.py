"""Groups: the cells that one worker should make, since they have denoiser calls in common, and who gets which."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from svdlab.sharing import calls_to_make
from svdlab.sweep.batches import order_groups
from svdlab.sweep.cells import Cell, count_pixels

_CONDITIONING = ("width", "height", "cond_aug", "seed")  # with the picture, what the pipeline keeps between calls

Batches = tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Batches of cells that are made by one worker, one after the other.

    Attributes:
        cost: denoiser calls to make and clips to decode, in pixels of a clip; only compared with others.
        pixels: of its largest clip.
        shared: what its conditioning depends on; a worker that has just made a group of the same has it already.
    """

    batches: Batches
    cost: float
    pixels: int
    shared: Hashable

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, in the order in which they are made."""
        return tuple(itertools.chain.from_iterable(self.batches))


def make_group(batches: Iterable[Sequence[Cell]], *, timing: str = "shared") -> Group:
    """A group of these batches."""
    kept = tuple(tuple(batch) for batch in batches)
    cells = [cell for batch in kept for cell in batch]
    alone = timing == "isolated"
    calls = [cell.settings["steps"] for cell in cells] if alone else calls_to_make(cell.chain for cell in cells)
    pixels = [count_pixels(cell.settings) for cell in cells]
    first = cells[0]
    # A clip's decoding counts as one call: of few-step clips it is the larger part, of many-step ones the smaller.
    cost = sum((made + 1) * size for made, size in zip(calls, pixels, strict=True))
    return Group(
        batches=kept,
        cost=cost,
        pixels=max(pixels),
        shared=(first.image, *(first.settings[name] for name in _CONDITIONING)),
    )


def make_groups(cells: Sequence[Cell], size: int, *, timing: str = "shared") -> list[Group]:
    """Every cell once, in groups as small as they can be without making a denoiser call twice.

    Args:
        size: cells in a batch, see `svdlab.sweep.batches.order_batches`.
        timing: ``"isolated"``: nothing is shared, so every cell is a group.

    Example:
        >>> [len(group.cells) for group in make_groups(cells, 1)]    # steps 1, 2, 4, 8 of three seeds
        [4, 4, 4]
    """
    if timing == "isolated":
        return [make_group([[cell]], timing=timing) for cell in cells]
    return [make_group(batches) for batches in order_groups(cells, size)]


@dataclass
class _Shelf:
    """Groups with one conditioning: the longest at the end."""

    groups: list[Group]
    left: float  # work on it
    workers: int = 0  # that take from it

    @property
    def urgency(self) -> float:
        return self.left / (self.workers + 1)


@dataclass
class Queue:
    """Groups that wait for a worker. Who is idle gets the next, so that all are done at about the same time.

    A worker stays with the conditioning that it has; when there is no more work for that, it goes where most work is
    left for each worker. Longest first, so that what is handed out last is short.

    Example:
        >>> queue = Queue(make_groups(cells, 1))
        >>> queue.take("a").cells
        (Cell(...), Cell(...))
    """

    groups: Iterable[Group] = ()
    _shelves: dict[Hashable, _Shelf] = field(default_factory=dict, init=False)
    _at: dict[Hashable, Hashable] = field(default_factory=dict, init=False)  # worker -> its shelf
    _heap: list[tuple[float, int, Hashable]] = field(default_factory=list, init=False)  # with entries of former times
    _number: itertools.count[int] = field(default_factory=itertools.count, init=False)
    _length: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        shelves: dict[Hashable, list[Group]] = {}
        for group in self.groups:
            shelves.setdefault(group.shared, []).append(group)
        for shared, groups in shelves.items():
            groups.reverse()  # equal ones keep the order of the grid
            groups.sort(key=lambda group: group.cost)
            self._shelves[shared] = _Shelf(groups, sum(group.cost for group in groups))
            self._note(shared)
            self._length += len(groups)

    def __len__(self) -> int:
        return self._length

    def put(self, group: Group, *, last: bool = False) -> None:
        """Put a group back; it is the next of its conditioning, or the last."""
        shelf = self._shelves.setdefault(group.shared, _Shelf([], 0.0))
        shelf.groups.insert(0 if last else len(shelf.groups), group)
        shelf.left += group.cost
        self._length += 1
        self._note(group.shared)

    def take(self, worker: Hashable, *, below: float = math.inf) -> Group | None:
        """The next group for this worker; None if there is none.

        Args:
            below: only groups whose clips have fewer pixels.
        """
        shared = self._at.get(worker)
        if shared is None or not self._fits(shared, below):
            self.forget(worker)
            shared = self._most_urgent(below)
            if shared is None:
                return None
            self._at[worker] = shared
            self._shelves[shared].workers += 1
        shelf = self._shelves[shared]
        group = shelf.groups.pop()
        shelf.left -= group.cost
        self._length -= 1
        self._note(shared)
        return group

    def forget(self, worker: Hashable) -> None:
        """The worker takes no more, for now."""
        shared = self._at.pop(worker, None)
        if shared is not None:
            self._shelves[shared].workers -= 1
            self._note(shared)

    def _fits(self, shared: Hashable, below: float) -> bool:
        groups = self._shelves[shared].groups
        return bool(groups) and groups[-1].pixels < below

    def _note(self, shared: Hashable) -> None:
        shelf = self._shelves[shared]
        if shelf.groups:
            heapq.heappush(self._heap, (-shelf.urgency, next(self._number), shared))

    def _most_urgent(self, below: float) -> Hashable | None:
        if below < math.inf:  # rare: a node that has run out of memory
            fitting = [shared for shared in self._shelves if self._fits(shared, below)]
            return max(fitting, key=lambda shared: self._shelves[shared].urgency, default=None)
        while self._heap:
            urgency, _, shared = self._heap[0]
            shelf = self._shelves[shared]
            if shelf.groups and -urgency == shelf.urgency:
                return shared
            heapq.heappop(self._heap)
        return None

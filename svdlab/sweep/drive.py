"""Drive: hand groups of cells to workers elsewhere, and write down what comes back. The driver is the only writer."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from svdlab.sweep.cells import Cell
from svdlab.sweep.groups import Group, Queue, make_group
from svdlab.sweep.making import Failed, Made, Metrics, Result
from svdlab.sweep.work import Keeper

log = logging.getLogger("svdlab")

WAIT = 0.5  # s that the driver waits for news before it looks at the cluster and at `stop` again
AHEAD = 2  # groups in the hands of a worker: the one it makes and the next, so that it need not wait for the driver


@dataclass(kw_only=True)
class Worker:
    """One worker, as the driver sees it.

    Attributes:
        key: tells workers apart.
        node: where it is, in words.
        device: what it computes on.
        memory: bytes of it; 0 where that is not known.
        cells: that it made.
        busy: seconds that it spent on making them.
        joined: when it was ready (`time.monotonic`).
        left: when it was gone, or the run had ended; None: it is there.
        died: whether it was gone before the run had ended.
    """

    key: int
    node: str
    device: str = ""
    memory: int = 0
    cells: int = 0
    busy: float = 0.0
    joined: float = field(default_factory=time.monotonic)
    left: float | None = None
    died: bool = False

    def leave(self, *, died: bool) -> None:
        """It is gone, or the run has ended."""
        self.left, self.died = time.monotonic(), died

    @property
    def utilisation(self) -> float:
        """Share of its time that it spent on making cells; the rest is waiting and transfer."""
        lived = (time.monotonic() if self.left is None else self.left) - self.joined
        return min(self.busy / lived, 1.0) if lived > 0 else 0.0

    def __str__(self) -> str:
        cells = f"{self.cells} cell{'' if self.cells == 1 else 's'}"
        return f"{self.node} ({self.device}): {cells}, {self.utilisation:.0%} busy{', died' if self.died else ''}"


@dataclass(frozen=True, kw_only=True)
class Returned:
    """A worker sent a cell: made, or failed."""

    worker: Worker
    result: Result


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A worker is through with the group that it was given first."""

    worker: Worker


@dataclass(frozen=True, kw_only=True)
class Died:
    """A worker is gone, and what it held with it."""

    worker: Worker
    reason: str


Event = Returned | Ended | Died


class Pool(Protocol):
    """Workers somewhere."""

    def workers(self) -> Sequence[Worker]:
        """Those that are ready for work. Asking starts new ones where there is room.

        Raises:
            SweepError: there are none, and none will come.
        """

    def give(self, worker: Worker, group: Group, attempts: dict[str, int]) -> None:
        """Let a worker make a group, after those that it has."""

    def events(self, seconds: float) -> Iterable[Event]:
        """What happened, in its order for each worker; waits so long for something to happen."""

    def halt(self) -> None:
        """Let every worker end after the batch in hand."""


@dataclass(eq=False)
class _Hand:
    """A group in the hands of a worker; the first batch that is not back is the one that it makes."""

    group: Group
    waiting: dict[str, Cell]


class Drive:
    """Groups out, cells in, until none is left.

    Args:
        attempts: so many workers may die over one cell; then it fails, with the reason.
        stop: asked often; once it says True, nothing more is handed out, and workers end after the batch in hand.
        on_cell: called for each cell that is stored, with its metrics, None if it failed.

    Example:
        >>> Drive(pool, make_groups(cells, 1), keeper, attempts=3, stop=lambda: False, on_cell=print).run()
    """

    def __init__(
        self,
        pool: Pool,
        groups: Iterable[Group],
        keeper: Keeper,
        *,
        attempts: int,
        stop: Callable[[], bool],
        on_cell: Callable[[Cell, Metrics | None], None],
    ) -> None:
        self._pool, self._keeper, self._attempts, self._stop, self._on_cell = pool, keeper, attempts, stop, on_cell
        self._queue = Queue(groups)
        self._hands: dict[int, list[_Hand]] = {}  # worker -> what it has, the oldest first
        self._workers: Sequence[Worker] = ()  # those that are ready, when last asked
        self._deaths: Counter[str] = Counter()
        self._limits: dict[str, int] = {}  # node -> pixels of a clip that its memory did not hold

    def run(self) -> None:
        """Until every cell is done or failed, or `stop` said so and the workers have ended.

        Raises:
            SweepError: there are no workers any more; or the disk is full.
        """
        stopping = False
        while self._queue or self._hands:
            if not stopping and self._stop():
                stopping = True
                self._pool.halt()
            if stopping and not self._hands:
                return
            self._workers = self._pool.workers()
            if not stopping:
                self._hand_out(self._workers)
            for event in self._pool.events(WAIT):
                self._handle(event)

    def _hand_out(self, workers: Sequence[Worker]) -> None:
        """Nobody gets a second group while others have none, or when there are few left: somebody may be done first."""
        for depth in range(1, AHEAD + 1):
            for worker in workers:
                if depth > 1 and len(self._queue) <= AHEAD * len(workers):
                    return
                if len(self._hands.get(worker.key, ())) < depth:
                    self._give(worker)
        if self._limits and workers and not self._hands and self._queue:
            log.warning("only nodes are left that ran out of memory before; they are tried again")
            self._limits.clear()

    def _give(self, worker: Worker) -> None:
        limit = self._limits.get(worker.node)
        group = self._queue.take(worker.key) if limit is None else self._queue.take(worker.key, below=limit)
        if group is None:
            return
        cells = group.cells
        self._pool.give(worker, group, self._keeper.start(cells))
        self._hands.setdefault(worker.key, []).append(_Hand(group, {cell.key: cell for cell in cells}))

    def _handle(self, event: Event) -> None:
        match event:
            case Returned():
                self._take(event.worker, event.result)
            case Ended():
                self._close(event.worker)
            case Died():
                self._bury(event.worker, event.reason)

    def _take(self, worker: Worker, result: Result) -> None:
        hand = self._hands[worker.key][0]
        del hand.waiting[result.cell.key]
        if isinstance(result, Made):
            worker.cells += 1
            worker.busy += result.manifest["elapsed"]
        elif result.memory and self._is_roomier(worker, hand.group):
            self._try_elsewhere(worker, hand.group, result)
            return
        self._on_cell(result.cell, self._keeper.keep(result))

    def _is_roomier(self, worker: Worker, group: Group) -> bool:
        """Whether a node with more memory could take a group."""
        return any(
            other.memory > worker.memory and group.pixels < self._limits.get(other.node, group.pixels + 1)
            for other in self._workers
        )

    def _try_elsewhere(self, worker: Worker, group: Group, failed: Failed) -> None:
        if group.pixels < self._limits.get(worker.node, group.pixels + 1):
            log.warning(
                "%s: ran out of memory, and is left out of clips of this size and above; others have more. %s",
                worker.node,
                failed.error,
            )
            self._limits[worker.node] = group.pixels
        self._put_back([[failed.cell]])

    def _close(self, worker: Worker) -> None:
        """Cells that are not back were not begun, since the worker was told to stop."""
        hands = self._hands[worker.key]
        self._keeper.ledger.release(list(hands.pop(0).waiting))
        if not hands:
            del self._hands[worker.key]

    def _bury(self, worker: Worker, reason: str) -> None:
        """The batch that a dead worker made is tried again a cell at a time; what it had not begun goes as it was."""
        hands = self._hands.pop(worker.key, [])
        self._queue.forget(worker.key)
        for place, hand in enumerate(hands):
            batches = [[cell for cell in batch if cell.key in hand.waiting] for batch in hand.group.batches]
            batches = [batch for batch in batches if batch]
            suspects = batches.pop(0) if place == 0 and batches else []
            if batches:
                self._put_back(batches)
            for cell in suspects:
                self._suspect(cell, reason)

    def _suspect(self, cell: Cell, reason: str) -> None:
        self._deaths[cell.key] += 1
        if self._deaths[cell.key] < self._attempts:
            self._put_back([[cell]], last=True)  # what others make until then shows whether it is the cell or the node
            return
        words = f"{self._attempts} workers in a row died while they made this cell; the last: {reason}"
        failed = Failed(cell=cell, error_type="WorkerDied", error=words, traceback="")
        self._on_cell(cell, self._keeper.keep(failed))

    def _put_back(self, batches: Sequence[Sequence[Cell]], *, last: bool = False) -> None:
        self._keeper.ledger.release([cell.key for batch in batches for cell in batch])
        self._queue.put(make_group(batches), last=last)

"""Driver: what one cell costs the process that hands out the work and writes everything down.

The driver's own code runs as ever (queue, ledger, manifests, files, synced to the disk); the workers are made up: they
return every cell at once, with files of the size that is asked for. So what is measured is how many workers one driver
can feed, and nothing about a network.

    python -m svdlab.bench.driver --cells 100000 --workers 1000
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from svdlab.request import Defaults, Request
from svdlab.sweep.artifacts import LATENTS, VIDEO
from svdlab.sweep.cells import Cell
from svdlab.sweep.drive import Drive, Ended, Event, Returned, Worker
from svdlab.sweep.groups import Group, make_groups
from svdlab.sweep.keys import canonical_json, cell_key
from svdlab.sweep.making import Made
from svdlab.sweep.work import Keeper
from svdlab.sweep.writing import writing

STEPS = (1, 2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class DriverCost:
    """What was measured.

    Attributes:
        cells, workers, kilobytes: how many, and the size of a cell's files.
        cpu_ms: processor time of the driver a cell.
        wall_ms: time a cell; on a busy machine or a slow disk it says little.
        late_ms: processor time a cell over the last tenth; more than `cpu_ms` if a run gets slower as it grows.
        memory_mb: most memory that the driver held.
        ledger_bytes: of the ledger, a cell.
    """

    cells: int
    workers: int
    kilobytes: int
    cpu_ms: float
    wall_ms: float
    late_ms: float
    memory_mb: float
    ledger_bytes: float


class InstantPool:
    """Workers that return every cell as soon as it is asked for; implements `svdlab.sweep.drive.Pool`."""

    def __init__(self, workers: int, kilobytes: int) -> None:
        self._workers = tuple(Worker(key=key, node=f"node-{key // 8}") for key in range(workers))
        self._given: deque[tuple[Worker, Group, dict[str, int]]] = deque()
        self._files = {VIDEO: bytes(kilobytes * 100), LATENTS: bytes(kilobytes * 900)}

    def workers(self) -> Sequence[Worker]:
        """All of them, always."""
        return self._workers

    def give(self, worker: Worker, group: Group, attempts: dict[str, int]) -> None:
        """It is done when somebody asks."""
        self._given.append((worker, group, attempts))

    def events(self, seconds: float) -> Iterator[Event]:
        """Everything that was given comes back."""
        while self._given:
            worker, group, attempts = self._given.popleft()
            for cell in group.cells:
                yield Returned(worker=worker, result=self._make(cell, attempts[cell.key]))
            yield Ended(worker=worker)

    def halt(self) -> None:
        """Nothing is ever in hand."""

    def _make(self, cell: Cell, attempt: int) -> Made:
        manifest: dict[str, Any] = {
            "schema": 1,
            "cell": cell.key,
            "request": dict(cell.settings),
            "image": {"label": cell.label, "digest": cell.image},
            "model": {"name": "none", "fingerprint": "none", "device": "none"},
            "metrics": {
                f"metric_{k}": {"value": 1.0, "version": 1, "source": "memory", "error": None} for k in range(18)
            },
            "seconds": {"condition": 0.1, "denoise": 0.2, "decode": 0.3, "total": 0.6},
            **{"seconds_spent": 0.5, "elapsed": 0.7, "vram_peak_mb": None, "attempt": attempt, "timing": "shared"},
            "finished": "2026-01-01T00:00:00.000+00:00",
            "files": {name: {"bytes": len(data), "sha256": "0" * 64} for name, data in self._files.items()},
        }
        return Made(cell=cell, manifest=manifest, files=self._files)


def measure_driver(folder: Path, *, cells: int, workers: int, kilobytes: int = 1) -> DriverCost:
    """Drive a sweep of so many cells with made-up workers, in an empty folder.

    Example:
        >>> measure_driver(Path("scratch"), cells=1000, workers=100).cpu_ms
        1.9
    """
    todo = make_cells(cells)
    ends: list[float] = []
    with writing(folder) as ledger:
        rows = [
            {
                **{"key": cell.key, "image": cell.image, "settings": canonical_json(cell.settings)},
                **{"model": "none", "fingerprint": "none"},
            }
            for cell in todo
        ]
        ledger.declare([cell.key for cell in todo], rows, [("a" * 64, "picture", None)], {"name": "driver"})
        began, wall = time.process_time(), time.perf_counter()
        Drive(
            InstantPool(workers, kilobytes),
            make_groups(todo, 1),
            Keeper(folder=folder, ledger=ledger),
            attempts=1,
            stop=lambda: False,
            on_cell=lambda cell, metrics: ends.append(time.process_time()),
        ).run()
        cpu, passed = time.process_time() - began, time.perf_counter() - wall
        assert ledger.counts()["done"] == cells
        size = ledger.path.stat().st_size
    tail = max(cells // 10, 1)
    return DriverCost(
        cells=cells,
        workers=workers,
        kilobytes=kilobytes,
        cpu_ms=1000 * cpu / cells,
        wall_ms=1000 * passed / cells,
        late_ms=1000 * (ends[-1] - ends[-tail]) / max(tail - 1, 1),
        memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        ledger_bytes=size / cells,
    )


def make_cells(count: int) -> list[Cell]:
    """So many cells of one picture: steps 1, 2, 4, 8 of every motion bucket, seed after seed."""
    defaults = Defaults(num_frames=25, width=1024, height=576)
    first = Request("picture", seed=0, steps=1).resolve(defaults).settings()
    points = itertools.product(range(count), range(0, 250), STEPS)
    cells = []
    for seed, motion, steps in itertools.islice(points, count):
        settings = {**first, "seed": seed, "motion_bucket_id": motion, "steps": steps}
        key = cell_key(settings, image="a" * 64, model="none")
        cells.append(Cell(key=key, image="a" * 64, label="picture", settings=settings))
    return cells


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="What one cell costs the driver of a sweep.")
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--kilobytes", type=int, default=1, help="size of a cell's files")
    parser.add_argument(
        "--folder", type=Path, help="an empty folder on the disk in question [default: a temporary one]"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        cost = measure_driver(Path(place) / "run", cells=given.cells, workers=given.workers, kilobytes=given.kilobytes)
    sys.stdout.write(json.dumps(asdict(cost)) + "\n")


if __name__ == "__main__":
    main()

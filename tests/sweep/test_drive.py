"""Drive: what workers return is stored, and what they take down with them goes to others."""

from __future__ import annotations

import random
from collections import deque

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import svdlab as sl
from svdlab.bench.driver import measure_driver
from svdlab.errors import SweepError
from svdlab.sharing import SharedCalls
from svdlab.sweep.drive import Died, Drive, Ended, Returned, Worker
from svdlab.sweep.frame import COSTS, build_frame
from svdlab.sweep.groups import make_groups
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.making import Failed, Maker, Recipe
from svdlab.sweep.run import _declare, prepare_in
from svdlab.sweep.spec import make_spec
from svdlab.sweep.work import Keeper
from svdlab.sweep.writing import writing
from tests.sweep.conftest import SMALL

METRICS = ["flow_mean"]
GRID = {"steps": [1, 2], "seed": [0, 1], "motion_bucket_id": [32, 127]}


class Threadless:
    """Workers that take turns in this process, with the real pipeline; some die when they are told to.

    Args:
        dies: (worker, key of the cell in hand) -> whether the worker dies over it.
    """

    def __init__(self, pipe, prepared, count=2, *, dies=lambda worker, key: False, memory=None):
        self.pipe, self.prepared, self.dies = pipe, prepared, dies
        self.given, self.numbers, self.halted = {}, iter(range(100)), False
        self.memory = memory or {}
        self.ready = [self.new() for _ in range(count)]
        self.recipe = Recipe(model=prepared.model, metrics=prepared.metrics)
        self.images = {picture.digest: picture.image for picture in prepared.pictures}

    def new(self):
        key = next(self.numbers)
        self.given[key] = deque()
        return Worker(key=key, node=f"node-{key % 2}", memory=self.memory.get(key % 2, 10**9))

    def workers(self):
        if not self.ready:
            raise SweepError("nobody is left")
        return list(self.ready)

    def give(self, worker, group, attempts):
        self.given[worker.key].append((group, attempts))

    def halt(self):
        self.halted = True

    def events(self, seconds):
        for worker in list(self.ready):
            if self.given[worker.key]:
                group, attempts = self.given[worker.key].popleft()
                yield from self.make(worker, group, attempts)

    def make(self, worker, group, attempts):
        shared = SharedCalls(cell.chain for cell in group.cells)
        maker = Maker(recipe=self.recipe, pipe=self.pipe, images=self.images, shared=shared, most=1)
        for batch in group.batches:
            if self.halted:
                break
            [cell] = batch
            if self.dies(worker, cell.key):
                self.ready[self.ready.index(worker)] = self.new()
                yield Died(worker=worker, reason="killed by the test")
                return
            if worker.memory < group.pixels:
                out = {"error_type": "OutOfMemoryError", "error": "too little", "traceback": ""}
                yield Returned(worker=worker, result=Failed(cell=cell, memory=True, **out))
                continue
            for result in maker.run(batch, attempts):
                yield Returned(worker=worker, result=result)
        yield Ended(worker=worker)


@pytest.fixture
def drive(pipe, tmp_path):
    """Drives the sweep of `GRID` with workers that are made with these arguments; gives its frame and events."""

    def drive(*, stop=lambda: False, attempts=3, size=1, **how):
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
        spec = make_spec(images=picture, grid=GRID, fixed=SMALL, metrics=METRICS)
        folder = tmp_path / "run"
        prepared, _ = prepare_in(spec, pipe, folder)
        pool = Threadless(pipe, prepared, **how)
        with writing(folder) as ledger:
            _declare(prepared, folder, ledger)
            states = ledger.states()
            todo = [cell for cell in prepared.cells if states[cell.key] == "pending"]
            on_cell = lambda cell, metrics: None  # noqa: E731
            keeper = Keeper(folder=folder, ledger=ledger)
            Drive(pool, make_groups(todo, size), keeper, attempts=attempts, stop=stop, on_cell=on_cell).run()
        with Ledger(folder) as ledger:
            return build_frame(ledger), [(row["cell"], row["what"]) for row in ledger.events()]

    return drive


@pytest.fixture(scope="module")
def unbroken(pipe, tmp_path_factory):
    """The same sweep in this process."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    out = tmp_path_factory.mktemp("unbroken") / "run"
    return sl.sweep(pipe, image=picture, out=out, metrics=METRICS, progress=False, **GRID, **SMALL).frame()


def assert_equal(frame, other):
    costs = list(COSTS)
    pd.testing.assert_frame_equal(frame.drop(columns=costs), other.drop(columns=costs))


def test_workers_that_die_at_random_leave_the_same_rows(drive, unbroken):
    rng = random.Random(0)
    deaths: dict[str, int] = {}

    def dies(worker, key):
        if deaths.get(key, 0) < 2 and rng.random() < 0.5:
            deaths[key] = deaths.get(key, 0) + 1
            return True
        return False

    frame, events = drive(dies=dies)
    assert sum(deaths.values()) >= 4
    assert_equal(frame, unbroken)
    done = [cell for cell, what in events if what == "done"]
    assert len(done) == len(set(done)) == len(frame)


def test_a_cell_that_takes_its_workers_down_fails_alone(drive, unbroken):
    bad = unbroken["cell"][3]
    frame, events = drive(dies=lambda worker, key: key == bad, attempts=2)
    assert list(frame["status"]) == ["failed" if cell == bad else "done" for cell in frame["cell"]]
    assert frame["error"][3] == (
        "WorkerDied: 2 workers in a row died while they made this cell; the last: killed by the test"
    )
    assert events.count((bad, "started")) == 2


def test_what_runs_out_of_memory_goes_to_a_node_that_has_more(drive, unbroken):
    frame, events = drive(memory={0: 1, 1: 10**9})
    assert_equal(frame, unbroken)
    assert sum(what == "released" for _, what in events) >= 1
    frame, _ = drive(memory={0: 1, 1: 10**9})  # nothing is left to do
    assert_equal(frame, unbroken)


def test_what_fits_nowhere_fails(drive):
    frame, _ = drive(memory={0: 1, 1: 1})
    assert set(frame["status"]) == {"failed"}
    assert frame["error"][0] == "OutOfMemoryError: too little"


def test_stopping_leaves_cells_to_do_and_nothing_running(drive, unbroken):
    asked = iter([False, True])
    frame, _ = drive(stop=lambda: next(asked, True))
    assert frame["status"].value_counts().to_dict() == {"done": 4, "pending": 4}  # a group of two for each worker
    frame, _ = drive()
    assert_equal(frame, unbroken)


def test_the_driver_costs_no_more_at_the_end(tmp_path):
    cost = measure_driver(tmp_path / "run", cells=600, workers=50)
    assert cost.late_ms < 5 * cost.cpu_ms
    assert 0 < cost.ledger_bytes < 20_000

"""One round of the campaign: a real sweep in a forked child, killed with SIGKILL, looked at, and resumed.

What must hold, else `BrokenPromiseError` is raised: the directory opens or says in words that nothing was
begun; each cell that counts as done is whole; no cell that was in place is lost or computed again; the resumed run ends
in the table of a run that nobody touched, with bit-identical latents; nothing temporary is left.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

import svdlab as sl
from svdlab.errors import SweepError
from svdlab.files import sha256_file
from svdlab.sweep.artifacts import cell_path, read_manifest, stored_keys
from svdlab.sweep.frame import COSTS
from svdlab.sweep.ledger import FILE, Ledger
from tests.faults.points import killing_at, watched

SETTINGS: dict[str, Any] = {
    **{"steps": [1, 2], "seed": [0, 1], "num_frames": 2, "width": 32, "height": 32},
    **{"metrics": ["flow_mean"], "progress": False, "name": "faults"},
}


class BrokenPromiseError(AssertionError):
    """A promise was not kept."""


def check(kept: bool, promise: str) -> None:
    if not kept:
        raise BrokenPromiseError(promise)


@dataclass
class World:
    """What all rounds share: model, picture, the untouched run, and the names of its points."""

    pipe: sl.Pipeline
    picture: Path
    home: Path
    points: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of the untouched run

    @property
    def reference(self) -> Path:
        return self.home / "untouched"

    def sweep(self, folder: Path) -> sl.Sweep:
        return sl.sweep(self.pipe, image=self.picture, out=folder, **SETTINGS)

    def begin(self) -> None:
        """Make the untouched run, twice: for its time, and for its points."""
        began = time.perf_counter()
        check(child(lambda: self.sweep(self.home / "timed")) == 0, "an untouched sweep runs through")
        self.seconds = time.perf_counter() - began
        names = self.home / "points"

        def record() -> None:
            found: list[str] = []
            with watched(found.append):
                self.sweep(self.reference)
            names.write_text("\n".join(found), encoding="utf-8")

        check(child(record) == 0, "a watched sweep runs through")
        self.points = names.read_text(encoding="utf-8").split("\n")


def child(work: Callable[[], Any], *, kill_after: float | None = None) -> int:
    """Run `work` in a forked child, kill it after so many seconds if told; its exit code, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            logging.disable()
            work()
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@dataclass(frozen=True)
class Kill:
    """Where a sweep is killed: at a point, by its number, or after so many seconds."""

    point: int | None = None
    seconds: float = 0.0


def plan_kills(world: World, rng: random.Random, number: int | None) -> list[Kill]:
    """Kills of one round: at the point of this number or at a random moment; then up to two more."""
    first = Kill(point=number) if number is not None else Kill(seconds=rng.uniform(0, world.seconds))
    more = [
        Kill(point=rng.randrange(len(world.points))) if rng.random() < 0.5 else Kill(seconds=rng.uniform(0, 1))
        for _ in range(rng.choice((0, 0, 1, 2)))
    ]
    return [first, *more]


def run_round(world: World, kills: list[Kill]) -> list[str]:
    """Kill a new sweep at each of `kills` in turn, then let it end. Returns where it was killed.

    Raises:
        BrokenPromiseError: a promise was not kept.
    """
    folder = world.home / "run"
    shutil.rmtree(folder, ignore_errors=True)
    where, before = [], {}
    for kill in kills:
        hit = _kill(world, folder, kill)
        if hit:
            where.append(hit)
        found = look(folder)
        check(before.items() <= found.items(), f"finished cells stay as they are, after a kill at {hit}")
        before = found
    check(child(lambda: world.sweep(folder)) == 0, f"a sweep killed at {where} can be resumed")
    compare(world, folder, before)
    shutil.rmtree(folder)
    return where


def _kill(world: World, folder: Path, kill: Kill) -> str | None:
    """Let a child be killed; the name of the place, or None if it was done before."""
    if kill.point is None:
        code = child(lambda: world.sweep(folder), kill_after=kill.seconds)
        name = "moment"
    else:
        told = world.home / "told"
        told.unlink(missing_ok=True)

        def work() -> None:
            with watched(killing_at(kill.point or 0, told.write_text)):
                world.sweep(folder)

        code = child(work)
        name = told.read_text(encoding="utf-8") if told.exists() else "none"
    check(code in (0, -signal.SIGKILL), f"a sweep ends well or by the kill, not with {code} (kill: {kill})")
    return name if code else None


def look(folder: Path) -> dict[str, str]:
    """What a reader finds after a kill: every cell that is in place -> when it was finished."""
    whole = {}
    for key in stored_keys(folder):
        manifest = read_manifest(folder, key)  # raises if a folder in place is not whole
        for name, file in manifest["files"].items():
            digest = sha256_file(folder / cell_path(key) / name)
            check(digest == file["sha256"], f"{key}/{name} has the bytes that its manifest names")
        whole[key] = manifest["finished"]
    try:
        frame = sl.open_sweep(folder).frame(all=True)
    except SweepError as error:
        check(not whole, f"a directory with finished cells opens, and not: {error}")
        return whole
    done = set(frame.loc[frame["status"] == "done", "cell"])
    check(done <= whole.keys(), "a cell that counts as done has its folder")
    return whole


def compare(world: World, folder: Path, before: dict[str, str]) -> None:
    """Hold a resumed run against the untouched one."""
    ours, theirs = sl.open_sweep(folder), sl.open_sweep(world.reference)
    costs = list(COSTS)
    pd.testing.assert_frame_equal(ours.frame().drop(columns=costs), theirs.frame().drop(columns=costs))
    for cell in ours.frame()["cell"]:
        latents = [sweep.manifest(cell)["files"]["latents.safetensors"]["sha256"] for sweep in (ours, theirs)]
        check(latents[0] == latents[1], f"the latents of {cell} are those of an untouched run")
    after = look(folder)
    check(before.items() <= after.items(), "no cell that was in place was computed again")
    check(not list(folder.rglob(".tmp-*")), "nothing temporary is left")
    check((folder / "lock").read_bytes() == b"", "the lock is free")
    names = {path.name for path in folder.iterdir()}
    expected = {path.name for path in world.reference.iterdir()}
    check(names == expected, f"the directory holds what it should: {names ^ expected}")
    with Ledger(folder) as ledger:
        story = [(row["cell"], row["what"]) for row in ledger.events()]
    finished: set[str] = set()
    for cell, what in story:
        check(what != "started" or cell not in finished, f"{cell} is not computed again after it was {FILE}'s `done`")
        finished |= {cell} if what in ("done", "adopted") else set()

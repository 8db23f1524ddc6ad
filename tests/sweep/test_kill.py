"""SIGKILL: a real sweep, killed twenty times at random moments, ends as an unbroken one does."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import svdlab as sl
from svdlab.sweep.frame import COSTS
from svdlab.sweep.ledger import Ledger

KILLS, CELLS = 20, 36
GRID = {
    **{"steps": [1, 2], "seed": "0..8", "motion_bucket_id": [32, 224]},
    **{"num_frames": 2, "width": 32, "height": 32},
    **{"metrics": ["flow_mean", "warp_error"], "progress": False, "name": "killed"},
}


@pytest.fixture
def killer(pictures, tmp_path):
    """Starts the process of `killed.py`; gives a function that has one child killed."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.sweep.killed", str(tmp_path / "killed"), str(pictures / "rocket.png")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    assert process.stdout.readline() == "ready\n"

    def kill(mode: str, seconds: float) -> str:
        process.stdin.write(f"{mode} {seconds}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    yield kill
    process.stdin.close()
    process.stdout.close()
    assert process.wait(timeout=60) == 0


@pytest.mark.slow
def test_a_sweep_that_is_killed_twenty_times_ends_as_an_unbroken_one(killer, pipe, pictures, tmp_path):
    began = time.perf_counter()
    unbroken = sl.sweep(pipe, image=pictures / "rocket.png", out=tmp_path / "unbroken", **GRID)
    cell_seconds = (time.perf_counter() - began) / CELLS
    assert len(unbroken.frame()) == CELLS

    rng = random.Random(0)
    folder, done, answers = tmp_path / "killed", 0, []
    for k in range(KILLS):
        # Half of the kills hit anywhere, half about the few milliseconds in which a cell is written and entered; these
        # are a share of a cell's time, however slow the disk is.
        mode, share = ("time", rng.uniform(0.2, 3)) if k % 2 else ("write", rng.uniform(0, 0.5))
        answers.append(killer(mode, share * cell_seconds))
        now = sl.open_sweep(folder).status()["done"]  # a killed sweep can be read
        assert now >= done
        done = now
    assert answers.count("killed") == KILLS
    assert 0 < done < CELLS

    resumed = sl.sweep(pipe, image=pictures / "rocket.png", out=folder, **GRID)
    pd.testing.assert_frame_equal(resumed.frame().drop(columns=list(COSTS)), unbroken.frame().drop(columns=list(COSTS)))
    for cell in resumed.frame()["cell"]:
        latents = [sweep.manifest(cell)["files"]["latents.safetensors"] for sweep in (resumed, unbroken)]
        assert latents[0] == latents[1]
    assert not list(folder.rglob(".tmp-*"))

    with Ledger(folder) as ledger:
        story = [(row["cell"], row["what"]) for row in ledger.events()]
        ends = [row["how"] for row in ledger.runs()]
    finished: set[str] = set()
    for cell, what in story:
        assert (what, cell in finished) != ("started", True), f"{cell} was computed again after it was done"
        if what in ("done", "adopted"):
            assert cell not in finished
            finished.add(cell)
    assert len(finished) == CELLS
    assert ends.count("crashed") >= KILLS // 2  # others died before they opened the ledger
    assert "released" in {what for _, what in story}

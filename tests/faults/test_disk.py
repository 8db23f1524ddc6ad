"""Disks that are full, read-only or gone: said in words, nothing half-written, and the same call goes on afterwards.

The full disk is a real one, a tmpfs of one megabyte, where mounting is allowed; everywhere else, and for every size at
which it can happen, a limit on the size of files stands for it.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess

import pandas as pd
import pytest

import svdlab as sl
from svdlab.errors import SweepError
from svdlab.sweep.frame import COSTS
from svdlab.sweep.ledger import FILE
from svdlab.sweep.repair import repair
from tests.faults.conftest import as_somebody_else, read_only
from tests.faults.rounds import look


def same(ours, theirs) -> None:
    costs = list(COSTS)
    ours, theirs = sl.open_sweep(ours).frame(), sl.open_sweep(theirs).frame()
    pd.testing.assert_frame_equal(ours.drop(columns=costs), theirs.drop(columns=costs))


@pytest.mark.parametrize("limit", [100, 2_000, 5_000, 20_000, 60_000, 100_000])
def test_no_room_for_larger_files_ends_the_run_in_words_and_it_goes_on_later(sweep_in, finished, tmp_path, limit):
    """From the lock, at 100 bytes, over manifests and clips to the ledger's log, which grows with each cell."""
    folder = tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        sweep_in(folder)
        ended = None
    except SweepError as error:
        ended = str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if ended is not None:
        assert "cannot be written" in ended or "disk" in ended
    whole = look(folder)
    assert not list(folder.rglob("cells/.tmp-*"))
    sweep_in(folder)
    assert whole.items() <= look(folder).items()
    same(folder, finished)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]).returncode:
        pytest.skip("a disk cannot be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("left", [0, 8_192, 40_960, 65_536, 81_920])
def test_a_disk_that_is_full_ends_the_run_in_words_and_it_goes_on_later(sweep_in, finished, small_disk, left):
    folder = small_disk / "run"
    folder.mkdir()
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - left))
    with pytest.raises(SweepError, match=r"Make room|room|needs about") as ended:
        sweep_in(folder)
    assert "Traceback" not in str(ended.value)
    whole = look(folder) if (folder / FILE).exists() else {}
    ballast.unlink()
    sweep_in(folder)
    assert whole.items() <= look(folder).items()
    same(folder, finished)


def lose_on_cell(action, number: int = 1):
    """For `on_cell`: does something to the run directory after so many cells."""
    count = []

    def on_cell(row):
        count.append(row["cell"])
        if len(count) == number:
            action()

    return on_cell


def test_a_directory_that_is_deleted_under_the_run_ends_it_and_is_not_made_again(sweep_in, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(SweepError, match=r"No such file .*moved or deleted under the run"):
        sweep_in(folder, on_cell=lose_on_cell(lambda: shutil.rmtree(folder)))
    assert not folder.exists()


def test_a_directory_that_is_moved_under_the_run_keeps_what_is_done_where_it_is_now(sweep_in, finished, tmp_path):
    folder, moved = tmp_path / "run", tmp_path / "moved"
    with pytest.raises(SweepError, match=r"moved or deleted under the run"):
        sweep_in(folder, on_cell=lose_on_cell(lambda: folder.rename(moved), 2))
    assert not folder.exists()
    assert len(look(moved)) == 2
    assert sweep_in(moved).plan.done == 2
    same(moved, finished)


def test_cells_that_are_deleted_under_the_run_are_done_again(sweep_in, finished, tmp_path):
    folder = tmp_path / "run"
    sweep_in(folder, on_cell=lose_on_cell(lambda: shutil.rmtree(folder / "cells"), 2))
    assert len(look_done(folder)) == 4  # the ledger still says so
    assert sweep_in(folder).plan.todo == 2
    same(folder, finished)


def look_done(folder) -> list[str]:
    frame = sl.open_sweep(folder).frame()
    return list(frame.loc[frame["status"] == "done", "cell"])


def test_permission_that_is_lost_on_the_way_ends_the_run_in_words(sweep_in, finished, place):
    folder = place / "run"

    def work() -> None:
        with pytest.raises(SweepError, match=r"Permission denied.*Allow writing there"):
            sweep_in(folder, on_cell=lose_on_cell(lambda: read_only(folder / "cells")))

    assert as_somebody_else(work) == 0
    for path in folder.rglob("*"):
        path.chmod(0o777)
    assert len(look(folder)) == 1
    sweep_in(folder)
    same(folder, finished)


def test_a_read_only_directory_is_refused_for_writing_and_read_all_the_same(run, finished, sweep_in):
    read_only(run)

    def work() -> None:
        with pytest.raises(SweepError, match=r"cannot be written \(Permission denied\).*open_sweep reads it"):
            sweep_in(run)
        with pytest.raises(SweepError, match="cannot be written"):
            repair(run, progress=False)
        opened = sl.open_sweep(run)
        assert opened.status()["done"] == 4
        assert opened.clip(opened.frame()["cell"][0]).frames.shape == (2, 32, 32, 3)

    assert as_somebody_else(work) == 0
    same(run, finished)


def test_a_directory_that_may_not_be_entered_is_said_in_words(run):
    run.chmod(0o000)

    def work() -> None:
        with pytest.raises(SweepError, match=r"cannot be read \(Permission denied\)"):
            sl.open_sweep(run)

    assert as_somebody_else(work) == 0

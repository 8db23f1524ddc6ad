"""One writer, any number of readers, in other processes, in other places."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket

import pandas as pd
import pytest

import svdlab as sl
from svdlab.errors import SweepError
from svdlab.sweep.ledger import FILE, Ledger
from svdlab.sweep.lock import locked
from svdlab.sweep.writing import writing
from tests.faults.conftest import as_somebody_else, read_only
from tests.faults.rounds import child


def test_a_second_writer_is_refused_by_name_and_the_first_goes_on(sweep_in, tmp_path):
    folder, refused = tmp_path / "run", tmp_path / "refused"

    def second() -> None:
        try:
            sweep_in(folder)
        except SweepError as error:
            refused.write_text(str(error), encoding="utf-8")

    first = sweep_in(folder, on_cell=lambda row: refused.exists() or child(second))
    assert f"process {os.getpid()} on {socket.gethostname()} (since " in refused.read_text(encoding="utf-8")
    assert first.status()["done"] == 4


def test_a_lock_that_another_host_left_behind_is_free(run, sweep_in):
    """The lock is the system's, which goes with its process; the file only tells people who holds it."""
    stale = {"host": "elsewhere", "pid": 1, "started": "2026-01-01T00:00:00.000+00:00"}
    (run / "lock").write_text(json.dumps(stale), encoding="utf-8")
    assert sweep_in(run).plan.todo == 0
    assert (run / "lock").read_bytes() == b""


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1}', "\0" * 100])
def test_a_lock_file_with_anything_in_it_is_free_and_is_no_name(run, content):
    (run / "lock").write_text(content, encoding="utf-8")
    with locked(run):
        pass
    with locked(run):
        (run / "lock").write_text(content, encoding="utf-8")
        with pytest.raises(SweepError, match="another process is writing there"), locked(run):
            pass


def test_a_lock_that_is_a_directory_is_said_in_words(run):
    (run / "lock").unlink(missing_ok=True)
    (run / "lock").mkdir()
    with pytest.raises(SweepError, match=r"cannot be written \(Is a directory\)"), locked(run):
        pass


def leave_open(run):
    """Kill a process that has just entered something: what it wrote is in the log beside the ledger."""

    def work() -> None:
        with writing(run):
            os.kill(os.getpid(), signal.SIGKILL)

    assert child(work) == -signal.SIGKILL
    assert (run / f"{FILE}-wal").stat().st_size > 0


def test_readers_read_while_it_runs_and_after_a_kill(run, finished):
    before = sl.open_sweep(finished).frame()
    with writing(run):
        assert child(lambda: pd.testing.assert_frame_equal(sl.open_sweep(run).frame(), before)) == 0
    leave_open(run)
    pd.testing.assert_frame_equal(sl.open_sweep(run).frame(), before)


@pytest.mark.parametrize("ends", [("-wal", "-shm"), ("-wal",), ()])
def test_a_read_only_copy_somewhere_else_is_read(run, finished, place, ends):
    """Also the copy of a run that was killed, with all that SQLite left beside its ledger, or with less."""
    leave_open(run)
    copy = shutil.copytree(run, place / "elsewhere" / "copy")
    for end in {"-wal", "-shm"} - set(ends):
        (copy / f"{FILE}{end}").unlink()
    run.rename(place / "gone")
    read_only(copy)

    def work() -> None:
        opened = sl.open_sweep(copy)
        pd.testing.assert_frame_equal(opened.frame(), sl.open_sweep(finished).frame())
        cell = opened.frame()["cell"][0]
        assert opened.clip(cell).latents is not None
        assert not opened.explain(cell).problems
        with Ledger(copy) as ledger:
            assert len(ledger.runs()) == (2 if ends else 1)

    names = sorted(path.name for path in copy.iterdir())
    assert as_somebody_else(work) == 0
    assert sorted(path.name for path in copy.iterdir()) == names


def test_nothing_in_a_run_directory_names_its_place(run, home):
    folder = str(home).encode()
    for path in run.rglob("*"):
        if path.is_file():
            assert folder not in path.read_bytes(), f"{path.name} names the folder in which the run was made"

"""The worker: one piece of work at a time, ended when asked, its errors and log lines in words."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import svdlab
from svdlab.errors import RequestError, WidgetError
from svdlab.widgets.eta import Eta, duration
from svdlab.widgets.lines import own_lines
from svdlab.widgets.rerun import replace_former
from svdlab.widgets.words import explain
from svdlab.widgets.worker import Worker

PATIENCE = 60  # seconds; no test waits that long


def blocked(job, *, until: threading.Event):
    assert until.wait(PATIENCE)
    job.check()
    return "made"


# The worker.


def test_work_is_done_elsewhere_and_its_result_kept():
    worker, here = Worker(), threading.get_ident()
    job = worker.start("asking", lambda job: threading.get_ident())
    assert job.wait(PATIENCE)
    assert job.state == "done"
    assert job.result != here
    assert not worker.busy


def test_a_second_piece_of_work_is_refused_in_words():
    worker, gate = Worker(), threading.Event()
    job = worker.start("the first", lambda job: blocked(job, until=gate))
    with pytest.raises(WidgetError, match="the second: not now, because the first is under way"):
        worker.start("the second", lambda job: None)
    gate.set()
    job.wait(PATIENCE)
    assert worker.start("the second", lambda job: 2).wait(PATIENCE)


def test_cancelled_work_ends_where_it_checks():
    worker, gate = Worker(), threading.Event()
    job = worker.start("waiting", lambda job: blocked(job, until=gate))
    worker.cancel()
    assert worker.busy
    gate.set()
    assert job.wait(PATIENCE)
    assert (job.state, job.result, job.error) == ("cancelled", None, None)


def test_an_error_becomes_words_and_is_not_lost():
    def work(job):
        raise RequestError("steps = 0: must be a whole number from 1.")

    job = Worker().start("failing", work)
    job.wait(PATIENCE)
    assert (job.state, job.error) == ("failed", "steps = 0: must be a whole number from 1.")
    assert isinstance(job.exception, RequestError)
    assert "in work" in job.traceback


def test_even_a_system_exit_is_not_lost():
    job = Worker().start("leaving", lambda job: sys.exit("gone"))
    job.wait(PATIENCE)
    assert "SystemExit: gone" in job.error


def test_a_failed_job_holds_no_memory():
    class Large:
        pass

    held = []

    def work(job):
        large = Large()
        held.append(weakref.ref(large))
        raise ValueError("no")

    job = Worker().start("failing", work)
    job.wait(PATIENCE)
    gc.collect()
    assert held[0]() is None


def test_on_end_comes_before_the_job_is_over():
    seen = []
    job = Worker().start("short", lambda job: 1, on_end=lambda job: seen.append((job.state, job.over)))
    assert job.wait(PATIENCE)
    assert seen == [("done", False)]


def test_a_fault_in_on_end_is_logged_and_the_worker_is_free(caplog):
    def on_end(job):
        raise KeyError("lost")

    worker = Worker()
    assert worker.start("short", lambda job: 1, on_end=on_end).wait(PATIENCE)
    assert "short: could not be shown" in caplog.text
    assert not worker.busy


def test_an_idle_worker_has_no_thread():
    worker = Worker()
    worker.start("short", lambda job: 1).wait(PATIENCE)
    for thread in threading.enumerate():
        if thread.name.startswith("svdlab"):
            thread.join(PATIENCE)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("svdlab")]


def test_close_cancels_and_waits():
    worker = Worker()
    job = worker.start("long", lambda job: job._cancel.wait(PATIENCE))
    assert worker.close()
    assert job.over
    assert Worker().close()  # one that never worked


def test_a_process_that_ends_takes_its_work_along():
    code = (
        "from svdlab.widgets.worker import Worker\n"
        "def work(job):\n"
        "    while not job.cancelled: pass\n"
        "    print('ended')\n"
        "Worker().start('endless', work)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(svdlab.__file__).parents[1])}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert found.stdout == "ended\n"
    assert found.stderr == ""


# Log lines.


def test_lines_of_the_work_go_to_the_widget_and_others_do_not():
    lines, log = [], logging.getLogger("svdlab")
    job = Worker(on_line=lines.append).start("talking", lambda job: log.warning("from %s", "inside"))
    job.wait(PATIENCE)
    log.warning("from outside")
    assert lines == ["from inside"]


def test_lines_of_the_work_are_not_printed_but_still_logged(caplog, capsys):
    log = logging.getLogger("svdlab")
    printer = logging.StreamHandler(sys.stdout)
    log.addHandler(printer)
    try:
        with own_lines(lambda line: None):
            log.warning("inside")
        log.warning("outside")
    finally:
        log.removeHandler(printer)
    assert capsys.readouterr().out == "outside\n"
    assert [record.message for record in caplog.records] == ["inside", "outside"]
    assert printer.filters == []


# Errors in words.


def test_an_error_of_svdlab_is_its_own_text():
    assert explain(RequestError("fps = 0: must be 1 to 60.")) == "fps = 0: must be 1 to 60."


def test_memory_that_ran_out_comes_with_advice():
    assert explain(MemoryError()) == (
        "Out of memory. Ask for less: fewer num_frames, a smaller width and height, or a smaller decode_chunk"
        " (it changes pixels)."
    )
    assert "Out of memory (CUDA is full)" in explain(torch.OutOfMemoryError("CUDA is full\nmore"))


def test_memory_of_the_machine_that_ran_out_is_known_too():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert explain(caught.value).startswith("Out of memory (")


def test_a_fault_names_itself_and_where_to_look():
    assert explain(KeyError("x")) == "Unexpected KeyError: 'x'. The details are in its attribute `traceback`."
    assert "Unexpected ValueError: no text" in explain(ValueError())


# Time left.


def test_time_left_is_judged_by_the_steps_after_the_first():
    now = [0.0]
    eta = Eta(4, clock=lambda: now[0])
    now[0] = 10.0  # the first pays for conditioning
    assert eta.step(1) == "step 1 of 4, about 30 s left, then decoding"
    now[0] = 12.0
    assert eta.step(2) == "step 2 of 4, about 4.0 s left, then decoding"
    now[0] = 16.0
    assert eta.step(3) == "step 3 of 4, about 3.0 s left, then decoding"
    assert eta.step(4) == "step 4 of 4, decoding"


def test_decoding_counts_once_its_time_is_known():
    now = [0.0]
    eta = Eta(2, decode=5.0, clock=lambda: now[0])
    now[0] = 1.0
    assert eta.step(1) == "step 1 of 2, about 6.0 s left"
    now[0] = 3.0
    assert eta.step(2) == "step 2 of 2, about 5.0 s left"


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=20))
def test_equal_steps_are_foretold_exactly(steps):
    now, each = [0.0], steps[0]
    eta = Eta(len(steps), decode=0.0, clock=lambda: now[0])
    for made in range(1, len(steps) + 1):
        now[0] += each
        told = eta.step(made)
    assert told == f"step {len(steps)} of {len(steps)}, about 0.0 s left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599.9, "1 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


# Cells that are run again.


class Thing:
    def __init__(self):
        self.closed = False

    def close(self):
        self.closed = True


def test_running_a_cell_again_closes_what_its_former_run_made():
    first, second, other, again = Thing(), Thing(), Thing(), Thing()
    replace_former(first, cell=("a", "run 1"))
    replace_former(second, cell=("a", "run 1"))  # two in one run belong together
    replace_former(other, cell=("b", "run 2"))
    assert not (first.closed)
    assert not (second.closed)
    replace_former(again, cell=("a", "run 3"))
    assert first.closed
    assert second.closed
    assert not (other.closed)
    assert not (again.closed)


def test_outside_of_a_notebook_nothing_is_closed():
    first, second = Thing(), Thing()
    replace_former(first)
    replace_former(second)
    assert not first.closed

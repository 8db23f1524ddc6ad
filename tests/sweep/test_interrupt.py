"""Ctrl-C: the first lets the cell in hand finish, the second stops at once; nothing that was finished is lost."""

from __future__ import annotations

import os
import signal
import threading

import pandas as pd
import pytest

import svdlab as sl
from svdlab.interrupt import StopRequest
from svdlab.sweep.ledger import Ledger
from tests.sweep.conftest import SMALL


@pytest.fixture
def go(pipe, pictures, tmp_path):
    def go(**changes):
        call = {"image": pictures / "rocket.png", "steps": [1, 2, 3], "seed": 0, "out": tmp_path / "run"}
        return sl.sweep(pipe, **{**call, "metrics": [], "progress": False, **SMALL, **changes})

    return go


def press() -> None:
    """What the terminal does on Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def run_ends(path) -> list[str]:
    with Ledger(path) as ledger:
        return [row["how"] for row in ledger.runs()]


def test_one_interrupt_lets_the_cell_finish(go, pipe, tmp_path, caplog):
    before = signal.getsignal(signal.SIGINT)
    handle = pipe.components.unet.register_forward_pre_hook(lambda *_: press())
    sweep = go()
    handle.remove()
    assert signal.getsignal(signal.SIGINT) is before
    assert sweep.interrupted
    assert "(interrupted)" in repr(sweep)
    assert list(sweep.frame()["status"]) == ["done", "pending", "pending"]
    assert "stopping when the cell in hand is finished" in caplog.text
    assert "stopped with 1 cells done and 2 to do. The same call goes on" in caplog.text
    assert list(pd.read_csv(tmp_path / "run" / "results.csv")["status"]) == ["done", "pending", "pending"]
    again = go()
    assert not again.interrupted
    assert list(again.frame()["status"]) == ["done"] * 3
    assert run_ends(tmp_path / "run") == ["interrupted", "finished"]


def test_two_interrupts_stop_at_once(go, pipe, tmp_path, caplog):
    before = signal.getsignal(signal.SIGINT)

    def twice(*_):
        press()
        press()

    done = []
    handle = None

    def after_first(row):
        nonlocal handle
        done.append(row["cell"])
        handle = pipe.components.unet.register_forward_pre_hook(twice)

    with pytest.raises(KeyboardInterrupt):
        go(on_cell=after_first)
    handle.remove()
    assert signal.getsignal(signal.SIGINT) is before
    sweep = sl.open_sweep(tmp_path / "run")
    assert sweep.status() == {"pending": 2, "running": 0, "done": 1, "failed": 0, "skipped": 0}
    assert list(pd.read_parquet(tmp_path / "run" / "results.parquet")["cell"])[:1] == done
    assert "stopped with 1 cells done and 2 to do" in caplog.text
    assert list(go().frame()["status"]) == ["done"] * 3
    assert run_ends(tmp_path / "run") == ["KeyboardInterrupt", "finished"]


def test_an_interrupt_after_the_last_cell_interrupts_nothing(go):
    assert not go(steps=1, on_cell=lambda row: press()).interrupted


def test_an_interrupt_while_metrics_are_filled_in_stops_there(go, tmp_path):
    go()
    from svdlab.metrics import registry

    @registry.metric("pressing")
    def metric(scoring):
        press()
        return 1.0

    try:
        sweep = go(metrics=["pressing"], steps=[1, 2, 3, 4])
    finally:
        registry._METRICS.pop("pressing")
    assert sweep.interrupted
    assert list(sweep.frame()["pressing"].notna()) == [True, False, False, False]
    assert list(sweep.frame()["status"]) == ["done"] * 3 + ["pending"]


def test_outside_of_the_main_thread_no_handler_is_touched():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with StopRequest("cell") as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=30)
    assert seen == [(before, False)]


def test_a_job_that_ignores_interrupts_goes_on_ignoring_them():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest("cell") as stop:
            press()
            assert not stop.asked
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)

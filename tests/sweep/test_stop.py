"""stop: a caller in another thread ends a sweep between two cells, and the same call goes on."""

from __future__ import annotations

import threading

import pytest

import svdlab as sl
from svdlab.sweep.ledger import Ledger
from tests.sweep.conftest import SMALL


def test_asked_to_stop_it_finishes_the_cell_in_hand(go):
    rows = []
    sweep = go(on_cell=rows.append, stop=lambda: len(rows) == 2)
    assert sweep.interrupted
    assert list(sweep.frame()["status"]) == ["done", "done", "pending", "pending"]
    with Ledger(sweep.path) as ledger:
        assert [row["how"] for row in ledger.runs()] == ["interrupted"]


def test_the_same_call_goes_on(go):
    rows = []
    go(on_cell=rows.append, stop=lambda: len(rows) == 1)
    again = go(on_cell=rows.append, stop=lambda: False)
    assert not again.interrupted
    assert list(again.frame()["status"]) == ["done"] * 4
    assert len({row["cell"] for row in rows}) == len(rows) == 4


def test_once_asked_it_stays_asked(go):
    answers = iter([False, True, False, False, False, False])
    assert go(stop=lambda: next(answers)).status()["done"] == 1


def test_asked_before_the_first_cell_it_computes_nothing(go):
    sweep = go(stop=lambda: True)
    assert sweep.interrupted
    assert sweep.status()["pending"] == 4


def test_asked_after_the_last_cell_it_was_not_interrupted(go):
    rows = []
    assert not go(on_cell=rows.append, stop=lambda: len(rows) == 4).interrupted


def test_filling_in_metrics_stops_too(go):
    go(metrics=["flow_mean"])
    sweep = go(metrics=["flow_mean", "psnr_input"], steps=[1, 2, 3], stop=lambda: True)
    assert sweep.interrupted
    assert sweep.frame()["psnr_input"].isna().all()


def test_it_works_from_a_thread_where_no_interrupt_arrives(go):
    first, stop, done = threading.Event(), threading.Event(), []

    def on_cell(row):
        first.set()
        assert stop.wait(timeout=60)

    thread = threading.Thread(target=lambda: done.append(go(on_cell=on_cell, stop=stop.is_set)))
    thread.start()
    assert first.wait(timeout=60)
    stop.set()
    thread.join(timeout=60)
    assert done[0].interrupted
    assert done[0].status()["done"] == 1


def test_a_specification_takes_it_too(pipe, pictures, tmp_path):
    from svdlab.sweep import run_spec

    spec = tmp_path / "spec.toml"
    fixed = "".join(f"{name} = {value}\n" for name, value in SMALL.items())
    head = f'model = "tiny-random"\nimages = ["{pictures}/rocket.png"]\nmetrics = []\n'
    spec.write_text(f"{head}[grid]\nsteps = [1, 2]\n[fixed]\n{fixed}")
    assert run_spec(spec, out=tmp_path / "run", pipe=pipe, progress=False, stop=lambda: True).interrupted


def test_what_stop_raises_ends_the_run_and_keeps_what_is_done(go, tmp_path):
    rows = []

    def stop():
        if len(rows) == 1:
            raise RuntimeError("the caller broke")
        return False

    with pytest.raises(RuntimeError, match="the caller broke"):
        go(on_cell=rows.append, stop=stop)
    assert sl.open_sweep(tmp_path / "run").status()["done"] == 1

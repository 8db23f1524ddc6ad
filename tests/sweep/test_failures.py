"""Failures: of a cell, of a metric, of the disk; each costs no more than it must."""

from __future__ import annotations

import errno
import math
import resource
import weakref

import pandas as pd
import pytest
import torch

import svdlab as sl
from svdlab.errors import SweepError
from svdlab.metrics import registry
from svdlab.sweep.frame import build_frame, export
from svdlab.sweep.ledger import Ledger


def test_a_cell_that_runs_out_of_memory_fails_alone_and_lets_go_of_its_memory(go, hook, caplog):
    held = []

    def out_of_memory():
        if len(held) == 1:
            tensor = torch.zeros(1000)
            held.append(weakref.ref(tensor))
            raise torch.OutOfMemoryError("tried to allocate 20.00 GiB")
        held.append(None)

    hook(out_of_memory)
    sweep = go()
    frame = sweep.frame()
    assert list(frame["status"]) == ["done", "failed", "done", "done"]
    row = frame.iloc[1]
    assert row["error"].startswith("OutOfMemoryError: tried to allocate 20.00 GiB. The denoiser does not fit for ")
    assert row["error"].endswith("Lower width, height or num_frames; dtype='float16' halves what it needs.")
    assert math.isnan(row["flow_mean"])
    assert pd.isna(row["video"])
    text = sweep.traceback(row["cell"])
    assert text.startswith("Traceback")
    assert 'File "svdlab/pipeline.py"' in text
    assert sweep.traceback(frame["cell"][0]) is None
    assert held[1]() is None
    assert "failed: OutOfMemoryError" in caplog.text
    with pytest.raises(SweepError, match="is failed, so there is no clip"):
        sweep.clip(row["cell"])


def test_failed_cells_are_tried_again_only_on_demand(go, hook):
    broken = [True]
    hook(lambda: 1 / 0 if broken[0] else None)
    assert list(go().frame()["status"]) == ["failed"] * 4
    broken[0] = False
    again = go()
    assert list(again.frame()["status"]) == ["failed"] * 4
    assert (again.plan.failed, again.plan.todo) == (4, 0)
    retried = go(retry="failed")
    assert (retried.plan.failed, retried.plan.todo) == (4, 4)
    assert list(retried.frame()["status"]) == ["done"] * 4
    assert retried.frame()["error"].isna().all()
    assert retried.manifest(retried.frame()["cell"][0])["attempt"] == 2


def test_weights_that_are_not_numbers_make_failed_cells(go, pictures):
    broken = sl.load("tiny-random", device="cpu")
    broken.components.unet.conv_out.bias.fill_(math.nan)
    frame = go(pipe=broken, steps=1, seed=0).frame()
    assert frame["status"][0] == "failed"
    assert "not finite" in frame["error"][0]


def test_an_exception_within_an_exception_is_let_go_too(go, hook):
    held = []

    def chained():
        tensor = torch.zeros(10)
        held.append(weakref.ref(tensor))
        try:
            raise ValueError("first")
        except ValueError as error:
            raise RuntimeError("second") from error

    hook(chained)
    assert go(steps=1, seed=0).frame()["error"][0] == "RuntimeError: second"
    assert held[0]() is None


@pytest.fixture
def fragile():
    """A metric of one's own that breaks on demand."""
    state = {"broken": True}

    @registry.metric("fragile")
    def metric(scoring):
        if state["broken"]:
            raise RuntimeError("no luck")
        return 7.0

    yield state
    registry._METRICS.pop("fragile")


def test_a_metric_that_breaks_costs_neither_the_clip_nor_the_other_metrics(go, fragile):
    sweep = go(metrics=["fragile", "flow_mean"])
    frame = sweep.frame()
    assert list(frame["status"]) == ["done"] * 4
    assert frame["fragile"].isna().all()
    assert (frame["flow_mean"] > 0).all()
    assert set(frame["error"]) == {"metric fragile: RuntimeError: no luck"}
    fragile["broken"] = False
    assert go(metrics=["fragile", "flow_mean"]).frame()["fragile"].isna().all()  # failed is not pending
    retried = go(metrics=["fragile", "flow_mean"], retry="failed")
    assert retried.plan.backfill == 4
    assert list(retried.frame()["fragile"]) == [7.0] * 4
    assert retried.frame()["error"].isna().all()
    table = retried.metric_table().set_index(["name", "cell"])
    assert set(table.loc["fragile"]["source"]) == {"latents"}
    assert set(table.loc["flow_mean"]["source"]) == {"memory"}


def test_a_metric_that_is_not_defined_is_empty_and_no_error(go):
    frame = go(num_frames=1).frame()
    assert frame["flow_mean"].isna().all()
    assert frame["error"].isna().all()
    assert go(num_frames=1).plan.backfill == 0


def test_a_disk_that_fails_ends_the_run_and_the_cell_stays_to_do(go, tmp_path):
    cell = go(steps=1, seed=0, out=tmp_path / "probe").frame()["cell"][0]
    shelf = tmp_path / "run" / "cells" / cell[:2]
    shelf.parent.mkdir(parents=True)
    shelf.write_text("in the way", encoding="utf-8")
    with pytest.raises(SweepError, match=r"cell .* cannot be written .*what is done stays done"):
        go(steps=1, seed=0)
    assert sl.open_sweep(tmp_path / "run").status()["pending"] == 1
    shelf.unlink()
    assert go(steps=1, seed=0).status()["done"] == 1


def test_a_full_disk_is_not_a_failed_cell(go, hook, tmp_path):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    hook(full)
    with pytest.raises(SweepError, match=r"No space left on device.*Make room"):
        go()
    assert sl.open_sweep(tmp_path / "run").status()["pending"] == 4


def test_results_that_cannot_be_exported_are_only_logged(go, caplog):
    """They are all in the ledger. The limit on file sizes stands for a full disk."""
    sweep = go(steps=1, seed=0)
    before = (sweep.path / "results.parquet").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Ledger(sweep.path) as ledger:
        frame = build_frame(ledger)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            export(ledger, sweep.path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "results are not exported" in caplog.text
    assert "File too large" in caplog.text
    assert (sweep.path / "results.parquet").read_bytes() == before
    pd.testing.assert_frame_equal(sweep.frame(), frame)
    assert not list(sweep.path.glob(".tmp-*"))

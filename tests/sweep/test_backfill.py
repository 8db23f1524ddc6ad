"""Backfill: metrics added later come from what is stored, and say so."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import svdlab as sl
from svdlab.errors import MetricError, SweepError
from svdlab.metrics import registry
from svdlab.pipeline import Pipeline
from svdlab.sweep.ledger import FILE, Ledger
from tests.sweep.conftest import SMALL


@pytest.fixture
def swept(pipe, pictures, tmp_path):
    """A finished sweep of two cells with one metric."""
    return sl.sweep(
        pipe,
        image=pictures / "rocket.png",
        steps=[1, 2],
        seed=0,
        out=tmp_path / "run",
        metrics=["flow_mean"],
        progress=False,
        **SMALL,
    )


@pytest.fixture
def mean_level():
    """Registers a metric of one's own, in a version of choice."""

    def register(version: int = 1):
        @registry.metric("mean_level", version=version, replace=True)
        def metric(scoring):
            return float(scoring.frames.mean()) + version

    yield register
    registry._METRICS.pop("mean_level", None)


def table(sweep, name):
    rows = sweep.metric_table()
    return rows[rows["name"] == name].set_index("cell").loc[list(sweep.frame()["cell"])]


def test_with_the_model_the_values_are_exact(swept, pipe, pictures):
    assert "warp_error" not in swept.frame()
    swept.backfill(["warp_error", "clip_input"], pipe=pipe, progress=False)
    clips = [pipe(pictures / "rocket.png", steps=steps, seed=0, **SMALL) for steps in (1, 2)]
    for name in ("warp_error", "clip_input"):
        expected = [sl.metrics.score(clip, names=[name], encoder=pipe)[name] for clip in clips]
        np.testing.assert_array_equal(swept.frame()[name], expected)
        assert list(table(swept, name)["source"]) == ["latents"] * 2
    assert list(swept.frame().columns)[-10:-7] == ["flow_mean", "clip_input", "warp_error"]  # added ones come after
    assert swept.manifest(swept.frame()["cell"][0])["metrics"]["warp_error"]["source"] == "latents"


def test_without_the_model_the_values_come_from_the_video(swept, pipe):
    swept.backfill(["warp_error"], progress=False)
    lossy = swept.frame()["warp_error"]
    expected = [
        sl.metrics.score(swept.clip(cell), names=["warp_error"])["warp_error"] for cell in swept.frame()["cell"]
    ]
    np.testing.assert_array_equal(lossy, expected)
    assert list(table(swept, "warp_error")["source"]) == ["video"] * 2
    swept.backfill(["warp_error"], pipe=pipe, progress=False)  # now that there is a model, they can be made exact
    assert list(table(swept, "warp_error")["source"]) == ["latents"] * 2
    assert not np.array_equal(swept.frame()["warp_error"], lossy)


def test_what_is_there_is_left_alone(swept, pipe, mean_level):
    mean_level()
    swept.backfill(["flow_mean", "mean_level"], pipe=pipe, progress=False)
    assert list(table(swept, "flow_mean")["source"]) == ["memory"] * 2
    before = swept.frame()["mean_level"]
    mean_level(version=2)
    swept.backfill(["flow_mean", "mean_level"], pipe=pipe, progress=False)
    np.testing.assert_allclose(swept.frame()["mean_level"], before + 1)
    assert list(table(swept, "mean_level")["version"]) == [2, 2]
    assert list(table(swept, "flow_mean")["source"]) == ["memory"] * 2


def test_a_sweep_that_is_called_with_more_metrics_fills_them_in(swept, pipe, pictures, tmp_path):
    more = sl.sweep(
        pipe,
        image=pictures / "rocket.png",
        steps=[1, 2, 3],
        seed=0,
        out=tmp_path / "run",
        metrics=["warp_error", "flow_mean"],
        progress=False,
        **SMALL,
    )
    assert (more.plan.backfill, more.plan.todo) == (2, 1)
    assert more.frame()["warp_error"].notna().all()
    assert list(table(more, "warp_error")["source"]) == ["latents", "latents", "memory"]
    assert list(more.frame().columns[-9:-7]) == ["warp_error", "flow_mean"]


def test_exports_and_rebuilt_ledgers_have_them_too(swept, pipe, tmp_path):
    swept.backfill(["warp_error"], progress=False)
    assert "warp_error" in (swept.path / "results.csv").read_text(encoding="utf-8").splitlines()[0]
    before = swept.metric_table()
    (swept.path / FILE).unlink()
    sl.sweep.run_spec(swept.path, pipe=pipe, progress=False)
    after = swept.metric_table()
    assert before.values.tolist() == after.values.tolist()


def test_a_metric_that_looks_at_embeddings_needs_the_model(swept):
    with pytest.raises(MetricError, match=r"clip_input: needs the image encoder of a model; pass pipe="):
        swept.backfill(["clip_input"])


def test_cells_of_other_weights_are_measured_on_their_video(swept, pipe, caplog):
    other = Pipeline(dataclasses.replace(pipe.components, fingerprint="0123456789abcdef-fp32"))
    swept.backfill(["warp_error", "clip_input"], pipe=other, progress=False)
    assert list(table(swept, "warp_error")["source"]) == ["video"] * 2
    assert "clip_input" not in swept.frame()
    assert "2 cells belong to other weights" in caplog.text
    with pytest.raises(SweepError, match="it belongs to other weights"):
        swept.clip(swept.frame()["cell"][0], pipe=other)


def test_a_cell_that_was_damaged_by_hand_is_left_out(swept, caplog):
    cells = swept.frame()["cell"]
    (swept.path / swept.frame()["video"][0]).write_bytes(b"")
    swept.backfill(["warp_error"], progress=False)
    assert list(swept.frame()["warp_error"].notna()) == [False, True]
    assert f"cell {cells[0]} is left as it is; delete its folder" in caplog.text


def test_cells_that_are_not_done_are_left_out(swept, pipe):
    with Ledger(swept.path, write=True) as ledger:
        ledger.release([swept.frame()["cell"][0]])
    (swept.path / swept.frame()["video"][1]).parent.rename(swept.path / "cells" / "ff-gone")
    swept.backfill(["warp_error"], progress=False)
    frame = swept.frame()
    assert list(frame["status"]) == ["done", "pending"]  # the one was adopted again, the other's folder is gone
    assert list(frame["warp_error"].notna()) == [True, False]


def test_names_must_be_a_list_of_known_metrics(swept):
    with pytest.raises(MetricError, match=r"must be a list of metric names, such as \['flow_mean'\]"):
        swept.backfill("flow_mean")
    with pytest.raises(MetricError, match="warp_error"):
        swept.backfill(["warp_eror"])

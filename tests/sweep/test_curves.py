"""Curves: the tidy table holds what each clip's own curves hold, from the source that it names."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import svdlab as sl
from svdlab.errors import MetricError, SweepError
from svdlab.metrics.per_frame import per_frame_metrics
from svdlab.sweep import artifacts
from svdlab.sweep.ledger import Ledger


def test_with_the_model_the_curves_are_exact(eight, pipe):
    sweep = sl.open_sweep(eight)
    table = sweep.per_frame(["flow_mean", "flicker"], pipe=pipe, progress=False)
    assert list(table.columns) == ["cell", "frame", "metric", "value", "source"]
    assert len(table) == 8 * 2 * 2
    assert set(table["source"]) == {"latents"}
    frame = sweep.frame().set_index("cell")
    means = table[table["metric"] == "flow_mean"].groupby("cell")["value"].mean()
    np.testing.assert_allclose(means[frame.index], frame["flow_mean"], rtol=1e-12)
    assert table.loc[table["frame"] == 0, "value"].isna().all()  # nothing comes before it
    assert list(table["cell"].unique()) == list(frame.index)


def test_without_it_they_are_those_of_the_mp4(eight):
    sweep = sl.open_sweep(eight)
    table = sweep.per_frame(["flow_mean"], progress=False)
    assert set(table["source"]) == {"video"}
    for cell in sweep.frame()["cell"][:2]:
        own = table[table["cell"] == cell]
        expected = per_frame_metrics(sweep.clip(cell), ["flow_mean"])["flow_mean"]
        np.testing.assert_array_equal(own["value"], expected)
        assert list(own["frame"]) == [0, 1]


def test_left_alone_it_takes_what_is_quick(eight):
    table = sl.open_sweep(eight).per_frame(progress=False)
    assert {"flow_mean", "flicker", "psnr_input"} <= set(table["metric"])
    assert not any(name.startswith("lpips") for name in table["metric"])
    assert table.groupby(["cell", "metric"]).size().eq(2).all()


def test_names_are_checked_before_any_clip_is_opened(copied):
    for cell in copied.frame()["cell"]:
        (copied.path / artifacts.cell_path(cell) / "clip.mp4").unlink()
    with pytest.raises(MetricError, match="flow_meen"):
        copied.per_frame(["flow_meen"], progress=False)
    with pytest.raises(MetricError, match=r"seconds has no curve over frames\. Those that have: "):
        copied.per_frame(["seconds"], progress=False)
    with pytest.raises(MetricError, match="single string"):
        copied.per_frame("flow_mean", progress=False)


def test_damaged_and_undone_cells_are_left_out(copied, caplog):
    cells = copied.frame()["cell"]
    (copied.path / artifacts.cell_path(cells[0]) / "clip.mp4").write_bytes(b"")
    with Ledger(copied.path, write=True) as ledger:
        ledger.release([cells[1]])
    table = copied.per_frame(["flow_mean"], progress=False)
    assert list(table["cell"].unique()) == list(cells[2:])
    assert f"cell {cells[0]} is left out" in caplog.text


def test_a_sweep_without_finished_cells_gives_an_empty_table(copied):
    with Ledger(copied.path, write=True) as ledger:
        ledger.release(list(copied.frame()["cell"]))
    table = copied.per_frame(progress=False)
    assert list(table.columns) == ["cell", "frame", "metric", "value", "source"]
    assert len(table) == 0
    assert (table["frame"].dtype, table["value"].dtype) == ("int64", "float64")


def test_other_weights_are_refused(eight, pipe):
    other = sl.Pipeline(dataclasses.replace(pipe.components, fingerprint="other"))
    with pytest.raises(SweepError, match=r"has other weights \(other\) than this sweep"):
        sl.open_sweep(eight).per_frame(pipe=other, progress=False)

"""Dataset: every value of the frame stands at its place in the grid, and nothing else does."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import svdlab as sl
from svdlab.errors import ExtraError, MetricError, SvdlabError
from svdlab.sweep.ledger import Ledger

xarray = pytest.importorskip("xarray", reason="needs the xarray extra")


def test_every_value_is_at_its_place(eight):
    sweep = sl.open_sweep(eight)
    dataset = sweep.to_xarray()
    assert dict(dataset.sizes) == {"image": 2, "seed": 2, "steps": 2}
    for _, row in sweep.frame().iterrows():
        here = dataset.sel(image=row["image"], seed=row["seed"], steps=row["steps"])
        assert here["cell"] == row["cell"]
        assert here["status"] == "done"
        for name in ("flow_mean", "warp_error", "seconds"):
            assert float(here[name]) == row[name]
    assert dataset["width"] == 32
    assert dataset["vram_peak_mb"].isnull().all()
    assert dataset.attrs["model_fingerprint"] == sweep.model["fingerprint"]
    assert dataset.attrs["sweep"] == "run"


def test_units_stand_where_plots_look_for_them(eight):
    dataset = sl.open_sweep(eight).to_xarray(["warp_error", "flow_mean", "seconds_spent"])
    assert list(dataset) == ["warp_error", "flow_mean", "seconds_spent"]
    metric = sl.metrics.get("flow_mean")
    assert dataset["flow_mean"].attrs["units"] == metric.unit == "px/frame"
    assert dataset["flow_mean"].attrs["direction"] == metric.direction
    assert dataset["flow_mean"].attrs["version"] == str(metric.version)
    assert dataset["seconds_spent"].attrs["units"] == "s"
    assert dataset["width"].attrs["units"] == "px"
    assert "units" not in dataset["steps"].attrs


def test_what_is_missing_is_nan(copied):
    row = copied.frame().iloc[5]
    with Ledger(copied.path, write=True) as ledger:
        ledger.release([row["cell"]])
    dataset = copied.to_xarray()
    here = dataset.sel(image=row["image"], seed=row["seed"], steps=row["steps"])
    assert here["status"] == "pending"
    assert np.isnan(here["flow_mean"])
    assert int(dataset["flow_mean"].notnull().sum()) == 7
    assert float(dataset["flow_mean"].mean()) == pytest.approx(copied.frame()["flow_mean"].mean())


def test_axes_of_text_and_of_floats_and_a_grid_of_one(go):
    sweep = go(steps=[2, 3], seed=[1], cond_aug=[0, 0.3], schedule=["even", "karras"])
    dataset = sweep.to_xarray(["flow_mean"])
    assert dataset["flow_mean"].dims == tuple(sweep.axes)
    assert dataset.sizes["schedule"] == 2
    frame = sweep.frame()
    row = frame[(frame["cond_aug"] == 0.3) & (frame["schedule"] == "even") & (frame["steps"] == 3)].iloc[0]
    found = dataset["flow_mean"].sel(cond_aug=0.3, schedule="even", steps=3).squeeze()
    assert float(found) == row["flow_mean"]
    assert dataset["image"] == "rocket"  # a single picture is a coordinate without a dimension


def test_one_cell_has_no_dimensions_at_all(pipe, eight, tmp_path):
    image = eight.parent / "pictures" / "kite.png"
    options = {"num_frames": 2, "width": 32, "height": 32, "metrics": ["flow_mean"], "progress": False}
    one = sl.sweep(pipe, image=image, steps=1, seed=0, out=tmp_path / "one", **options)
    dataset = one.to_xarray()
    assert dict(dataset.sizes) == {}
    assert float(dataset["flow_mean"]) == one.frame()["flow_mean"][0]
    assert dataset["seed"] == 0


def test_it_can_be_written_to_a_file_and_read(eight, tmp_path):
    """Attributes and coordinates are plain enough for NetCDF, here by SciPy's writer."""
    dataset = sl.open_sweep(eight).to_xarray()
    dataset.to_netcdf(tmp_path / "sweep.nc", engine="scipy")
    with xarray.open_dataset(tmp_path / "sweep.nc", engine="scipy") as read:
        np.testing.assert_array_equal(read["flow_mean"], dataset["flow_mean"])
        assert read["flow_mean"].attrs["units"] == "px/frame"


def test_bad_names_are_refused_in_words(eight):
    sweep = sl.open_sweep(eight)
    with pytest.raises(MetricError, match=r"this sweep has no flowmean\. It has flow_mean, warp_error, seconds"):
        sweep.to_xarray(["flowmean"])
    with pytest.raises(MetricError, match=r"must be a list of names, such as \['flow_mean'\]"):
        sweep.to_xarray("flow_mean")


def test_without_xarray_it_says_what_to_install(eight, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ExtraError, match=r'pip install "svdlab\[xarray\]"') as caught:
        sl.open_sweep(eight).to_xarray()
    assert isinstance(caught.value, SvdlabError)
    assert isinstance(caught.value, ImportError)

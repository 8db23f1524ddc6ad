"""Tables: several sweeps as one, with nothing mixed up, lost or counted twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import svdlab as sl
from svdlab.errors import SweepError
from svdlab.sweep.ledger import Ledger
from tests.sweep.conftest import QUIET, SMALL


@pytest.fixture(scope="module")
def other(pipe, eight, tmp_path_factory):
    """Two cells that `eight` has too (kite, 2 steps), and two that it has not (3 steps); it names `fps`, too."""
    image = eight.parent / "pictures" / "kite.png"
    folder = tmp_path_factory.mktemp("other") / "run"
    return sl.sweep(pipe, image=image, steps=[2, 3], seed=[0, 1], fps=10, out=folder, name="other", **QUIET, **SMALL)


def put(sweep, cell: str, name: str, version: int) -> None:
    with Ledger(sweep.path, write=True) as ledger:
        ledger.put_metrics(cell, {name: {"value": 1.0, "version": version, "source": "memory", "error": None}})


def test_merged_cells_keep_their_values_and_each_is_there_once(eight, other):
    a = sl.open_sweep(eight).frame()
    merged = sl.sweep.merge([eight, other])
    assert list(merged.columns[:3]) == ["sweep", "cell", "image"]
    assert len(merged) == 10
    assert merged["cell"].is_unique
    assert list(merged["sweep"]) == ["run"] * 8 + ["other"] * 2
    pd.testing.assert_series_equal(merged["flow_mean"][:8], a["flow_mean"])
    assert (merged["fps"] == 10).all()  # a column because one of them names it, filled in for the other
    assert merged["fps"].dtype == "int64"
    assert set(merged["model"]) == {other.model["fingerprint"]}
    for path, cell in zip(merged["video"], merged["cell"], strict=True):
        assert cell in path
        assert Path(path).read_bytes()[4:8] == b"ftyp"


def test_duplicates_can_be_kept_and_what_is_done_wins(eight, other, copied):
    kept = sl.sweep.merge([eight, other], duplicates="keep")
    assert len(kept) == 12
    assert kept["cell"].duplicated().sum() == 2
    shared = kept["cell"][kept["cell"].duplicated()].iloc[0]
    with Ledger(copied.path, write=True) as ledger:
        ledger.release([shared])
    merged = sl.sweep.merge({"hurt": copied, "other": other}).set_index("cell")
    assert merged.loc[shared, "sweep"] == "other"
    assert merged.loc[shared, "status"] == "done"
    assert len(merged) == 10


def test_names_of_the_sweeps(eight, copied, tmp_path):
    merged = sl.sweep.merge([eight, copied], duplicates="keep")  # both are called `run`
    assert set(merged["sweep"]) == {str(eight), str(copied.path)}
    named = sl.sweep.merge({"before": eight, "after": copied}, duplicates="keep")
    assert list(named["sweep"].unique()) == ["before", "after"]
    for wrong, said in [
        ([], "there are none"),
        ([eight, eight], "is listed twice"),
        (eight, "must be a list of sweeps"),
        ([3], "must be a Sweep or the path"),
        ([tmp_path], "is not the directory of a sweep"),
    ]:
        with pytest.raises(SweepError, match=said):
            sl.sweep.merge(wrong)


@pytest.mark.parametrize("option", ["versions", "duplicates", "how"])
def test_options_are_checked(eight, option):
    with pytest.raises(SweepError, match=f"{option} = 'all': must be '"):
        sl.sweep.join(eight, eight, how="all") if option == "how" else sl.sweep.merge([eight], **{option: "all"})
    with pytest.raises(SweepError, match="must be two different texts"):
        sl.sweep.join(eight, eight, suffixes=("_a", "_a"))


def test_values_of_different_versions_are_refused_or_marked(eight, copied, caplog):
    cell = copied.frame()["cell"][2]
    put(copied, cell, "flow_mean", 99)
    now = sl.metrics.get("flow_mean").version
    said = f"flow_mean is version {now} in a, version {now} and 99 in b"
    for call in (lambda: sl.sweep.merge({"a": eight, "b": copied}), lambda: sl.sweep.join(eight, copied)):
        with pytest.raises(SweepError, match=said):
            call()
    marked = sl.sweep.merge({"a": eight, "b": copied}, versions="note", duplicates="keep")
    assert "warp_error_version" not in marked
    odd = marked[marked["flow_mean_version"] == 99]
    assert list(odd["cell"]) == [cell]
    assert list(odd["sweep"]) == ["b"]
    assert set(marked["flow_mean_version"]) == {now, 99}
    assert len(sl.sweep.join(eight, copied, versions="note")) == 8
    assert "different versions stand side by side: flow_mean" in caplog.text


def test_pictures_are_told_apart_by_their_pixels(eight, pipe, tmp_path):
    """Another picture that is called rocket, and the same one under another name."""
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(tmp_path / "rocket.png")
    shutil.copy(eight.parent / "pictures" / "rocket.png", tmp_path / "renamed.png")
    images = [tmp_path / "rocket.png", tmp_path / "renamed.png"]
    b = sl.sweep(pipe, image=images, steps=[1], seed=[0], out=tmp_path / "b", **QUIET, **SMALL)
    merged = sl.sweep.merge({"a": eight, "b": b}, duplicates="keep")
    digest = b.manifest(b.frame()["cell"][0])["image"]["digest"]
    assert list(merged.loc[merged["sweep"] == "b", "image"]) == [f"rocket-{digest[:8]}", "rocket"]
    both = sl.sweep.join(eight, b, how="outer")
    assert list(both["image"]).count(f"rocket-{digest[:8]}") == 1
    assert both.loc[both["image"] == f"rocket-{digest[:8]}", "cell_a"].isna().all()


def test_join_puts_equal_settings_side_by_side(eight, other):
    both = sl.sweep.join(eight, other)
    assert list(both.columns[:3]) == ["image", "seed", "steps"]
    assert list(zip(both["image"], both["seed"], both["steps"], strict=True)) == [("kite", 0, 2), ("kite", 1, 2)]
    assert (both["cell_a"] == both["cell_b"]).all()
    np.testing.assert_array_equal(both["flow_mean_a"], both["flow_mean_b"])
    outer = sl.sweep.join(eight, other, how="outer", suffixes=("", "_new"))
    assert len(outer) == 10
    assert list(outer["cell"][:8]) == list(sl.open_sweep(eight).frame()["cell"])
    assert list(outer.loc[outer["cell"].isna(), "steps"]) == [3, 3]
    assert outer["steps"].dtype == "int64"
    assert outer["flow_mean_new"].notna().sum() == 4


def test_nothing_in_common(eight, other, copied):
    with Ledger(copied.path, write=True) as ledger:
        ledger.declare([], [], [], {"name": "empty"})
    assert len(sl.sweep.join(copied, other)) == 0
    assert len(sl.sweep.merge([copied, other])) == 4

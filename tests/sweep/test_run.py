"""Runs: a real pipeline through a grid, stopped, resumed, extended, read along."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import svdlab as sl
from svdlab.errors import SpecError, SweepError
from svdlab.pipeline import Pipeline
from svdlab.request import SettingWarning
from svdlab.sweep.frame import COSTS
from svdlab.sweep.ledger import FILE, Ledger
from svdlab.video import read_video
from tests.sweep.conftest import SMALL


def without_costs(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=list(COSTS))


def events(sweep) -> list[str]:
    with Ledger(sweep.path) as ledger:
        return [row["what"] for row in ledger.events()]


# What a finished sweep is.


def test_the_frame_has_a_row_a_cell_and_the_columns_of_the_design(go, pictures):
    sweep = go(image=[pictures / "rocket.png", pictures / "kite.png"], motion_bucket_id=[32, 224], fps=8)
    frame = sweep.frame()
    assert list(frame.columns) == [
        *("cell", "image", "seed", "motion_bucket_id", "steps", "width", "height", "num_frames", "fps"),
        *("status", "flow_mean", "warp_error"),
        *("seconds", "seconds_denoise", "seconds_decode", "seconds_spent", "vram_peak_mb", "video", "error"),
    ]
    assert len(frame) == len(sweep) == 16
    assert frame["cell"].is_unique
    assert list(frame["image"][::8]) == ["rocket", "kite"]
    assert list(frame["steps"][:4]) == [1, 2, 1, 2]
    assert (frame["status"] == "done").all()
    assert frame["error"].isna().all()
    assert frame["vram_peak_mb"].isna().all()  # there is no GPU
    assert (frame["flow_mean"] > 0).all()
    assert (frame["seconds"] > frame["seconds_denoise"] + frame["seconds_decode"]).all()
    assert sweep.axes == {"image": ("rocket", "kite"), "seed": (0, 1), "motion_bucket_id": (32, 224), "steps": (1, 2)}
    assert sweep.fixed == {**SMALL, "fps": 8}
    assert sweep.status() == {"pending": 0, "running": 0, "done": 16, "failed": 0, "skipped": 0}
    assert repr(sweep) == f"Sweep(run: 16 cells: 16 done, in {sweep.path})"
    assert str(sweep).startswith("run: 16 cells: 16 done\n\nsweep")
    assert "16 cells: 16 done" in sweep._repr_html_()


def test_a_cell_is_what_the_pipeline_gives_for_its_request(go, pipe, pictures):
    """The numbers and files in the table are those of the same request made by hand."""
    sweep = go()
    row = sweep.frame().iloc[3]
    clip = pipe(pictures / "rocket.png", steps=2, seed=1, **SMALL)
    stored = sweep.clip(row["cell"])
    assert torch.equal(stored.latents, clip.latents)
    assert row[["flow_mean", "warp_error"]].to_dict() == sl.metrics.score(clip, names=["flow_mean", "warp_error"])
    assert stored.request.settings() == clip.request.settings()
    assert np.array_equal(stored.image, clip.image)
    assert np.array_equal(read_video(sweep.path / row["video"]).frames, stored.frames)
    assert 0 < abs(stored.frames.astype(float) - clip.frames).mean() < 25  # the mp4 is lossy, above all on noise
    assert np.array_equal(sweep.clip(row["cell"], pipe=pipe).frames, clip.frames)  # the latents are not
    with Image.open((sweep.path / row["video"]).with_name("thumb.jpg")) as thumb:
        assert thumb.width <= 640


def test_a_manifest_says_everything(go, pipe):
    sweep = go()
    row = sweep.frame().iloc[0]
    manifest = sweep.manifest(row["cell"])
    assert manifest["cell"] == row["cell"]
    assert manifest["request"]["steps"] == 1
    assert manifest["request"]["schedule"] == pipe.defaults.schedule  # what was left open is recorded as filled in
    assert manifest["seed"] == 0
    assert manifest["image"]["label"] == "rocket"
    assert manifest["model"] == pipe.describe()
    assert manifest["metrics"]["flow_mean"] == {
        "value": row["flow_mean"],
        "version": sl.metrics.versions(["flow_mean"])["flow_mean"],
        "source": "memory",
        "error": None,
    }
    assert set(manifest["files"]) == {"clip.mp4", "latents.safetensors", "thumb.jpg"}
    assert {"svdlab", "torch", "diffusers"} <= set(manifest["versions"])


def test_exports_hold_the_frame(go, tmp_path):
    sweep = go()
    frame = sweep.frame()
    pd.testing.assert_frame_equal(pd.read_parquet(sweep.path / "results.parquet"), frame)
    again = pd.read_csv(sweep.path / "results.csv")
    assert list(again.columns) == list(frame.columns)
    np.testing.assert_array_equal(again["flow_mean"], frame["flow_mean"])
    assert sweep.to_csv(tmp_path / "other.csv").read_bytes() == (sweep.path / "results.csv").read_bytes()
    assert sweep.to_parquet(tmp_path / "other.parquet").is_file()
    (sweep.path / "results.csv").unlink()
    assert sweep.to_csv() == sweep.path / "results.csv"
    assert sweep.to_parquet().stat().st_size > 0


def test_a_run_directory_stands_on_its_own(go, pictures, tmp_path, hook):
    """No absolute path is in it, and it can be moved and read without the pictures."""
    calls = itertools.count()
    hook(lambda: 1 / 0 if next(calls) == 1 else None)  # one cell fails, with a traceback
    sweep = go()
    assert (sweep.frame()["status"] == "failed").sum() == 1
    for path in sweep.path.rglob("*"):
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes(), path
    images = json.loads((sweep.path / "spec.json").read_text(encoding="utf-8"))["images"]
    assert images[0]["source"] == "../pictures/rocket.png"
    frame = sweep.frame()
    moved = sl.open_sweep(shutil.move(sweep.path, tmp_path / "elsewhere"))
    shutil.rmtree(pictures)
    pd.testing.assert_frame_equal(moved.frame(), frame)
    done = frame[frame["status"] == "done"]["cell"].iloc[0]
    assert moved.clip(done).image.shape == (32, 32, 3)


# Going on.


def test_a_second_call_computes_nothing(go, hook):
    first = go()
    before = first.frame()
    hook(lambda: pytest.fail("a finished cell was computed again"))
    second = go()
    pd.testing.assert_frame_equal(second.frame(), before)
    assert (second.plan.done, second.plan.todo, second.plan.calls) == (4, 0, 0)


def test_a_broken_run_that_goes_on_equals_an_unbroken_one(go, tmp_path):
    unbroken = go(out=tmp_path / "unbroken")

    def stop(row):
        if len(seen := [*seen_before, row]) == 2:
            raise ZeroDivisionError("the notebook's callback broke")
        seen_before[:] = seen

    seen_before: list[dict] = []
    with pytest.raises(ZeroDivisionError):
        go(on_cell=stop)
    partial = sl.open_sweep(tmp_path / "run")
    assert list(partial.frame()["status"]) == ["done", "done", "pending", "pending"]
    assert len(pd.read_csv(tmp_path / "run" / "results.csv")) == 4
    broken = go()
    pd.testing.assert_frame_equal(without_costs(broken.frame()), without_costs(unbroken.frame()))
    for cell in broken.frame()["cell"]:
        checks = [sweep.manifest(cell)["files"]["latents.safetensors"] for sweep in (broken, unbroken)]
        assert checks[0] == checks[1]
    assert sorted(events(broken)) == ["done"] * 4 + ["started"] * 4


def test_more_values_compute_only_what_is_new_and_fewer_lose_nothing(go):
    first = go().frame().set_index("cell")
    wider = go(steps=[1, 2, 3])
    assert (wider.plan.total, wider.plan.done, wider.plan.todo) == (6, 4, 2)
    frame = wider.frame().set_index("cell")
    pd.testing.assert_frame_equal(frame.loc[first.index], first)
    narrow = go(steps=3)
    assert len(narrow.frame()) == 2
    assert narrow.plan.others == 4
    everything = narrow.frame(all=True)
    assert list(everything["declared"]) == [True, True, False, False, False, False]
    assert sorted(everything["steps"]) == [1, 1, 2, 2, 3, 3]
    assert set(everything["model"]) == {narrow.model["fingerprint"]}
    assert "4 more of earlier declarations" in narrow.plan.text()


def test_settings_that_differ_only_between_declarations_are_shown_with_all(go):
    go(steps=1)
    frame = go(steps=1, cond_aug=0.3).frame(all=True)
    assert sorted(frame["cond_aug"]) == [0.02, 0.02, 0.3, 0.3]
    assert "gamma" not in frame


def test_without_seeds_one_is_drawn_and_kept(go, tmp_path):
    first = go(seed=None)
    seeds = set(first.frame()["seed"])
    assert len(seeds) == 1
    assert first.fixed["seed"] in seeds
    assert set(go(seed=None, steps=[1, 2, 3]).frame()["seed"]) == seeds
    go(seed=5)  # a spec with seeds in between changes nothing
    assert set(go(seed=None).frame()["seed"]) == seeds
    (tmp_path / "run" / FILE).unlink()
    assert set(go(seed=None).frame()["seed"]) == seeds
    assert set(go(seed=None, out=tmp_path / "other").frame()["seed"]) != seeds


def test_other_weights_of_the_same_name_are_other_cells(go, pipe):
    go()
    parts = dataclasses.replace(pipe.components, fingerprint="0123456789abcdef-fp32")
    second = go(pipe=Pipeline(parts))
    assert (second.plan.done, second.plan.todo) == (0, 4)
    assert "4 finished cells belong to other weights" in second.plan.text()
    assert len(second.frame(all=True)["model"].unique()) == 2


def test_a_lost_ledger_is_made_again(go, tmp_path, hook):
    before = go(seed=[3, 4]).frame()
    (tmp_path / "run" / FILE).unlink()
    hook(lambda: pytest.fail("a finished cell was computed again"))
    pd.testing.assert_frame_equal(go(seed=[3, 4]).frame(), before)


def test_a_run_directory_goes_on_with_what_it_was_told(go, pipe, pictures, tmp_path):
    go(image=[pictures / "rocket.png", pictures / "kite.png"], steps=1)
    before = sl.open_sweep(tmp_path / "run").frame()
    shutil.rmtree(pictures)
    shutil.rmtree(tmp_path / "run" / "cells" / before["cell"][1][:2])
    again = sl.sweep.run_spec(tmp_path / "run", pipe=pipe, progress=False)
    pd.testing.assert_frame_equal(without_costs(again.frame()), without_costs(before))
    assert again.plan.todo >= 1
    assert again.name == "run"


# Beside others.


def test_a_running_sweep_can_be_read_and_has_one_writer(go, tmp_path):
    seen = []

    def look(row):
        seen.append((row["status"], sl.open_sweep(tmp_path / "run").status()["done"]))
        with pytest.raises(SweepError, match="is writing there"):
            go()

    sweep = go(on_cell=look)
    assert seen == [("done", 1), ("done", 2), ("done", 3), ("done", 4)]
    assert sweep.status()["done"] == 4


def test_rows_given_to_a_callback_are_those_of_the_frame(go):
    rows = []
    frame = go(on_cell=rows.append).frame()
    expected = frame.astype(object).where(frame.notna(), None).to_dict("records")
    assert rows == expected


def test_pictures_from_memory_and_a_model_by_name(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    sweep = sl.sweep(
        "tiny-random", image=array, steps=1, seed=0, out=tmp_path / "_x", metrics=[], progress=False, **SMALL
    )
    assert sweep.fixed == {**SMALL, "seed": 0, "steps": 1}
    assert sweep.frame()["image"][0] == "image"
    assert sweep.name == "x"
    assert sweep.metrics == ()


def test_isolated_timing_pays_for_everything_and_shared_timing_does_not(go, tmp_path):
    isolated = go(timing="isolated").frame()
    np.testing.assert_allclose(isolated["seconds_spent"], isolated["seconds"], rtol=1e-9)
    shared = go(out=tmp_path / "shared").frame()
    assert (shared["seconds_spent"] < shared["seconds"]).sum() >= 3
    cell = isolated["cell"][0]
    assert sl.open_sweep(tmp_path / "run").manifest(cell)["timing"] == "isolated"


def test_a_warning_about_a_setting_is_given_once(go):
    with pytest.warns(SettingWarning, match="motion_bucket_id = 300") as caught:
        sweep = go(motion_bucket_id=300)
    assert len(caught) == 1
    assert sweep.clip(sweep.frame()["cell"][0]).request.motion_bucket_id == 300


def test_a_plan_that_is_shown_carries_the_warnings(go):
    plans = []
    go(motion_bucket_id=300, on_plan=plans.append)
    assert any("motion_bucket_id = 300" in note for note in plans[0].notes)


def test_a_progress_bar_shows_motion_beside_consistency(go, capsys):
    go(progress=True)
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "done=4, failed=0, flow_mean=" in shown
    assert "warp_error=" in shown


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"stepz": 4}, SpecError, "Did you mean 'steps'"),
        ({"steps": [4, 60]}, SpecError, "steps = 60"),
        ({"image": "none.png"}, SpecError, "there is no file"),
        ({"retry": "all"}, SweepError, "retry = 'all'"),
        ({"width": 33}, SpecError, "width = 33: this model needs a multiple of 8"),
        ({"metrics": ["flow_meen"]}, sl.SvdlabError, "flow_mean"),
        ({"metrics": ["seconds"]}, sl.SvdlabError, "seconds is a column of every sweep"),
        ({"min_guidance": [3.0], "max_guidance": [2.0]}, SpecError, "min_guidance = 3"),
    ],
)
def test_mistakes_are_found_before_anything_is_made(go, tmp_path, hook, changes, kind, words):
    hook(lambda: pytest.fail("computed"))
    with pytest.raises(kind, match=words):
        go(**changes)
    assert not (tmp_path / "run").exists()


def test_many_impossible_cells_are_counted(go):
    with pytest.raises(SpecError, match=r"cells that cannot be:\n(?s:.*)\.\.\. and 4 more"):
        go(steps="41..54", schedule=["karras", "even"])


def test_the_questions_to_a_cell_that_is_not_there(go):
    sweep = go(steps=1, seed=0)
    for ask in (sweep.clip, sweep.manifest, sweep.traceback):
        with pytest.raises(SweepError, match="has no such cell"):
            ask("0" * 16)


def test_a_sweep_runs_in_a_thread(go, tmp_path):
    """Signal handlers belong to the main thread; elsewhere none is touched."""
    done = []
    thread = threading.Thread(target=lambda: done.append(go()))
    thread.start()
    thread.join(timeout=120)
    assert done[0].status()["done"] == 4


def test_a_file_is_run_and_kept_beside_its_results(pipe, pictures, tmp_path):
    path = tmp_path / "first.toml"
    path.write_text(
        'model = "tiny-random"\nimages = "pictures/kite.png"\nmetrics = []\n[grid]\nsteps = [1, 2]\nseed = 4\n'
        "[fixed]\nnum_frames = 2\nwidth = 32\nheight = 32\n",
        encoding="utf-8",
    )
    sweep = sl.sweep.run_spec(path, pipe=pipe, out=tmp_path / "run", progress=False)
    assert list(sweep.frame()["status"]) == ["done", "done"]
    assert (sweep.path / "spec.toml").read_bytes() == path.read_bytes()
    assert sweep.name == "first"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sl.sweep.nothing
    assert "run_spec" in dir(sl.sweep)

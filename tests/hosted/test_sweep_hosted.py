"""Sweeps of a hosted model: planned in calls, stored like any other, and never paid for twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import svdlab as sl
from svdlab.cli import app
from svdlab.errors import EndpointError, MetricError, SpecError, SweepError
from svdlab.sweep import plan_spec
from svdlab.video import read_video
from tests.hosted.recorded import APP, Recorded, answer

GRID = {"motion_bucket_id": [32, 127], "seed": [0, 1], "metrics": ["flow_mean", "lpips_input"], "progress": False}
SPEC = """
model = "fal-ai/fast-svd-lcm"
images = ["rocket.png"]
metrics = ["flow_mean"]
[grid]
steps = [1, 2, 4]
[fixed]
seed = 42
"""


def test_a_sweep_runs_and_goes_on(server: Recorded, rocket: Path, tmp_path: Path) -> None:
    swept = sl.sweep(sl.load(APP), image=rocket, out=tmp_path / "run", metrics=["flow_mean", "ssim_input"], seed=[0, 1],
                     motion_bucket_id=[32, 127], progress=False)  # fmt: skip
    frame = swept.frame()
    assert list(frame["status"]) == ["done"] * 4
    assert (frame["flow_mean"] > 0).all()
    assert frame["seconds_denoise"].isna().all()
    assert sorted((sent["motion_bucket_id"], sent["seed"]) for sent in server.submissions) == [
        (32, 0), (32, 1), (127, 0), (127, 1),
    ]  # fmt: skip
    again = sl.sweep(sl.load(APP), image=rocket, out=tmp_path / "run", metrics=["flow_mean", "ssim_input"], seed=[0, 1],
                     motion_bucket_id=[32, 127, 200], progress=False)  # fmt: skip
    assert (again.plan.done, again.plan.todo, len(server.submissions)) == (4, 2, 6)


def test_what_is_stored(server: Recorded, rocket: Path, tmp_path: Path) -> None:
    swept = sl.sweep(sl.load(APP), image=rocket, out=tmp_path / "run", metrics=[], seed=42, progress=False)
    cell = swept.frame()["cell"][0]
    clip = swept.clip(cell)
    assert (clip.frames.shape, clip.latents, clip.image.shape) == ((25, 64, 64, 3), None, (64, 64, 3))
    manifest = json.loads((tmp_path / "run" / "cells" / cell[:2] / cell / "manifest.json").read_text())
    assert manifest["model"] == sl.load(APP).describe()
    assert manifest["noise_streams"] == []  # whatever noise it uses, it is none of ours
    assert "latents.safetensors" not in manifest["files"]
    with pytest.raises(SweepError, match="has no latents"):
        swept.clip(cell, pipe=sl.load(APP))


def test_the_plan_counts_calls_and_makes_none(server: Recorded, rocket: Path) -> None:
    spec = rocket.parent / "hosted.toml"
    spec.write_text(SPEC)
    plan = plan_spec(spec, out=rocket.parent / "run")
    assert (plan.hosted, plan.calls, plan.calls_made, plan.seconds) == (True, 3, 3, None)
    assert "hosted calls" in plan.text()
    assert "3, one a cell, each paid for" in plan.text()
    assert "pictures are sent there, each clip is a paid call" in " ".join(plan.notes)
    assert server.seen == []


@pytest.mark.parametrize("where", ["axis", "fixed"])
def test_fields_that_the_endpoint_lacks_are_refused_at_planning(
    server: Recorded, rocket: Path, tmp_path: Path, where: str
) -> None:
    given = {"gamma": [0.0, 1.0]} if where == "axis" else {"gamma": 1.0}
    with pytest.raises(SpecError, match=f"gamma: {APP} has no such field. It takes motion_bucket_id"):
        sl.sweep(sl.load(APP), image=rocket, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_metrics_that_need_an_encoder_are_refused_at_planning(server: Recorded, rocket: Path, tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="clip_temporal needs the model's image encoder"):
        sl.sweep(sl.load(APP), image=rocket, out=tmp_path / "run", metrics=["flow_mean", "clip_temporal"])


def test_measuring_a_batch_is_refused_because_it_is_paid_for(server: Recorded, rocket: Path, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="measuring would spend paid calls"):
        sl.sweep(sl.load(APP), image=rocket, out=tmp_path / "run", batch="auto", metrics=[])
    assert server.seen == []


def test_a_batch_is_under_way_together_and_fails_one_by_one(server: Recorded, rocket: Path, tmp_path: Path) -> None:
    server.job(submit=(server.taken(), answer(404, {"detail": "Application not found"}), server.taken()))
    swept = sl.sweep(
        sl.hosted.load(APP, concurrency=1), image=rocket, out=tmp_path / "run", seed=[0, 1, 2, 3], metrics=[], batch=4,
        progress=False,
    )  # fmt: skip
    assert sorted(swept.frame()["status"]) == ["done", "done", "done", "failed"]
    assert len(server.submissions) == 4  # the batch was not tried again in halves
    assert "no such endpoint" in swept.frame().set_index("status")["error"]["failed"]


def test_a_refused_key_ends_the_sweep_and_leaves_its_cells_to_do(
    server: Recorded, rocket: Path, tmp_path: Path
) -> None:
    server.job(submit=(server.taken(), answer(401, {"detail": "invalid key credentials"})))
    call = {"image": rocket, "out": tmp_path / "run", "seed": [0, 1, 2], "metrics": [], "progress": False}
    with pytest.raises(EndpointError, match="the key was not accepted"):
        sl.sweep(sl.load(APP), **call)
    counts = sl.open_sweep(tmp_path / "run").status()
    assert (counts["done"], counts["failed"], counts["pending"]) == (1, 0, 2)
    server.job()
    assert sl.sweep(sl.load(APP), **call).status()["done"] == 3
    assert [sent["seed"] for sent in server.submissions] == [0, 1, 1, 2]


def test_calls_that_run_out_end_the_sweep(server: Recorded, rocket: Path, tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="max_calls = 2"):
        sl.sweep(
            sl.hosted.load(APP, max_calls=2), image=rocket, out=tmp_path / "run", seed=[0, 1, 2], metrics=[],
            progress=False,
        )  # fmt: skip
    assert sl.open_sweep(tmp_path / "run").status()["done"] == 2


def test_on_the_command_line(server: Recorded, rocket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rocket.parent)
    made = CliRunner().invoke(app, ["generate", "rocket.png", "-o", "rocket.mp4", "-m", APP, "--seed", "42"])
    assert made.exit_code == 0, made.output
    assert "25 frames, 64x64, 10 fps, seed 42" in made.output
    assert read_video("rocket.mp4").frames.shape == (25, 64, 64, 3)
    Path("hosted.toml").write_text(SPEC)
    swept = CliRunner().invoke(app, ["sweep", "hosted.toml"])
    assert swept.exit_code == 0, swept.output
    assert len(server.submissions) == 4


def test_explain_diff_and_report_read_it(server: Recorded, rocket: Path, tmp_path: Path) -> None:
    call = {"image": rocket, "seed": [42], "steps": [1, 2], "metrics": ["flow_mean"], "progress": False}
    one = sl.sweep(sl.load(APP), out=tmp_path / "one", **call)
    two = sl.sweep(sl.load(APP, revision="june"), out=tmp_path / "two", **call)
    explained = str(one.explain(one.frame()["cell"][0]))
    assert APP in explained
    assert "reinjected" not in explained  # no noise stream of ours
    difference = one.diff(two)
    assert difference.latents == 0  # nothing to compare bit by bit
    assert "june" in str(difference)
    page = one.report(tmp_path / "report")
    assert APP in (page / "index.html" if page.is_dir() else page).read_text()


@pytest.mark.parametrize("decode", ["preview", "none"])
def test_frames_cannot_be_left_for_later(server: Recorded, rocket: Path, tmp_path: Path, decode: str) -> None:
    with pytest.raises(SpecError, match=f"decode = '{decode}': {APP} sends finished frames and no latents"):
        sl.sweep(sl.load(APP), image=rocket, out=tmp_path / "run", decode=decode, **GRID)
    assert not server.submissions

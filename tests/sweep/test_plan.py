"""Plan: what will happen, said before it does, and what it is judged by."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

import svdlab as sl
from svdlab.errors import SpecError, SweepError
from svdlab.request import Request
from svdlab.sweep import plan_spec, plan_text
from svdlab.sweep.calibrate import calibrate
from svdlab.sweep.cells import Cell
from svdlab.sweep.frame import COSTS
from svdlab.sweep.plan import check_disk
from svdlab.sweep.spec import make_spec
from tests.sweep.conftest import SMALL


@pytest.fixture
def spec(pictures):
    grid = {"steps": [1, 2, 4], "seed": [0, 1], "cond_aug": "0.0..0.2:0.1"}
    fixed = {**SMALL, "min_guidance": 1.0, "max_guidance": 3.0}
    return make_spec(name="first", images="*.png", base=pictures, grid=grid, fixed=fixed, metrics=["flow_mean"])


@pytest.fixture
def plan(spec, pipe, tmp_path):
    return plan_spec(spec, pipe=pipe, out=tmp_path / "run")


def test_a_plan_counts_cells_calls_and_bytes_and_makes_nothing(plan, tmp_path):
    assert (plan.total, plan.done, plan.failed, plan.todo, plan.others, plan.backfill) == (36, 0, 0, 36, 0, 0)
    assert plan.calls == 2 * 3 * 2 * (1 + 2 + 4) * 2  # pictures, cond_aug, seeds, steps, guidance
    assert plan.calls_made == 2 * 3 * 2 * (1 + 1 + 3) * 2  # the first call is that of all step counts
    assert 0.1 < plan.seconds < 600  # by a trial; only its order of magnitude is sure
    assert 0 < plan.bytes < 10e6 < plan.free
    assert not (tmp_path / "run").exists()


def test_a_plan_reads_as_text(plan, tmp_path):
    lines = dict(line.split("  ", 1) for line in plan.text().splitlines())
    shown = {name.strip(): text.strip() for name, text in lines.items()}
    assert shown["sweep"] == f"first -> {tmp_path / 'run'}"
    assert shown["model"] == "tiny-random (cpu, float32)"
    assert shown["image"] == "kite, rocket  (2)"
    assert shown["cond_aug"] == "0.0..0.2:0.1  (3)"
    assert shown["max_guidance"] == "3.0  (fixed)"
    assert shown["cells"] == "36 = 0 done, 36 to do"
    assert shown["denoiser calls"] == "120 instead of 168: what cells have in common is made once"
    assert shown["time"].endswith("judged by a trial of one step")
    assert "free" in shown["disk"]
    assert "random weights" in shown["note"]


def test_a_plan_shows_itself_to_rich_and_to_a_notebook(plan):
    plan = dataclasses.replace(plan, name="<b>", notes=("[red]not markup[/]",))
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(plan)
    console.file.close()
    shown = console.export_text()
    assert "36 = 0 done, 36 to do" in shown
    assert "[red]not markup[/]" in shown
    html = plan._repr_html_()
    assert "&lt;b&gt; -&gt;" in html
    assert html.count("<tr>") == len(plan.rows())


def test_a_trial_that_fails_leaves_the_time_open(spec, tmp_path):
    """The error is the cells' to report: a UNet without memory, by a hook on the real network."""
    pipe = sl.load("tiny-random", device="cpu")

    def no_memory(*args):
        raise torch.OutOfMemoryError("out of memory")

    pipe.components.unet.register_forward_pre_hook(no_memory)
    plan = plan_spec(spec, pipe=pipe, out=tmp_path / "run")
    assert plan.seconds is None
    assert "not known before the first cell" in plan.text()


def test_a_large_clip_is_tried_with_two_frames(pipe, spec, pictures):
    shapes = []
    handle = pipe.components.unet.register_forward_pre_hook(lambda module, args: shapes.append(args[0].shape))
    cell = Cell(
        key="",
        image="",
        label="",
        settings=Request(image="", num_frames=14, width=192, height=192, seed=0).resolve(pipe.defaults).settings(),
    )
    image = Image.open(pictures / "rocket.png")
    rates = calibrate(cell, image, ("flow_mean",), pipe)
    handle.remove()
    assert [shape[1] for shape in shapes] == [2, 2]
    assert rates.seconds([cell]) == pytest.approx(14 * 192**2 * (4 * rates.call + rates.rest))
    assert len(pipe._cache) == 0


def test_time_and_size_are_judged_by_what_is_done(spec, pipe, tmp_path):
    part = dataclasses.replace(
        spec, grid=make_spec(images=spec.images, grid={"steps": [1, 2], "seed": 0}, fixed=spec.grid.fixed).grid
    )
    done = sl.sweep.run_spec(part, pipe=pipe, out=tmp_path / "run", progress=False)
    plan = plan_spec(spec, pipe=pipe, out=tmp_path / "run")
    assert plan.others == 4  # their cond_aug is the default
    frame = done.frame()
    mean = frame["seconds"].mean()
    assert mean * 36 / 4 < plan.seconds < mean * 36 * 20
    assert "judged by the cells that are done" in plan.text()
    files = [path.stat().st_size for path in (tmp_path / "run" / "cells").rglob("*.*") if path.name != "manifest.json"]
    assert plan.bytes == pytest.approx(sum(files) / 4 * 36)


def test_what_does_not_fit_on_the_disk_is_refused(plan):
    check_disk(plan)
    with pytest.raises(SweepError, match=r"about .* are needed and 10 B are free\. Free some space"):
        check_disk(dataclasses.replace(plan, free=10))


@pytest.mark.parametrize(("seconds", "text"), [(12.3, "about 12 s"), (600, "about 10 min"), (7500, "about 2 h 05 min")])
def test_durations(plan, seconds, text):
    assert text in dataclasses.replace(plan, seconds=seconds).text()


@pytest.mark.parametrize(("count", "text"), [(12e3, "12 kB"), (3.21e9, "3.21 GB"), (4.5e12, "4.5 TB")])
def test_sizes(plan, count, text):
    assert f"about {text}," in dataclasses.replace(plan, bytes=count).text()


def test_failed_cells_backfills_and_nothing_to_do(plan):
    text = dataclasses.replace(plan, failed=2, backfill=3, todo=0).text()
    assert "0 done, 2 failed, 0 to do" in text
    assert "3 finished cells get metrics" in text
    assert "nothing to compute" in text


def test_a_file_is_planned_with_its_own_model(tmp_path, pictures, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "first.toml"
    path.write_text('model = "tiny-random"\nimages = "pictures/*.png"\nmetrics = []\n[grid]\nsteps = [1, 2]\n')
    text = plan_text(path, device="cpu")
    assert "first -> runs/first" in text
    assert "4 = 0 done, 4 to do" in text
    assert plan_spec(path, device="cpu", dtype="float32").total == 4
    assert not (tmp_path / "runs").exists()


def test_a_spec_without_a_model_needs_a_pipeline(spec, tmp_path):
    with pytest.raises(SpecError, match="names none; give its name, or pass pipe="):
        plan_spec(spec, out=tmp_path / "run")


def test_the_quickstart_is_a_sweep_that_can_run(tmp_path):
    path = Path(__file__).parents[2] / "experiments" / "quickstart.toml"
    plan = plan_spec(path, out=tmp_path / "run", device="cpu")
    assert (plan.name, plan.model, plan.todo) == ("quickstart", "tiny", 72)
    assert plan.axes["image"] == ("fish", "rocket")
    compared = {name for name in sl.metrics.names() if "reference" in sl.metrics.get(name).needs}
    assert set(plan.metrics) == set(sl.metrics.names()) - set(COSTS) - compared  # the default: all but these

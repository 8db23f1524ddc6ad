"""Shards: several run directories as one, with nothing lost, mixed up or computed again."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

import svdlab as sl
from svdlab.cli import app
from svdlab.errors import SweepError
from svdlab.sweep import artifacts, merge_runs
from svdlab.sweep.ledger import Ledger
from tests.sweep.conftest import QUIET, SMALL


@pytest.fixture(scope="module")
def shards(pipe, tmp_path_factory):
    """Two halves of one grid, one fixed seed each, all done; and the picture that they have in common."""
    folder = tmp_path_factory.mktemp("shards")
    picture = sl.examples.path("kite")
    for seed in (0, 1):
        out = folder / f"part-{seed}"
        sl.sweep(pipe, image=picture, steps=[1, 2], seed=seed, out=out, **QUIET, **SMALL)
    return folder


@pytest.fixture
def parts(shards, tmp_path):
    """Copies that may be changed."""
    shutil.copytree(shards, tmp_path, dirs_exist_ok=True)
    return [tmp_path / "part-0", tmp_path / "part-1"]


def change(folder, cell: str, edit) -> None:
    path = folder / artifacts.cell_path(cell) / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def test_halves_become_the_whole_which_opens_reports_and_goes_on(parts, pipe, tmp_path):
    before = {path: path.read_bytes() for part in parts for path in part.rglob("*") if path.is_file()}
    merged = merge_runs(parts, tmp_path / "whole", progress=False)
    assert (merged.runs, merged.added, merged.cells, merged.failed, merged.pending) == (2, 4, 4, 0, 0)
    whole = sl.open_sweep(tmp_path / "whole")
    assert whole.axes == {"seed": (0, 1), "steps": (1, 2)}
    frame = whole.frame()
    columns = list(frame.columns)
    rows = pd.concat([sl.open_sweep(part).frame() for part in parts])[columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(frame, rows)
    assert pd.read_parquet(whole.path / "results.parquet")["cell"].tolist() == frame["cell"].tolist()
    assert whole.clip(frame["cell"][3]).frames.shape == (2, 32, 32, 3)
    whole.report(tmp_path / "report")
    assert frame["cell"][0] in (tmp_path / "report" / "index.html").read_text()

    again = sl.sweep.run_spec(whole.path, pipe=pipe, progress=False)  # what the stored spec declares is all there
    assert (again.plan.done, again.plan.todo) == (4, 0)
    assert sl.sweep.repair(whole.path, progress=False).ledger is None
    assert {path: path.read_bytes() for path in before} == before  # the runs were only read


def test_called_again_it_adds_what_is_new_and_takes_the_decoded_one(parts, pipe, tmp_path):
    out = tmp_path / "whole"
    call = {"image": sl.examples.path("kite"), "steps": [2, 3], "seed": 1, "out": tmp_path / "late"}
    late = sl.sweep(pipe, decode="none", **call, **QUIET, **SMALL)
    first = merge_runs([parts[0], late.path], out, progress=False)
    assert (first.added, first.pending) == (4, 2)  # seed 0 with 3 steps and seed 1 with 1 are in none
    shared = late.frame()["cell"][0]
    assert pd.isna(sl.open_sweep(out).frame().set_index("cell").loc[shared, "video"])

    second = merge_runs(parts, out, progress=False)
    assert (second.added, second.cells, second.pending) == (1, 5, 1)
    assert sl.open_sweep(out).clip(shared).frames.shape == (2, 32, 32, 3)
    assert merge_runs(parts, out, progress=False).added == 0
    done = sl.sweep.run_spec(out, pipe=pipe, progress=False)
    assert (done.plan.todo, done.plan.to_decode) == (1, 1)
    assert set(done.frame()["status"]) == {"done"}


def test_failed_and_open_cells_come_along(parts, tmp_path):
    cells = list(sl.open_sweep(parts[1]).frame()["cell"])
    with Ledger(parts[1], write=True) as ledger:
        ledger.fail(cells[0], error_type="ModelError", error="not finite", traceback="")
        ledger.release([cells[1]])
    for cell in cells:
        shutil.rmtree(parts[1] / artifacts.cell_path(cell))
    merged = merge_runs(parts, tmp_path / "whole", progress=False)
    assert (merged.cells, merged.failed, merged.pending) == (2, 1, 1)
    frame = sl.open_sweep(merged.path).frame().set_index("cell")
    assert frame.loc[cells[0], "error"] == "ModelError: not finite"
    assert frame.loc[cells[1], "status"] == "pending"


def test_what_is_cut_short_goes_on(parts, tmp_path):
    out = tmp_path / "whole"
    last = sorted(cell for part in parts for cell in sl.open_sweep(part).frame()["cell"])[-1]
    shelf = out / artifacts.cell_path(last)[:8]
    shelf.parent.mkdir(parents=True)
    shelf.write_text("in the way")
    with pytest.raises(SweepError, match=r"whole: cannot be written \(File exists\)"):
        merge_runs(parts, out, progress=False)
    assert 0 < sl.open_sweep(out).status()["pending"] <= 4
    shelf.unlink()
    merged = merge_runs(parts, out, progress=False)
    assert (merged.cells, merged.pending) == (4, 0)
    assert not list(out.rglob(".tmp-*"))


def other_latents(manifest):
    manifest["files"]["latents.safetensors"]["sha256"] = "0" * 64


def newer_metric(manifest):
    manifest["metrics"]["flow_mean"]["version"] += 1


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (other_latents, r"cell \w+: has other latents in .*copy than in .*part-0\. Devices"),
        (newer_metric, r"copy: holds flow_mean of version \d+, and .*part-0 of version \d+\. Sweep\.backfill"),
        (lambda manifest: manifest.update(cell="0" * 16), r"belongs to another cell\. `svdlab repair .*copy` takes"),
    ],
)
def test_what_contradicts_is_refused_and_nothing_written(parts, tmp_path, edit, message):
    copy = shutil.copytree(parts[0], tmp_path / "copy")
    change(copy, sl.open_sweep(copy).frame()["cell"][1], edit)
    with pytest.raises(SweepError, match=message):
        merge_runs([parts[0], copy], tmp_path / "whole", progress=False)
    assert not (tmp_path / "whole").exists()


def test_other_weights_are_refused(parts, tmp_path):
    with Ledger(parts[1], write=True) as ledger:
        spec = ledger.declaration()
        ledger.begin(host="", pid=0, versions={})
        spec["described"]["fingerprint"] = "0" * 16 + "-fp16"
        ledger.declare([], [], [], spec)
    with pytest.raises(SweepError, match=r"part-1: its model has the fingerprint 0{16}-fp16, and that of .*part-0"):
        merge_runs(parts, tmp_path / "whole", progress=False)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], r"runs: there are none"),
        (["part-0", "part-0/../part-0"], r"is listed twice"),
        (["part-0", "whole"], r"out = .*whole: is one of the runs"),
        (["part-0", "nowhere"], r"nowhere: is not the directory of a sweep"),
    ],
)
def test_what_makes_no_sense_is_refused(parts, tmp_path, runs, message):
    with pytest.raises(SweepError, match=message):
        merge_runs([tmp_path / run for run in runs], tmp_path / "whole", progress=False)
    with pytest.raises(SweepError, match=r"runs = .*: must be a list"):
        merge_runs(str(parts[0]), tmp_path / "whole")


def test_the_command(parts, tmp_path):
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, ["merge", *map(str, parts), "--out", str(tmp_path / "whole")])
    assert result.exit_code == 0, result.output
    assert "4 finished cells of 2 runs, 4 of them new" in result.stdout

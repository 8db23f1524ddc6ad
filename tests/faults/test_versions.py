"""Run directories of other versions: older ones open and go on, newer ones are refused and left as they are."""

from __future__ import annotations

import json
import sqlite3

import pandas as pd
import pytest
from typer.testing import CliRunner

import svdlab as sl
from svdlab.cli import app
from svdlab.errors import NewerError, SweepError
from svdlab.files import sha256_file
from svdlab.sweep.artifacts import MANIFEST, cell_path
from svdlab.sweep.ledger import FILE
from svdlab.sweep.repair import ASIDE

ADDED = ("key_version", "noise_streams", "machine", "batch", "low_memory")  # to manifests, since the first ones


def content(run):
    """Every file and its hash, but for the lock, which says nothing when nobody holds it."""
    return {str(path.relative_to(run)): sha256_file(path) for path in run.rglob("*") if path.is_file()} | {"lock": ""}


def change(run, statement):
    db = sqlite3.connect(run / FILE)
    with db:
        db.execute(statement)
    db.close()


def test_a_directory_of_the_first_version_opens_and_goes_on(run, finished, sweep_in):
    change(run, "DROP TABLE against")
    for key in sl.open_sweep(finished).frame()["cell"]:
        path = run / cell_path(key) / MANIFEST
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in manifest.items() if name not in ADDED}))
    pd.testing.assert_frame_equal(sl.open_sweep(run).frame(), sl.open_sweep(finished).frame())
    more = sweep_in(run, seed=[0, 1, 2])
    assert (more.plan.done, more.plan.todo, more.status()["done"]) == (4, 2, 6)
    assert not sl.sweep.repair(run, progress=False).lost
    (run / FILE).unlink()
    again = sweep_in(run, seed=[0, 1, 2])
    assert (again.plan.done, again.plan.todo) == (6, 0)


@pytest.mark.parametrize(("version", "kind", "age"), [(2, NewerError, "a newer svdlab"), (-1, SweepError, "no svdlab")])
def test_a_ledger_of_another_version_is_refused_and_left_as_it_is(run, sweep_in, version, kind, age):
    change(run, f"PRAGMA user_version = {version}")
    before = content(run)
    for work in (sl.open_sweep, sweep_in, lambda path: sl.sweep.repair(path, progress=False)):
        with pytest.raises(kind, match=f"schema version {version}, of {age}; .*Nothing was changed"):
            work(run)
    assert content(run) == before


def test_a_cell_of_a_newer_version_is_neither_damage_nor_computed_again(run, sweep_in):
    key = sl.open_sweep(run).frame()["cell"][0]
    path = run / cell_path(key) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
    with pytest.raises(NewerError, match="its manifest has version 2, of a newer svdlab"):
        sl.sweep.repair(run, progress=False)
    (run / FILE).unlink()
    with pytest.raises(NewerError, match="its manifest has version 2, of a newer svdlab"):
        sweep_in(run)
    assert path.exists()
    assert not (run / ASIDE).exists()


def test_values_taken_out_of_a_spec_stay_and_are_marked_and_added_ones_run(run, sweep_in):
    edited = sweep_in(run, seed=[1, 2])
    assert (edited.plan.done, edited.plan.todo, edited.plan.others) == (2, 2, 2)
    assert "2 more of earlier declarations stay in the directory" in str(edited.plan)
    assert set(edited.frame()["seed"]) == {1, 2}
    every = edited.frame(all=True)
    assert sorted(every["seed"]) == [0, 0, 1, 1, 2, 2]
    assert set(every["status"]) == {"done"}
    assert set(every[~every["declared"]]["seed"]) == {0}
    assert set(every[every["declared"]]["cell"]) == set(edited.frame()["cell"])
    said = CliRunner().invoke(app, ["status", str(run)])
    assert said.exit_code == 0
    assert "2 more cells of earlier declarations stay here: Sweep.frame(all=True) marks them" in said.output
    assert sweep_in(run).plan.todo == 0  # and are there when they come back


def test_weights_that_changed_under_the_same_name_are_other_cells_and_the_plan_says_so(run, home):
    pipe = sl.load("tiny-random", device="cpu")
    object.__setattr__(pipe.components, "fingerprint", "0123456789abcdef-fp32")  # what other bytes would have
    from tests.sweep.conftest import QUIET, SMALL

    call = {"image": home / "pictures" / "rocket.png", "steps": [1], "seed": [0], "name": "four"}
    other = sl.sweep(pipe, out=run, **{**call, **QUIET, **SMALL})
    assert (other.plan.done, other.plan.todo) == (0, 1)
    assert "4 finished cells belong to other weights (or another precision) of 'tiny-random'" in str(other.plan)
    assert len(other.frame(all=True)) == 5


def test_repair_and_regenerate_are_functions_whatever_was_imported_before():
    import svdlab.sweep.regenerate
    import svdlab.sweep.repair  # noqa: F401

    assert callable(sl.sweep.repair)
    assert callable(sl.sweep.regenerate)

"""A ledger or cells that were damaged: `svdlab repair` brings back what is whole, and says what it could not save."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import svdlab as sl
from svdlab.cli import app
from svdlab.errors import SvdlabError, SweepError
from svdlab.sweep.artifacts import cell_path
from svdlab.sweep.frame import COSTS
from svdlab.sweep.ledger import FILE, Ledger
from svdlab.sweep.repair import ASIDE, repair
from svdlab.sweep.spec import make_spec
from svdlab.sweep.writing import writing
from tests.sweep.conftest import SMALL


def table(folder) -> pd.DataFrame:
    return sl.open_sweep(folder).frame()


def restore(run, **options):
    return repair(run, progress=False, **options)


def truncate(path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def scramble(path) -> None:
    """Other bytes from the second page on: the file still opens, and its tables are gone."""
    data = bytearray(path.read_bytes())
    data[4096:] = np.random.default_rng(0).bytes(len(data) - 4096)
    path.write_bytes(data)


DAMAGE = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: truncate(path, 0.5),
    "cut in its header": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "scrambled": scramble,
    "another file": lambda path: path.write_text("not a database, but a text\n" * 500, encoding="utf-8"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_lost_ledger_comes_back_with_every_finished_cell(run, finished, sweep_in, kind):
    DAMAGE[kind](run / FILE)
    if kind != "missing":
        with pytest.raises(SweepError, match="svdlab repair"):
            table(run)
    repaired = restore(run)
    assert repaired.ledger.startswith({"missing": "is missing", "empty": "is empty"}.get(kind, "is damaged"))
    assert (len(repaired.whole), repaired.damaged, repaired.pending) == (4, {}, 0)
    pd.testing.assert_frame_equal(table(run), table(finished))  # costs too: they are in the manifests
    assert (run / ASIDE / FILE).exists() == (kind != "missing")
    again = sweep_in(run)
    assert (again.plan.done, again.plan.todo) == (4, 0)


def test_a_directory_that_is_whole_stays_as_it_is(run, finished):
    repaired = restore(run)
    assert str(repaired) == f"{run}: 4 finished cells are whole\nlost: nothing"
    assert not (run / ASIDE).exists()
    pd.testing.assert_frame_equal(table(run), table(finished))
    with Ledger(run) as ledger:
        assert [row["how"] for row in ledger.runs()] == ["finished", "repaired"]


@pytest.mark.parametrize("name", ["clip.mp4", "latents.safetensors", "thumb.jpg", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_partial_or_changed_file_costs_its_cell_alone(run, finished, sweep_in, name, damage):
    key = table(run)["cell"][1]
    path = run / cell_path(key) / name
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
    path.write_bytes(data[:middle] if damage == "cut" else flipped)
    repaired = restore(run)
    assert list(repaired.damaged) == [key]
    assert (len(repaired.whole), repaired.pending) == (3, 1)
    assert repaired.lost == (f"cell {key}, to be computed again",)
    assert (run / ASIDE / key / name).stat().st_size == path.stat().st_size if path.exists() else True
    assert sweep_in(run).plan.todo == 1
    costs = list(COSTS)
    pd.testing.assert_frame_equal(table(run).drop(columns=costs), table(finished).drop(columns=costs))


def test_failed_and_pending_cells_come_back_where_the_old_ledger_can_be_read(run, sweep_in):
    keys = list(table(run)["cell"])
    for key in keys[2:]:
        shutil.rmtree(run / cell_path(key))
    with writing(run) as ledger:
        ledger.start(keys[3])
        ledger.fail(keys[3], error_type="ValueError", error="no luck", traceback="Traceback: there")
    with sqlite3.connect(run / FILE) as db:  # some other table is gone
        db.execute("DROP TABLE event")
    db.close()
    with pytest.raises(SweepError, match=r"is damaged \(no such table: event\)"), Ledger(run) as ledger:
        ledger.events()
    before = table(run)
    repaired = restore(run)
    assert repaired.ledger == "is damaged (it has no table event)"
    assert (repaired.failed, repaired.pending) == (1, 1)
    pd.testing.assert_frame_equal(table(run), before)
    assert sl.open_sweep(run).traceback(keys[3]) == "Traceback: there"
    assert sweep_in(run).plan.todo == 1


def test_lengths_that_decide_other_settings_are_told_apart(sweep_in, tmp_path):
    """`decode_chunk` follows from `num_frames`: a cell to do is named only if a cell of its length is known."""
    folder = tmp_path / "lengths"
    call = {"num_frames": [2, 3], "steps": 1, "metrics": []}
    before = sweep_in(folder, **call).frame()
    two, three = (before.loc[before["num_frames"] == count, "cell"].tolist() for count in (2, 3))
    (folder / FILE).unlink()
    shutil.rmtree(folder / cell_path(two[0]))
    assert (restore(folder).pending, list(table(folder)["cell"])) == (1, list(before["cell"]))
    (folder / FILE).unlink()
    for key in three:
        shutil.rmtree(folder / cell_path(key))
    repaired = restore(folder)
    assert "names of 2 cells that are to do" in repaired.lost[-1]
    assert repaired.pending == 1
    again = sweep_in(folder, **call)
    assert again.plan.todo == 3
    pd.testing.assert_frame_equal(again.frame()[["cell", "status"]], before[["cell", "status"]])


def test_a_stored_spec_that_is_damaged_too_loses_the_list_and_no_cell(run, sweep_in):
    (run / FILE).unlink()
    (run / "spec.json").write_text("{", encoding="utf-8")
    repaired = restore(run)
    assert len(repaired.whole) == 4
    assert "what was declared (spec.json: JSONDecodeError" in repaired.lost[-1]
    assert sweep_in(run).plan.todo == 0


def test_a_drawn_seed_that_is_lost_is_not_drawn_anew(pipe, home, tmp_path):
    folder = tmp_path / "drawn"
    spec = make_spec(images=home / "pictures" / "kite.png", grid={}, fixed={**SMALL, "steps": 1}, metrics=[])
    sl.sweep.run_spec(spec, out=folder, pipe=pipe, progress=False)
    (folder / FILE).unlink()
    (folder / "spec.json").write_text("[]", encoding="utf-8")
    with pytest.raises(SweepError, match=r"spec\.json: cannot be read .*the seed that was drawn"):
        sl.sweep.run_spec(spec, out=folder, pipe=pipe, progress=False)


def test_another_schema_version_is_not_damage(run):
    with sqlite3.connect(run / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SweepError, match="schema version 99"):
        restore(run)
    assert not (run / ASIDE).exists()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(SweepError, match="is not the directory of a sweep"):
        restore(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_being_written_is_refused(run):
    with writing(run), pytest.raises(SweepError, match="is writing there"):
        restore(run)


def test_the_command_says_what_it_did_and_ends_with_1_if_something_is_lost(run):
    runner = CliRunner()
    whole = runner.invoke(app, ["repair", str(run)])
    assert (whole.exit_code, whole.stdout) == (0, f"{run}: 4 finished cells are whole\nlost: nothing\n")
    key = table(run)["cell"][0]
    truncate(run / cell_path(key) / "clip.mp4", 0.5)
    damaged = runner.invoke(app, ["repair", str(run)])
    assert damaged.exit_code == 1
    assert f"cell {key}: is not a whole cell" in damaged.stdout or "clip.mp4 is not of the size" in damaged.stdout
    assert "to do: 1 cells; the same sweep command goes on" in damaged.stdout


@pytest.mark.parametrize("text", [b"CREATE TABLE cells", b"CREATE INDEX"])
def test_text_that_is_no_text_is_damage(finished, tmp_path, text):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    content = bytearray((run / FILE).read_bytes())
    found = [match.start() for match in re.finditer(re.escape(text), content)] or [content.index(b"CREATE TABLE")]
    for where in found:
        content[where + 8 : where + 24] = b"\xff" * 16
    (run / FILE).write_bytes(content)
    with pytest.raises(SweepError, match="is damaged"):
        table(run)
    assert len(restore(run).whole) == 4
    pd.testing.assert_frame_equal(table(run), table(finished))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_the_ledger_shows_an_error_of_the_database_or_loses_a_cell(finished, tmp_path, data):
    run = tmp_path / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(finished, run)
    content = bytearray((run / FILE).read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    length = data.draw(st.sampled_from([1, 16, 512, 4096]))
    content[where : where + length] = data.draw(st.sampled_from([b"", b"\0", b"\xff"])) * min(
        length, len(content) - where
    )
    (run / FILE).write_bytes(content)
    with contextlib.suppress(SvdlabError):  # anything else is an error of this test
        table(run)
    try:
        repaired = restore(run)
    except SweepError as error:  # the damage hit the number of the schema version
        if "schema version" not in str(error):
            raise
        return
    assert len(repaired.whole) == 4
    pd.testing.assert_frame_equal(table(run), table(finished))

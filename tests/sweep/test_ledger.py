"""Ledger: states, transactions, readers beside a writer, and what a crash leaves behind; on real files."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path

import pytest

from svdlab.errors import SweepError
from svdlab.files import sha256_bytes
from svdlab.request import Defaults, Request
from svdlab.sweep.artifacts import cell_path, read_manifest, store, stored_keys
from svdlab.sweep.keys import canonical_json, cell_key
from svdlab.sweep.ledger import FILE, SCHEMA_VERSION, Ledger
from svdlab.sweep.writing import writing

MODEL = {"name": "toy", "fingerprint": "f" * 16, "device": "cpu"}
IMAGE = {"digest": "d" * 64, "label": "rocket"}
DEFAULTS = Defaults(num_frames=2, width=16, height=16)


def manifest(seed: int, *, value: float | None = 1.5) -> dict:
    """A manifest as a run writes it, of the cell with this seed."""
    settings = Request(image="x", seed=seed).resolve(DEFAULTS).settings()
    metrics = {"flow_mean": {"value": value, "version": 1, "source": "memory", "error": None}}
    return {
        "schema": 1,
        "cell": cell_key(settings, image=IMAGE["digest"], model=MODEL["fingerprint"]),
        "request": settings,
        "image": IMAGE,
        "model": MODEL,
        "metrics": metrics,
        "seconds": {"condition": 0.1, "denoise": 0.2, "decode": 0.3, "total": 0.6},
        "seconds_spent": 0.5,
        "elapsed": 0.7,
        "vram_peak_mb": None,
        "attempt": 1,
        "timing": "shared",
        "finished": "2026-01-01T00:00:00.000+00:00",
        "files": {"thumb.jpg": {"bytes": 3, "sha256": sha256_bytes(b"abc")}},
    }


FILES = {"thumb.jpg": b"abc"}
KEYS = [manifest(seed)["cell"] for seed in range(4)]


def declare(ledger: Ledger, seeds=range(4)) -> None:
    rows = [
        {
            "key": manifest(seed)["cell"],
            "image": IMAGE["digest"],
            "settings": canonical_json(manifest(seed)["request"]),
            "model": MODEL["name"],
            "fingerprint": MODEL["fingerprint"],
        }
        for seed in seeds
    ]
    known = ledger.states()
    new = [row for row in rows if row["key"] not in known]
    ledger.declare(
        [row["key"] for row in rows],
        new,
        [(IMAGE["digest"], IMAGE["label"], "../rocket.png")],
        {"name": "toy", "seed": None},
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with four pending cells."""
    with writing(tmp_path) as ledger:
        declare(ledger)
    return tmp_path


def states(folder: Path) -> list[str]:
    with Ledger(folder) as ledger:
        return [ledger.states()[key] for key in KEYS]


def events(folder: Path) -> list[tuple[int, str]]:
    with Ledger(folder) as ledger:
        return [(KEYS.index(row["cell"]), row["what"]) for row in ledger.events()]


def test_a_cell_goes_from_pending_to_done(run):
    with writing(run) as ledger:
        assert ledger.start(KEYS[1]) == 1
        assert ledger.counts() == {"pending": 3, "running": 1, "done": 0, "failed": 0, "skipped": 0}
        store(run, manifest(1), FILES)
        ledger.finish(manifest(1))
    with Ledger(run) as ledger:
        row = dict(ledger.cell(KEYS[1]))
        assert [dict(metric) for metric in ledger.metrics(KEYS[1])] == [
            {"cell": KEYS[1], "name": "flow_mean", "value": 1.5, "version": 1, "source": "memory", "error": None}
        ]
    assert {name: row[name] for name in ("status", "attempt", "position", "seconds", "seconds_spent", "bytes")} == {
        "status": "done",
        "attempt": 1,
        "position": 1,
        "seconds": 0.6,
        "seconds_spent": 0.5,
        "bytes": 3,
    }
    assert events(run) == [(1, "started"), (1, "done")]


def test_failed_stays_failed_until_it_is_tried_again(run):
    with writing(run) as ledger:
        ledger.start(KEYS[0])
        ledger.fail(KEYS[0], error_type="ValueError", error="no", traceback="Traceback ...")
    assert states(run)[0] == "failed"
    with writing(run) as ledger:
        declare(ledger)
        assert ledger.cell(KEYS[0])["traceback"] == "Traceback ..."
        assert ledger.start(KEYS[0]) == 2
        store(run, manifest(0), FILES)
        ledger.finish(manifest(0))
        row = ledger.cell(KEYS[0])
        assert (row["status"], row["error_type"], row["error"], row["traceback"]) == ("done", None, None, None)


def test_a_block_is_all_or_nothing(run):
    with writing(run) as ledger:
        broken = {**manifest(0), "metrics": {"flow_mean": {"value": 1.0}}}  # lacks what is written last
        with pytest.raises(KeyError):
            ledger.finish(broken)
        assert ledger.states()[KEYS[0]] == "pending"
        assert ledger.metrics() == []
        assert ledger.events() == []


def test_a_new_declaration_keeps_what_is_done_and_sets_the_order(run):
    with writing(run) as ledger:
        for seed in (0, 3):
            ledger.start(KEYS[seed])
            store(run, manifest(seed), FILES)
            ledger.finish(manifest(seed))
        declare(ledger, seeds=(3, 5, 2))
        shown = [(row["key"], row["status"]) for row in ledger.cells()]
        assert shown == [(KEYS[3], "done"), (manifest(5)["cell"], "pending"), (KEYS[2], "pending")]
        assert {row["key"] for row in ledger.cells(declared=False)[3:]} == {KEYS[0], KEYS[1]}
        assert ledger.counts()["done"] == 1


def test_readers_see_one_view_while_a_writer_writes(run):
    with writing(run) as writer, Ledger(run) as reader:
        with reader.transaction():
            before = reader.states()
            writer.start(KEYS[0])
            assert reader.states() == before
        assert reader.states()[KEYS[0]] == "running"


def test_reading_goes_on_in_another_thread_while_cells_are_finished(run):
    """A reader never sees a cell that is done without its metric."""
    seen, stop = [], threading.Event()

    def read() -> None:
        while not stop.is_set():
            with Ledger(run) as ledger, ledger.transaction():
                done = {key for key, status in ledger.states().items() if status == "done"}
                seen.append((len(done), {row["cell"] for row in ledger.metrics()} == done))

    thread = threading.Thread(target=read)
    with writing(run) as ledger:
        thread.start()
        for seed in range(4, 60):
            declare(ledger, seeds=[seed])
            ledger.start(manifest(seed)["cell"])
            ledger.finish(manifest(seed))
        stop.set()
        thread.join(timeout=60)
    assert len(seen) > 1
    assert all(whole for _, whole in seen)
    assert [count for count, _ in seen] == sorted(count for count, _ in seen)


def test_a_reader_cannot_write(run):
    with Ledger(run) as ledger, pytest.raises(sqlite3.OperationalError, match="readonly"):
        ledger.start(KEYS[0])


def test_a_closed_ledger_is_one_plain_file(run):
    assert sorted(path.name for path in run.iterdir()) == [FILE, "lock"]
    with Ledger(run) as ledger:
        assert ledger.states()
    assert sorted(path.name for path in run.iterdir()) == [FILE, "lock"]


# What a crash leaves behind. The moments are those between two steps of storing a cell.


def crash(folder: Path, work) -> None:
    """Do `work` with an open ledger and then stop as a killed process does: nothing is closed or undone."""
    ledger = Ledger(folder, write=True)
    ledger.begin(host="gone", pid=1, versions={})
    work(ledger)
    ledger._db.close()


def test_killed_before_anything_was_written(run):
    crash(run, lambda ledger: ledger.start(KEYS[2]))
    assert states(run)[2] == "running"
    with writing(run) as ledger:
        assert ledger.states()[KEYS[2]] == "pending"
        assert ledger.start(KEYS[2]) == 2
    assert events(run)[:2] == [(2, "started"), (2, "released")]


def test_killed_while_files_were_written(run):
    def work(ledger: Ledger) -> None:
        ledger.start(KEYS[2])
        tmp = run / "cells" / f".tmp-{KEYS[2]}-00"
        tmp.mkdir(parents=True)
        (tmp / "clip.mp4").write_bytes(b"half")
        (run / ".tmp-00-results.csv").write_bytes(b"half")

    crash(run, work)
    with writing(run) as ledger:
        assert ledger.states()[KEYS[2]] == "pending"
    assert not list(run.rglob(".tmp-*"))


def test_killed_between_moving_the_folder_and_the_commit(run):
    def work(ledger: Ledger) -> None:
        ledger.start(KEYS[2])
        store(run, manifest(2), FILES)

    crash(run, work)
    assert states(run)[2] == "running"
    with writing(run) as ledger:
        adopted = dict(ledger.cell(KEYS[2]))
    assert adopted["status"] == "done"
    assert events(run) == [(2, "started"), (2, "adopted")]
    # The adopted row is the one that an unbroken run would have written.
    with writing(run) as ledger:
        ledger.finish(manifest(2))
        assert dict(ledger.cell(KEYS[2])) == adopted


def test_killed_inside_a_transaction(run):
    def work(ledger: Ledger) -> None:
        ledger.start(KEYS[2])
        store(run, manifest(2), FILES)
        ledger._db.execute("BEGIN IMMEDIATE")
        ledger._db.execute("UPDATE cell SET status = 'done' WHERE key = ?", (KEYS[2],))  # and no commit

    crash(run, work)
    assert states(run)[2] == "running"
    with writing(run) as ledger:
        assert ledger.states()[KEYS[2]] == "done"
        assert len(ledger.metrics(KEYS[2])) == 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda place: (place / "manifest.json").unlink(), "FileNotFoundError"),
        (lambda place: (place / "manifest.json").write_text("{"), "JSONDecodeError"),
        (lambda place: (place / "manifest.json").write_text("[]"), "TypeError"),
        (lambda place: (place / "manifest.json").write_text('{"schema": 0}'), "version 0"),
        (lambda place: (place / "thumb.jpg").write_bytes(b"abcd"), "thumb.jpg is not of the size"),
        (lambda place: (place / "thumb.jpg").unlink(), "FileNotFoundError"),
        (lambda place: _edit(place, seed=77), "belongs to another cell"),
    ],
)
def test_a_damaged_folder_is_not_adopted_but_replaced(run, caplog, damage, words):
    store(run, manifest(2), FILES)
    damage(run / cell_path(KEYS[2]))
    with pytest.raises(SweepError, match=words):
        read_manifest(run, KEYS[2])
    with writing(run) as ledger:
        assert ledger.states()[KEYS[2]] == "pending"
        assert "not adopted" in caplog.text
        store(run, manifest(2), FILES)
        ledger.start(KEYS[2])
        ledger.finish(manifest(2))
    assert read_manifest(run, KEYS[2])["cell"] == KEYS[2]
    assert states(run)[2] == "done"


def _edit(place: Path, **settings: int) -> None:
    text = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    text["request"] |= settings
    (place / "manifest.json").write_text(json.dumps(text), encoding="utf-8")


def test_a_folder_that_someone_deleted_is_computed_again(run, caplog):
    with writing(run) as ledger:
        ledger.start(KEYS[0])
        store(run, manifest(0), FILES)
        ledger.finish(manifest(0))
    place = run / cell_path(KEYS[0])
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    with writing(run) as ledger:
        row = ledger.cell(KEYS[0])
        assert (row["status"], row["seconds"], ledger.metrics(KEYS[0])) == ("pending", None, [])
    assert "folders of 1 finished cells are gone" in caplog.text


def test_the_ledger_can_be_made_again_from_the_manifests(run):
    with writing(run) as ledger:
        for seed in range(3):
            ledger.start(KEYS[seed])
            store(run, manifest(seed, value=seed / 2), FILES)
            ledger.finish(manifest(seed, value=seed / 2))
        cells = {row["key"]: dict(row) for row in ledger.cells() if row["status"] == "done"}
        metrics = {tuple(row) for row in ledger.metrics()}
    (run / FILE).unlink()
    with writing(run) as ledger:
        declare(ledger)
        assert {row["key"]: dict(row) for row in ledger.cells() if row["status"] == "done"} == cells
        assert {tuple(row) for row in ledger.metrics()} == metrics
        assert ledger.labels() == {IMAGE["digest"]: "rocket"}
        assert ledger.counts()["pending"] == 1


def test_a_foreign_cell_with_a_taken_label_gets_another(run):
    """A cell folder that was copied here from another run, whose picture has the same name."""
    foreign = manifest(0) | {"image": {"digest": "e" * 64, "label": "rocket"}}
    foreign["cell"] = cell_key(foreign["request"], image="e" * 64, model=MODEL["fingerprint"])
    store(run, foreign, FILES)
    with writing(run) as ledger:
        assert ledger.states()[foreign["cell"]] == "done"
        assert ledger.labels() == {IMAGE["digest"]: "rocket", "e" * 64: "rocket-eeeeeeee"}


def test_how_each_opening_ended_is_kept(run):
    crash(run, lambda ledger: None)
    with pytest.raises(ZeroDivisionError), writing(run):
        raise ZeroDivisionError
    with writing(run) as ledger:
        ledger.how = "interrupted"
    with Ledger(run) as ledger:
        assert [row["how"] for row in ledger.runs()] == ["finished", "crashed", "ZeroDivisionError", "interrupted"]
        assert "torch" in json.loads(ledger.runs()[0]["versions"])


# What cannot be used is refused in words.


def test_a_folder_without_a_ledger(tmp_path):
    with pytest.raises(SweepError, match="is not the directory of a sweep"):
        Ledger(tmp_path)


def test_another_schema_version(run):
    with sqlite3.connect(run / FILE) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    for write in (False, True):
        with pytest.raises(
            SweepError, match=f"schema version {SCHEMA_VERSION + 1}, of a newer svdlab; .* reads {SCHEMA_VERSION}"
        ):
            Ledger(run, write=write)


def test_a_damaged_file(run):
    (run / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(SweepError, match=r"is damaged .*svdlab repair .*manifests"):
        Ledger(run)


def test_directories_that_are_something_else(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters.txt").write_text("x", encoding="utf-8")
    with pytest.raises(SweepError, match="is a file"), writing(tmp_path / "file"):
        pytest.fail("opened")
    with pytest.raises(SweepError, match=r"holds other things \(letters.txt\)"), writing(tmp_path / "home"):
        pytest.fail("opened")
    with pytest.raises(SweepError, match="cannot be made"), writing(tmp_path / "file" / "deep"):
        pytest.fail("opened")
    assert list(stored_keys(tmp_path / "home")) == []

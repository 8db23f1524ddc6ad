"""Schema: the tables of a ledger, its version, and a finished cell as a row of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from svdlab._version import __version__
from svdlab.errors import NewerError, SweepError
from svdlab.files import atomic_path
from svdlab.sweep.database import connect
from svdlab.sweep.keys import canonical_json

SCHEMA_VERSION = 1
STAGES = ("condition", "denoise", "decode")

TABLES = """
CREATE TABLE run (          -- one row each time the directory was opened for writing
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, ended TEXT, how TEXT,
    host TEXT NOT NULL, pid INTEGER NOT NULL, versions TEXT NOT NULL,
    spec TEXT);             -- as declared by this opening, if it declared one
CREATE TABLE image (
    digest TEXT PRIMARY KEY, label TEXT NOT NULL UNIQUE, source TEXT) WITHOUT ROWID;
CREATE TABLE cell (
    key TEXT PRIMARY KEY,
    position INTEGER,       -- in the current declaration; NULL: not part of it
    image TEXT NOT NULL, settings TEXT NOT NULL, model TEXT NOT NULL, fingerprint TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending', attempt INTEGER NOT NULL DEFAULT 0, finished TEXT,
    error_type TEXT, error TEXT, traceback TEXT,
    seconds REAL, seconds_condition REAL, seconds_denoise REAL, seconds_decode REAL, seconds_spent REAL,
    elapsed REAL,           -- with metrics and files, for estimates
    vram_peak_mb REAL, bytes INTEGER, device TEXT, timing TEXT,
    CHECK (status IN ('pending', 'running', 'done', 'failed', 'skipped'))) WITHOUT ROWID;
CREATE INDEX cell_position ON cell (position);
CREATE INDEX cell_status ON cell (status);
CREATE TABLE metric (       -- a value of NULL without an error is not defined for the clip
    cell TEXT NOT NULL, name TEXT NOT NULL, value REAL, version INTEGER NOT NULL, source TEXT NOT NULL, error TEXT,
    PRIMARY KEY (cell, name)) WITHOUT ROWID;
CREATE TABLE event (        -- only ever added to: what happened to which cell
    id INTEGER PRIMARY KEY, time TEXT NOT NULL, run INTEGER NOT NULL, cell TEXT NOT NULL, what TEXT NOT NULL);
"""
# With which cell of which sweep a value of the table `metric` compares, as JSON. A table of its own and not a column:
# ledgers of svdlab 0.1.0 lack it, and its readers do without.
AGAINST = """
CREATE TABLE IF NOT EXISTS against (
    cell TEXT NOT NULL, name TEXT NOT NULL, reference TEXT NOT NULL, PRIMARY KEY (cell, name)) WITHOUT ROWID;
"""


def create_ledger(path: Path) -> None:
    """Make a ledger without cells, in place as a whole: a file of this name always has its tables.

    Example:
        >>> create_ledger(Path("runs/first/ledger.sqlite"))
    """
    with atomic_path(path) as tmp, contextlib.closing(connect(tmp, write=True)) as db:
        db.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def row_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The row of the table `cell` for a finished cell, from its manifest; without its position.

    Example:
        >>> row_of(manifest)["status"]
        'done'
    """
    seconds, image = manifest["seconds"], manifest["image"]
    return {
        "key": manifest["cell"],
        "image": image["digest"],
        "settings": canonical_json(manifest["request"]),
        "model": manifest["model"]["name"],
        "fingerprint": manifest["model"]["fingerprint"],
        "attempt": manifest["attempt"],
        "finished": manifest["finished"],
        "seconds": seconds.get("total"),
        **{f"seconds_{stage}": seconds.get(stage) for stage in STAGES},
        "seconds_spent": manifest["seconds_spent"],
        "elapsed": manifest["elapsed"],
        "vram_peak_mb": manifest["vram_peak_mb"],
        "bytes": sum(file["bytes"] for file in manifest["files"].values()),
        "device": manifest["model"].get("device"),
        "timing": manifest["timing"],
        "status": "done",
        **dict.fromkeys(("error_type", "error", "traceback")),
    }


def other_version(path: Path, version: int) -> SweepError:
    """Why a ledger of another schema version is refused. 1 is the first: nothing older could be migrated.

    Example:
        >>> raise other_version(path, 2)
    """
    kind, age = (NewerError, "a newer svdlab") if version > SCHEMA_VERSION else (SweepError, "no svdlab")
    return kind(
        f"{path}: has schema version {version}, of {age}; this one ({__version__}) reads {SCHEMA_VERSION}. Open it with"
        " the svdlab that wrote it (`versions` in any manifest.json), or choose another directory. Nothing was changed."
    )

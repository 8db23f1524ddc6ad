"""The server's SQLite file: who may call, what waits, what came of it, which files there are, what is to be delivered.

Web process and worker processes open the same file. Writers take turns (`BEGIN IMMEDIATE`); readers never wait for them
(write-ahead log). What was committed survives a kill of any of the processes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from svdlab.errors import ServerError

VERSION = 1
SCHEMA = """
CREATE TABLE key (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, hash TEXT NOT NULL, created REAL NOT NULL, revoked REAL
) STRICT;
CREATE TABLE job (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('IN_QUEUE', 'IN_PROGRESS', 'COMPLETED')),
    priority INTEGER NOT NULL,          -- 0 normal, 1 low
    slot INTEGER,                       -- of the worker that has it
    attempts INTEGER NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0,
    keep_files REAL NOT NULL,           -- seconds
    created REAL NOT NULL,
    deadline REAL,                      -- must have started by then
    started REAL,
    finished REAL,
    expires REAL,
    http_status INTEGER,
    error TEXT,
    error_type TEXT,
    seconds REAL,
    webhook TEXT,
    idempotency TEXT,
    digest TEXT NOT NULL                -- of the input, which is not kept once the job has ended
) STRICT;
CREATE INDEX job_queue ON job (priority, seq) WHERE status = 'IN_QUEUE';
CREATE INDEX job_running ON job (slot) WHERE status = 'IN_PROGRESS';
CREATE INDEX job_expires ON job (expires) WHERE status = 'COMPLETED';
CREATE UNIQUE INDEX job_idempotency ON job (owner, idempotency) WHERE idempotency IS NOT NULL;
-- Large texts apart, so that asking for a status reads none of them.
CREATE TABLE input (job TEXT PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE, body TEXT NOT NULL) STRICT;
CREATE TABLE output (job TEXT PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE, body TEXT NOT NULL) STRICT;
CREATE TABLE log (
    job TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE, n INTEGER NOT NULL,
    at REAL NOT NULL, level TEXT NOT NULL, message TEXT NOT NULL, PRIMARY KEY (job, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE file (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, content_type TEXT NOT NULL,
    size INTEGER NOT NULL, created REAL NOT NULL, expires REAL NOT NULL
) STRICT;
CREATE INDEX file_owner ON file (owner);
CREATE INDEX file_expires ON file (expires);
CREATE TABLE upload (
    hash TEXT PRIMARY KEY,              -- of the token in its address
    kind TEXT NOT NULL,                 -- 'put', 'parts' or 'session'
    file TEXT, owner TEXT NOT NULL, name TEXT, content_type TEXT, keep_files REAL, expires REAL NOT NULL
) STRICT;
CREATE TABLE delivery (
    job TEXT PRIMARY KEY, url TEXT NOT NULL, body TEXT NOT NULL, owner TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, due REAL, state TEXT NOT NULL, said TEXT, created REAL NOT NULL
) STRICT;
CREATE INDEX delivery_due ON delivery (due) WHERE state = 'waiting';
CREATE TABLE worker (
    slot INTEGER PRIMARY KEY, pid INTEGER NOT NULL, state TEXT NOT NULL, since REAL NOT NULL, said TEXT
) STRICT;
"""


class Store:
    """One process's hold on the file: a connection that reads, and one that writes, usable from every thread.

    Example:
        >>> with Store(folder / "server.sqlite") as store:
        ...     store.row("SELECT count(*) AS jobs FROM job")["jobs"]
        0
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_private_folder(path.parent)
        self._reading, self._writing = threading.Lock(), threading.Lock()
        try:
            path.touch(mode=0o600)
            self._writer = _connect(path)
            try:
                self._make_schema()
                self._reader = _connect(path)
            except BaseException:
                self._writer.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise ServerError(
                f"{path}: cannot be used as the server's queue ({error}). Choose another --data folder, or move the"
                " file away to begin anew."
            ) from error

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close both connections; what was committed stays."""
        with self._reading, self._writing:
            self._reader.close()
            self._writer.close()

    def row(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row, or None."""
        with self._reading:
            return self._reader.execute(sql, values).fetchone()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows."""
        with self._reading:
            return self._reader.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of the block's statements, or none of them."""
        with self._writing:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk may have ended it already
                    self._writer.execute("ROLLBACK")
                raise

    def version(self) -> int:
        """A number that changes when anything in the file changes; costs microseconds."""
        with self._reading:
            return self._reader.execute("PRAGMA data_version").fetchone()[0]

    def _make_schema(self) -> None:
        with self.write() as db:
            found = db.execute("PRAGMA user_version").fetchone()[0]
            if found == 0:
                for statement in SCHEMA.split(";\n"):
                    if statement.strip():
                        db.execute(statement)
                db.execute(f"PRAGMA user_version = {VERSION}")
            elif found != VERSION:
                raise ServerError(
                    f"{self.path}: was written by another version of svdlab (layout {found}, this one has {VERSION})."
                    " Choose another --data folder."
                )


def make_private_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter; one that is there already stays as it is."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(f"{str(folder)!r}: the folder cannot be made ({error.strerror}). Choose another.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ServerError(f"{str(folder)!r}: the folder cannot be written. Choose another, or allow writing there.")


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        db.execute(f"PRAGMA {pragma}")
    return db

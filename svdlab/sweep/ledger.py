"""Ledger: the SQLite file of a run directory. It holds every cell, its state and its numbers.

One process writes, under the lock of the directory (`svdlab.sweep.lock`); any number may read meanwhile. A cell counts
as done when its row says so, and its row says so only after its folder is in place; so whatever a crash leaves behind
is either undone or can be adopted from the folder's manifest. Commits are not synced each (`synchronous=NORMAL`): a
power cut may take the last rows back, and the manifests give them again.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from svdlab.errors import SweepError
from svdlab.sweep.database import connect
from svdlab.sweep.lock import now
from svdlab.sweep.schema import AGAINST, SCHEMA_VERSION, STAGES, create_ledger, other_version, row_of

STATUSES = ("pending", "running", "done", "failed", "skipped")
FILE = "ledger.sqlite"

_RESULT = ("finished", "error_type", "error", "traceback", "seconds", *(f"seconds_{stage}" for stage in STAGES))
_NO_RESULT = ", ".join(
    f"{name} = NULL" for name in (*_RESULT, "seconds_spent", "elapsed", "vram_peak_mb", "bytes", "device", "timing")
)


UNDECODED = "seconds_decode IS NULL AND seconds_denoise IS NOT NULL"  # see `is_undecoded`


def is_undecoded(row: Any) -> bool:
    """Whether a finished cell stopped at its latents; a hosted one, whose parts have no times, came with its frames.

    Example:
        >>> is_undecoded({"seconds_denoise": 0.2, "seconds_decode": None})
        True
    """
    return row["seconds_decode"] is None and row["seconds_denoise"] is not None


class Ledger:
    """An open ledger; a context manager that closes it.

    Args:
        folder: the run directory.
        write: open for writing, and create it if it is missing. The caller holds the directory's lock.

    Raises:
        SweepError: there is no ledger, it is of another schema version, or it is damaged.

    Example:
        >>> with Ledger("runs/first") as ledger:
        ...     ledger.counts()
        {'pending': 12, 'running': 1, 'done': 35, 'failed': 0, 'skipped': 0}
    """

    def __init__(self, folder: str | os.PathLike[str], *, write: bool = False) -> None:
        self.folder = Path(folder)
        self.path = self.folder / FILE
        self.write = write
        self.run = 0  # row of this opening in the table `run`
        self.how = "finished"  # what `end` notes unless told otherwise
        try:
            there = write or self.path.is_file()
        except OSError as error:
            raise SweepError(f"{self.folder}: cannot be read ({error.strerror}).") from None
        if not there:
            raise SweepError(f"{self.folder}: is not the directory of a sweep; it has no {FILE}.")
        self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        if self.write and not self.path.exists():
            create_ledger(self.path)
        db = connect(self.path, write=self.write)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            empty = version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone()
            if self.write:
                db.execute("PRAGMA journal_mode = WAL")  # readers do not wait for the writer, nor it for them
                db.execute("PRAGMA synchronous = NORMAL")
            if empty:
                raise SweepError(
                    f"{self.path}: is empty. `svdlab repair {self.folder}` makes it again, from the manifests of the"
                    " finished cells."
                )
            if version != SCHEMA_VERSION:
                raise other_version(self.path, version)
            if self.write:
                db.execute(AGAINST)
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Close. A writer leaves one plain file behind, if nobody is reading: it can be copied or archived."""
        if self.write:
            with contextlib.suppress(SweepError):  # a reader is there; the next writer will tidy up
                self._db.execute("PRAGMA busy_timeout = 0")
                self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements of the block, or none; for readers, one view of all tables. Blocks may be nested."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE" if self.write else "BEGIN")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    # Reading.

    def cells(self, *, declared: bool = True) -> list[sqlite3.Row]:
        """Rows of the table `cell` in the order of the grid; with `declared=False` the others too, after them."""
        where = "WHERE position IS NOT NULL" if declared else ""
        return self._db.execute(f"SELECT * FROM cell {where} ORDER BY position IS NULL, position, key").fetchall()

    def cell(self, key: str) -> sqlite3.Row | None:
        """The row of one cell."""
        return self._db.execute("SELECT * FROM cell WHERE key = ?", (key,)).fetchone()

    def metrics(self, key: str | None = None) -> list[sqlite3.Row]:
        """Rows of the table `metric`: cell, name, value, version, source, error; of all cells, or of one."""
        if key is not None:
            return self._db.execute("SELECT * FROM metric WHERE cell = ?", (key,)).fetchall()
        return self._db.execute("SELECT * FROM metric").fetchall()

    def references(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(Cell, metric) -> what the value compares with, for the metrics that compare; see `svdlab.sweep.partners`."""
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'against'").fetchone():
            return {}
        rows = self._db.execute("SELECT cell, name, reference FROM against").fetchall()
        return {(row["cell"], row["name"]): json.loads(row["reference"]) for row in rows}

    def measured(self, *, broken: bool = True) -> dict[str, set[str]]:
        """Cell -> names of the metrics it has an entry for; `broken=False` leaves out entries that are an error."""
        names: dict[str, set[str]] = {}
        for cell, name in self._db.execute(f"SELECT cell, name FROM metric {'' if broken else 'WHERE error IS NULL'}"):
            names.setdefault(cell, set()).add(name)
        return names

    def labels(self) -> dict[str, str]:
        """Digest of each picture -> its label."""
        return dict(self._db.execute("SELECT digest, label FROM image").fetchall())

    def states(self) -> dict[str, str]:
        """Key of every cell -> its status."""
        return dict(self._db.execute("SELECT key, status FROM cell").fetchall())

    def is_decoded(self, key: str) -> bool:
        """Whether a finished cell has its frames; see `undecoded`."""
        query = f"SELECT 1 FROM cell WHERE key = ? AND status = 'done' AND NOT ({UNDECODED})"
        return self._db.execute(query, (key,)).fetchone() is not None

    def undecoded(self) -> set[str]:
        """Keys of the finished cells whose frames are not made yet: those that have spent no time on decoding."""
        rows = self._db.execute(f"SELECT key FROM cell WHERE status = 'done' AND {UNDECODED}")
        return {row[0] for row in rows}

    def counts(self) -> dict[str, int]:
        """Status -> number of cells of the current declaration."""
        rows = self._db.execute("SELECT status, count(*) FROM cell WHERE position IS NOT NULL GROUP BY status")
        return dict.fromkeys(STATUSES, 0) | dict(rows.fetchall())

    def timings(self, fingerprint: str, device: str) -> list[sqlite3.Row]:
        """Settings, times and bytes of the cells that this model finished on this device."""
        return self._db.execute(
            "SELECT settings, seconds, seconds_condition, seconds_denoise, seconds_decode, seconds_spent, elapsed,"
            " bytes FROM cell WHERE status = 'done' AND fingerprint = ? AND device = ?",
            (fingerprint, device),
        ).fetchall()

    def other_weights(self, model: str, fingerprint: str) -> int:
        """Finished cells that have this model's name, but other weights (or another precision)."""
        query = "SELECT count(*) FROM cell WHERE status = 'done' AND model = ? AND fingerprint != ?"
        return self._db.execute(query, (model, fingerprint)).fetchone()[0]

    def events(self) -> list[sqlite3.Row]:
        """Rows of the table `event`, oldest first: time, run, cell, what."""
        return self._db.execute("SELECT time, run, cell, what FROM event ORDER BY id").fetchall()

    def runs(self) -> list[sqlite3.Row]:
        """Rows of the table `run`, oldest first: who wrote here, when, with which versions and spec."""
        return self._db.execute("SELECT * FROM run ORDER BY id").fetchall()

    def declaration(self) -> dict[str, Any]:
        """The spec that was last declared, as `svdlab.sweep.run` wrote it; empty if there is none."""
        row = self._db.execute("SELECT spec FROM run WHERE spec IS NOT NULL ORDER BY id DESC LIMIT 1").fetchone()
        return json.loads(row[0]) if row else {}

    def drawn_seed(self) -> int | None:
        """The seed that was drawn for this directory, by the first spec without seeds."""
        query = "SELECT json_extract(spec, '$.seed') AS seed FROM run WHERE seed IS NOT NULL ORDER BY id LIMIT 1"
        row = self._db.execute(query).fetchone()
        return row[0] if row else None

    # Writing.

    def begin(self, *, host: str, pid: int, versions: Mapping[str, str]) -> None:
        """Note that this process begins to write."""
        with self.transaction():
            cursor = self._db.execute(
                "INSERT INTO run (started, host, pid, versions) VALUES (?, ?, ?, ?)",
                (now(), host, pid, json.dumps(versions)),
            )
            self.run = cursor.lastrowid or 0

    def end(self) -> None:
        """Note how this process ended (`how`): `finished`, `interrupted`, or the name of an error."""
        with self.transaction():
            self._db.execute("UPDATE run SET ended = ?, how = ? WHERE id = ?", (now(), self.how, self.run))

    def close_crashed(self) -> bool:
        """Note of every process that did not come to its end that it crashed; whether there was one, or no record."""
        with self.transaction():
            none = self._db.execute("SELECT 1 FROM run").fetchone() is None
            cursor = self._db.execute("UPDATE run SET ended = ?, how = 'crashed' WHERE ended IS NULL", (now(),))
        return none or cursor.rowcount > 0

    def declare(
        self,
        keys: Iterable[str],
        new: Iterable[Mapping[str, Any]],
        images: Iterable[tuple[str, str, str | None]],
        spec: Mapping[str, Any],
    ) -> None:
        """Make these cells the current declaration, in this order. Rows that are there keep their state.

        Args:
            keys: of all cells of the declaration.
            new: those that have no row yet, each with key, image (digest), settings (JSON text), model, fingerprint.
            images: (digest, label, source).
            spec: what was declared, for readers.
        """
        with self.transaction():
            self._db.execute("UPDATE run SET spec = ? WHERE id = ?", (json.dumps(spec), self.run))
            self._add_images(images)
            self._db.execute("UPDATE cell SET position = NULL")
            self._db.executemany(
                "INSERT INTO cell (key, image, settings, model, fingerprint)"
                " VALUES (:key, :image, :settings, :model, :fingerprint)",
                new,
            )
            self._db.executemany("UPDATE cell SET position = ? WHERE key = ?", enumerate(keys))

    def _add_images(self, images: Iterable[tuple[str, str, str | None]]) -> None:
        self._db.executemany(
            "INSERT INTO image VALUES (?, ?, ?)"
            " ON CONFLICT (digest) DO UPDATE SET source = coalesce(excluded.source, source)",
            images,
        )

    def start(self, key: str) -> int:
        """Mark a cell as running; returns the number of this attempt, from 1."""
        with self.transaction():
            row = self._db.execute(
                "UPDATE cell SET status = 'running', attempt = attempt + 1 WHERE key = ? RETURNING attempt", (key,)
            ).fetchone()
            self._event("started", [key])
        return row[0]

    def finish(self, manifest: Mapping[str, Any], *, what: str = "done") -> None:
        """Enter a finished cell and its metrics from its manifest, in one transaction.

        The row is the same whether the manifest was just written or is found later (`what="adopted"`).
        """
        row, image = row_of(manifest), manifest["image"]
        names = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        changes = ", ".join(f"{name} = excluded.{name}" for name in row if name != "key")
        with self.transaction():
            self._add_images([(image["digest"], self._free_label(image["digest"], image["label"]), None)])
            self._db.execute(
                f"INSERT INTO cell ({names}) VALUES ({marks}) ON CONFLICT (key) DO UPDATE SET {changes}", row
            )
            self._forget_metrics([manifest["cell"]])
            self.put_metrics(manifest["cell"], manifest["metrics"])
            self._event(what, [manifest["cell"]])

    def _free_label(self, digest: str, label: str) -> str:
        """The label, unless another picture has it; only possible for folders that were moved here from elsewhere."""
        row = self._db.execute("SELECT 1 FROM image WHERE label = ? AND digest != ?", (label, digest)).fetchone()
        return f"{label}-{digest[:8]}" if row else label

    def put_metrics(self, key: str, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Enter metrics of a cell: name -> value, version, source, error, reference; older values of these names go.

        `reference` is there for metrics that compare with another cell.
        """
        with self.transaction():
            self.drop_metrics([(key, name) for name in metrics])
            self._db.executemany(
                "INSERT INTO metric VALUES (?, ?, ?, ?, ?, ?)",
                [(key, name, m["value"], m["version"], m["source"], m.get("error")) for name, m in metrics.items()],
            )
            self._db.executemany(
                "INSERT INTO against VALUES (?, ?, ?)",
                [(key, name, json.dumps(m["reference"])) for name, m in metrics.items() if m.get("reference")],
            )

    def drop_metrics(self, values: Collection[tuple[str, str]]) -> None:
        """Remove metrics: pairs of cell and name."""
        with self.transaction():
            for table in ("metric", "against"):
                self._db.executemany(f"DELETE FROM {table} WHERE cell = ? AND name = ?", values)

    def _forget_metrics(self, keys: Iterable[str]) -> None:
        marked = [(key,) for key in keys]
        for table in ("metric", "against"):
            self._db.executemany(f"DELETE FROM {table} WHERE cell = ?", marked)

    def fail(self, key: str, *, error_type: str, error: str, traceback: str) -> None:
        """Mark a cell as failed, with what can be said about it."""
        with self.transaction():
            self._db.execute(
                "UPDATE cell SET status = 'failed', finished = ?, error_type = ?, error = ?, traceback = ?"
                " WHERE key = ?",
                (now(), error_type, error, traceback, key),
            )
            self._event("failed", [key])

    def release(self, keys: Collection[str] | None = None) -> int:
        """Make cells pending again: those of `keys`, or all that a process left running. Returns how many."""
        if keys is None:
            keys = [row[0] for row in self._db.execute("SELECT key FROM cell WHERE status = 'running'")]
        with self.transaction():
            marked = [(key,) for key in keys]
            self._db.executemany(f"UPDATE cell SET status = 'pending', {_NO_RESULT} WHERE key = ?", marked)
            self._forget_metrics(keys)
            self._event("released", keys)
        return len(keys)

    def _event(self, what: str, keys: Iterable[str] | Sequence[str]) -> None:
        time = now()
        self._db.executemany(
            "INSERT INTO event (time, run, cell, what) VALUES (?, ?, ?, ?)",
            [(time, self.run, key, what) for key in keys],
        )

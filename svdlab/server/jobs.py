"""The queue: a job waits, runs, and ends as COMPLETED, whatever happens on the way. Every change is one transaction.

    IN_QUEUE -> IN_PROGRESS -> COMPLETED      done, failed, cancelled on the way, or its worker died twice
    IN_QUEUE -> COMPLETED                     cancelled, or not started by its deadline
    IN_PROGRESS -> IN_QUEUE                   its worker died, or stopped between two steps; it keeps its place

How a job went is told by the status code of its result, as the endpoint does: there is no failed or cancelled status.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from svdlab.errors import ServerError
from svdlab.files import sha256_bytes
from svdlab.server.outbox import enqueue
from svdlab.server.store import Store

MAX_ATTEMPTS = 2
NORMAL, LOW = 0, 1
_SEEN = "seq, id, status, priority, http_status, error, error_type, seconds, owner"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a client hands in."""

    owner: str
    body: str  # the input, JSON text
    priority: int = NORMAL
    start_within: float | None = None  # seconds
    webhook: str | None = None
    idempotency: str | None = None
    keep_files: float


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a job ended: what its result answers."""

    http_status: int
    body: Any  # JSON
    error: str | None = None
    error_type: str | None = None
    seconds: float | None = None
    files: tuple[dict[str, Any], ...] = field(default=(), repr=False)  # rows of `file` that belong to it


class QueueFullError(ServerError):
    """More jobs wait than are allowed to."""


class KeyReusedError(ServerError):
    """The idempotency key was used before, for another input."""


def failure(http_status: int, error_type: str, text: str, seconds: float | None = None) -> Ending:
    """An ending that is nobody's input's fault."""
    body = {"detail": text, "message": text, "error_type": error_type}
    return Ending(http_status=http_status, body=body, error=text, error_type=error_type, seconds=seconds)


CANCELLED = failure(499, "client_cancelled", "The request was cancelled.")
TOO_LATE = failure(504, "request_timeout", "The request was not started by its start deadline.")
LOST = failure(
    500,
    "runner_disconnected",
    f"The worker died {MAX_ATTEMPTS} times while it ran this request. The server's log says why.",
)


class Queue:
    """All that is done with jobs.

    Example:
        >>> queue = Queue(store, keep_results=3600)
        >>> id = queue.submit(Submission(owner="local", body='{"image_url": "..."}', keep_files=3600), max_waiting=10)
        >>> queue.claim(slot=0)["id"] == id
        True
    """

    def __init__(self, store: Store, *, keep_results: float, max_log_lines: int = 500) -> None:
        self.store = store
        self._keep_results, self._max_log_lines = keep_results, max_log_lines

    def submit(self, job: Submission, *, max_waiting: int, max_queue_length: int | None = None) -> str:
        """Put a job at the end of the queue and return its id; that of the first one if it was handed in before.

        Raises:
            QueueFullError: so many of the owner's jobs wait already, or so many of everyone's.
            KeyReusedError: the idempotency key came with another input.
        """
        now, digest = time.time(), sha256_bytes(job.body.encode())
        with self.store.write() as db:
            if job.idempotency is not None:
                found = db.execute(
                    "SELECT id, digest FROM job WHERE owner = ? AND idempotency = ?", (job.owner, job.idempotency)
                ).fetchone()
                if found and found["digest"] != digest:
                    raise KeyReusedError("X-Idempotency-Key: was used before, with another input. Choose a new one.")
                if found:
                    return found["id"]
            _check_length(db, job.owner, max_waiting, max_queue_length)
            id = str(uuid.uuid4())
            deadline = None if job.start_within is None else now + job.start_within
            db.execute(
                "INSERT INTO job"
                " (id, owner, status, priority, keep_files, created, deadline, webhook, idempotency, digest)"
                " VALUES (?, ?, 'IN_QUEUE', ?, ?, ?, ?, ?, ?, ?)",
                (id, job.owner, job.priority, job.keep_files, now, deadline, job.webhook, job.idempotency, digest),
            )
            db.execute("INSERT INTO input (job, body) VALUES (?, ?)", (id, job.body))
        return id

    def status(self, id: str, owner: str) -> sqlite3.Row | None:
        """A job as its owner may see it; None if there is none of that id, or if it is someone else's."""
        return self.store.row(f"SELECT {_SEEN} FROM job WHERE id = ? AND owner = ?", (id, owner))

    def position(self, row: sqlite3.Row) -> int:
        """How many jobs are ahead of a waiting one."""
        found = self.store.row(
            "SELECT count(*) FROM job WHERE status = 'IN_QUEUE' AND (priority, seq) < (?, ?)",
            (row["priority"], row["seq"]),
        )
        return found[0] if found else 0

    def output(self, id: str) -> str:
        """The body of the result of a job that has ended, JSON text."""
        row = self.store.row("SELECT body FROM output WHERE job = ?", (id,))
        return row["body"] if row else "null"

    def logs(self, id: str, after: int = -1) -> list[sqlite3.Row]:
        """Lines of a job's log with a number above `after`: n, at, level, message."""
        return self.store.rows("SELECT n, at, level, message FROM log WHERE job = ? AND n > ? ORDER BY n", (id, after))

    def log(self, id: str, message: str, level: str = "INFO") -> None:
        """Add a line to a job's log."""
        with self.store.write() as db:
            self._log(db, id, message, level)

    def claim(self, slot: int) -> dict[str, Any] | None:
        """Take the first job that waits, or None. Those whose start deadline has passed end on the way."""
        waiting = "SELECT 1 FROM job WHERE status = 'IN_QUEUE' LIMIT 1"
        if self.store.row(waiting) is None:
            return None
        self.expire_waiting()
        with self.store.write() as db:
            row = db.execute(
                "SELECT id, owner, attempts, keep_files, created FROM job WHERE status = 'IN_QUEUE'"
                " ORDER BY priority, seq LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE job SET status = 'IN_PROGRESS', slot = ?, attempts = attempts + 1, started = ? WHERE id = ?",
                (slot, time.time(), row["id"]),
            )
            body = db.execute("SELECT body FROM input WHERE job = ?", (row["id"],)).fetchone()["body"]
        return {**dict(row), "body": body}

    def is_cancelled(self, id: str) -> bool:
        """Whether the running job's owner has asked to end it."""
        row = self.store.row("SELECT cancel FROM job WHERE id = ?", (id,))
        return row is None or bool(row["cancel"])

    def end(self, id: str, ending: Ending) -> bool:
        """End a running job; False, with nothing changed, if it is not running. One that was cancelled ends so."""
        with self.store.write() as db:
            row = db.execute("SELECT status, cancel FROM job WHERE id = ?", (id,)).fetchone()
            if row is None or row["status"] != "IN_PROGRESS":
                return False
            if row["cancel"]:
                ending = CANCELLED
            self._end(db, id, ending)
        return ending is not CANCELLED

    def cancel(self, id: str, owner: str) -> str | None:
        """End a waiting job at once ("OK"), or ask a running one to ("CANCELLATION_REQUESTED").

        "ALREADY_COMPLETED" if it has ended, None if the owner has no such job.
        """
        with self.store.write() as db:
            row = db.execute("SELECT status FROM job WHERE id = ? AND owner = ?", (id, owner)).fetchone()
            if row is None:
                return None
            if row["status"] == "IN_QUEUE":
                self._end(db, id, CANCELLED)
                return "OK"
            if row["status"] == "COMPLETED":
                return "ALREADY_COMPLETED"
            db.execute("UPDATE job SET cancel = 1 WHERE id = ?", (id,))
            return "CANCELLATION_REQUESTED"

    def expire_waiting(self) -> None:
        """End the jobs that have not started by their deadline."""
        overdue = "SELECT id FROM job WHERE status = 'IN_QUEUE' AND deadline < ?"
        if self.store.row(overdue, (time.time(),)):
            with self.store.write() as db:
                for row in db.execute(overdue, (time.time(),)).fetchall():
                    self._end(db, row["id"], TOO_LATE)

    def put_back(self, id: str) -> None:
        """Let a running job wait again at its old place, as if it had not been started: its worker stops."""
        with self.store.write() as db:
            row = db.execute("SELECT cancel FROM job WHERE id = ? AND status = 'IN_PROGRESS'", (id,)).fetchone()
            if row and row["cancel"]:
                self._end(db, id, CANCELLED)
            elif row:
                self._log(db, id, "the server stops; the request waits for the next one", "INFO")
                db.execute(
                    "UPDATE job SET status = 'IN_QUEUE', slot = NULL, started = NULL, deadline = NULL,"
                    " attempts = attempts - 1 WHERE id = ?",
                    (id,),
                )

    def recover(self, slot: int) -> list[str]:
        """Deal with the jobs that the last worker of this slot left when it died; their ids.

        Each runs again once, then fails. Only for who holds the slot's lock: nobody works on them any more.
        """
        with self.store.write() as db:
            found = db.execute(
                "SELECT id, attempts, cancel FROM job WHERE status = 'IN_PROGRESS' AND slot = ?", (slot,)
            ).fetchall()
            for row in found:
                if row["cancel"] or row["attempts"] >= MAX_ATTEMPTS:
                    self._end(db, row["id"], CANCELLED if row["cancel"] else LOST)
                    continue
                self._log(db, row["id"], "the worker died; the request runs once more", "WARN")
                db.execute(
                    "UPDATE job SET status = 'IN_QUEUE', slot = NULL, started = NULL, deadline = NULL WHERE id = ?",
                    (row["id"],),
                )
        return [row["id"] for row in found]

    def fail_running(self, slot: int, ending: Ending) -> None:
        """End what a slot's worker has in hand; for who is about to kill that worker."""
        with self.store.write() as db:
            for row in db.execute("SELECT id FROM job WHERE status = 'IN_PROGRESS' AND slot = ?", (slot,)).fetchall():
                self._end(db, row["id"], ending)

    def running_since(self, slot: int) -> float | None:
        """When the job that a slot's worker has in hand was started, in seconds since 1970."""
        row = self.store.row("SELECT min(started) FROM job WHERE status = 'IN_PROGRESS' AND slot = ?", (slot,))
        return row[0] if row else None

    def forget_expired(self) -> int:
        """Delete the jobs whose result is no longer kept; how many there were."""
        with self.store.write() as db:
            return db.execute("DELETE FROM job WHERE status = 'COMPLETED' AND expires < ?", (time.time(),)).rowcount

    def _end(self, db: sqlite3.Connection, id: str, ending: Ending) -> None:
        now = time.time()
        text = json.dumps(ending.body, allow_nan=False)
        db.execute(
            "UPDATE job SET status = 'COMPLETED', slot = NULL, finished = ?, expires = ?, http_status = ?, error = ?,"
            " error_type = ?, seconds = ? WHERE id = ?",
            (now, now + self._keep_results, ending.http_status, ending.error, ending.error_type, ending.seconds, id),
        )
        db.execute("INSERT INTO output (job, body) VALUES (?, ?)", (id, text))
        db.execute("DELETE FROM input WHERE job = ?", (id,))
        for file in ending.files:
            _insert(db, "file", file)
        enqueue(db, id, ending.http_status, ending.body)

    def _log(self, db: sqlite3.Connection, id: str, message: str, level: str) -> None:
        (count,) = db.execute("SELECT count(*) FROM log WHERE job = ?", (id,)).fetchone()
        if count == self._max_log_lines:
            level, message = "WARN", f"more than {count} lines; the rest is not kept"
        if count <= self._max_log_lines:
            text = message[:2000].encode("utf-8", "replace").decode()  # half of a pair of surrogates cannot be stored
            line = {"job": id, "n": count, "at": time.time(), "level": level, "message": text}
            _insert(db, "log", line)


def _insert(db: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    names: Iterable[str] = row.keys()
    db.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


def _check_length(db: sqlite3.Connection, owner: str, max_waiting: int, max_queue_length: int | None) -> None:
    (mine,) = db.execute("SELECT count(*) FROM job WHERE status = 'IN_QUEUE' AND owner = ?", (owner,)).fetchone()
    if mine >= max_waiting:
        raise QueueFullError(
            f"{mine} requests of this key wait already, as many as this server allows. Try again later."
        )
    if max_queue_length is not None:
        (all,) = db.execute("SELECT count(*) FROM job WHERE status = 'IN_QUEUE'").fetchone()
        if all > max_queue_length:
            raise QueueFullError(
                f"fal_max_queue_length = {max_queue_length}: {all} requests wait already. Try again later."
            )

"""What is still to be told to webhooks. A row is written in the transaction that ends a job, so none is lost."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Any

from svdlab.server.store import Store


def enqueue(db: sqlite3.Connection, job: str, http_status: int, body: Any) -> None:
    """Note the delivery that a job which ends owes, inside the transaction that ends it; nothing if it owes none."""
    row = db.execute("SELECT webhook, owner FROM job WHERE id = ?", (job,)).fetchone()
    if row["webhook"] is None:
        return
    ok = http_status < 300
    message = {
        "request_id": job,
        "gateway_request_id": job,
        "status": "OK" if ok else "ERROR",
        "payload": body,
        "error": None if ok else f"Invalid status code: {http_status}",
    }
    now = time.time()
    db.execute(
        "INSERT INTO delivery (job, url, body, owner, due, state, created) VALUES (?, ?, ?, ?, ?, 'waiting', ?)",
        (job, row["webhook"], json.dumps(message, allow_nan=False), row["owner"], now, now),
    )


class Outbox:
    """Deliveries that are due, and what came of them."""

    def __init__(self, store: Store, *, tries: int, wait: float) -> None:
        self._store, self._tries, self._wait = store, tries, wait

    def due(self) -> list[sqlite3.Row]:
        """Deliveries whose time has come, oldest first, at most 20."""
        return self._store.rows(
            "SELECT job, url, body, owner, tries FROM delivery WHERE state = 'waiting' AND due <= ?"
            " ORDER BY due LIMIT 20",
            (time.time(),),
        )

    def delivered(self, job: str, said: str) -> None:
        """The receiver has it."""
        self._set(job, "delivered", said)

    def refused(self, job: str, said: str) -> None:
        """It will never be delivered, and is not tried again."""
        self._set(job, "refused", said)

    def failed(self, job: str, said: str, tries: int) -> None:
        """Not now: try again after a wait that doubles each time, up to an hour; given up after the last try."""
        if tries + 1 >= self._tries:
            self._set(job, "given up", said)
            return
        due = time.time() + min(3600.0, self._wait * 2**tries)
        with self._store.write() as db:
            db.execute("UPDATE delivery SET tries = tries + 1, due = ?, said = ? WHERE job = ?", (due, said[:500], job))

    def forget(self, older_than: float) -> None:
        """Delete what was settled or made more than so many seconds ago."""
        with self._store.write() as db:
            db.execute("DELETE FROM delivery WHERE state != 'waiting' AND created < ?", (time.time() - older_than,))

    def _set(self, job: str, state: str, said: str) -> None:
        with self._store.write() as db:
            db.execute(
                "UPDATE delivery SET state = ?, tries = tries + 1, due = NULL, said = ? WHERE job = ?",
                (state, said[:500], job),
            )

"""Telling webhooks how requests ended, in a thread of its own: what is slow or gone elsewhere holds up nothing here."""

from __future__ import annotations

import logging
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

from svdlab.fetch import FetchError, FetchRefusedError, post
from svdlab.server.outbox import Outbox
from svdlab.server.signing import Signer

log = logging.getLogger("svdlab")

SECONDS = 15.0
_LOOK_SECONDS = 0.25
_AT_ONCE = 4


class Deliverer:
    """Takes what is due from the outbox, signs it and sends it."""

    def __init__(self, outbox: Outbox, signer: Signer, *, allow_private: bool) -> None:
        self._outbox, self._signer, self._allow_private = outbox, signer, allow_private
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deliveries", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it; what is on its way is waited for, the rest is delivered after the next start."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def deliver(self, row: sqlite3.Row) -> None:
        """Try one delivery, and note what came of it."""
        body = row["body"].encode()
        headers = {"Content-Type": "application/json", **self._signer.headers(row["job"], row["owner"], body)}
        try:
            status = post(row["url"], body, headers=headers, seconds=SECONDS, allow_private=self._allow_private)
        except FetchRefusedError as error:
            log.warning("webhook of %s: %s", row["job"], error)
            self._outbox.refused(row["job"], str(error))
        except FetchError as error:
            self._outbox.failed(row["job"], str(error), row["tries"])
        else:
            self._note(row, status)

    def _note(self, row: sqlite3.Row, status: int) -> None:
        if 200 <= status < 300:
            self._outbox.delivered(row["job"], str(status))
        elif 300 <= status < 400:
            self._outbox.refused(row["job"], f"{status}: redirects are not followed")
        else:
            self._outbox.failed(row["job"], str(status), row["tries"])

    def _run(self) -> None:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhook") as pool:
            while not self._stop.wait(_LOOK_SECONDS):
                try:
                    list(pool.map(self.deliver, self._outbox.due()))
                except Exception:
                    log.exception("the deliveries of webhooks met an error; they go on")
                    self._stop.wait(5.0)

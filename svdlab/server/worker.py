"""The worker process: one model, kept warm on one device, that runs jobs one after the other.

It is started by the server with its settings as JSON, `python -m svdlab.server.worker`. It holds its slot's lock, so
that two never work on the same jobs, and it listens to its standard input: a line wakes it, the end of it means that
the server is gone. Then it puts the job in hand back between two steps, and stops.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from svdlab.errors import SvdlabError
from svdlab.server.jobs import Queue
from svdlab.server.locks import held
from svdlab.server.settings import ServerSettings
from svdlab.server.store import Store

UNUSABLE = 3
"""Exit code of a worker whose model cannot be loaded: starting it again would not help."""

_IDLE_SECONDS = 1.0
log = logging.getLogger("svdlab")


def settings_to_json(settings: ServerSettings) -> str:
    """Settings as the worker takes them."""
    return json.dumps(dataclasses.asdict(settings), default=str)


def settings_from_json(text: str) -> ServerSettings:
    """What `settings_to_json` wrote."""
    given = json.loads(text)
    for name in ("allowed_hosts", "allowed_origins"):
        given[name] = tuple(given[name])
    return ServerSettings(**given)


class Worker:
    """The loop of a worker process."""

    def __init__(self, settings: ServerSettings, slot: int, store: Store) -> None:
        self.settings, self.slot, self.store = settings, slot, store
        self.queue = Queue(store, keep_results=settings.keep_results, max_log_lines=settings.max_log_lines)
        self._wake, self._stop = threading.Event(), threading.Event()

    def listen(self) -> None:
        """Wait for lines on the standard input, in a thread of its own."""
        threading.Thread(target=self._listen, daemon=True).start()

    def stop(self) -> None:
        """Let it put the job in hand back between two steps, and end."""
        self._stop.set()
        self._wake.set()

    def run(self) -> None:
        """Load the model, deal with what the last worker left, then run jobs until told to stop."""
        from svdlab.pipeline import load
        from svdlab.server.files import FileShelf
        from svdlab.server.runner import Runner

        settings = self.settings
        self._state("STARTING")
        with held(settings.data / f"worker-{self.slot}.lock", wait=lambda: not self._stop.is_set()):
            for id in self.queue.recover(self.slot):
                log.warning("%s was in hand when the last worker died", id)
            try:
                pipe = load(settings.model, device=settings.device, dtype=settings.dtype)
            except SvdlabError as error:
                self._state("SETUP_FAILED", str(error))
                raise
            runner = Runner(pipe, FileShelf(self.store, settings.data / "files", settings.base_url), settings)
            self._state("READY", pipe.notice)
            while not self._stop.is_set():
                job = self.queue.claim(self.slot)
                if job is None:
                    self._wake.wait(_IDLE_SECONDS)
                    self._wake.clear()
                    continue
                self._state("BUSY", pipe.notice)
                self._work(runner, job)
                self._state("READY", pipe.notice)

    def _work(self, runner: Any, job: dict[str, Any]) -> None:
        from svdlab.server.runner import StoppedError

        id = job["id"]
        try:
            ending = runner.run(
                job,
                lambda text, level: self.queue.log(id, text, level),
                lambda: self.queue.is_cancelled(id),
                self._stop.is_set,
            )
        except StoppedError:
            self.queue.put_back(id)
            return
        self.queue.end(id, ending)

    def _state(self, state: str, said: str | None = None) -> None:
        with self.store.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO worker (slot, pid, state, since, said) VALUES (?, ?, ?, ?, ?)",
                (self.slot, os.getpid(), state, time.time(), said),
            )

    def _listen(self) -> None:
        # Not through sys.stdin: a thread that waits in its lock makes the interpreter abort when it ends.
        while os.read(0, 4096):
            self._wake.set()
        self.stop()


def main() -> None:
    """Entry of the process: `python -m svdlab.server.worker SLOT SETTINGS`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's; it closes the standard input
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    slot, settings = int(sys.argv[1]), settings_from_json(sys.argv[2])
    try:
        with Store(Path(settings.data) / "server.sqlite") as store:
            worker = Worker(settings, slot, store)
            worker.listen()
            worker.run()
    except SvdlabError as error:
        log.error("error: %s", error)
        sys.exit(UNUSABLE)


if __name__ == "__main__":
    main()

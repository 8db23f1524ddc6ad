"""Keeping the house: worker processes that are started anew when they die, deadlines, and what is no longer kept."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from svdlab.memory import bytes_held, bytes_installed
from svdlab.server.jobs import Queue, failure
from svdlab.server.outbox import Outbox
from svdlab.server.settings import ServerSettings
from svdlab.server.worker import UNUSABLE, settings_to_json

log = logging.getLogger("svdlab")

GB = 10**9
SHARE = 0.9
"""Of the machine's memory, for all workers together: more, and the system ends processes of its own choice."""

_TICK_SECONDS = 0.2
_SWEEP_SECONDS = 30.0
_LONGEST_PAUSE = 30.0


class WorkerProcess:
    """One slot's worker, started again when it dies, after a pause that doubles while it dies young."""

    def __init__(self, settings: ServerSettings, slot: int) -> None:
        self._settings, self.slot = settings, slot
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0  # seconds since 1970
        self._started, self._pause, self._not_before = 0.0, 0.0, 0.0
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process."""
        command = [sys.executable, "-m", "svdlab.server.worker", str(self.slot), settings_to_json(self._settings)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        self.started_at, self._started = time.time(), time.monotonic()

    def check(self) -> int | None:
        """Start the process again if it has died; the exit code of one that cannot be helped."""
        if self._process is None:
            if time.monotonic() >= self._not_before:
                self.start()
            return None
        code = self._process.poll()
        if code is None:
            return None
        self._close_pipe()
        self._process = None
        if code == UNUSABLE:
            return code
        young = time.monotonic() - self._started < 60
        self._pause = min(_LONGEST_PAUSE, max(0.1, 2 * self._pause)) if young else 0.1
        self._not_before = time.monotonic() + self._pause
        log.warning("the worker died (exit code %s); it is started again", code)
        return None

    def wake(self) -> None:
        """Tell it that there may be work."""
        with self._lock, contextlib.suppress(OSError, ValueError, AttributeError):
            self._process.stdin.write(b"\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def kill(self) -> None:
        """End it at once."""
        if self._process:
            self._process.kill()

    def tell_to_stop(self) -> None:
        """Let it put its job back and end."""
        self._close_pipe()

    def stop(self, seconds: float) -> None:
        """Wait for its end, after telling it to stop; kill it after so many seconds."""
        self._close_pipe()
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _close_pipe(self) -> None:
        with self._lock, contextlib.suppress(OSError, AttributeError):
            self._process.stdin.close()  # type: ignore[union-attr]


class Keeper:
    """A thread that looks after everything that no request does.

    Args:
        sweeps: called now and then, to delete what is no longer kept.
        on_unusable: called once if the model cannot be loaded.
    """

    def __init__(
        self,
        settings: ServerSettings,
        queue: Queue,
        sweeps: Sequence[Callable[[], object]] = (),
        on_unusable: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._queue, self._sweeps, self._on_unusable = settings, queue, sweeps, on_unusable
        self.workers = [
            WorkerProcess(settings.replace(device=device), slot) for slot, device in enumerate(settings.devices)
        ]
        self.outbox = Outbox(queue.store, tries=settings.webhook_tries, wait=settings.webhook_wait)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._swept = -_SWEEP_SECONDS
        self._memory = settings.max_memory or int(SHARE * bytes_installed() / len(self.workers))

    def start(self) -> None:
        """Start the workers and the thread."""
        for worker in self.workers:
            worker.start()
        self._thread.start()

    def wake(self) -> None:
        """Tell the workers that there may be work."""
        for worker in self.workers:
            worker.wake()

    def stop(self, seconds: float = 30.0) -> None:
        """End all; jobs in hand go back to the queue."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        for worker in self.workers:
            worker.tell_to_stop()
        for worker in self.workers:
            worker.stop(seconds)

    def _run(self) -> None:
        while not self._stop.wait(_TICK_SECONDS):
            try:
                if UNUSABLE in [worker.check() for worker in self.workers]:
                    self._on_unusable()
                    return
                self._tick()
            except Exception:
                log.exception("the server's housekeeping met an error; it goes on")
                self._stop.wait(1.0)

    def _end_excessive(self, worker: WorkerProcess) -> None:
        """End a worker whose job takes too long or too much memory; the job fails."""
        since, limit = self._queue.running_since(worker.slot), self._settings.max_job_seconds
        # What was started before this worker was left by another one, and is the new one's to take up.
        if since is None or since < worker.started_at:
            return
        if time.time() - since > limit:
            kind, text = "generation_timeout", f"took longer than the {limit:g} s that this server allows."
        elif worker.pid is not None and (held := bytes_held(worker.pid)) > self._memory:
            kind = "out_of_memory"
            text = (
                f"took more memory than this server allows ({held / GB:.2f} GB of {self._memory / GB:.2f} GB)."
                " Ask for fewer frames or a smaller size."
            )
        else:
            return
        log.warning("a request %s Its worker is ended", text)
        self._queue.fail_running(worker.slot, failure(500, kind, f"The request {text}"))
        worker.kill()

    def _tick(self) -> None:
        self._queue.expire_waiting()
        for worker in self.workers:
            self._end_excessive(worker)
        if time.monotonic() - self._swept > _SWEEP_SECONDS:
            self._swept = time.monotonic()
            self._queue.forget_expired()
            for sweep in self._sweeps:
                sweep()
            self.outbox.forget(self._settings.keep_results)

"""Worker: one piece of work at a time in a background thread; it can be cancelled, and its errors become words."""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

from svdlab.errors import WidgetError
from svdlab.memory import clear_frames, free_memory
from svdlab.widgets.lines import own_lines
from svdlab.widgets.words import explain

log = logging.getLogger("svdlab")

_PATIENCE = 5.0  # seconds that the end of the process waits for work that was cancelled

_running: weakref.WeakSet[Job] = weakref.WeakSet()


class Cancelled(Exception):  # noqa: N818 - it is no error
    """Raised inside of a piece of work that was cancelled; ends it quietly."""


class Job:
    """One piece of work under way or over.

    Attributes:
        title: what it is, in words.
        state: ``"running"``, ``"done"``, ``"cancelled"`` or ``"failed"``.
        result: what the work returned; None unless done.
        error: why it failed, in words; None unless failed.
        exception: the exception itself, its frames cleared so that it holds no memory.
        traceback: its traceback as text.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.state = "running"
        self.result: Any = None
        self.error: str | None = None
        self.exception: BaseException | None = None
        self.traceback: str | None = None
        self._cancel = threading.Event()
        self._over = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked it to end."""
        return self._cancel.is_set()

    @property
    def over(self) -> bool:
        """Whether it has ended, its callbacks included."""
        return self._over.is_set()

    def cancel(self) -> None:
        """Ask it to end at the next place where it can."""
        self._cancel.set()

    def check(self) -> None:
        """Called by the work where it can end: raises Cancelled if it was asked to."""
        if self.cancelled:
            raise Cancelled

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over, at most `timeout` seconds; whether it is. Ctrl-C comes through."""
        return self._over.wait(timeout)

    def _run(self, work: Callable[[Job], Any]) -> None:
        try:
            self.result = work(self)
            self.state = "done"
        except Cancelled:
            self.state = "cancelled"
        except BaseException as error:  # whatever ends a thread must not be lost with it
            self.exception, self.error, self.traceback = error, explain(error), traceback.format_exc()
            self.state = "failed"
            clear_frames(error)  # a traceback keeps the tensors of its frames
            error.__traceback__ = None
        if self.state == "failed":
            free_memory()


class Worker:
    """Runs one piece of work at a time, each in a thread that ends with it: an idle worker has no thread.

    Args:
        on_line: gets what svdlab logs during the work, line by line, in the work's thread.

    Example:
        >>> worker = Worker()
        >>> job = worker.start("counting", lambda job: sum(range(10)))
        >>> job.wait(), job.state, job.result
        (True, 'done', 45)
    """

    def __init__(self, *, on_line: Callable[[str], None] | None = None) -> None:
        self.job: Job | None = None
        self._on_line = on_line or (lambda line: None)
        self._starting = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether work is under way."""
        return self.job is not None and not self.job.over

    def start(self, title: str, work: Callable[[Job], Any], *, on_end: Callable[[Job], None] | None = None) -> Job:
        """Begin `work(job)` in a new thread and return at once; `on_end(job)` is called there when it has ended.

        Raises:
            WidgetError: other work is under way.
        """
        with self._starting:
            if self.busy:
                assert self.job is not None
                raise WidgetError(
                    f"{title}: not now, because {self.job.title} is under way. Wait for it, or end it first."
                )
            job = self.job = Job(title)
        _running.add(job)
        what = (job, work, on_end)
        threading.Thread(target=self._carry_out, args=what, name=f"svdlab: {title}", daemon=True).start()
        return job

    def cancel(self) -> None:
        """Ask the work under way to end; nothing happens if there is none."""
        if self.job is not None:
            self.job.cancel()

    def close(self, timeout: float | None = _PATIENCE) -> bool:
        """Cancel, and wait at most `timeout` seconds; whether no work is left."""
        self.cancel()
        return self.job is None or self.job.wait(timeout)

    def _carry_out(self, job: Job, work: Callable[[Job], Any], on_end: Callable[[Job], None] | None) -> None:
        try:
            with own_lines(self._on_line):
                job._run(work)
            if on_end is not None:
                on_end(job)
        except Exception:  # a fault in showing it; said where faults are said
            log.exception("%s: could not be shown", job.title)
        finally:
            job._over.set()
            _running.discard(job)


@atexit.register
def _end_all() -> None:
    """The interpreter must not be taken down under a thread that computes."""
    jobs = list(_running)
    for job in jobs:
        job.cancel()
    for job in jobs:
        with contextlib.suppress(KeyboardInterrupt):
            job.wait(_PATIENCE)

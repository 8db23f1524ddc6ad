"""Ctrl-C that lets the work in hand finish."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

log = logging.getLogger("svdlab")


class StopRequest:
    """While active, the first Ctrl-C only sets `asked`; the second raises KeyboardInterrupt at once.

    Signal handlers belong to the main thread. In another thread, or where interrupts are ignored (a job in the
    background), nothing is installed. What was there before is put back at the end.

    Example:
        >>> with StopRequest("step") as stop:
        ...     while not stop.asked:
        ...         work()
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> StopRequest:
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(before):
            self._before = before
            signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        with contextlib.suppress(RuntimeError):  # the signal came in the middle of writing to the same stream
            log.warning("stopping when the %s in hand is finished; interrupt once more to stop now", self.unit)

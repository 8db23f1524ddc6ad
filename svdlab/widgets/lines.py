"""svdlab's own log lines of one thread: to a widget that shows them, and not into whichever cell is running."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator


class _Taker(logging.Handler):
    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._take = take
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._take(record.getMessage())


@contextlib.contextmanager
def own_lines(take: Callable[[str], None]) -> Iterator[None]:
    """While active, each line that svdlab logs in this thread is given to `take`, and not printed.

    Only handlers that print to a stream are told to leave it out; log files and whoever else listens still get it.

    Example:
        >>> with own_lines(status.show):
        ...     svdlab.load("tiny")
    """
    log, me = logging.getLogger("svdlab"), threading.get_ident()

    def not_mine(record: logging.LogRecord) -> bool:
        return record.thread != me

    taker = _Taker(take)
    printers = [handler for handler in log.handlers if type(handler) is logging.StreamHandler]
    log.addHandler(taker)
    for printer in printers:
        printer.addFilter(not_mine)
    try:
        yield
    finally:
        log.removeHandler(taker)
        for printer in printers:
            printer.removeFilter(not_mine)

"""Progress of a sweep: a bar with an estimate of the time left, and a Ctrl-C that lets the cell in hand finish."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any

from tqdm.auto import tqdm

log = logging.getLogger("svdlab")

_FIRST = ("flow_mean", "warp_error")  # motion is always shown beside consistency


class Bar:
    """A progress bar over the cells that are to do; shows counts and the last values of two metrics."""

    def __init__(self, *, total: int, metrics: Sequence[str], show: bool, title: str) -> None:
        chosen = [name for name in _FIRST if name in metrics]
        self._shown = chosen or list(metrics[:2])
        self._counts = {"done": 0, "failed": 0}
        self._bar = tqdm(total=total, desc=title, unit="cell", disable=not (show and total), dynamic_ncols=True)

    def step(self, status: str, metrics: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """One more cell is `done` or `failed`, with these metrics."""
        self._counts[status] += 1
        values = {name: (metrics or {}).get(name, {}).get("value") for name in self._shown}
        shown = {name: f"{value:.4g}" for name, value in values.items() if value is not None}
        self._bar.set_postfix({**self._counts, **shown}, refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def counted(items: Iterable[Any], *, show: bool, title: str) -> Iterable[Any]:
    """The items, with a plain bar."""
    return tqdm(items, desc=title, unit="cell", disable=not show, dynamic_ncols=True)


class StopRequest:
    """While active, the first Ctrl-C only sets `asked`; the second raises KeyboardInterrupt at once.

    Signal handlers belong to the main thread. In another thread, or where interrupts are ignored (a job in the
    background), nothing is installed. What was there before is put back at the end.
    """

    def __init__(self) -> None:
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
            log.warning("stopping when the cell in hand is finished; interrupt once more to stop now")

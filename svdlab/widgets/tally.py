"""Tally: what a running sweep has done so far: counts, time left, and its last cells as a table."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from svdlab.metrics import registry
from svdlab.widgets.eta import duration

if TYPE_CHECKING:
    from svdlab.sweep.plan import Plan

LAST = 10  # rows of the table
_WORDS = ("image", "schedule", "status", "error")  # columns without numbers
_BESIDE = ("flow_mean", "warp_error")  # motion is always shown beside consistency


class Tally:
    """Counts cells as they are finished.

    Args:
        clock: seconds from some fixed time.

    Example:
        >>> tally = Tally()
        >>> tally.begin(plan)
        >>> tally.add(row)
        >>> tally.words()
        '5 of 48 cells, about 20 s left'
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows: list[dict[str, Any]] = []
        self._count = self._done = self._failed = self._total = self._todo = 0
        self._axes: list[str] = []
        self._metrics: list[str] = []
        self._seconds: float | None = None
        self._since = clock()

    def begin(self, plan: Plan) -> None:
        """Start to count the cells of a plan."""
        self._rows, self._count = [], 0
        self._done, self._total, self._todo = plan.done, plan.total, plan.todo
        self._failed = plan.total - plan.done - plan.todo
        self._axes = list(plan.axes)
        chosen = [name for name in _BESIDE if name in plan.metrics]
        self._metrics = chosen or list(plan.metrics[:2])
        self._seconds = plan.seconds
        self._since = self._clock()

    def add(self, row: dict[str, Any]) -> None:
        """Count a cell; `row` has the columns of the DataFrame."""
        self._count += 1
        self._done += row["status"] == "done"
        self._failed += row["status"] == "failed"
        self._rows = [*self._rows, row][-LAST:]

    @property
    def begun(self) -> bool:
        """Whether any cell is done or has failed."""
        return self._done + self._failed > 0

    @property
    def progress(self) -> float:
        """Part of all cells that is done or has failed, 0 to 1."""
        return (self._done + self._failed) / self._total if self._total else 1.0

    def words(self) -> str:
        """Where the sweep stands, and what is left by the time that its cells took."""
        left = self._todo - self._count
        seconds = (self._clock() - self._since) / self._count * left if self._count else self._seconds
        eta = f", about {duration(seconds)} left" if left and seconds is not None else ""
        return f"{self.summary()}{eta}"

    def result(self, interrupted: bool) -> str:
        """How a run ended."""
        if interrupted:
            return f"stopped: {self.summary()}; starting goes on from here"
        return f"finished: {self.summary()}"

    def summary(self) -> str:
        """Counts alone."""
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done} of {self._total} cells{failed}"

    def caption(self) -> str:
        """What the table shows."""
        return f"The last {len(self._rows)} cells" if len(self._rows) > 1 else "The last cell"

    def head(self) -> tuple[list[str], list[int]]:
        """Titles of the table's columns, metrics with their units, and which columns hold words."""
        metrics = [f"{name} ({unit})" if (unit := registry.get(name).unit) else name for name in self._metrics]
        errors = ["error"] if any(row["error"] for row in self._rows) else []
        titles = [*self._axes, "status", *metrics, "seconds", *errors]
        return titles, [place for place, title in enumerate(titles) if title in _WORDS]

    def table(self) -> list[list[str]]:
        """The last cells, newest first, as texts."""
        names = [*self._axes, "status", *self._metrics, "seconds"]
        errors = ["error"] if any(row["error"] for row in self._rows) else []
        return [[_text(row.get(name)) for name in [*names, *errors]] for row in reversed(self._rows)]

    def label(self, row: dict[str, Any]) -> str:
        """A cell by what varies."""
        return " ".join(f"{name}={row[name]}" for name in self._axes) or str(row["image"])


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""Progress of a sweep: a bar with an estimate of the time left, counts, and the last metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tqdm.auto import tqdm

from svdlab.sweep.drive import Worker

_FIRST = ("flow_mean", "warp_error")  # motion is always shown beside consistency


class Bar:
    """A progress bar over the cells that are to do; shows counts and the last values of two metrics.

    Attributes:
        workers: those of another engine; their number is shown, and the share of their time that makes cells.
    """

    def __init__(self, *, total: int, metrics: Sequence[str], show: bool, title: str) -> None:
        chosen = [name for name in _FIRST if name in metrics]
        self._shown = chosen or list(metrics[:2])
        self._counts = {"done": 0, "failed": 0}
        self.workers: Sequence[Worker] = ()
        self._bar = tqdm(total=total, desc=title, unit="cell", disable=not (show and total), dynamic_ncols=True)

    def step(self, status: str, metrics: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """One more cell is `done` or `failed`, with these metrics."""
        self._counts[status] += 1
        values = {name: (metrics or {}).get(name, {}).get("value") for name in self._shown}
        shown = {name: f"{value:.4g}" for name, value in values.items() if value is not None}
        self._bar.set_postfix({**self._counts, **_busy(self.workers), **shown}, refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def _busy(workers: Sequence[Worker]) -> dict[str, Any]:
    if not workers:
        return {}
    shares = [worker.utilisation for worker in workers]
    return {"workers": len(workers), "busy": f"{sum(shares) / len(shares):.0%}"}


def counted(items: Iterable[Any], *, show: bool, title: str) -> Iterable[Any]:
    """The items, with a plain bar."""
    return tqdm(items, desc=title, unit="cell", disable=not show, dynamic_ncols=True)

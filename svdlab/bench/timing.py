"""Timing: two ways to do one thing, measured in turns, so that what disturbs the machine disturbs both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of some repeats: their median and range."""

    median: float
    low: float
    high: float
    count: int

    def per(self, units: float) -> Timing:
        """The seconds of one of `units` equal parts."""
        return Timing(median=self.median / units, low=self.low / units, high=self.high / units, count=self.count)


def in_turns(
    sides: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    warm_up: int = 1,
    synchronize: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Time each side `repeats` times, A B A B, after `warm_up` runs of each that do not count.

    Args:
        sides: name -> what to do.
        synchronize: waits for the device.

    Example:
        >>> times = in_turns({"sum": lambda: sum(range(1000)), "max": lambda: max(range(1000))}, repeats=3)
        >>> times["sum"].count
        3
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warm_up + repeats):
        for name, work in sides.items():
            synchronize()
            began = time.perf_counter()
            work()
            synchronize()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return {
        name: Timing(median=statistics.median(times), low=min(times), high=max(times), count=len(times))
        for name, times in seconds.items()
    }

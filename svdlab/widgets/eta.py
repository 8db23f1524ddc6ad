"""Eta: how far a clip is and how long it still takes, judged by the steps that were made."""

from __future__ import annotations

import time
from collections.abc import Callable


class Eta:
    """Progress of one clip: its steps, then decoding.

    Args:
        steps: denoiser steps that it takes.
        decode: seconds that decoding took for the last clip of this kind; None: not known yet.
        clock: seconds from some fixed time.

    Example:
        >>> eta = Eta(4)
        >>> eta.step(1)
        'step 1 of 4, about 3 s left, then decoding'
    """

    def __init__(
        self, steps: int, *, decode: float | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.steps = steps
        self.decode = decode
        self._clock = clock
        self._began = clock()
        self._first: tuple[int, float] | None = None

    def step(self, made: int) -> str:
        """Note that `made` steps are made, and say what is left.

        The first step pays for conditioning and warming up, so from the second on only later ones are counted.
        """
        now = self._clock()
        if self._first is None:
            self._first = (made, now)
        steps_since, seconds_since = made - self._first[0], now - self._first[1]
        each = seconds_since / steps_since if steps_since else (now - self._began) / made
        left = (self.steps - made) * each
        words = f"step {made} of {self.steps}"
        if self.decode is not None:
            return f"{words}, about {duration(left + self.decode)} left"
        if made == self.steps:
            return f"{words}, decoding"
        return f"{words}, about {duration(left)} left, then decoding"


def duration(seconds: float) -> str:
    """Seconds in words: tenths below 10 s, then whole seconds, minutes and hours.

    Example:
        >>> duration(3.24), duration(75), duration(3600)
        ('3.2 s', '1 min 15 s', '1 h 0 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

"""Bench: svdlab beside what a person would write today, in one process and in turns.

Example:
    >>> from svdlab.bench import Settings, run_bench
    >>> run_bench(pipe, Settings(rows=("conditioning", "clip"))).table()
"""

from __future__ import annotations

from svdlab.bench.rows import COLD, HEADER, ROWS, Bench, Row, Settings, run_bench
from svdlab.bench.timing import Timing, in_turns

__all__ = ["COLD", "HEADER", "ROWS", "Bench", "Row", "Settings", "Timing", "in_turns", "run_bench"]

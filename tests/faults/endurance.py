"""Endurance: many small cells in one run, with what the process holds after each.

    python -m tests.faults.endurance --cells 2000

prints resident memory, open files and threads after the first hundred cells and at the end, and the processor time of a
cell early and late. Ends with code 1 if something grows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import torch

import svdlab as sl
from tests.sweep.conftest import draw_pictures

WARM = 100  # cells until caches are full and everything is imported
GROWTH_MB = 50
SMALLEST = {"num_frames": 1, "width": 16, "height": 16, "steps": 1, "metrics": ["flow_mean"], "progress": False}


def held() -> dict[str, float]:
    """What this process holds: resident memory in MB, open files, threads."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - names alone
        "threads": threading.active_count(),
    }


def endure(folder: Path, cells: int, *, warm: int = WARM) -> dict[str, Any]:
    """Run so many cells; what was held after the first `warm` and at the end, and the time of cells early and late."""
    pipe = sl.load("tiny-random", device="cpu")
    notes: list[dict[str, float]] = []
    times: list[float] = []
    began = time.process_time()

    def on_cell(row: dict[str, Any]) -> None:
        nonlocal began
        assert row["status"] == "done", row["error"]
        times.append(time.process_time() - began)
        notes.append(held())
        began = time.process_time()

    picture = draw_pictures(folder / "pictures") / "rocket.png"
    sl.sweep(pipe, image=picture, seed=range(cells), out=folder / "run", on_cell=on_cell, **SMALLEST)
    tenth = max(cells // 10, 1)
    return {
        "cells": len(notes),
        "early": notes[warm],
        "late": {name: max(note[name] for note in notes[-tenth:]) for name in notes[0]},
        "early_ms": 1000 * statistics.median(times[warm : warm + tenth]),
        "late_ms": 1000 * statistics.median(times[-tenth:]),
    }


def grown(found: dict[str, Any]) -> list[str]:
    """What grew, in words."""
    early, late = found["early"], found["late"]
    wrong = [f"{name}: {early[name]} -> {late[name]}" for name in ("files", "threads") if late[name] > early[name]]
    if late["rss_mb"] > early["rss_mb"] + GROWTH_MB:
        wrong.append(f"memory: {early['rss_mb']:.0f} -> {late['rss_mb']:.0f} MB")
    if found["late_ms"] > 1.5 * found["early_ms"]:
        wrong.append(f"time a cell: {found['early_ms']:.1f} -> {found['late_ms']:.1f} ms")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.endurance", description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=2000)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="svdlab-endurance-") as folder:
        found = endure(Path(folder), parser.parse_args().cells)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if wrong := grown(found):
        sys.exit("grew: " + "; ".join(wrong))


if __name__ == "__main__":
    main()

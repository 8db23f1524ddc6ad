"""Stopwatch: seconds and memory of a device, measured after it has finished."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Wall-clock laps that wait for the device, and its peak memory."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.laps: dict[str, float] = {}
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self.restart()

    def restart(self) -> None:
        """Begin a lap now."""
        self.synchronize()
        self._began = time.perf_counter()

    def split(self) -> float:
        """Seconds since the lap began; the next one begins."""
        began = self._began
        self.restart()
        return self._began - began

    def lap(self, name: str) -> None:
        """Add the seconds since the lap began to `laps[name]`."""
        self.laps[name] = self.laps.get(name, 0.0) + self.split()

    def vram_peak_mb(self) -> float | None:
        """Peak of allocated CUDA memory since the start, in MB (10^6 bytes); None on other devices."""
        return torch.cuda.max_memory_allocated(self.device) / 1e6 if self.device.type == "cuda" else None

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

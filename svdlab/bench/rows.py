"""Rows: what the bench measures, once both sides are seen to agree."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from svdlab.bench.limits import copy_peak, matmul_peak
from svdlab.bench.timing import Timing
from svdlab.errors import BenchError

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline

ROWS = (
    *("conditioning", "unet_call", "decode_frame", "metrics", "mp4", "clip"),
    *("grid", "grid_limit", "grid_preview", "cold_start", "peak_memory"),
)
COLD = ("cold_start", "peak_memory")  # of a fresh process, on a CPU


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and on what.

    Attributes:
        rows: names out of `ROWS`.
        repeats: timed runs of each side; the grid is run once.
        num_frames, width, height: of the clips; None: the model's own.
        grid: axes of the row `grid`.

    Example:
        >>> Settings(rows=("clip",), repeats=5)
    """

    rows: tuple[str, ...] = ROWS
    repeats: int = 3
    num_frames: int | None = None
    width: int | None = None
    height: int | None = None
    grid: Mapping[str, tuple[Any, ...]] = dataclasses.field(
        default_factory=lambda: {
            "motion_bucket_id": (32, 127, 224),
            "cond_aug": (0.02, 0.1, 0.3),
            "steps": (1, 2, 4, 8),
            "seed": (0, 1),
        }
    )

    def __post_init__(self) -> None:
        if not self.rows or any(name not in ROWS for name in self.rows):
            raise BenchError(f"rows = {', '.join(self.rows)!r}: must be some of {', '.join(ROWS)}.")
        if self.repeats < 1:
            raise BenchError(f"repeats = {self.repeats}: must be a whole number from 1.")
        needed = {"unet_call", "decode_frame", "grid"}
        if "grid_limit" in self.rows and not needed <= set(self.rows):
            raise BenchError("rows: grid_limit is computed from unet_call, decode_frame and grid; name these too.")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement.

    Attributes:
        name, what: of `ROWS`, and in words.
        baseline, svdlab: seconds of both sides; of `grid_limit`, those that the parts allow and those of the grid.
        tflop: arithmetic of svdlab's side in 10^12 operations, a multiplication with an addition counted as two.
        gigabytes: what svdlab's side reads and writes in 10^9 bytes, each operation its inputs and its result once.
        unit: of the timings: ``"s"``, or ``"MB"`` of memory.
        note: what a reader must know.
    """

    name: str
    what: str
    baseline: Timing
    svdlab: Timing
    tflop: float | None = None
    gigabytes: float | None = None
    unit: str = "s"
    note: str = ""

    @property
    def ratio(self) -> float:
        """Baseline / svdlab: above 1, svdlab is faster."""
        return self.baseline.median / self.svdlab.median

    @property
    def tflops(self) -> float | None:
        """Achieved 10^12 operations a second."""
        return None if self.tflop is None else self.tflop / self.svdlab.median

    @property
    def gbytes(self) -> float | None:
        """Achieved 10^9 bytes a second."""
        return None if self.gigabytes is None else self.gigabytes / self.svdlab.median


@dataclass(frozen=True, kw_only=True)
class Bench:
    """All rows, and the machine they were measured on.

    `peak_tflops` is that of a large matrix product, `peak_gbytes` that of a large copy (10^9 bytes read and written a
    second).
    """

    rows: tuple[Row, ...]
    machine: Mapping[str, Any]
    peak_tflops: float
    peak_gbytes: float

    def table(self) -> list[tuple[str, ...]]:
        """The rows as texts under `HEADER`; the spread is half the range of the repeats."""
        return [
            (
                row.what,
                _value(row.baseline, row.unit),
                _value(row.svdlab, row.unit),
                f"{row.ratio:.2f}",
                *_of_peak(row.tflops, self.peak_tflops),
                *_of_peak(row.gbytes, self.peak_gbytes),
            )
            for row in self.rows
        ]

    def notes(self) -> list[str]:
        """What a reader must know about single rows."""
        return [f"{row.what}: {row.note}" for row in self.rows if row.note]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "rows": [
                {
                    "name": row.name,
                    "what": row.what,
                    **_sides(row),
                    "ratio": row.ratio,
                    "repeats": row.svdlab.count,
                    "tflops": row.tflops,
                    "gbytes": row.gbytes,
                    "note": row.note,
                }
                for row in self.rows
            ],
            "machine": dict(self.machine),
            "peak_tflops": self.peak_tflops,
            "peak_gbytes": self.peak_gbytes,
        }


HEADER = ("what", "stock, s", "svdlab, s", "ratio", "TFLOP/s", "of peak", "GB/s", "of copy")


def _value(timing: Timing, unit: str) -> str:
    shown = f"{timing.median:.3g}" if unit == "s" else f"{timing.median:.0f} {unit}"
    return shown if timing.count == 1 else f"{shown} +-{(timing.high - timing.low) / 2 / timing.median:.0%}"


def _of_peak(rate: float | None, peak: float) -> tuple[str, str]:
    return ("", "") if rate is None else (f"{rate:.3g}", f"{rate / peak:.0%}")


def _sides(row: Row) -> dict[str, Any]:
    """Both sides under names that carry their unit; seconds have a name even where there are none."""
    end = row.unit.lower()
    sides: dict[str, Any] = {"baseline_s": None, "svdlab_s": None}
    for name, timing in (("baseline", row.baseline), ("svdlab", row.svdlab)):
        sides |= {f"{name}_{end}": timing.median, f"{name}_range_{end}": [timing.low, timing.high]}
    return sides


def run_bench(pipe: Pipeline, settings: Settings | None = None) -> Bench:
    """Measure svdlab beside stock diffusers on the same components, after seeing that their clips agree.

    Raises:
        BenchError: the outputs of the two sides differ, so that their times would not mean the same thing.

    Example:
        >>> run_bench(pipe, Settings(rows=("clip",))).rows[0].ratio
    """
    from svdlab.bench.work import Work

    check_cold(pipe, settings or Settings())
    work = Work(pipe, settings or Settings())
    work.check_agreement()
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(prefix="svdlab-bench-") as folder:
        work.folder = Path(folder)
        for name in ROWS:
            if name in work.settings.rows:
                rows[name] = work.measure(name, rows)
    return Bench(
        rows=tuple(rows.values()),
        machine=_machine(pipe),
        peak_tflops=matmul_peak(pipe.device, pipe.dtype),
        peak_gbytes=copy_peak(pipe.device),
    )


def check_cold(pipe: Pipeline, settings: Settings) -> None:
    """Refuse rows that need a fresh process to load the model, where it exists in memory alone.

    Raises:
        BenchError: the model has random weights of full size.
    """
    on_disk = COLD if pipe.device.type != "cuda" else COLD[:1]
    if pipe.fingerprint.startswith("random-") and (wrong := [name for name in on_disk if name in settings.rows]):
        raise BenchError(
            f"rows = {', '.join(wrong)!r}: a fresh process would have to read the model from disk, and random weights"
            f" of full size are in memory alone. Leave {'it' if len(wrong) == 1 else 'them'} out."
        )


def _machine(pipe: Pipeline) -> dict[str, Any]:
    from svdlab.sweep.provenance import machine, versions

    return {
        **machine(str(pipe.device)),
        "device": str(pipe.device),
        "dtype": pipe.dtype,
        "model": pipe.name,
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }

"""Curves of a training run: a CSV file that survives kills, and a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from svdlab.files import atomic_path, write_atomic

LOGARITHMIC = ("loss", "grad_norm", "learning_rate")


class Curves:
    """Numbers by step. Values may be tensors on a device: they are fetched together, when asked for.

    Example:
        >>> curves = Curves(Path("loss.csv"))
        >>> curves.add(1, {"loss": 0.5}, seconds=lambda: 0.1)
        >>> curves.fetch(); curves.write()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._waiting: list[tuple[int, Mapping[str, Tensor | float], float]] = []
        self._seen = 0

    def add(self, step: int, values: Mapping[str, Tensor | float], seconds: Callable[[], float]) -> None:
        """Note the values of `step` (scalars) and the seconds that the run has taken."""
        self._waiting.append((step, values, seconds()))

    def fetch(self) -> None:
        """Bring what was noted to the CPU, in one go."""
        tensors = [value for _, values, _ in self._waiting for value in values.values() if isinstance(value, Tensor)]
        numbers = iter(torch.stack([value.float().reshape(()) for value in tensors]).tolist() if tensors else [])
        for step, values, seconds in self._waiting:
            found = {key: next(numbers) if isinstance(value, Tensor) else value for key, value in values.items()}
            self.rows.append({"step": step, **found, "seconds": round(seconds, 3)})
        self._waiting.clear()

    def fresh(self) -> list[dict[str, float]]:
        """The rows that came since this was last called."""
        rows = self.rows[self._seen :]
        self._seen = len(self.rows)
        return rows

    def recent(self, name: str) -> float:
        """Mean of the last tenth of the values, at most 100; nan if there are none."""
        values = [row[name] for row in self.rows[-max(1, min(100, len(self.rows) // 10)) :]]
        return sum(values) / len(values) if values else math.nan

    def write(self) -> None:
        """Write all rows to the CSV file; none, no file."""
        self.fetch()
        if not self.rows:
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=_columns(self.rows), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomic(self.path, text.getvalue())

    def read(self, *, up_to: int) -> None:
        """Take the rows of the CSV file up to a step, dropping what came after the checkpoint that is gone on from."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", newline="") as file:
            found = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
        self.rows = [{**row, "step": int(row["step"])} for row in found if row["step"] <= up_to]
        self._seen = len(self.rows)

    def draw(self, title: str) -> None:
        """Draw every column against the step, into a PNG beside the CSV file."""
        if len(self.rows) < 2:
            return
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        names = [name for name in _columns(self.rows) if name not in ("step", "seconds")]
        figure = Figure(figsize=(7, 2.2 * len(names)), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, name in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
            points = [(row["step"], row[name]) for row in self.rows if name in row]
            steps, values = [point[0] for point in points], [point[1] for point in points]
            axes.plot(steps, values, linewidth=0.5, alpha=0.5)
            axes.plot(steps, _smooth(values), linewidth=1.2)
            axes.set_ylabel(name)
            if name in LOGARITHMIC and min(values) > 0:
                axes.set_yscale("log")
        axes.set_xlabel("step")
        figure.suptitle(title)
        with atomic_path(self.path.with_suffix(".png")) as tmp:
            figure.savefig(tmp, dpi=110)


def _columns(rows: list[dict[str, float]]) -> list[str]:
    """All names that occur, in the order of their first row."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _smooth(values: list[float]) -> list[float]:
    """Running mean over about a fiftieth of the values."""
    width = max(1, len(values) // 50)
    total, means = 0.0, []
    for i, value in enumerate(values):
        total += value - (values[i - width] if i >= width else 0.0)
        means.append(total / min(i + 1, width))
    return means

"""Feed: what a viewer is told about a sweep: its table, packed for the way; how far it is; the code of a cell."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import ModelError, SweepError, ViewError
from svdlab.request import SETTINGS
from svdlab.sweep.artifacts import image_path
from svdlab.widgets.view import json_value, metric_columns

if TYPE_CHECKING:
    import pandas as pd

    from svdlab.sweep import Sweep

_PARTS = ("clock.js", "dom.js", "packed.js", "arrange.js", "heat.js", "media.js", "tile.js", "grid.js")
VIEWER_FILES = (*_PARTS, "panel.js", "bar.js", "transport.js", "viewer.js")
"""Files of `static/` that together declare `createViewer` and `unpackTable`, for `svdlab.widgets.bundle.esm`, which
needs one more that exports; the style is in ``viewer.css``."""

SPENT = {"unit": "s", "direction": "lower", "title": "Seconds that were spent, less where work was shared."}


def pack_table(sweep: Sweep, frame: pd.DataFrame) -> dict[str, Any]:
    """A sweep's table, ready for JSON: names once, values by position, numbers as they are.

    Returns:
        `settings`, `metrics`: names of the columns; `rows`: [cell, status, error, values of settings, of metrics], in
        the order of the grid; `axes`: axis -> values; `facts`: metric -> unit, direction, title; `clip`: what all clips
        have in common.
    """
    settings, metrics = setting_columns(frame), metric_columns(frame)
    return {
        "settings": list(settings),
        "metrics": list(metrics),
        "rows": pack_rows(frame, settings, metrics),
        "axes": {name: [json_value(value) for value in values] for name, values in sweep.axes.items()},
        "facts": {name: metric_facts(name) for name in metrics},
        "clip": clip_facts(sweep, frame),
    }


def pack_rows(frame: pd.DataFrame, settings: Sequence[str], metrics: Sequence[str]) -> list[list[Any]]:
    """One list a cell: key, status, error or None, the values of its settings, and of its metrics (None: none)."""
    columns = {name: frame[name].tolist() for name in ("cell", "status", "error", *settings, *metrics)}
    return [
        [
            columns["cell"][k],
            columns["status"][k],
            error if isinstance(error := columns["error"][k], str) else None,
            [json_value(columns[name][k]) for name in settings],
            [value if math.isfinite(value := columns[name][k]) else None for name in metrics],
        ]
        for k in range(len(frame))
    ]


def setting_columns(frame: pd.DataFrame) -> tuple[str, ...]:
    """Names of the picture and the settings that a frame has columns for, in its order."""
    return tuple(name for name in frame.columns if name in ("image", *SETTINGS))


def metric_facts(name: str) -> dict[str, str]:
    """Unit, direction and first sentence of a metric or a cost; empty for one that this process does not know.

    Example:
        >>> metric_facts("flow_mean")["unit"]
        'px/frame'
    """
    from svdlab import metrics

    if name not in metrics.names():
        return SPENT if name == "seconds_spent" else {"unit": "", "direction": "neutral", "title": ""}
    metric = metrics.get(name)
    title = " ".join(metric.description.split("\n\n")[0].split())
    return {"unit": metric.unit, "direction": metric.direction, "title": title}


def clip_facts(sweep: Sweep, frame: pd.DataFrame) -> dict[str, Any] | None:
    """Frames, fps, width and height of the first finished clip; None before there is one."""
    done = frame.loc[frame["status"] == "done", "cell"]
    for cell in done[:3]:  # a damaged folder says nothing about the others
        try:
            request = sweep.manifest(cell)["request"]
        except SweepError:
            continue
        return {"frames": request["num_frames"], **{name: request[name] for name in ("fps", "width", "height")}}
    return None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a sweep is.

    Attributes:
        counts: status -> cells.
        running: whether a process is writing in the directory.
        notice: what a person must know before looking at the clips; None for a trained model.
    """

    counts: dict[str, int]
    running: bool
    notice: str | None = None

    @classmethod
    def of(cls, sweep: Sweep) -> Progress:
        """How far a sweep is now."""
        return cls(counts=sweep.status(), running=is_running(sweep.path), notice=model_notice(sweep))

    @property
    def unfinished(self) -> bool:
        """Whether cells can still come."""
        return self.running or self.counts["pending"] + self.counts["running"] > 0

    @property
    def text(self) -> str:
        """In words: ``"12 of 48 cells, 1 failed, running"``."""
        total = sum(self.counts.values())
        left = [f"{self.counts[name]} {name}" for name in ("failed", "skipped") if self.counts[name]]
        done = self.counts["done"]
        head = f"{total} cells" if done == total else f"{done} of {total} cells"
        state = "running" if self.running else "stopped" if self.unfinished else ""
        return ", ".join(part for part in (head, *left, state) if part)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"text": self.text, "notice": self.notice, "unfinished": self.unfinished}


def is_running(folder: str | os.PathLike[str]) -> bool:
    """Whether a process is writing in a run directory, by what its lock says; nothing is locked or written.

    A process on another machine that shares the directory is taken at its word.
    """
    try:
        holder = json.loads((Path(folder) / "lock").read_text(encoding="utf-8"))
        if holder["host"] != socket.gethostname():
            return True
        os.kill(int(holder["pid"]), 0)  # signal 0 asks only whether there is such a process
    except PermissionError:
        return True
    except (OSError, ValueError, KeyError, TypeError):  # no lock, an empty one, or a process that is gone
        return False
    return True


def model_notice(sweep: Sweep) -> str | None:
    """What must be said about the clips of a model without training; None for every other."""
    from svdlab.models import catalogue

    try:
        kind = catalogue.info(str(sweep.model.get("name"))).kind
    except ModelError:
        return None
    return f"{sweep.model['name']} has random weights: its clips are coloured noise." if kind == "random" else None


def cell_code(sweep: Sweep, frame: pd.DataFrame, cell: str) -> str:
    """Python that makes the clip of a cell again, done or not.

    Settings that the sweep left to the model are left to it here too.

    Raises:
        ViewError: there is no such cell.

    Example:
        >>> print(cell_code(sweep, sweep.frame(), "b7a0db9b006c460c"))
        import svdlab as sl
        <BLANKLINE>
        pipe = sl.load("tiny", dtype="float32")
        clip = pipe("runs/first/images/570e4470b6819612.png", cond_aug=0.02, seed=0, steps=4)
    """
    rows = frame[frame["cell"] == cell]
    if rows.empty:
        raise ViewError(f"cell = {cell!r}: {sweep.path} has no such cell. Take a key from the column `cell`.")
    row = rows.iloc[0]
    settings = {name: json_plain(row[name]) for name in setting_columns(frame) if name != "image"}
    arguments = "".join(f"    {name}={value!r},\n" for name, value in settings.items())
    model, given = sweep.model, ""
    if model.get("revision"):
        given += f", revision={model['revision']!r}"
    if model.get("dtype"):
        given += f", dtype={model['dtype']!r}"
    folder = str(model.get("source") or "").startswith("folder")
    note = "  # a folder: give its path" if folder else ""
    lines = f"pipe = sl.load({model.get('name')!r}{given}){note}\n"
    return f"import svdlab as sl\n\n{lines}clip = pipe(\n    {_picture(sweep, row['image'])!r},\n{arguments})\n"


def json_plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    return value.item() if hasattr(value, "item") else value


def _picture(sweep: Sweep, label: str) -> str:
    """Path of the run directory's own copy of a picture."""
    from svdlab.sweep.ledger import Ledger

    with Ledger(sweep.path) as ledger:
        digests = {name: digest for digest, name in ledger.labels().items()}
    return (sweep.path / image_path(digests[label])).as_posix()

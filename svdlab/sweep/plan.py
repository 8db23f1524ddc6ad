"""Plan: everything about a sweep that can be known, checked and shown before the first second is spent."""

from __future__ import annotations

import html
import json
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import SweepError
from svdlab.sharing import calls_to_make
from svdlab.sweep.artifacts import estimate_bytes
from svdlab.sweep.batches import Batch
from svdlab.sweep.calibrate import Rates, calibrate, rates_of
from svdlab.sweep.cells import Cell, count_pixels
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.prepare import Prepared
from svdlab.sweep.ranges import format_values

if TYPE_CHECKING:
    from rich.table import Table

    from svdlab.pipeline import Pipeline

log = logging.getLogger("svdlab")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep is about to do. Prints as text, as a rich table and as HTML.

    Attributes:
        name, model, device, dtype: of the sweep and its model.
        path: the run directory.
        axes, fixed: setting -> values, setting -> value, under their public names.
        metrics: names of the metrics.
        total, done, failed, todo: cells of the declaration, by what is to happen; failed ones are to do only on retry.
        others: cells of earlier declarations in the same directory; they stay.
        timing: of the sweep, ``"shared"`` or ``"isolated"``.
        batch: cells that are denoised together, or ``"auto"``.
        workers: of another engine than this process; None: this process.
        hosted: whether the model is hosted: every cell is then one paid call, and `calls` counts these.
        calls: denoiser calls that the cells to do need, counted as if every cell ran alone; guided steps count twice.
        calls_made: those that will be made: what cells have in common is made once.
        backfill: finished cells that lack one of the metrics; it is computed from their latents.
        decode: when frames are made, see `svdlab.sweep.spec.Spec`.
        to_decode: finished cells without frames, which get them now.
        seconds: estimated; None if there was nothing to judge by.
        judged_by: what the estimate rests on, in words.
        bytes: estimated size of what will be stored.
        free: bytes free on the disk.
        notes: what deserves a second look.
    """

    name: str
    model: str
    device: str
    dtype: str
    path: str
    axes: Mapping[str, tuple[Any, ...]]
    fixed: Mapping[str, Any]
    metrics: tuple[str, ...]
    total: int
    done: int
    failed: int
    todo: int
    others: int
    calls: int
    calls_made: int
    backfill: int
    seconds: float | None
    bytes: float
    free: int
    timing: str = "shared"
    batch: Batch = 1
    decode: str = "full"
    to_decode: int = 0
    judged_by: str = ""
    hosted: bool = False
    workers: int | None = None
    notes: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, str]]:
        """The plan as pairs of label and text."""
        rows = [("sweep", f"{self.name} -> {self.path}"), ("model", f"{self.model} ({self.device}, {self.dtype})")]
        if self.workers is not None:
            rows.append(("engine", f"ray, room for {self.workers} worker{'' if self.workers == 1 else 's'} now"))
        rows += [(name, f"{format_values(values)}  ({len(values)})") for name, values in self.axes.items()]
        rows += [(name, f"{format_values([value])}  (fixed)") for name, value in self.fixed.items()]
        rows.append(("metrics", ", ".join(self.metrics) or "none"))
        failed = f", {self.failed} failed" if self.failed else ""
        rows.append(("cells", f"{self.total} = {self.done} done{failed}, {self.todo} to do"))
        if self.others:
            rows.append(("", f"{self.others} more of earlier declarations stay in the directory"))
        if self.backfill:
            rows.append(("", f"{self.backfill} finished cells get metrics that they lack"))
        if self.to_decode:
            rows.append(("", f"{self.to_decode} finished cells are decoded"))
        rows.append(("hosted calls" if self.hosted else "denoiser calls", self._calls()))
        if self.decode != "full":
            kept = "latents and a preview are" if self.decode == "preview" else "latents are"
            rows.append(("frames", f"when somebody looks, and the metrics with them; until then {kept} kept"))
        if self.batch != 1 and self.hosted:
            rows.append(("batch", f"cells of equal steps are under way together: up to {self.batch}"))
        elif self.batch != 1:
            size = "chosen by measurement" if self.batch == "auto" else f"up to {self.batch}"
            rows.append(("batch", f"cells of equal noise levels together: {size}"))
        rows.append(("time", self._time()))
        rows.append(("disk", f"about {_size(self.bytes)}, {_size(self.free)} free"))
        return rows + [("note", note) for note in self.notes]

    def _calls(self) -> str:
        if self.hosted:
            return f"{self.calls:,}, one a cell, each paid for"
        if self.todo < 2:
            return f"{self.calls:,}"
        if self.timing == "isolated":
            return f"{self.calls:,}; timing = isolated, so nothing is shared"
        if self.calls_made == self.calls:
            return f"{self.calls:,}; no two cells have one in common"
        return f"{self.calls_made:,} instead of {self.calls:,}: what cells have in common is made once"

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values, ready for JSON.

        Example:
            >>> plan.to_dict()["calls_made"]
            12
        """
        return json.loads(json.dumps(asdict(self)))  # tuples become lists, as they would in a file

    def _time(self) -> str:
        if not self.todo:
            return "nothing to compute"
        if self.seconds is None:
            return "not known before the first cell is done; the progress bar estimates from then on"
        return f"about {_duration(self.seconds)}, judged by {self.judged_by}"

    def text(self) -> str:
        """The plan as plain text."""
        rows = self.rows()
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:<{width}}  {text}" for label, text in rows)

    __str__ = text

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for label, text in self.rows():
            table.add_row(Text(label), Text(text))
        return table

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left">{html.escape(label)}</th>'
            f'<td style="text-align:left">{html.escape(text)}</td></tr>'
            for label, text in self.rows()
        )
        return f"<table>{rows}</table>"


def make_plan(
    prepared: Prepared,
    folder: Path,
    ledger: Ledger | None,
    *,
    retry: str | None = None,
    batch: Batch = 1,
    pipe: Pipeline | None = None,
    workers: int | None = None,
) -> Plan:
    """What running `prepared` in `folder` would do now.

    Args:
        ledger: of the run directory; None if there is none yet.
        retry: ``"failed"`` runs failed cells again.
        batch: cells that are denoised together, or ``"auto"``.
        pipe: makes a trial clip to judge the time by, where no cell is done; None leaves the time open.
        workers: that the cells are shared among; None: this process makes them.
    """
    states = ledger.states() if ledger else {}
    here = Counter(states.get(cell.key, "pending") for cell in prepared.cells)
    todo = [cell for cell in prepared.cells if is_todo(states.get(cell.key), retry)]
    free = shutil.disk_usage(_existing(folder)).free
    model = prepared.model
    notes = [*([prepared.notice] if prepared.notice else []), *prepared.notes]
    if ledger and (other := ledger.other_weights(model["name"], model["fingerprint"])):
        notes.append(
            f"{other} finished cells belong to other weights (or another precision) of {model['name']!r}; they stay,"
            " but count for nothing here"
        )
    rates = rates_for(todo, prepared, ledger, pipe)
    hosted = prepared.hosted
    made = [1] * len(todo) if hosted else calls_made(todo, timing=prepared.spec.timing)
    if rates and rates.bytes:
        disk = rates.bytes * sum(count_pixels(cell.settings) for cell in todo)
    else:
        frames = prepared.spec.decode == "full"
        disk = sum(estimate_bytes(cell.settings, frames=frames) for cell in todo)
    return Plan(
        name=prepared.spec.name,
        model=model["name"],
        device=model["device"],
        dtype=model["dtype"],
        path=str(folder),
        axes=prepared.axes,
        fixed=prepared.fixed,
        metrics=prepared.metrics,
        total=len(prepared.cells),
        done=here["done"],
        failed=here["failed"],
        todo=len(todo),
        others=len(set(states) - {cell.key for cell in prepared.cells}),
        calls=len(todo) if hosted else sum(cell.calls for cell in todo),
        calls_made=sum(made),
        timing=prepared.spec.timing,
        batch=batch,
        decode=prepared.spec.decode,
        to_decode=len(to_decode(prepared, ledger)) if ledger else 0,
        hosted=hosted,
        workers=workers,
        backfill=len(lacking(prepared, ledger, retry=retry)) if ledger else 0,
        seconds=rates.seconds(todo, made) / max(workers or 1, 1) if rates else None,
        judged_by=rates.source if rates else "",
        bytes=disk,
        free=free,
        notes=tuple(notes),
    )


def calls_made(cells: Sequence[Cell], *, timing: str) -> list[int]:
    """Denoiser calls that are made for each cell, after those before it; guided ones count twice.

    Args:
        timing: ``"isolated"``: each cell makes all of its own.
    """
    if timing == "isolated":
        return [cell.calls for cell in cells]
    steps = calls_to_make(cell.chain for cell in cells)
    return [made * (cell.calls // cell.settings["steps"]) for cell, made in zip(cells, steps, strict=True)]


def is_todo(status: str | None, retry: str | None) -> bool:
    """Whether a cell of this status is to be computed. Failed is not pending: it needs `retry="failed"`."""
    return status in (None, "pending", "running") or (status == "failed" and retry == "failed")


def to_decode(prepared: Prepared, ledger: Ledger) -> list[str]:
    """Finished cells of the declaration whose frames an earlier run left for later, and which this one makes."""
    if prepared.spec.decode != "full":
        return []
    undecoded = ledger.undecoded()
    return [cell.key for cell in prepared.cells if cell.key in undecoded]


def lacking(prepared: Prepared, ledger: Ledger, *, retry: str | None) -> dict[str, list[str]]:
    """Finished cells of the declaration -> metrics of the spec that they have no entry for (on retry: no good one).

    Cells without frames are not among them: their metrics come with the frames.
    """
    have = ledger.measured(broken=retry != "failed")
    states, undecoded = ledger.states(), ledger.undecoded()
    lacks = {
        cell.key: [name for name in prepared.metrics if name not in have.get(cell.key, ())]
        for cell in prepared.cells
        if states.get(cell.key) == "done" and cell.key not in undecoded
    }
    return {key: names for key, names in lacks.items() if names}


def check_disk(plan: Plan) -> None:
    """Raise SweepError if what will be stored does not fit on the disk."""
    if plan.bytes > plan.free:
        raise SweepError(
            f"{plan.path}: about {_size(plan.bytes)} are needed and {_size(plan.free)} are free. Free some space,"
            " choose another directory, or make the grid smaller."
        )


def rates_for(todo: list[Cell], prepared: Prepared, ledger: Ledger | None, pipe: Pipeline | None) -> Rates | None:
    """What cells take: judged by those that this model finished on this device, else by a trial with `pipe`."""
    rows = ledger.timings(prepared.model["fingerprint"], prepared.model["device"]) if ledger else []
    decode = prepared.spec.decode
    rates = rates_of(((json.loads(row["settings"]), dict(row)) for row in rows), decode=decode)
    if rates is None and todo and pipe is not None and not pipe.hosted:  # a trial of a hosted model would be paid for
        first = todo[0]
        image = next(picture.image for picture in prepared.pictures if picture.digest == first.image)
        rates = calibrate(first, image, prepared.metrics, pipe, decode=decode)
    return rates


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"

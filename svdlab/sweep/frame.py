"""Frame: a run directory as a DataFrame, one row a cell, and its exports."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import SweepError
from svdlab.files import atomic_path
from svdlab.request import SETTINGS
from svdlab.sweep.artifacts import VIDEO, cell_path
from svdlab.sweep.database import damaged
from svdlab.sweep.ledger import Ledger, is_undecoded

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("svdlab")

COSTS = ("seconds", "seconds_denoise", "seconds_decode", "seconds_spent", "vram_peak_mb")


def build_frame(ledger: Ledger, *, all: bool = False) -> pd.DataFrame:
    """The cells of the current declaration, in the order of the grid.

    Columns: `cell`, `image`, the axes and fixed settings, `status`, the metrics, `seconds`, `seconds_denoise`,
    `seconds_decode` (what the cell would cost alone), `seconds_spent` (what its generation took; metrics and files are
    not in it), `vram_peak_mb`, `video` (relative to the run directory), `error`.

    Args:
        all: also the cells of earlier declarations, after the others. Settings that differ among them become columns
            too, and two columns are added: `declared` (in the current declaration) and `model` (fingerprint).

    Raises:
        SweepError: the ledger is damaged.
    """
    try:
        return _build_frame(ledger, all)
    except (KeyError, ValueError, TypeError) as error:  # the file opens and its tables make no sense
        raise SweepError(damaged(ledger.path, f"{type(error).__name__}: {error}")) from error


def _build_frame(ledger: Ledger, all: bool) -> pd.DataFrame:
    import pandas as pd

    with ledger.transaction():
        cells, labels, declaration = ledger.cells(declared=not all), ledger.labels(), ledger.declaration()
        measured = _by_cell(ledger.metrics())
    settings = [json.loads(cell["settings"]) for cell in cells]
    names = _setting_names(declaration, settings if all else ())
    metrics = _metric_names(declaration, (measured.get(cell["key"], {}) for cell in cells))
    rows = [
        _row(cell, values, labels, measured.get(cell["key"], {}), names=names, metrics=metrics)
        for cell, values in zip(cells, settings, strict=True)
    ]
    columns = ["cell", "image", *names, "status", *metrics, *COSTS, "video", "error"]
    frame = pd.DataFrame({name: [row[name] for row in rows] for name in columns}, columns=columns)
    floats = [*metrics, *COSTS]
    frame[floats] = frame[floats].astype("float64")  # None is NaN
    text = ["cell", "image", "status", "video", "error"]
    frame[text] = frame[text].astype(frame["cell"].dtype)  # also where all is None
    if all:
        frame["declared"] = [cell["position"] is not None for cell in cells]
        frame["model"] = [cell["fingerprint"] for cell in cells]
    return frame


def build_metric_table(ledger: Ledger) -> pd.DataFrame:
    """Every metric value of a run directory with its provenance, see `svdlab.sweep.handle.Sweep.metric_table`."""
    import pandas as pd

    with ledger.transaction():
        known = ledger.references()
        rows = [dict(row) for row in ledger.metrics()]
    for row in rows:
        row["reference"] = known.get((row["cell"], row["name"]), {}).get("cell")
    return pd.DataFrame(rows, columns=["cell", "name", "value", "version", "source", "error", "reference"])


def build_row(ledger: Ledger, key: str) -> dict[str, Any]:
    """One cell as a dict with the names of the frame's columns; None for what is not there."""
    with ledger.transaction():
        cell, labels, declaration = ledger.cell(key), ledger.labels(), ledger.declaration()
        measured = _by_cell(ledger.metrics(key)).get(key, {})
    assert cell is not None
    names, metrics = _setting_names(declaration, ()), _metric_names(declaration, [measured])
    return _row(cell, json.loads(cell["settings"]), labels, measured, names=names, metrics=metrics)


def _row(
    cell: Any,
    settings: Mapping[str, Any],
    labels: Mapping[str, str],
    measured: Mapping[str, Any],
    *,
    names: Sequence[str],
    metrics: Sequence[str],
) -> dict[str, Any]:
    made = cell["status"] == "done" and not is_undecoded(cell)
    return {
        "cell": cell["key"],
        "image": labels[cell["image"]],
        **{name: settings[name] for name in names},
        "status": "pending" if cell["status"] == "running" else cell["status"],
        **{name: measured[name]["value"] if name in measured else None for name in metrics},
        **{name: cell[name] for name in COSTS},
        "video": f"{cell_path(cell['key'])}/{VIDEO}" if made else None,
        "error": _error(cell, measured),
    }


def _error(cell: Any, measured: Mapping[str, Any]) -> str | None:
    """Why the cell failed; for a cell that is done, which of its metrics broke."""
    if cell["status"] == "failed":
        return f"{cell['error_type']}: {cell['error']}"
    broken = [f"metric {name}: {row['error']}" for name, row in measured.items() if row["error"]]
    return "; ".join(broken) or None


def _by_cell(rows: Iterable[Any]) -> dict[str, dict[str, Any]]:
    cells: dict[str, dict[str, Any]] = {}
    for row in rows:
        cells.setdefault(row["cell"], {})[row["name"]] = row
    return cells


def _setting_names(declaration: Mapping[str, Any], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Axes, outermost first, then what is fixed, then what only differs between declarations."""
    drawn = ["seed"] if declaration.get("seed") is not None else []
    names = [*declaration.get("grid", {}), *declaration.get("fixed", {}), *drawn]
    varied = [name for name in SETTINGS if name not in names and len({values[name] for values in settings}) > 1]
    return names + varied


def _metric_names(declaration: Mapping[str, Any], measured: Iterable[Mapping[str, Any]]) -> list[str]:
    """Metrics of the spec in its order, then those that were added later."""
    names = dict.fromkeys(declaration.get("metrics", ()))
    added: set[str] = set()
    for metrics in measured:
        added.update(metrics)
    return [*names, *sorted(added - set(names))]


def metric_columns(frame: pd.DataFrame) -> list[str]:
    """Names of the columns of a frame that are metrics: those between `status` and the costs."""
    columns = list(frame.columns)
    return columns[columns.index("status") + 1 : columns.index(COSTS[0])]


def setting_columns(frame: pd.DataFrame) -> list[str]:
    """Names of the columns of a frame that are settings: those between `image` and `status`."""
    columns = list(frame.columns)
    return columns[columns.index("image") + 1 : columns.index("status")]


def export(ledger: Ledger, folder: Path) -> None:
    """Write the frame as ``results.parquet`` and ``results.csv``, each whole or not at all.

    A full disk is only logged: everything in them is in the ledger.
    """
    try:
        frame = build_frame(ledger)
        versions = metric_versions(ledger, frame["cell"])
        write_parquet(frame, folder / "results.parquet", versions=versions)
        write_csv(frame, folder / "results.csv")
    except (OSError, SweepError) as error:
        why = getattr(error, "strerror", None) or error
        log.warning("%s: results are not exported (%s); Sweep.to_parquet does it later", folder, why)


def metric_versions(ledger: Ledger, cells: Iterable[str]) -> dict[str, set[int]]:
    """Metric -> the versions that its values in these cells have; several until `backfill` has made them one."""
    wanted = set(cells)
    versions: dict[str, set[int]] = {}
    for row in ledger.metrics():
        if row["cell"] in wanted and row["value"] is not None:
            versions.setdefault(row["name"], set()).add(row["version"])
    return versions


def write_parquet(frame: pd.DataFrame, path: Path, *, versions: Mapping[str, Iterable[int]] | None = None) -> None:
    """Write a frame as Parquet, atomically. pandas reads it as ever.

    Each field of the schema carries what `svdlab.sweep.columns` knows about the column: kind, unit, direction, version
    and description.

    Args:
        versions: metric -> versions of its values (`metric_versions`); by default, those of the registry.

    Example:
        >>> pyarrow.parquet.read_schema("results.parquet").field("flow_mean").metadata[b"unit"]
        b'px/frame'
    """
    import pyarrow
    import pyarrow.parquet

    from svdlab.sweep.columns import describe_columns

    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    about = describe_columns(table.schema.names, versions)
    fields = [field.with_metadata(about[field.name].metadata()) for field in table.schema]
    with atomic_path(path) as tmp:
        pyarrow.parquet.write_table(table.cast(pyarrow.schema(fields, metadata=table.schema.metadata)), tmp)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV, atomically."""
    with atomic_path(path) as tmp:
        frame.to_csv(tmp, index=False)

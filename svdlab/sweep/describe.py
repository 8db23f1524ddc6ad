"""Describe: a sweep as one plain JSON file that says what is in its directory, for those to whom it is published.

The layout is that of dataset descriptions such as Croissant (name, description, license, distribution, recordSet with
fields) in plain JSON; `description.schema.json` beside this file is its JSON Schema.
"""

from __future__ import annotations

import importlib.resources
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import SweepError
from svdlab.files import sha256_file, write_atomic
from svdlab.sweep.artifacts import MANIFEST, cell_path, image_path, read_manifest
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.lock import now
from svdlab.sweep.progress import counted
from svdlab.sweep.provenance import versions

if TYPE_CHECKING:
    from svdlab.sweep.handle import Sweep

CONFORMS_TO = "svdlab sweep description 1"
FILE = "description.json"
_TABLES = ("results.parquet", "results.csv", "spec.json", "spec.toml")
_FORMATS = {
    ".csv": "text/csv",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".mp4": "video/mp4",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".safetensors": "application/octet-stream",
    ".toml": "application/toml",
}


def description_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every description fits."""
    text = importlib.resources.files("svdlab.sweep").joinpath("description.schema.json").read_text(encoding="utf-8")
    return json.loads(text)


def write_description(
    sweep: Sweep,
    path: str | os.PathLike[str] | None = None,
    *,
    description: str | None = None,
    license: str | None = None,
    progress: bool = True,
) -> Path:
    """Write what is in a run directory as JSON: what it is about, every file with its SHA-256, every column with unit.

    `results.parquet` and `results.csv` are written anew first, so that the description fits them. Files are listed
    relative to the run directory: tables, specification, pictures, and the files of the finished cells of the
    declaration. Every file is read and compared with the manifest of its cell. The ledger is left out: it holds no
    more than the manifests, but the names of machines.

    Args:
        path: where to write; by default ``description.json`` in the run directory.
        description: a few sentences; by default one that names pictures, axes and model.
        license: of the published data, such as ``"CC-BY-4.0"``; None says that none is given.
        progress: show a progress bar.

    Raises:
        SweepError: no cell is done, a file is missing or damaged, or the description cannot be written.

    Example:
        >>> sweep.describe_json(license="CC-BY-4.0")
        PosixPath('runs/first/description.json')
    """
    path = sweep.path / FILE if path is None else Path(path)
    try:
        sweep.to_parquet()
        sweep.to_csv()
        content = describe_sweep(sweep, description=description, license=license, progress=progress)
        write_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise SweepError(f"{path}: the sweep cannot be described ({error.strerror or error}).") from error
    return path


def describe_sweep(
    sweep: Sweep, *, description: str | None = None, license: str | None = None, progress: bool = True
) -> dict[str, Any]:
    """The description as a dict ready for JSON; see `write_description`. Nothing is written."""
    with Ledger(sweep.path) as ledger, ledger.transaction():
        declared, cells = ledger.declaration(), ledger.cells()
    done = [cell for cell in cells if cell["status"] == "done"]
    if not done:
        raise SweepError(f"{sweep.path}: no cell is done, so there is nothing to describe.")
    common = [name for name in _TABLES if (sweep.path / name).exists()]
    pictures = [image_path(digest) for digest in dict.fromkeys(cell["image"] for cell in done)]
    files = [_file(sweep.path, name) for name in [*common, *pictures]]
    for cell in counted(done, show=progress, title="files"):
        files += _cell_files(sweep.path, cell["key"])
    return {
        "conformsTo": CONFORMS_TO,
        "type": "Dataset",
        "name": sweep.name,
        "description": description or _sentence(sweep, declared, len(done), len(cells)),
        "license": license,
        "dateCreated": min(cell["finished"] for cell in done),
        "dateModified": max(cell["finished"] for cell in done),
        "dateDescribed": now(),
        "model": declared.get("described", {}),
        "software": versions(),
        "axes": {name: list(values) for name, values in sweep.axes.items()},
        "fixed": sweep.fixed,
        "distribution": files,
        "recordSet": [_records(sweep.path / "results.parquet")],
    }


def _sentence(sweep: Sweep, declared: Mapping[str, Any], done: int, total: int) -> str:
    axes = ", ".join(f"{name} ({len(values)})" for name, values in sweep.axes.items()) or "none"
    model = declared.get("described", {}).get("name", "unknown")
    count = len(declared.get("images", ()))
    return (
        f"Image-to-video clips of {count} picture{'' if count == 1 else 's'}, made with the model {model} and measured:"
        f" {done} of {total} cells of a grid. Axes with their number of values: {axes}."
    )


def _cell_files(folder: Path, key: str) -> Iterator[dict[str, Any]]:
    place = cell_path(key)
    for name, known in read_manifest(folder, key)["files"].items():
        file = _file(folder, f"{place}/{name}", cell=key)
        if file["sha256"] != known["sha256"]:
            raise SweepError(f"{folder / place / name}: is damaged; its SHA-256 is not the manifest's.")
        yield file
    yield _file(folder, f"{place}/{MANIFEST}", cell=key)


def _file(folder: Path, name: str, *, cell: str | None = None) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise SweepError(f"{path}: is missing, so the sweep cannot be described.")
    return {
        "type": "FileObject",
        "name": path.name,
        "contentUrl": name,
        "encodingFormat": _FORMATS.get(path.suffix, "application/octet-stream"),
        "contentSize": path.stat().st_size,
        "sha256": sha256_file(path),
        **({"cell": cell} if cell else {}),
    }


def _records(path: Path) -> dict[str, Any]:
    """The table of results: its fields are described by the file itself (`svdlab.sweep.frame.write_parquet`)."""
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(path)
    fields = []
    for field in table.schema_arrow:
        about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        fields.append({"type": "Field", "name": field.name, "dataType": _type(field.type), **about})
    return {
        "type": "RecordSet",
        "name": "cells",
        "description": "One row a cell of the grid.",
        "source": path.name,
        "key": "cell",
        "records": table.metadata.num_rows,
        "fields": fields,
    }


def _type(kind: Any) -> str:
    import pyarrow.types as types

    if types.is_boolean(kind):
        return "Boolean"
    if types.is_integer(kind):
        return "Integer"
    return "Float" if types.is_floating(kind) else "Text"

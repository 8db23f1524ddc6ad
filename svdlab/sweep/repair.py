"""Repair: a run directory whose ledger or cells were damaged, brought back from what is whole."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from svdlab.errors import NewerError, SvdlabError, SweepError
from svdlab.files import sha256_file
from svdlab.sweep.artifacts import cell_path, read_manifest, stored_keys
from svdlab.sweep.cells import quiet_request
from svdlab.sweep.database import BESIDE, connect, trouble
from svdlab.sweep.frame import export
from svdlab.sweep.keys import canonical_json, cell_key
from svdlab.sweep.ledger import FILE, Ledger, is_undecoded
from svdlab.sweep.lock import locked
from svdlab.sweep.progress import counted
from svdlab.sweep.schema import row_of
from svdlab.sweep.writing import opened

_DECIDING = ("num_frames", "min_guidance", "max_guidance")  # what a model fills in may depend on these
_DECODED = ("seconds", "seconds_decode", "seconds_spent", "elapsed", "bytes")  # changed when a cell is decoded
_METRIC = ("value", "version", "source", "error")
ASIDE = "damaged"  # folder of a run directory for what repair took out; nothing is deleted


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What `repair` found and did.

    Attributes:
        path: the run directory.
        ledger: what was wrong with the ledger, such as "is missing"; None if it was whole.
        whole: keys of the finished cells whose files are all as their manifests say.
        damaged: key -> what is wrong, of the cells that were taken out and are to be computed again.
        failed: how many failed cells were taken over, with their errors, from a damaged ledger.
        pending: how many cells of the declaration are to do now.
        lost: a sentence for each thing that could not be saved.
    """

    path: Path
    ledger: str | None
    whole: tuple[str, ...]
    damaged: Mapping[str, str]
    failed: int
    pending: int
    lost: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.path}: {len(self.whole)} finished cells are whole"]
        if self.ledger:
            lines.append(f"ledger: {self.ledger}; made again from the manifests")
            if self.failed:
                lines.append(f"failed cells: {self.failed} taken over from the old ledger")
        lines += [f"cell {key}: {why}" for key, why in self.damaged.items()]
        lines += [f"lost: {sentence}" for sentence in self.lost] or ["lost: nothing"]
        if self.pending:
            lines.append(f"to do: {self.pending} cells; the same sweep command goes on")
        return "\n".join(lines)


def repair(path: str | os.PathLike[str], *, progress: bool = True) -> Repair:
    """Check every file of a run directory, and make the ledger again if it is missing, empty or damaged.

    Finished cells are taken from their manifests, what was declared from ``spec.json``, failed cells with their errors
    from the old ledger as far as it can be read. Damaged cells and the damaged ledger are moved into the folder
    ``damaged``; nothing is deleted. A directory that is whole is left as it is.

    Raises:
        SweepError: it is no run directory, another process writes there, it cannot be written, or its ledger is whole
            but of another schema version.

    Example:
        >>> print(repair("runs/first"))
        runs/first: 48 finished cells are whole
        lost: nothing
    """
    folder = Path(path)
    if not any((folder / name).exists() for name in (FILE, "cells", "spec.json")):
        raise SweepError(f"{folder}: is not the directory of a sweep; it has neither {FILE} nor cells.")
    if (folder / FILE).exists() and not trouble(folder / FILE):
        Ledger(folder).close()  # of another version it is refused before anything is moved
    with locked(folder):
        damaged = _take_out(folder, progress=progress)
        wrong = trouble(folder / FILE) or _contradiction(folder)
        old = _Remains.read(folder) if wrong else None
        if wrong:
            _move_ledger(folder)
        with opened(folder) as ledger:
            failed = lost = None
            if old is not None:
                lost, failed = _make_again(folder, ledger, old)
            ledger.how = "repaired"
            counts = ledger.counts()
            export(ledger, folder)
    whole = tuple(sorted(stored_keys(folder)))
    return Repair(
        path=folder,
        ledger=wrong,
        whole=whole,
        damaged=damaged,
        failed=failed or 0,
        pending=counts["pending"],
        lost=(*(f"cell {key}, to be computed again" for key in damaged), *(lost or ())),
    )


def _take_out(folder: Path, *, progress: bool) -> dict[str, str]:
    """Move cells that are not whole out of the way; key -> what is wrong."""
    damaged = {}
    for key in counted(list(stored_keys(folder)), show=progress, title="checking"):
        if why := _what_is_wrong(folder, key):
            damaged[key] = why
            _move_aside(folder, folder / cell_path(key), key)
    return damaged


def _what_is_wrong(folder: Path, key: str) -> str | None:
    try:
        manifest = read_manifest(folder, key)
        files = {name: file["sha256"] for name, file in manifest["files"].items()}
        wrong = [name for name, digest in files.items() if sha256_file(folder / cell_path(key) / name) != digest]
    except NewerError:  # is not damage
        raise
    except SweepError as error:
        return str(error).removeprefix(f"{folder / cell_path(key)}: ")
    except (OSError, KeyError, TypeError) as error:
        return f"cannot be read ({error})"
    return f"{', '.join(wrong)} has other bytes than were written" if wrong else None


def _move_aside(folder: Path, source: Path, name: str) -> None:
    """Move a file or folder into `damaged` under a name that is free there."""
    try:
        (folder / ASIDE).mkdir(exist_ok=True)
        number = 0
        while (target := folder / ASIDE / (f"{name}-{number}" if number else name)).exists():
            number += 1
        source.replace(target)
    except OSError as error:
        raise SweepError(
            f"{source}: is damaged and cannot be moved aside ({error.strerror}). Move it by hand."
        ) from None


def _move_ledger(folder: Path) -> None:
    for end in ("", *BESIDE):
        if (source := folder / f"{FILE}{end}").exists():
            _move_aside(folder, source, source.name)


def _contradiction(folder: Path) -> str | None:
    """What a ledger, whose file is whole, says otherwise than manifests and spec: SQLite knows no checksums."""
    try:
        with Ledger(folder) as ledger:
            labels, declaration = ledger.labels(), ledger.declaration()
            wrong = [key for key in stored_keys(folder) if not _agrees(ledger, read_manifest(folder, key), labels)]
            places = [row["key"] for row in ledger.cells()]
            strange = [key for key in ledger.states() if not re.fullmatch("[0-9a-f]{16}", key)]
    except (ValueError, TypeError, KeyError) as error:
        return f"is damaged ({type(error).__name__}: {error})"
    if wrong or strange:
        return f"is damaged (it contradicts the manifests of {len(wrong)} cells)"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, SvdlabError):
        spec = json.loads((folder / "spec.json").read_bytes())
        cells, missing = declared_cells(
            spec, [read_manifest(folder, key, sizes=False) for key in stored_keys(folder)], []
        )
        if declaration == spec and not missing and places != list(cells):
            return "is damaged (it contradicts spec.json)"
    return None


def _agrees(ledger: Ledger, manifest: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether the ledger has a finished cell as its manifest has it; a cell that it does not have as done is no lie."""
    row = ledger.cell(manifest["cell"])
    if row is None or row["status"] != "done":
        return True
    metrics = manifest["metrics"]
    # Killed between manifest and ledger, while it was decoded: the ledger is behind, and the next writer sees to it.
    behind = _DECODED if is_undecoded(row) else ()
    return (
        all(row[name] == value for name, value in row_of(manifest).items() if name not in behind)
        and manifest["image"]["digest"] in labels
        and all(
            row["name"] in metrics and all(row[part] == metrics[row["name"]].get(part) for part in _METRIC)
            for row in ledger.metrics(manifest["cell"])
        )
    )


@dataclass(frozen=True)
class _Remains:
    """What can still be read of a damaged ledger: labels and sources of pictures, and failed cells."""

    images: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    unreadable: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> _Remains:
        wanted = {
            "pictures' labels": "SELECT digest, label, source FROM image",
            "errors of failed cells": "SELECT * FROM cell WHERE status = 'failed'",
        }
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
        unreadable = []
        for name, query in wanted.items():
            try:
                with contextlib.closing(connect(folder / FILE, write=False)) as db:
                    for row in _rows(db, query):
                        found[name].append(dict(row))
            except (SweepError, sqlite3.Error):
                unreadable.append(name)
        images, failed = found.values()
        return cls(images, failed, tuple(unreadable))


def _rows(db: sqlite3.Connection, query: str) -> Iterator[sqlite3.Row]:
    yield from db.execute(query)


def _make_again(folder: Path, ledger: Ledger, old: _Remains) -> tuple[list[str], int]:
    """Fill a new ledger, into which the finished cells were adopted; what is lost, and the failed cells put back."""
    lost = [f"{name} that only the old ledger had" for name in old.unreadable if name.startswith("errors")]
    lost.append("the history of the directory (who wrote when); readings of the old ledger are kept in `damaged`")
    failed = [row for row in old.failed if isinstance(row["key"], str) and row["key"] not in ledger.states()]
    try:
        spec = json.loads((folder / "spec.json").read_bytes())
        cells, missing = declared_cells(
            spec, [read_manifest(folder, key, sizes=False) for key in stored_keys(folder)], failed
        )
        images = [(image["digest"], image["label"], image["source"]) for image in spec["images"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SvdlabError) as error:
        lost.append(
            f"what was declared (spec.json: {type(error).__name__}: {error}); running the sweep declares it again"
        )
        return lost, 0
    if missing:
        lost.append(f"the names of {missing} cells that are to do; running the sweep declares them again")
    known = ledger.states()
    ledger.declare(cells, [row for key, row in cells.items() if key not in known], images, spec)
    count = 0
    for row in failed:
        if row["key"] in cells:
            ledger.fail(row["key"], error_type=row["error_type"], error=row["error"], traceback=row["traceback"])
            count += 1
    return lost, count


def declared_cells(
    spec: Mapping[str, Any], manifests: list[dict[str, Any]], failed: list[dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], int]:
    """The cells of a stored spec in the order of its grid: key -> the row of the ledger's table; how many are missing.

    The settings that a spec leaves open are taken from cells of the same model that are known; `_DECIDING` ones must be
    equal then, since others follow from them. A cell for which that leaves no single answer is missing.
    """
    name, fingerprint = spec["described"]["name"], spec["described"]["fingerprint"]
    resolved = [m["request"] for m in manifests if m["model"]["fingerprint"] == fingerprint]
    resolved += [json.loads(row["settings"]) for row in failed if row["fingerprint"] == fingerprint]
    stored = {m["cell"] for m in manifests} | {row["key"] for row in failed}
    drawn = {} if spec.get("seed") is None else {"seed": spec["seed"]}
    templates = _templates(resolved, {*spec["grid"], *spec["fixed"], *drawn})
    cells, missing = {}, 0
    for image, values in product(spec["images"], product(*spec["grid"].values())):
        point = {**drawn, **spec["fixed"], **dict(zip(spec["grid"], values, strict=True))}
        answers = {
            cell_key(settings, image=image["digest"], model=fingerprint): settings
            for template in templates
            if all(template[setting] == point.get(setting, template[setting]) for setting in _DECIDING)
            for settings in [quiet_request("unnamed", {**template, **point}).settings()]
        }
        keys = [key for key in answers if key in stored] or list(answers)
        if len(keys) != 1:
            missing += 1
            continue
        row = {"key": keys[0], "image": image["digest"], "settings": canonical_json(answers[keys[0]])}
        cells[keys[0]] = {**row, "model": name, "fingerprint": fingerprint}
    return cells, missing


def _templates(resolved: list[dict[str, Any]], given: set[str]) -> list[dict[str, Any]]:
    """One of each way in which known cells were filled up where a spec is silent."""
    different: dict[str, dict[str, Any]] = {}
    for settings in resolved:
        matters = {name: value for name, value in settings.items() if name not in given or name in _DECIDING}
        different.setdefault(canonical_json(matters), settings)
    return list(different.values())

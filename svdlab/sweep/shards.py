"""Shards: run directories of one model, put together into one that opens, reports and goes on like any other."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from svdlab.errors import SweepError
from svdlab.files import write_atomic
from svdlab.sweep.api import name_of
from svdlab.sweep.artifacts import LATENTS, TMP, VIDEO, cell_path, image_path, read_manifest, stored_keys
from svdlab.sweep.frame import export
from svdlab.sweep.grid import ORDER
from svdlab.sweep.ledger import FILE, Ledger
from svdlab.sweep.progress import counted
from svdlab.sweep.repair import declared_cells
from svdlab.sweep.tables import check_references, read_table
from svdlab.sweep.writing import check_folder, disk_in_words, writing

log = logging.getLogger("svdlab")

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)  # another disk, or one without hard links


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What `merge_runs` did.

    Attributes:
        path: the run directory that holds everything.
        runs: how many were put together.
        added: finished cells that it did not have before.
        cells: finished cells that it has.
        failed: failed cells that were taken over with their errors.
        pending: cells of the grid that no run has finished; running the sweep computes them.
    """

    path: Path
    runs: int
    added: int
    cells: int
    failed: int
    pending: int

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.cells} finished cells of {self.runs} runs, {self.added} of them new"]
        if self.failed:
            lines.append(f"failed: {self.failed} cells, with their errors")
        if self.pending:
            lines.append(f"to do: {self.pending} cells of the grid; `svdlab sweep {self.path}` goes on with them")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """A run directory as it is read: what it declared, its finished cells, and the failed ones."""

    path: Path
    declaration: dict[str, Any]
    manifests: dict[str, dict[str, Any]]
    failed: list[dict[str, Any]]
    settings: list[dict[str, Any]]  # of the cells that it declared

    @classmethod
    def read(cls, path: Path, *, progress: bool) -> _Shard:
        with Ledger(path) as ledger, ledger.transaction():
            declaration, rows = ledger.declaration(), ledger.cells()
            done = {key for key, status in ledger.states().items() if status == "done"}
        if not declaration:
            raise SweepError(f"{path}: nothing was declared there yet; run its sweep, or leave it out.")
        shown = counted(sorted(done & set(stored_keys(path))), show=progress, title=path.name)
        try:
            manifests = {key: read_manifest(path, key) for key in shown}
        except SweepError as error:
            raise SweepError(f"{error} `svdlab repair {path}` takes damaged cells out.") from None
        return cls(
            path=path,
            declaration=declaration,
            manifests=manifests,
            failed=[dict(row) for row in rows if row["status"] == "failed"],
            settings=[json.loads(row["settings"]) for row in rows],
        )


def merge_runs(runs: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str], *, progress: bool = True) -> Merged:
    """Put run directories of one model together into `out`, a run directory like any other.

    Cells are told apart by their keys; their files are hard links where the disk allows, else copies. The grid of the
    result is made of all values that occur, so cells that no run has computed are to do there. The runs are only read,
    also while they are written; called again, the same call adds what is new.

    Args:
        runs: run directories, at least one.
        out: new, empty, or the result of an earlier call.

    Raises:
        SweepError: a run has another model, other weights, precision or timing; a cell has other latents in one run
            than in another, a metric other versions or references; a directory is none, is damaged, or cannot be
            written. Nothing is written then.

    Example:
        >>> print(merge_runs(["runs/part-0", "runs/part-1"], "runs/whole"))
        runs/whole: 96 finished cells of 2 runs, 96 of them new
    """
    out = Path(out)
    paths = _paths(runs, out)
    check_folder(out)
    shards = [_Shard.read(path, progress=progress) for path in paths]
    before = [_Shard.read(out, progress=False)] if (out / FILE).exists() else []
    everything = [*before, *shards]
    _check_alike(everything)
    chosen = _choose(everything)
    declaration = _declare(everything, name=name_of(out))
    with writing(out) as ledger, disk_in_words(out):
        have = before[0].manifests if before else {}
        new = {key: shard for key, shard in chosen.items() if shard.path != out}
        _take_pictures(everything, declaration, out)
        # First of all: what is cut short goes on with the same call.
        failed = _enter(ledger, declaration, everything, chosen, out)
        for key in counted(list(new), show=progress, title="merging"):
            _take_cell(new[key].path, out, key)
            ledger.finish(new[key].manifests[key], what="adopted")
        pending = ledger.counts()["pending"]
        export(ledger, out)
    return Merged(
        path=out,
        runs=len(shards),
        added=len(set(new) - set(have)),
        cells=len(chosen),
        failed=failed,
        pending=pending,
    )


def _paths(runs: Iterable[str | os.PathLike[str]], out: Path) -> list[Path]:
    if isinstance(runs, str | os.PathLike):
        raise SweepError(f"runs = {runs!r}: must be a list of run directories, such as [{runs!r}].")
    paths = [Path(run) for run in runs]
    if not paths:
        raise SweepError("runs: there are none; give at least one run directory.")
    places = [path.resolve() for path in paths]
    if twice := [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]:
        raise SweepError(f"runs: {twice[0]} is listed twice; each run goes in once.")
    if out.resolve() in places:
        raise SweepError(f"out = {out}: is one of the runs. Give another directory; the runs are only read.")
    return paths


def _check_alike(shards: Sequence[_Shard]) -> None:
    """One model with one set of weights, one timing, metrics that compare."""
    first = shards[0]
    for shard in shards:
        mine, theirs = first.declaration["described"], shard.declaration["described"]
        for name in ("name", "fingerprint"):
            if mine[name] != theirs[name]:
                raise SweepError(
                    f"{shard.path}: its model has the {name} {theirs[name]}, and that of {first.path} {mine[name]}."
                    " Only runs of the same weights and precision become one; svdlab.sweep.merge puts others into one"
                    " table."
                )
        if first.declaration["timing"] != shard.declaration["timing"]:
            raise SweepError(f"{shard.path}: has timing = {shard.declaration['timing']!r}, unlike {first.path}.")
        strange = [k for k, m in shard.manifests.items() if m["model"]["fingerprint"] != mine["fingerprint"]]
        if strange:
            raise SweepError(
                f"{shard.path}: holds {len(strange)} cells of other weights, of an earlier declaration ({strange[0]})."
                " Only runs of the same weights become one."
            )
    check_references({str(shard.path): read_table(shard.path) for shard in shards})
    _check_versions(shards)


def _check_versions(shards: Sequence[_Shard]) -> None:
    known: dict[str, tuple[int, Path]] = {}
    for shard in shards:
        for manifest in shard.manifests.values():
            for name, metric in manifest["metrics"].items():
                version, where = known.setdefault(name, (metric["version"], shard.path))
                if version != metric["version"]:
                    raise SweepError(
                        f"{shard.path}: holds {name} of version {metric['version']}, and {where} of version {version}."
                        f" Sweep.backfill([{name!r}]) computes the older ones again."
                    )


def _choose(shards: Sequence[_Shard]) -> dict[str, _Shard]:
    """Key of every finished cell -> where it is taken from: the first that has it, or the first that has its frames.

    What is in `out` already stays, unless it lacks frames that a run has.
    """
    chosen: dict[str, _Shard] = {}
    for shard in shards:
        for key, manifest in shard.manifests.items():
            if key not in chosen:
                chosen[key] = shard
                continue
            other = chosen[key]
            if _content(manifest) != _content(other.manifests[key]):
                raise SweepError(
                    f"cell {key}: has other {'latents' if LATENTS in manifest['files'] else 'frames'} in {shard.path}"
                    f" than in {other.path}. Devices and versions round differently (`svdlab explain RUN {key}` names"
                    " them); take the cell out of one of the runs, or leave a run out."
                )
            if VIDEO in manifest["files"] and VIDEO not in other.manifests[key]["files"]:
                chosen[key] = shard
    return chosen


def _content(manifest: Mapping[str, Any]) -> str | None:
    """The hash of what a cell is: its latents; of a hosted one, its mp4."""
    files = manifest["files"]
    file = files.get(LATENTS) or files.get(VIDEO)
    return None if file is None else file["sha256"]


def _declare(shards: Sequence[_Shard], *, name: str) -> dict[str, Any]:
    """The declaration of the whole: all values of all settings that any of the runs names."""
    parts = [shard.declaration for shard in shards]
    named = {setting for part in parts for setting in (*part["grid"], *part["fixed"])}
    drawn = {part["seed"] for part in parts}
    if len(drawn) > 1:  # each drew its own, or some have seeds: it is an axis of the whole
        named.add("seed")
    axes, fixed = {}, {}
    for setting in (*(known for known in ORDER if known in named), *sorted(named - set(ORDER))):
        values = _values(shards, setting)
        if len(values) > 1 or any(setting in part["grid"] for part in parts):
            axes[setting] = values
        else:
            fixed[setting] = values[0]
    decodes = {part.get("decode", "full") for part in parts}
    weights = {part["preview_weights"] for part in parts if "preview_weights" in part}
    return {
        **parts[0],
        "name": name,
        "images": _images(parts),
        "grid": axes,
        "fixed": fixed,
        "seed": None if "seed" in named else parts[0]["seed"],
        "metrics": list(dict.fromkeys(chain.from_iterable(part["metrics"] for part in parts))),
        "decode": decodes.pop() if len(decodes) == 1 and not weights else "full",
        "engine": "local",
    }


def _values(shards: Sequence[_Shard], setting: str) -> list[Any]:
    """All values of a setting, in the order in which they occur; of a run that does not name it, those of its cells."""
    values: dict[Any, None] = {}
    for shard in shards:
        part = shard.declaration
        if setting in part["grid"]:
            given = part["grid"][setting]
        elif setting in part["fixed"]:
            given = [part["fixed"][setting]]
        else:
            given = [settings[setting] for settings in shard.settings]
        values.update(dict.fromkeys(given))
    return list(values)


def _images(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every picture once; different ones of one label are told apart by a part of their digest."""
    images: dict[str, dict[str, Any]] = {}
    for image in chain.from_iterable(part["images"] for part in parts):
        images.setdefault(image["digest"], dict(image))
    labels: set[str] = set()
    for digest, image in images.items():
        if image["label"] in labels:
            image["label"] = f"{image['label']}-{digest[:8]}"
        labels.add(image["label"])
        image["source"] = None if str(image["source"] or "").startswith(".") else image["source"]  # seen from the run
    return list(images.values())


def _take_pictures(shards: Sequence[_Shard], declaration: Mapping[str, Any], out: Path) -> None:
    """Link the pictures of the declaration."""
    (out / "images").mkdir(exist_ok=True)
    for image in declaration["images"]:
        place = image_path(image["digest"])
        if not (out / place).exists():
            source = next(shard.path / place for shard in shards if (shard.path / place).exists())
            _link(source, out / place)


def _take_cell(source: Path, out: Path, key: str) -> None:
    """Link a cell's folder, in place as a whole; one that is there already, without frames, is taken away."""
    target = out / cell_path(key)
    target.parent.mkdir(parents=True, exist_ok=True)
    tmp = out / "cells" / f"{TMP}{key}-merge"
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir()
    for file in sorted((source / cell_path(key)).iterdir()):
        if not file.name.startswith(TMP):
            _link(file, tmp / file.name)
    if target.exists():
        shutil.rmtree(target)
    tmp.replace(target)


def _link(source: Path, target: Path) -> None:
    """A hard link: nothing writes into a file of a cell, files are only replaced. A copy on another disk."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)


def _enter(
    ledger: Ledger,
    declaration: Mapping[str, Any],
    shards: Sequence[_Shard],
    chosen: Mapping[str, _Shard],
    out: Path,
) -> int:
    """Declare the whole grid, and take failed cells over that no run has done; how many were."""
    manifests = [shard.manifests[key] for key, shard in chosen.items()]
    failed = {row["key"]: row for shard in shards for row in shard.failed if row["key"] not in chosen}
    cells, missing = declared_cells(declaration, manifests, list(failed.values()))
    if missing:
        log.warning("%s: %d cells of the grid cannot be named before `svdlab sweep %s` runs", out, missing, out)
    write_atomic(out / "spec.json", json.dumps(declaration, indent=1) + "\n")
    known = ledger.states()
    images = [(image["digest"], image["label"], image["source"]) for image in declaration["images"]]
    ledger.declare(cells, [row for key, row in cells.items() if key not in known], images, declaration)
    new = [row for key, row in failed.items() if key in cells and known.get(key) != "failed"]
    for row in new:
        ledger.fail(row["key"], error_type=row["error_type"], error=row["error"], traceback=row["traceback"])
    return len(new)

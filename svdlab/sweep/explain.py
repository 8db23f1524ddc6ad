"""Explain: where one cell of a sweep comes from, told from its manifest, its row in the ledger and its files."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import ImageError, SweepError
from svdlab.files import sha256_file
from svdlab.sweep import artifacts
from svdlab.sweep.columns import describe_columns
from svdlab.sweep.ledger import Ledger

if TYPE_CHECKING:
    from svdlab.sweep.handle import Sweep

UNKNOWN = "not recorded"  # stored by an svdlab that did not write it down
Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Where a cell comes from. Prints as text, and as tables in a notebook.

    Attributes:
        cell: its whole key.
        status: of the cell.
        sections: title -> rows of texts: the name first, then what there is to say.
        problems: files that are missing or damaged, one sentence each; empty if all is well.
    """

    cell: str
    status: str
    sections: Mapping[str, Rows]
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"cell {self.cell}: {self.status}", *self.problems]
        for title, rows in self.sections.items():
            parts.append(f"\n{title}\n" + "\n".join(f"  {line}" for line in _aligned(rows)))
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>cell <code>{html.escape(self.cell)}</code>: {html.escape(self.status)}</b></p>"]
        parts += [f'<p style="color:#b00">{html.escape(problem)}</p>' for problem in self.problems]
        for title, rows in self.sections.items():
            body = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in rows)
            parts.append(f"<details open><summary>{html.escape(title)}</summary><table>{body}</table></details>")
        return "".join(parts)


def explain(sweep: Sweep, cell: str) -> Explanation:
    """Trace one cell: request, picture, model, noise, timings, metrics, environment and files.

    Every file is read and its SHA-256 compared with the manifest's, the kept picture's pixels with the digest in the
    cell's key; what is missing or damaged is said in words and does not end the explanation. Cells that are not done
    are explained as far as the ledger knows them.

    Args:
        cell: the key, or its first digits if no other cell begins with them.

    Raises:
        SweepError: no cell, or several, begin with `cell`.

    Example:
        >>> print(sweep.explain("3f2a"))
    """
    with Ledger(sweep.path) as ledger, ledger.transaction():
        key = find_cell(ledger, cell)
        row, label = ledger.cell(key), ledger.labels().get
        events = [event for event in ledger.events() if event["cell"] == key]
        runs = {run["id"]: run for run in ledger.runs()}
    assert row is not None
    manifest, problems = _manifest(sweep.path, row)
    request = manifest.get("request") or json.loads(row["settings"])
    versions = manifest.get("versions") or _versions_of(events, runs)
    picture, damaged_picture = _picture(sweep.path, row["image"], label(row["image"]), runs.values())
    files, damaged_files = _files(sweep.path / artifacts.cell_path(key), manifest)
    sections = {
        "request": _pairs(request),
        "picture": picture,
        "model": _model(manifest, row),
        "noise": _noise(manifest, request),
        "timings": _timings(manifest, row),
        "metrics": _metrics(manifest),
        "environment": _environment(manifest, versions),
        "history": tuple((event["time"], event["what"]) for event in events),
        "error": (("", f"{row['error_type']}: {row['error']}"),) if row["error"] else (),
        "files": files,
    }
    return Explanation(
        cell=key,
        status=row["status"],
        sections={title: rows for title, rows in sections.items() if rows},
        problems=(*problems, *damaged_picture, *damaged_files),
    )


def find_cell(ledger: Ledger, start: str) -> str:
    """The key that begins with `start`.

    Raises:
        SweepError: none does, or several do.

    Example:
        >>> find_cell(ledger, "3f2a")
        '3f2a9c01d2e4b586'
    """
    keys = ledger.states()
    if start in keys:
        return start
    found = sorted(key for key in keys if key.startswith(start)) if start else []
    if len(found) == 1:
        return found[0]
    if found:
        more = ", ..." if len(found) > 5 else ""
        raise SweepError(
            f"cell = {start!r}: {len(found)} cells begin like this: {', '.join(found[:5])}{more}. Give more digits."
        )
    raise SweepError(
        f"cell = {start!r}: {ledger.folder} has no cell that begins like this. Take a key from the column `cell`."
    )


def _manifest(folder: Path, row: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The manifest of a finished cell; empty, and why, where it cannot be read."""
    if row["status"] != "done":
        return {}, ()
    try:
        return artifacts.read_manifest(folder, row["key"], sizes=False), ()
    except SweepError as error:
        return {}, (f"{artifacts.MANIFEST} is missing or damaged: {error}",)


def _pairs(values: Mapping[str, Any]) -> Rows:
    units = describe_columns(values)
    return tuple((name, _text(value, units[name].unit)) for name, value in values.items())


def _text(value: Any, unit: str = "") -> str:
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{shown} {unit}" if unit else shown


def _picture(folder: Path, digest: str, label: str | None, runs: Iterable[Any]) -> tuple[Rows, tuple[str, ...]]:
    declared = [image for run in runs for image in json.loads(run["spec"] or "{}").get("images", ())]
    source = next((image["source"] for image in reversed(declared) if image["digest"] == digest), None)
    kept = artifacts.image_path(digest)
    state, problem = _check_picture(folder / kept, digest)
    rows = (
        ("label", str(label)),
        ("source", "in memory" if source is None else source),
        ("digest", digest),
        ("kept as", f"{kept}: {state}"),
    )
    return rows, (f"{kept} {problem}.",) if problem else ()


def _check_picture(path: Path, digest: str) -> tuple[str, str]:
    """State of the kept picture, and what is wrong with it."""
    from svdlab.images import image_digest, load_image

    if not path.is_file():
        return "missing", "is missing"
    try:
        whole = image_digest(load_image(path)) == digest
    except ImageError as error:
        return "damaged", f"is damaged ({error})"
    return ("whole", "") if whole else ("damaged", "is damaged: its pixels are not those of the digest")


def _model(manifest: Mapping[str, Any], row: Any) -> Rows:
    """The model as it described itself; of one without a revision (a folder, or built in memory) that is said."""
    model = manifest.get("model") or {"name": row["model"], "fingerprint": row["fingerprint"]}
    return tuple((name, "none" if value is None else str(value)) for name, value in model.items())


def _noise(manifest: Mapping[str, Any], request: Mapping[str, Any]) -> Rows:
    """The streams by name: those that were written down, else those that the request has by today's rule."""
    from svdlab.sweep.provenance import noise_streams

    written = manifest.get("noise_streams")
    streams = noise_streams(request) if written is None else written
    said = "as recorded" if written is not None else f"{UNKNOWN}; by the request"
    return (("seed", str(request["seed"])), ("streams", f"{', '.join(streams)} ({said})"))


def _timings(manifest: Mapping[str, Any], row: Any) -> Rows:
    if not manifest:
        return _pairs({name: row[name] for name in ("seconds", "seconds_spent", "finished") if row[name] is not None})
    stages = tuple((f"{name}, alone", f"{value:.3f} s") for name, value in manifest["seconds"].items())
    spent, peak = manifest["seconds_spent"], manifest["vram_peak_mb"]
    return (
        *stages,
        ("spent", UNKNOWN if spent is None else f"{spent:.3f} s"),
        ("with metrics and files", f"{manifest['elapsed']:.3f} s"),
        *((("peak of GPU memory", f"{peak:.0f} MB"),) if peak is not None else ()),
        ("timing", manifest["timing"]),
        ("attempt", str(manifest["attempt"])),
        ("finished", manifest["finished"]),
    )


def _metrics(manifest: Mapping[str, Any]) -> Rows:
    """Name, value with unit, version and source of each metric; and what stands in the way of comparing it."""
    from svdlab.metrics import registry

    measured = manifest.get("metrics", {})
    about, current = describe_columns(measured), {metric.name: metric.version for metric in registry.select(None)}
    later = {name: added["finished"] for added in manifest.get("backfills", ()) for name in added["metrics"]}
    rows = []
    for name, entry in measured.items():
        value = "not defined" if entry["value"] is None else _text(entry["value"], about[name].unit)
        notes = [f"version {entry['version']}", f"from {entry['source']}"]
        if reference := entry.get("reference"):
            notes.append(
                f"against cell {reference['cell']} of {reference['sweep']} ({reference['model']},"
                f" {_listed(reference['sampler'], ('steps', 'schedule', 'gamma'))})"
            )
        if name in later:
            notes.append(f"computed later, {later[name]}")
        if current.get(name, entry["version"]) != entry["version"]:
            notes.append(f"the registry has version {current[name]} by now")
        if entry.get("error"):
            notes.append(entry["error"])
        rows.append((name, value, ", ".join(notes)))
    return tuple(rows)


def _listed(settings: Mapping[str, Any], names: Iterable[str]) -> str:
    return ", ".join(f"{name} {_text(settings[name])}" for name in names if name in settings)


def _environment(manifest: Mapping[str, Any], versions: Mapping[str, str]) -> Rows:
    commit = versions.get("commit")
    code = UNKNOWN if commit is None else commit.removesuffix("-dirty")
    if commit and commit.endswith("-dirty"):
        code += ", with changes that were not committed"
    machine = manifest.get("machine", {})
    key_version = manifest.get("key_version")
    return (
        ("code", code),
        *((name, version) for name, version in versions.items() if name != "commit"),
        *(machine.items() or [("platform", UNKNOWN)]),
        *((("key version", str(key_version)),) if key_version is not None else ()),
    )


def _versions_of(events: list[Any], runs: Mapping[int, Any]) -> dict[str, str]:
    """The versions of the process that had this cell last."""
    last = runs.get(events[-1]["run"]) if events else None
    return json.loads(last["versions"]) if last else {}


def _files(place: Path, manifest: Mapping[str, Any]) -> tuple[Rows, tuple[str, ...]]:
    """Name, size, state and SHA-256 of each file of a cell, read now; and a sentence for each that is not whole."""
    rows, problems = [], []
    for name, file in manifest.get("files", {}).items():
        state, problem = _check_file(place / name, file)
        rows.append((name, f"{file['bytes']} bytes", state, f"sha256 {file['sha256']}"))
        if problem:
            problems.append(f"{name} {problem}.")
    return tuple(rows), tuple(problems)


def _check_file(path: Path, file: Mapping[str, Any]) -> tuple[str, str]:
    if not path.is_file():
        return "missing", "is missing"
    if (size := path.stat().st_size) != file["bytes"]:
        return "damaged", f"is damaged: it has {size} bytes, not {file['bytes']}"
    if sha256_file(path) != file["sha256"]:
        return "damaged", "is damaged: its SHA-256 is not the manifest's"
    return "whole", ""


def _html_cell(text: str) -> str:
    wrap = "normal" if len(text) > 40 else "nowrap"
    style = f"text-align:left;vertical-align:top;padding-right:1em;white-space:{wrap};overflow-wrap:anywhere"
    return f'<td style="{style}">{html.escape(text)}</td>'


def _aligned(rows: Rows) -> Iterator[str]:
    """Rows as lines, all columns but the last padded to one width."""
    count = max(len(row) for row in rows)
    widths = [max((len(row[k]) for row in rows if k < len(row) - 1), default=0) for k in range(count)]
    for row in rows:
        yield "  ".join(text.ljust(widths[k]) if k < len(row) - 1 else text for k, text in enumerate(row))

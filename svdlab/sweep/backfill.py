"""Metrics that are computed afterwards, from what is stored, without generating a clip again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import MetricError, SvdlabError
from svdlab.interrupt import StopRequest
from svdlab.sweep.artifacts import LATENTS, load_clip, read_manifest, update_manifest
from svdlab.sweep.frame import export
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.measure import DECODED, VIDEO, measure
from svdlab.sweep.prepare import metric_names
from svdlab.sweep.progress import counted
from svdlab.sweep.writing import writing

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline

log = logging.getLogger("svdlab")


def backfill(folder: Path, names: Iterable[str], *, pipe: Pipeline | None = None, progress: bool = True) -> int:
    """Compute metrics for all finished cells that lack them, have them in an older version, or have them broken.

    With `pipe`, the frames of cells that it made are decoded from their latents, which is exact; metrics that were
    computed from an mp4 before are then computed again. Other cells, and all without `pipe`, are measured on the frames
    of their mp4, which is lossy; the column `source` of the metric table says which it was. Cells without frames
    (`decode="preview"`, `"none"`) are measured on their latents too, and stay without; without `pipe` they are left.

    Returns:
        How many cells got a metric.

    Raises:
        MetricError: a name is unknown, or a metric needs an encoder and there is no `pipe`.
        SweepError: the directory cannot be written.
    """
    wanted = metric_names(_listed(names))
    needy = needing_encoder(wanted)
    if pipe is None and needy:
        raise MetricError(f"{', '.join(needy)}: needs the image encoder of a model; pass pipe=svdlab.load(...).")
    with writing(folder) as ledger:
        todo = outdated(ledger, wanted, fingerprint=pipe.fingerprint if pipe else None)
        try:
            with StopRequest("cell") as stop:
                return fill(folder, ledger, todo, pipe=pipe, progress=progress, stop=lambda: stop.asked)
        finally:
            export(ledger, folder)


def _listed(names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise MetricError(f"names = {names!r}: must be a list of metric names, such as [{names!r}].")
    return tuple(names)


def needing_encoder(names: Iterable[str]) -> list[str]:
    """Those of the metrics that look at embeddings, which only a loaded model makes."""
    from svdlab import metrics

    return [name for name in names if "encoder" in metrics.get(name).needs]


def outdated(ledger: Ledger, names: Iterable[str], *, fingerprint: str | None) -> dict[str, list[str]]:
    """Finished cells -> those of the metrics that are missing, broken, of another version, or can now be made exact.

    Args:
        fingerprint: of the model at hand, or None.
    """
    from svdlab import metrics

    versions = metrics.versions(names)
    have = {(row["cell"], row["name"]): row for row in ledger.metrics()}
    todo: dict[str, list[str]] = {}
    for cell in ledger.cells(declared=False):
        if cell["status"] != "done":
            continue
        exact = cell["fingerprint"] == fingerprint
        for name, version in versions.items():
            row = have.get((cell["key"], name))
            if row is None or row["error"] or row["version"] != version or (exact and row["source"] == VIDEO):
                todo.setdefault(cell["key"], []).append(name)
    return todo


def fill(
    folder: Path,
    ledger: Ledger,
    todo: Mapping[str, list[str]],
    *,
    pipe: Pipeline | None,
    progress: bool,
    stop: Callable[[], bool],
) -> int:
    """Compute the metrics in `todo` (cell -> names) and put them into manifests and ledger. Returns how many cells."""
    count, left, blind, undecoded = 0, 0, 0, ledger.undecoded()
    for key in counted(todo, show=progress and bool(todo), title="metrics"):
        if stop():
            break
        try:
            own, names = _own_pipe(folder, key, pipe), todo[key]
            if own is None:
                needy = needing_encoder(names)
                left += bool(needy)
                names = [name for name in names if name not in needy]
                if key in undecoded:
                    blind += bool(names)
                    continue
            if not names:
                continue
            clip = load_clip(folder, key, pipe=own)
        except SvdlabError as error:  # someone's hand was there
            log.warning("cell %s is left as it is; delete its folder to have it computed again. %s", key, error)
            continue
        results: dict[str, dict[str, Any]] = measure(clip, names, pipe=own, source=DECODED if own else VIDEO)
        update_manifest(folder, key, results)
        ledger.put_metrics(key, results)
        count += 1
    if left:
        log.warning("%d cells belong to other weights and lack metrics that need their image encoder", left)
    if blind:
        log.warning(
            "%d cells are not decoded yet, so they have no frames to measure: pass pipe=, or decode them first"
            " (Sweep.decode)",
            blind,
        )
    return count


def _own_pipe(folder: Path, key: str, pipe: Pipeline | None) -> Pipeline | None:
    """The pipeline, if it made this cell and the cell has latents to decode."""
    manifest = read_manifest(folder, key)
    mine = pipe is not None and pipe.fingerprint == manifest["model"]["fingerprint"]
    return pipe if mine and LATENTS in manifest["files"] else None

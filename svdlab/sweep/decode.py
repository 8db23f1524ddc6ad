"""Decode: the frames of finished cells, made from their latents when somebody looks, and then kept.

Nothing about a cell depends on when that is: latents give the same frames, the same mp4 and the same metrics as
decoding at once.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import ModelError, SweepError
from svdlab.interrupt import StopRequest
from svdlab.memory import clear_frames, free_memory
from svdlab.sweep import artifacts
from svdlab.sweep.frame import export
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.lock import now
from svdlab.sweep.measure import DECODED, measure
from svdlab.sweep.progress import counted
from svdlab.sweep.provenance import versions
from svdlab.sweep.writing import writing

if TYPE_CHECKING:
    from svdlab.clip import Clip
    from svdlab.pipeline import Pipeline
    from svdlab.sweep.handle import Sweep

log = logging.getLogger("svdlab")


def model_of(folder: Path) -> Pipeline:
    """The model of a sweep's current declaration, loaded by its name if it is on this machine.

    Raises:
        SweepError: it is not at hand; the text says how to give it.
    """
    with Ledger(folder) as ledger:
        declared = ledger.declaration()
    about = declared.get("described", {})
    name = str(declared.get("model", "none"))
    try:
        found = _load_local(name, about)
    except ModelError as error:
        raise SweepError(_not_at_hand(folder, name, str(error))) from None
    if found.fingerprint != about.get("fingerprint"):
        raise SweepError(_not_at_hand(folder, name, f"what has this name here are other weights, {found.fingerprint}"))
    log.info("%s: loaded %s to decode cells", folder, name)
    return found


def _load_local(name: str, about: dict[str, Any]) -> Pipeline:
    """Load a model without the network, in the precision of the sweep."""
    from svdlab.models import CATALOGUE, is_local
    from svdlab.pipeline import load

    if not (is_local(name) if name in CATALOGUE else Path(name).is_dir()):
        raise ModelError("it is not on this machine, and nothing is downloaded for a look")
    return load(name, dtype=str(about.get("dtype", "auto")))


def _not_at_hand(folder: Path, name: str, why: str) -> str:
    return (
        f"{folder}: holds cells that are not decoded yet, and their model ({name!r}) is not at hand: {why}. Pass"
        " pipe=svdlab.load(...) with the model of the sweep, or give it to svdlab.open_sweep(..., pipe=...)."
    )


def check_frames(sweep: Sweep, cells: Iterable[str], *, pipe: Pipeline | None) -> None:
    """Raise SweepError if some of these cells have no frames to be read, and there is no `pipe` to decode them.

    Example:
        >>> check_frames(sweep, sweep.frame()["cell"], pipe=None)
    """
    if pipe is not None:
        return
    with Ledger(sweep.path) as ledger:
        left = ledger.undecoded().intersection(cells)
    if left:
        raise SweepError(
            f"{sweep.path}: {len(left)} of the cells are not decoded yet, so they have no mp4 to read. Pass pipe= with"
            f" the model of the sweep, or make their frames first: Sweep.decode(), or `svdlab decode {sweep.path}`."
        )


def decode_cells(folder: Path, cells: Iterable[str] | None = None, *, pipe: Pipeline, progress: bool = True) -> int:
    """Make and keep the frames of finished cells that have none; the metrics of the sweep are computed from them.

    The first Ctrl-C lets the cell in hand finish; what is decoded stays.

    Args:
        cells: keys; None for all that are not decoded.
        pipe: the model of the sweep. Cells of other weights are left as they are, which is logged.

    Returns:
        How many cells were decoded.

    Raises:
        SweepError: another process is writing, or the disk is full.
    """
    with writing(folder) as ledger:
        left = ledger.undecoded()
        todo = sorted(left) if cells is None else [key for key in cells if key in left]
        try:
            with StopRequest("cell") as stop:
                return decode_all(folder, ledger, todo, pipe=pipe, progress=progress, stop=lambda: stop.asked)
        finally:
            export(ledger, folder)


def decode_all(
    folder: Path,
    ledger: Ledger,
    cells: Iterable[str],
    *,
    pipe: Pipeline,
    progress: bool,
    stop: Callable[[], bool],
    names: Iterable[str] | None = None,
) -> int:
    """As `decode_cells`, for a caller that writes: each of `cells` that can be decoded. Returns how many were.

    Args:
        names: metrics to compute; None for those of the declaration.
    """
    wanted = tuple(ledger.declaration().get("metrics", ()) if names is None else names)
    count, cells = 0, list(cells)
    for key in counted(cells, show=progress and bool(cells), title="decoding"):
        if stop():
            break
        try:
            decode_cell(folder, ledger, key, pipe=pipe, names=wanted)
        except OSError:
            raise  # the disk: the next cell would meet it too
        except Exception as error:  # its latents are damaged, memory ran out, ...; the others may do
            log.warning("cell %s is left as it is. %s", key, str(error) or type(error).__name__)
            clear_frames(error)  # they hold what was decoded so far
            free_memory()
            continue
        count += 1
    return count


def decode_cell(folder: Path, ledger: Ledger | None, key: str, *, pipe: Pipeline, names: Iterable[str] = ()) -> Clip:
    """Decode one cell, and keep mp4, thumbnail and metrics if there is a `ledger` to write to.

    Returns:
        The clip, with the exact frames.

    Raises:
        SweepError: the cell's folder is not whole, or it belongs to other weights.
    """
    began = time.perf_counter()
    manifest, clip = artifacts.read_manifest(folder, key), artifacts.load_clip(folder, key, pipe=pipe)
    if ledger is None or artifacts.VIDEO in manifest["files"]:
        return clip
    files = artifacts.encode_frames(clip)
    lacking = [name for name in names if name not in manifest["metrics"]]
    metrics = measure(clip, lacking, pipe=pipe, source=DECODED)
    manifest |= {
        "seconds": dict(clip.seconds),
        "seconds_spent": clip.seconds_spent,
        "low_memory": clip.low_memory,
        "elapsed": manifest["elapsed"] + time.perf_counter() - began,
        "metrics": {**manifest["metrics"], **metrics},
        "decoded": {"finished": now(), "device": str(pipe.device), "versions": versions()},
    }
    ledger.finish(artifacts.add_files(folder, manifest, files), what="decoded")
    return clip


def look(folder: Path, key: str, *, pipe: Pipeline) -> Clip:
    """Decode a cell that somebody looks at, and keep it if this process may write; else it is decoded and not kept.

    Raises:
        SweepError: as `decode_cell`; or the disk is full.
    """
    with contextlib.ExitStack() as stack:
        try:
            ledger = stack.enter_context(writing(folder))
        except SweepError as error:
            log.info("%s: cell %s is decoded and not kept: %s", folder, key, error)
            return decode_cell(folder, None, key, pipe=pipe)
        clip = decode_cell(folder, ledger, key, pipe=pipe, names=ledger.declaration().get("metrics", ()))
        export(ledger, folder)
        return clip

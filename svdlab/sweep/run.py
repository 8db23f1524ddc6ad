"""Run: the cells that are to do, one after the other, each stored before the next begins."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import SweepError
from svdlab.files import atomic_path, write_atomic
from svdlab.interrupt import StopRequest
from svdlab.request import SettingWarning
from svdlab.sweep import artifacts
from svdlab.sweep.backfill import fill
from svdlab.sweep.cells import Cell, quiet_request
from svdlab.sweep.frame import build_row, export
from svdlab.sweep.keys import canonical_json
from svdlab.sweep.ledger import FILE, Ledger
from svdlab.sweep.lock import now
from svdlab.sweep.measure import MEMORY, measure
from svdlab.sweep.plan import Plan, Prepared, check_disk, is_todo, lacking, make_plan, prepare_sweep
from svdlab.sweep.progress import Bar
from svdlab.sweep.spec import Spec
from svdlab.sweep.writing import FULL, check_folder, disk_words, recover, writing

if TYPE_CHECKING:
    from svdlab.clip import Clip
    from svdlab.pipeline import Pipeline

log = logging.getLogger("svdlab")

RETRIES = (None, "failed")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run, which changes no result.

    Attributes:
        retry: ``"failed"`` runs failed cells again.
        progress: show bars.
        on_plan: called with the plan before the first cell.
        on_cell: called with the row of each cell that was done or failed, as in the DataFrame.
        stop: asked between cells; once it says True, the run ends as after the first Ctrl-C.
    """

    retry: str | None = None
    progress: bool = True
    on_plan: Callable[[Plan], None] | None = None
    on_cell: Callable[[dict[str, Any]], None] | None = None
    stop: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        if self.retry not in RETRIES:
            raise SweepError(f"retry = {self.retry!r}: must be 'failed' (run failed cells again) or None.")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    plan: Plan  # as it was before the first cell
    interrupted: bool


def prepare_in(spec: Spec, pipe: Pipeline, folder: Path) -> tuple[Prepared, dict[str, str]]:
    """Prepare a spec for a run directory as it stands, which is read and not changed; also the labels it knows."""
    check_folder(folder)
    labels, seed = {}, None
    if (folder / FILE).exists():
        with Ledger(folder) as ledger:
            labels, seed = ledger.labels(), ledger.drawn_seed()
    if seed is None and not spec.grid.seeded and (folder / "spec.json").exists():  # the ledger was made anew
        seed = _kept_seed(folder)
    return prepare_sweep(spec, pipe, folder=folder, labels=labels, seed=seed), labels


def _kept_seed(folder: Path) -> int | None:
    path = folder / "spec.json"
    try:
        return json.loads(path.read_bytes()).get("seed")
    except (OSError, ValueError, AttributeError) as error:
        raise SweepError(
            f"{path}: cannot be read ({error}), and the seed that was drawn for this directory is nowhere else. Put it"
            " back, or delete it and run with the seed of the finished cells (`seed` in any manifest.json)."
        ) from None


def run(spec: Spec, pipe: Pipeline, folder: Path, options: Options) -> Outcome:
    """Compute what is missing of `spec` in `folder`.

    Raises:
        SpecError, ImageError, MetricError, WeightsError: before anything is computed or written.
        SweepError: the directory cannot be used, or the disk is full.
        KeyboardInterrupt: on the second Ctrl-C, or the first outside of the main thread. What was finished is stored,
            the cell in hand is pending, the exports are written.
    """
    check_folder(folder)
    if (folder / "cells").is_dir() and not (folder / FILE).exists():
        with writing(folder):  # the ledger was moved away: it is made again from the manifests
            pass
    prepared, labels = prepare_in(spec, pipe, folder)
    with writing(folder) as ledger:
        if ledger.labels() != labels:
            raise SweepError(f"{folder}: another process wrote there while this one was planning. Run again.")
        shown = options.on_plan is not None  # a trial for the estimate is worth its seconds only if somebody reads it
        plan = make_plan(prepared, folder, ledger, retry=options.retry, pipe=pipe if shown else None)
        check_disk(plan)
        _announce(plan, prepared, options)
        _declare(prepared, folder, ledger)
        try:
            with StopRequest("cell") as stop:
                _fill_lacking(prepared, pipe, folder, ledger, stop, options)
                _run_cells(prepared, pipe, folder, ledger, stop, options)
        except KeyboardInterrupt:
            recover(folder, ledger, crashed=True)
            log.warning("%s", _left(ledger, folder))
            raise
        finally:
            export(ledger, folder)
        counts = ledger.counts()
        interrupted = stop.asked and bool(counts["pending"])
        if interrupted:
            ledger.how = "interrupted"
            log.warning("%s", _left(ledger, folder))
    return Outcome(plan=plan, interrupted=interrupted)


def _asked(stop: StopRequest, options: Options) -> bool:
    """Whether to stop before the next cell: by Ctrl-C, or because the caller says so; once asked, it stays asked."""
    stop.asked = stop.asked or (options.stop is not None and options.stop())
    return stop.asked


def _left(ledger: Ledger, folder: Path) -> str:
    counts = ledger.counts()
    return (
        f"{folder}: stopped with {counts['done']} cells done and {counts['pending']} to do."
        " The same call goes on from here; svdlab.open_sweep reads what is there."
    )


def _announce(plan: Plan, prepared: Prepared, options: Options) -> None:
    if options.on_plan is not None:
        options.on_plan(plan)
        return
    for note in prepared.notes:  # nobody shows the plan, so its warnings are given as such
        warnings.warn(note, SettingWarning, stacklevel=5)


def _declare(prepared: Prepared, folder: Path, ledger: Ledger) -> None:
    """Write down what is to be run: pictures, spec and cells."""
    images = [_keep_picture(picture, folder) for picture in prepared.pictures]
    spec = prepared.spec
    declaration = {
        "name": spec.name,
        "model": spec.model or prepared.model["name"],
        "images": images,
        "grid": dict(spec.grid.axes),
        "fixed": dict(spec.grid.fixed),
        "seed": prepared.seed,
        "metrics": list(prepared.metrics),
        "timing": spec.timing,
        "engine": spec.engine,
        "described": dict(prepared.model),
    }
    write_atomic(folder / "spec.json", json.dumps(declaration, indent=1) + "\n")
    if spec.file is not None:
        write_atomic(folder / "spec.toml", spec.file.read_bytes())
    model = {"model": prepared.model["name"], "fingerprint": prepared.model["fingerprint"]}
    known = ledger.states()
    new = [cell for cell in prepared.cells if cell.key not in known]
    ledger.declare(
        [cell.key for cell in prepared.cells],
        [{"key": cell.key, "image": cell.image, "settings": canonical_json(cell.settings), **model} for cell in new],
        [(image["digest"], image["label"], image["source"]) for image in images],
        declaration,
    )


def _keep_picture(picture: Any, folder: Path) -> dict[str, Any]:
    """Copy a picture into the run directory, once, so that the directory stands on its own."""
    path = folder / artifacts.image_path(picture.digest)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        with atomic_path(path) as tmp:
            picture.image.save(tmp)
    source = picture.source
    if source is not None and Path(source).is_absolute():
        source = artifacts.relative(source, folder)
    image_path = artifacts.image_path(picture.digest)
    return {"label": picture.label, "digest": picture.digest, "file": image_path, "source": source}


def _fill_lacking(
    prepared: Prepared, pipe: Pipeline, folder: Path, ledger: Ledger, stop: StopRequest, options: Options
) -> None:
    """Metrics that the spec names and finished cells do not have, from their latents."""
    lacks = lacking(prepared, ledger, retry=options.retry)
    fill(folder, ledger, lacks, pipe=pipe, progress=options.progress, stop=lambda: _asked(stop, options))


def _run_cells(
    prepared: Prepared, pipe: Pipeline, folder: Path, ledger: Ledger, stop: StopRequest, options: Options
) -> None:
    states = ledger.states()
    todo = [cell for cell in prepared.cells if is_todo(states[cell.key], options.retry)]
    images = {picture.digest: picture.image for picture in prepared.pictures}
    bar = Bar(total=len(todo), metrics=prepared.metrics, show=options.progress, title=prepared.spec.name)
    with contextlib.closing(bar):
        for cell in todo:
            if _asked(stop, options):
                return
            if prepared.spec.timing == "isolated":
                pipe.clear_cache()
            metrics = _run_cell(cell, images[cell.image], prepared, pipe, folder, ledger)
            bar.step("failed" if metrics is None else "done", metrics)
            if options.on_cell is not None:
                options.on_cell(build_row(ledger, cell.key))


def _run_cell(
    cell: Cell, image: Any, prepared: Prepared, pipe: Pipeline, folder: Path, ledger: Ledger
) -> Mapping[str, Any] | None:
    """Compute, measure and store one cell; its metrics, or None if it failed.

    What goes wrong with the clip makes the cell fail. What goes wrong with the disk or the ledger ends the run: the
    next cell would meet it too.
    """
    attempt = ledger.start(cell.key)
    began = time.perf_counter()
    with _freeing(cell, ledger) as failure:
        clip, metrics, files = _compute(cell, image, prepared, pipe)
    if failure:
        return None
    manifest = artifacts.make_manifest(
        key=cell.key,
        clip=clip,
        files=files,
        metrics=metrics,
        image={"label": cell.label, "digest": cell.image},
        model=prepared.model,
        finished=now(),
        elapsed=time.perf_counter() - began,
        attempt=attempt,
        timing=prepared.spec.timing,
    )
    try:
        artifacts.store(folder, manifest, files)
    except OSError as error:
        _let_go(ledger, cell)
        raise _disk_error(cell, error) from error
    ledger.finish(manifest)
    return metrics


def _compute(
    cell: Cell, image: Any, prepared: Prepared, pipe: Pipeline
) -> tuple[Clip, dict[str, dict[str, Any]], dict[str, bytes]]:
    clip = pipe(quiet_request(image, cell.settings))
    clip = dataclasses.replace(clip, model=prepared.model)  # goes into the mp4: without absolute paths
    metrics = measure(clip, prepared.metrics, pipe=pipe, source=MEMORY)
    return clip, metrics, artifacts.encode(clip)


@contextlib.contextmanager
def _freeing(cell: Cell, ledger: Ledger) -> Iterator[list[str]]:
    """Turn an exception of the block into a failed cell, and let go of all memory that it holds.

    A traceback keeps the frames and with them their tensors, so that after one out-of-memory every later cell would
    run out as well: the text is kept, the frames are cleared.
    """
    failure: list[str] = []
    try:
        yield failure
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            _let_go(ledger, cell)
            raise _disk_error(cell, error) from error
        kind, message = type(error).__name__, str(error) or repr(error)
        if kind == "OutOfMemoryError" and "decode_chunk =" not in message:  # the decoder knows which one fits
            message += (
                " Hint: a smaller decode_chunk, set in the sweep, needs less memory (and changes pixels a little)."
            )
        ledger.fail(cell.key, error_type=kind, error=message, traceback=_short_paths(traceback.format_exc()))
        log.warning("cell %s failed: %s: %s", cell.key, kind, message)
        failure.append(kind)
        clear_frames(error)
    if failure:
        free_memory()


def _let_go(ledger: Ledger, cell: Cell) -> None:
    """Make a cell pending again; if the ledger's disk does not take it either, the next opening does."""
    with contextlib.suppress(SweepError):
        ledger.release([cell.key])


def _disk_error(cell: Cell, error: OSError) -> SweepError:
    return SweepError(disk_words(f"cell {cell.key}", error))


def clear_frames(error: BaseException | None) -> None:
    """Clear the frames of an exception and of those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _short_paths(text: str) -> str:
    """A traceback with file names as seen from the import path: a run directory tells nothing of its machine."""
    for root in sorted(filter(None, sys.path), key=len, reverse=True):
        text = text.replace(f'File "{root.rstrip("/")}/', 'File "')
    return text


def free_memory() -> None:
    """Collect garbage and give cached device memory back."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()

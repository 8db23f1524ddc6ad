"""Run: the cells that are to do, batch after batch, each stored before the next begins."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import SweepError
from svdlab.files import atomic_path, write_atomic
from svdlab.interrupt import StopRequest
from svdlab.request import SettingWarning
from svdlab.sharing import SharedCalls
from svdlab.sweep import artifacts
from svdlab.sweep.backfill import fill
from svdlab.sweep.batches import Batch, check_batch_size, choose_batch, order_batches
from svdlab.sweep.cells import Cell
from svdlab.sweep.decode import decode_all
from svdlab.sweep.drive import Drive, Worker
from svdlab.sweep.frame import build_row, export
from svdlab.sweep.groups import make_groups
from svdlab.sweep.keys import canonical_json
from svdlab.sweep.ledger import FILE, Ledger
from svdlab.sweep.making import Maker, Metrics, Recipe, look_of
from svdlab.sweep.plan import Plan, check_disk, is_todo, lacking, make_plan, to_decode
from svdlab.sweep.prepare import Prepared, prepare_sweep
from svdlab.sweep.progress import Bar
from svdlab.sweep.spec import Spec
from svdlab.sweep.work import Keeper, run_here
from svdlab.sweep.writing import check_folder, recover, writing

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline
    from svdlab.sample import Look
    from svdlab.sweep.elsewhere import Elsewhere

log = logging.getLogger("svdlab")

RETRIES = (None, "failed")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run, which changes no result (`batch`: but for rounding).

    Attributes:
        retry: ``"failed"`` runs failed cells again.
        batch: cells that are denoised together; ``"auto"`` chooses by measurement.
        progress: show bars.
        on_plan: called with the plan before the first cell.
        on_cell: called with the row of each cell that was done or failed, as in the DataFrame.
        stop: asked between batches; once it says True, the run ends as after the first Ctrl-C.
        elsewhere: workers that make the cells; None: this process does.
    """

    retry: str | None = None
    batch: Batch = 1
    progress: bool = True
    on_plan: Callable[[Plan], None] | None = None
    on_cell: Callable[[dict[str, Any]], None] | None = None
    stop: Callable[[], bool] | None = None
    elsewhere: Elsewhere | None = None

    def __post_init__(self) -> None:
        if self.retry not in RETRIES:
            raise SweepError(f"retry = {self.retry!r}: must be 'failed' (run failed cells again) or None.")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    plan: Plan  # as it was before the first cell
    interrupted: bool
    workers: tuple[Worker, ...] = ()  # of another engine than this process


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
        EndpointError: a hosted model refuses the key, or has no calls left; the cells that are not done stay to do.
        KeyboardInterrupt: on the second Ctrl-C, or the first outside of the main thread. What was finished is stored,
            the cell in hand is pending, the exports are written.
    """
    check_batch_size(options.batch, timing=spec.timing, hosted=pipe.hosted)
    check_folder(folder)
    elsewhere = options.elsewhere
    look = None if elsewhere else look_of(spec.preview_weights, pipe)
    if (folder / "cells").is_dir() and not (folder / FILE).exists():
        with writing(folder):  # the ledger was moved away: it is made again from the manifests
            pass
    prepared, labels = prepare_in(spec, pipe, folder)
    with writing(folder) as ledger:
        if ledger.labels() != labels:
            raise SweepError(f"{folder}: another process wrote there while this one was planning. Run again.")
        shown = options.on_plan is not None  # a trial for the estimate is worth its seconds only if somebody reads it
        how: dict[str, Any] = {"retry": options.retry, "batch": options.batch}
        how |= {"pipe": pipe if shown and not elsewhere else None, "workers": elsewhere and elsewhere.room}
        plan = make_plan(prepared, folder, ledger, **how)
        check_disk(plan)
        _announce(plan, prepared, options)
        _declare(prepared, folder, ledger)
        try:
            with StopRequest("cell" if options.batch == 1 else "batch") as stop:
                near = elsewhere.load_here(plan) if elsewhere else pipe
                if near is not None:
                    _make_frames(prepared, near, folder, ledger, stop, options)
                    _fill_lacking(prepared, near, folder, ledger, stop, options)
                run_cells = _run_elsewhere if elsewhere else partial(_run_here, pipe=pipe, look=look)
                run_cells(prepared, folder, ledger, stop, options)
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
    return Outcome(plan=plan, interrupted=interrupted, workers=tuple(elsewhere.pool.everyone) if elsewhere else ())


def _asked(stop: StopRequest, options: Options) -> bool:
    """Whether to stop before the next batch: by Ctrl-C, or because the caller says so; once asked, it stays asked."""
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
        "decode": spec.decode,
        **_kept_weights(spec, folder),
        "engine": spec.engine.kind,  # where and on how many it ran says nothing about the cells
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


def _kept_weights(spec: Spec, folder: Path) -> dict[str, str]:
    """Where the weights of previews are, as seen from the run directory."""
    if spec.preview_weights is None:
        return {}
    return {"preview_weights": artifacts.relative(str(spec.preview_weights), folder.absolute())}


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


def _make_frames(
    prepared: Prepared, pipe: Pipeline, folder: Path, ledger: Ledger, stop: StopRequest, options: Options
) -> None:
    """Of finished cells that an earlier run did not decode, if this one is to."""
    decode_all(
        folder,
        ledger,
        to_decode(prepared, ledger),
        pipe=pipe,
        names=prepared.metrics,
        progress=options.progress,
        stop=lambda: _asked(stop, options),
    )


def _fill_lacking(
    prepared: Prepared, pipe: Pipeline, folder: Path, ledger: Ledger, stop: StopRequest, options: Options
) -> None:
    """Metrics that the spec names and finished cells do not have, from their latents."""
    lacks = lacking(prepared, ledger, retry=options.retry)
    fill(folder, ledger, lacks, pipe=pipe, progress=options.progress, stop=lambda: _asked(stop, options))


@dataclass
class _Round:
    """The cells of a run that are to do, and what happens with each that is stored."""

    prepared: Prepared
    ledger: Ledger
    options: Options

    def __post_init__(self) -> None:
        states = self.ledger.states()
        self.todo = [cell for cell in self.prepared.cells if is_todo(states[cell.key], self.options.retry)]
        self.images = {picture.digest: picture.image for picture in self.prepared.pictures}
        spec = self.prepared.spec
        self.isolated = spec.timing == "isolated"
        self.recipe = Recipe(
            model=self.prepared.model,
            metrics=self.prepared.metrics,
            timing=spec.timing,
            decode=spec.decode,
        )

    def stored(self, cell: Cell, metrics: Metrics | None) -> None:
        self.bar.step("failed" if metrics is None else "done", metrics)
        if self.options.on_cell is not None:
            self.options.on_cell(build_row(self.ledger, cell.key))

    @contextlib.contextmanager
    def going(self) -> Iterator[None]:
        """The bar for as long as it takes; what is running when an error ends it is let go."""
        show, title = self.options.progress, self.prepared.spec.name
        with contextlib.closing(
            Bar(total=len(self.todo), metrics=self.prepared.metrics, show=show, title=title)
        ) as self.bar:
            try:
                yield
            except Exception:
                with contextlib.suppress(SweepError):  # a disk that is full takes nothing more
                    self.ledger.release()
                raise


def _run_here(
    prepared: Prepared,
    folder: Path,
    ledger: Ledger,
    stop: StopRequest,
    options: Options,
    *,
    pipe: Pipeline,
    look: Look | None,
) -> None:
    these = _Round(prepared, ledger, options)
    shared = None if these.isolated else SharedCalls(cell.chain for cell in these.todo)
    size = options.batch
    if size == "auto":
        size = 1 if these.isolated else choose_batch(these.todo, these.images, pipe)
    maker = Maker(recipe=these.recipe, pipe=pipe, images=these.images, shared=shared, most=size, look=look)
    keeper = Keeper(folder=folder, ledger=ledger)
    with these.going():
        for batch in order_batches(these.todo, size):
            if _asked(stop, options):
                return
            for cell, metrics in run_here(batch, maker, keeper):
                these.stored(cell, metrics)


def _run_elsewhere(prepared: Prepared, folder: Path, ledger: Ledger, stop: StopRequest, options: Options) -> None:
    these, elsewhere = _Round(prepared, ledger, options), options.elsewhere
    assert elsewhere is not None
    assert isinstance(options.batch, int)  # "auto" is refused before
    pool = elsewhere.pool

    def stored(cell: Cell, metrics: Metrics | None) -> None:
        these.bar.workers = pool.ready
        these.stored(cell, metrics)

    with these.going():
        if not these.todo:
            return
        pool.begin(these.recipe, these.images)
        Drive(
            pool,
            make_groups(these.todo, options.batch, timing=prepared.spec.timing),
            Keeper(folder=folder, ledger=ledger),
            attempts=elsewhere.engine.attempts,
            stop=lambda: _asked(stop, options),
            on_cell=stored,
        ).run()
        for worker in pool.ready:
            worker.leave(died=False)  # what comes now is not its waiting

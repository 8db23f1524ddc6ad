"""The functions that people call: start or go on with a sweep, plan one, open one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from svdlab.errors import SpecError
from svdlab.sweep.batches import Batch, check_batch_size
from svdlab.sweep.engine import Engine
from svdlab.sweep.grid import split_settings
from svdlab.sweep.handle import Sweep
from svdlab.sweep.ledger import FILE, Ledger
from svdlab.sweep.plan import Plan, make_plan
from svdlab.sweep.run import Options, prepare_in, run
from svdlab.sweep.spec import Spec, change_decode, change_engine, make_spec, placed, read_spec, stored_spec

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline
    from svdlab.sweep.elsewhere import Elsewhere

Target = str | os.PathLike[str]


def sweep(
    pipe: Pipeline | str,
    *,
    image: Any,
    out: Target,
    name: str | None = None,
    metrics: Iterable[str] | str | None = None,
    timing: str = "shared",
    decode: str = "full",
    preview_weights: Target | None = None,
    batch: Batch = 1,
    engine: Engine | Mapping[str, Any] | str = "local",
    retry: str | None = None,
    progress: bool = True,
    on_plan: Callable[[Plan], None] | None = None,
    on_cell: Callable[[dict[str, Any]], None] | None = None,
    stop: Callable[[], bool] | None = None,
    **settings: Any,
) -> Sweep:
    """Run a grid of settings over pictures and keep everything in one directory; called again, it goes on.

    A setting that is given as a list (range, array, or a text such as ``"20..200:20"``) is an axis, one given as a
    single value is fixed; what is left out is the model's default. Cells are visited with the settings that are
    expensive to change outermost (`svdlab.sweep.grid.ORDER`): picture, size, cond_aug, seed, motion, fps, guidance,
    ..., steps. Without seeds, one is drawn for all cells and kept with the directory, so that cells differ by their
    settings alone.

    A cell is known by its content: request, picture and weights. So the same call goes on after an interruption, a
    call with more values computes only what is new, and cells of values that were taken out stay in the directory.

    The first Ctrl-C lets the cell in hand finish and returns a sweep with ``interrupted=True``; the second stops at
    once with KeyboardInterrupt. Either way what was finished is stored and exported.

    Args:
        pipe: a loaded pipeline, or the name of a model.
        image: a picture or a list of them: paths, patterns such as ``"pictures/*.png"``, addresses, PIL images, arrays.
        out: the run directory; made if it is missing.
        name: of the sweep; the directory's name if left out.
        metrics: names; None or ``"default"`` for all that need no special setup, ``[]`` for none.
        timing: ``"shared"`` makes once what cells have in common (conditioning, denoiser calls) and changes no bit;
            ``"isolated"`` lets each cell pay for all it needs, for clean runtimes.
        decode: ``"full"`` makes the frames of each cell at once; ``"preview"`` and ``"none"`` keep latents, and make
            frames, and with them metrics, when somebody looks: `Sweep.clip`, a viewer, a report. Cells and frames are
            the same.
        preview_weights: folder of an `AutoencoderTiny` of diffusers, for the previews of ``decode="preview"``; without
            it they are a linear map of the latents.
        batch: how many cells of equal noise levels are denoised together: faster where one clip does not fill the
            device, and equal within rounding (1e-5) to 1, the default, which is exact. ``"auto"`` measures and
            chooses.
        engine: who computes the cells: ``"local"``, this process; ``"ray"``, workers of a Ray cluster (the extra
            `ray`); or a table of settings such as ``{"kind": "ray", "workers": 8}``, see `svdlab.sweep.engine`. Give
            the model by its name then: this process need not load it.
        retry: ``"failed"`` runs failed cells again.
        progress: show a progress bar.
        on_plan: called with the `Plan` before the first cell.
        on_cell: called with each new row (a dict with the frame's columns) when its cell is done or failed.
        stop: asked between cells (batches of them), from the thread that runs them; when it says True, the sweep
            returns as after the first Ctrl-C. For callers that run it outside of the main thread, where no Ctrl-C
            arrives.
        settings: settings of `svdlab.Request`.

    Raises:
        SpecError, ImageError, MetricError, WeightsError, ModelError: before the first cell is computed.
        SweepError: the directory is in use, or something else's, or the disk is full; or another engine has no
            workers.
        ExtraError: the engine's package is not installed.

    Example:
        >>> sweep = sl.sweep(pipe, image=["rocket.png"], motion_bucket_id=[32, 127, 224], steps=[1, 2, 4, 8],
        ...                  seed=range(2), out="runs/first")
        >>> sweep.frame()
    """
    how = {"metrics": metrics, "timing": timing, "decode": decode, "preview_weights": preview_weights, "engine": engine}
    spec = spec_of_call(pipe, image=image, out=out, name=name, settings=settings, **how)
    options = Options(retry=retry, batch=batch, progress=progress, on_plan=on_plan, on_cell=on_cell, stop=stop)
    return _run(spec, pipe, Path(out), options)


def spec_of_call(
    pipe: Pipeline | str, *, image: Any, out: Target, name: str | None, settings: Mapping[str, Any], **how: Any
) -> Spec:
    """The specification that a call of `sweep` stands for.

    Args:
        settings: values by name, lists for axes.
        how: `metrics`, `timing`, `decode`, `preview_weights` and `engine`, as `make_spec` takes them.

    Raises:
        SpecError: naming the argument, its value and what is allowed.

    Example:
        >>> spec_of_call("tiny", image="rocket.png", out="runs/first", name=None, settings={"steps": [1, 4]}).name
        'first'
    """
    axes, fixed = split_settings(settings)
    return make_spec(
        name=name_of(Path(out)) if name is None else name,
        model=pipe if isinstance(pipe, str) else None,
        images=image,
        grid=axes,
        fixed=fixed,
        **how,
    )


def name_of(folder: Path) -> str:
    """The name of a sweep that was given none: its directory's, in plain letters."""
    name = "".join(
        letter for letter in folder.absolute().name if letter.isascii() and (letter.isalnum() or letter in "._-")
    )
    return name.lstrip("._-")[:100] or "sweep"


def run_spec(
    spec: Spec | Target,
    *,
    out: Target | None = None,
    pipe: Pipeline | None = None,
    device: str = "auto",
    dtype: str = "auto",
    low_memory: str | bool = "auto",
    decode: str | None = None,
    preview_weights: Target | None = None,
    batch: Batch = 1,
    engine: Engine | Mapping[str, Any] | str | None = None,
    retry: str | None = None,
    progress: bool = True,
    on_plan: Callable[[Plan], None] | None = None,
    on_cell: Callable[[dict[str, Any]], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Sweep:
    """Run a specification: a TOML file, a `Spec`, or a run directory, which then goes on with what it was last told.

    Args:
        spec: see above.
        out: the run directory; by default ``runs/<name>`` in the working directory, or the directory given as `spec`.
        pipe: used instead of loading the spec's model.
        device, dtype, low_memory: how to load the model, see `svdlab.load`.
        decode, preview_weights: in place of the spec's, see `sweep`; None leaves what it says.
        engine: in place of the spec's, see `sweep`; the kind alone keeps the spec's settings of that kind.
        batch, retry, progress, on_plan, on_cell, stop: see `sweep`.

    Raises:
        As `sweep`.

    Example:
        >>> run_spec("experiments/quickstart.toml").path
        PosixPath('runs/quickstart')
    """
    options = Options(retry=retry, batch=batch, progress=progress, on_plan=on_plan, on_cell=on_cell, stop=stop)
    spec, folder = _spec_and_folder(spec, out)
    spec = change_engine(change_decode(spec, decode, preview_weights), engine)
    return _run(spec, _pipe_or_name(spec, pipe), folder, options, device=device, dtype=dtype, low_memory=low_memory)


def plan_spec(
    spec: Spec | Target,
    *,
    out: Target | None = None,
    pipe: Pipeline | None = None,
    device: str = "auto",
    dtype: str = "auto",
    low_memory: str | bool = "auto",
    decode: str | None = None,
    preview_weights: Target | None = None,
    batch: Batch = 1,
    engine: Engine | Mapping[str, Any] | str | None = None,
    retry: str | None = None,
) -> Plan:
    """What `run_spec` would do, with everything checked and no cell computed or written. Arguments as there.

    The model is loaded, since its weights are part of what is checked and of every cell's key. Where no cell is done,
    a trial clip of one step tells the time.

    Example:
        >>> print(plan_spec("experiments/quickstart.toml"))
    """
    options = Options(retry=retry, batch=batch)
    spec, folder = _spec_and_folder(spec, out)
    spec = change_engine(change_decode(spec, decode, preview_weights), engine)
    how = {"device": device, "dtype": dtype, "low_memory": low_memory}
    with _model_of(spec, _pipe_or_name(spec, pipe), batch, **how) as (model, elsewhere):
        check_batch_size(batch, timing=spec.timing, hosted=model.hosted)
        prepared, _ = prepare_in(spec, model, folder)
        given: Any = {"retry": options.retry, "batch": batch, "pipe": None if elsewhere else model}
        given["workers"] = elsewhere and elsewhere.room
        if not (folder / FILE).exists():
            return make_plan(prepared, folder, None, **given)
        with Ledger(folder) as ledger:
            return make_plan(prepared, folder, ledger, **given)


def plan_text(spec: Spec | Target, **options: Any) -> str:
    """`plan_spec` as text."""
    return plan_spec(spec, **options).text()


def open_sweep(path: Target, *, pipe: Pipeline | None = None) -> Sweep:
    """Open a run directory for reading, also while another process writes it.

    Args:
        pipe: the model of the sweep, for cells that are not decoded yet; without it, it is loaded when it is needed, by
            its name and from this machine alone.

    Raises:
        SweepError: it is not the directory of a sweep, or of another schema version.

    Example:
        >>> open_sweep("runs/first").status()
        {'pending': 12, 'running': 1, 'done': 35, 'failed': 0, 'skipped': 0}
    """
    return Sweep(path, pipe=pipe)


def _run(spec: Spec, pipe: Pipeline | str, folder: Path, options: Options, **how: Any) -> Sweep:
    with _model_of(spec, pipe, options.batch, **how) as (model, elsewhere):
        outcome = run(spec, model, folder, dataclasses.replace(options, elsewhere=elsewhere))
    near = model if elsewhere is None else elsewhere.pipe  # decodes what is looked at
    return Sweep(folder, plan=outcome.plan, interrupted=outcome.interrupted, pipe=near, workers=outcome.workers)


@contextlib.contextmanager
def _model_of(
    spec: Spec, pipe: Pipeline | str, batch: Batch, **how: Any
) -> Iterator[tuple[Pipeline, Elsewhere | None]]:
    """The model of a run, for the length of a `with` block; and who makes its cells, if this process does not.

    Args:
        how: to load a model that is given by its name: device, dtype, low_memory.
    """
    if spec.engine.kind == "local":
        yield _load(spec, pipe, **how), None
        return
    from svdlab.sweep.elsewhere import workers_of

    with workers_of(spec, pipe, batch=batch, **how) as elsewhere:
        yield cast("Pipeline", elsewhere.described), elsewhere  # it is asked what it is, and not to make anything


def _spec_and_folder(spec: Spec | Target, out: Target | None) -> tuple[Spec, Path]:
    if isinstance(spec, Spec):
        default = Path("runs") / spec.name
    elif Path(spec).is_dir():
        default = Path(spec)
        spec = stored_spec(spec)
    else:
        spec = read_spec(spec)
        default = Path("runs") / spec.name
    return spec, default if out is None else Path(out)


def _pipe_or_name(spec: Spec, pipe: Pipeline | None) -> Pipeline | str:
    if pipe is not None:
        return pipe
    if spec.model is None:
        raise SpecError("model: the spec names none; give its name, or pass pipe=.")
    return spec.model


def _load(spec: Spec, pipe: Pipeline | str, **how: Any) -> Pipeline:
    if not isinstance(pipe, str):
        return pipe
    from svdlab.pipeline import load

    with placed(spec, "model"):
        return load(pipe, **how)

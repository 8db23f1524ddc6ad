"""The training loop: AdamW with warm-up and cosine, gradient clipping, averaged weights, curves, exact resume.

A step is a pure function of its number and of the weights: what is random in it is drawn from generators that are
seeded by the step, and the global generator is seeded anew at every step. So a run that was killed and resumed ends
with the weights of the unbroken run, on the CPU bit for bit.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from svdlab.errors import TrainingError
from svdlab.interrupt import StopRequest
from svdlab.training import checkpoint
from svdlab.training.curves import Curves
from svdlab.training.settings import FREE, LoopSettings, comparable, rate_at, step_seed
from svdlab.training.state import State

log = logging.getLogger("svdlab")

SHOW_SECONDS = 20.0  # between two writes of the loss curve

StepFn = Callable[[int, State], Mapping[str, Tensor]]
"""`step_fn(step, state)` -> scalars; "loss" among them is minimised, the others are drawn beside it."""

Probe = Callable[[int, State], Mapping[str, float]]
"""`probe(step, state)` -> measures of quality after `step` steps, for the second curve."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a call of `run_loop` ended."""

    step: int  # steps that are done
    finished: bool  # False: stopped by Ctrl-C; the same call goes on
    seconds: float  # spent on this run, over all calls
    loss: float  # mean of the last tenth of the steps (at most 100)


def run_loop(
    *,
    step_fn: StepFn,
    state: State,
    settings: LoopSettings,
    out: Path,
    resume: bool = True,
    probe: Probe | None = None,
    title: str = "train",
    progress: bool = True,
) -> Result:
    """Train the networks of `state` for `settings.steps` steps, or go on where an earlier call stopped.

    The first Ctrl-C lets the step in hand finish, saves and returns a result that is not `finished`; the second raises
    KeyboardInterrupt at once, and what was done since the last checkpoint is done again by the next call.

    Args:
        step_fn: computes the loss of one step; see `StepFn`. Anything random in it must come from `step_seed`, or from
            torch's global generator, which is seeded at every step.
        state: the networks, their averages and the optimiser; see `make_state`. It is changed in place, and afterwards
            holds the trained weights and averages.
        out: gets `checkpoints/`, `loss.csv`, `loss.png`, and with a probe `quality.csv` and `quality.png`.
        resume: False refuses a folder that has a checkpoint, instead of going on from it.
        probe: measures quality every `settings.probe_steps` steps and at the end. It is handed the networks in
            training mode and must leave them so.

    Raises:
        TrainingError: the checkpoint is of other settings or networks, or damaged; or the loss is not finite (the last
            checkpoint is kept).

    Example:
        >>> state = make_state({"unet": unet}, settings)
        >>> run_loop(step_fn=loss_of_step, state=state, settings=settings, out=Path("runs/teacher")).finished
        True
    """
    out.mkdir(parents=True, exist_ok=True)
    loss, quality = Curves(out / "loss.csv"), Curves(out / "quality.csv")
    seconds = _restore(state, settings, out, resume, (loss, quality))
    first, began, saved = state.step, time.perf_counter(), time.perf_counter()
    shown = began
    bar = tqdm(
        total=settings.steps, initial=first, desc=title, unit="step", dynamic_ncols=True,
        disable=not (progress and state.is_main and first < settings.steps),
    )  # fmt: skip

    def spent() -> float:
        return seconds + time.perf_counter() - began

    def save() -> None:
        _flush(loss, bar, out)
        if state.is_main:
            for curves in (loss, quality):
                curves.write()
            info = {"seconds": spent(), "settings": comparable(settings)}
            checkpoint.save_checkpoint(out / checkpoint.FOLDER, step=state.step, tensors=state.to_tensors(), info=info)
        state.wait()

    with StopRequest("step") as stop, _own_random_state(), bar:
        while state.step < settings.steps and not stop.asked:
            loss.add(state.step + 1, _one_step(step_fn, state, settings), spent)
            state.step += 1
            bar.update()
            last = state.step == settings.steps
            if state.step % settings.flush_steps == 0:
                _flush(loss, bar, out)
                if state.is_main and time.perf_counter() - shown > SHOW_SECONDS:
                    loss.write()  # to be looked at; what lies beyond the checkpoint is dropped by a resumption
                    shown = time.perf_counter()
            if probe and settings.probe_steps and (state.step % settings.probe_steps == 0 or last):
                quality.add(state.step, probe(state.step, state), spent)
            due = state.step % settings.checkpoint_steps == 0
            if state.agree(due or time.perf_counter() - saved > settings.checkpoint_seconds) and not last:
                save()
                saved = time.perf_counter()
            stop.asked = state.agree(stop.asked)
        if state.step > first:
            save()
    if state.is_main:
        loss.draw(title)
        quality.draw(title)
    if state.step < settings.steps:
        log.warning("%s: stopped at step %d of %d; the same call goes on.", out, state.step, settings.steps)
    finished = state.step == settings.steps
    return Result(step=state.step, finished=finished, seconds=spent(), loss=loss.recent("loss"))


def _one_step(step_fn: StepFn, state: State, settings: LoopSettings) -> dict[str, Tensor | float]:
    """Loss, gradient, clipped update, averages; the numbers of the step, still on the device."""
    torch.manual_seed(step_seed(settings.seed, state.step, "global", state.rank))
    rate = rate_at(state.step, settings)
    with state.autocast():
        values = step_fn(state.step, state)
    state.backward(values["loss"])
    norm = state.update(rate, settings.clip_norm)
    state.average()
    shown = {name: value.detach() if isinstance(value, Tensor) else value for name, value in values.items()}
    return {**shown, "grad_norm": norm, "learning_rate": rate * settings.learning_rate}


def _flush(loss: Curves, bar: tqdm, out: Path) -> None:
    """Fetch the numbers of the last steps and stop at the first that is not finite."""
    loss.fetch()
    for row in loss.fresh():
        bad = [name for name in ("loss", "grad_norm") if not math.isfinite(row[name])]
        if bad:
            raise TrainingError(
                f"{out}: the {bad[0]} of step {row['step']:.0f} is {row[bad[0]]}. The last checkpoint is kept. Lower"
                " learning_rate or clip_norm, or use precision='fp32'."
            )
    bar.set_postfix(loss=f"{loss.recent('loss'):.4f}", refresh=False)


def _restore(state: State, settings: LoopSettings, out: Path, resume: bool, curves: tuple[Curves, ...]) -> float:
    """Put the checkpoint of `out` into `state` and the curves, if there is one; the seconds spent so far."""
    folder = out / checkpoint.FOLDER
    commit = checkpoint.read_commit(folder)
    if commit is None:
        return 0.0
    if not resume:
        raise TrainingError(
            f"resume = False: {out} has a checkpoint of step {commit['step']}. Use resume=True to go on from it,"
            " another folder, or remove it."
        )
    _check_settings(commit.get("settings", {}), comparable(settings), folder)
    loaded = checkpoint.load_checkpoint(folder)
    assert loaded is not None
    state.from_tensors(loaded[0], where=str(folder))
    state.step = commit["step"]
    for curve in curves:
        curve.read(up_to=state.step)
    log.info("%s: going on from step %d of %d", out, state.step, settings.steps)
    return float(commit["seconds"])


def _check_settings(before: Mapping[str, object], now: Mapping[str, object], folder: Path) -> None:
    changed = [f"{key} was {before.get(key)!r}, is {value!r}" for key, value in now.items() if before.get(key) != value]
    if changed:
        raise TrainingError(
            f"{folder}: begun with other settings: {'; '.join(changed)}. Give the old ones to go on, or use another"
            f" folder. Free to change are {', '.join(FREE)}."
        )


@contextmanager
def _own_random_state() -> Iterator[None]:
    """The steps seed the global generator; afterwards the caller has it as it was."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield

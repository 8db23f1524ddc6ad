"""distill: a many-step teacher and clips -> a few-step student, as a folder that `svdlab.load` takes.

Consistency distillation of the diffusion model itself (Song et al. 2023, algorithm 2; Luo et al. 2023; Wang et al.
2024): no clip is sampled in training, and the clips need no labels.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from svdlab.errors import TrainingError
from svdlab.models import load_components
from svdlab.models.cards import ModelInfo
from svdlab.models.components import Components
from svdlab.models.loading import quietly
from svdlab.pipeline import Pipeline
from svdlab.sampling import reinjection, sample, sigmas, start
from svdlab.training.clips import Ahead, Clips, WorldClips
from svdlab.training.consistency import Network, denoise, distillation_grid, ode_step, teacher_pair
from svdlab.training.data import Renderer
from svdlab.training.distill_step import (
    Batch,
    DistillSettings,
    choose_trainables,
    conditioned,
    draw_batch,
    step_losses,
    teacher_network,
)
from svdlab.training.loop import Result, run_loop
from svdlab.training.networks import use_plain_attention, write_model
from svdlab.training.record import check_record
from svdlab.training.settings import FREE as LOOP_FREE
from svdlab.training.settings import step_seed
from svdlab.training.state import State, make_state
from svdlab.training.videos import prepare_videos

if TYPE_CHECKING:
    from svdlab.training.world import World

log = logging.getLogger("svdlab")

STUDENT = "student"
RECORD = "distill.json"
FREE = ("together", "gradient_checkpointing", "probe_clips", "processes", "ahead")
"""Settings of distillation that a resumption may change: they move no weight, or only by rounding."""


def distill(
    teacher: Components | str | os.PathLike[str],
    data: World | Clips | str | os.PathLike[str],
    settings: DistillSettings | None = None,
    *,
    out: str | os.PathLike[str],
    resume: bool = True,
    progress: bool = True,
) -> Result:
    """Distil `teacher` into a few-step student, in `out / "student"`; or go on where an earlier call stopped.

    The teacher is frozen, in half precision on CUDA; the student has its weights in fp32 and computes in bf16 there. A
    teacher in fp32, as on a CPU, computes as `loop.precision` says, too.
    Memory is saved by `gradient_checkpointing=True`, `together=False`, `batch=1` and `loop.averages=()`.

    Args:
        teacher: a name of `svdlab models`, a diffusers folder, or loaded components (which are moved to the device).
        data: a folder of videos, a `World`, or anything that keeps the contract `Clips`.
        settings: see `DistillSettings`.
        out: gets `student/` (a diffusers folder with a card), `clips/` (encoded videos), `checkpoints/`, `loss.csv`,
            `loss.png`, `distill.json`; and with `loop.probe_steps` `quality.csv` and `quality.png`.
        resume: False refuses a folder that was begun.
        progress: show bars.

    Returns:
        How it ended; `finished` is False after Ctrl-C, and then there is no student yet.

    Raises:
        TrainingError: settings that do not fit the teacher or the data, or a folder that was begun otherwise.
        ModelError: the teacher cannot be loaded. VideoError: no clip can be had from the folder.

    Example:
        >>> distill("svd-xt", "videos", DistillSettings(batch=1, gradient_checkpointing=True), out="runs/student")
        >>> pipe = svdlab.load("runs/student/student")
    """
    chosen, out = settings or DistillSettings(), Path(out)
    loaded = load_teacher(teacher, chosen)
    state = make_state({"unet": _student_of(loaded, chosen)}, chosen.loop)
    loaded = _moved(loaded, state.device)
    if state.device.type == "cpu":
        for unet in (loaded.unet, state.weights()["unet"], *(average["unet"] for average in state.averages)):
            use_plain_attention(unet)
    if chosen.loop.compile:
        for unet in (loaded.unet, *(average["unet"] for average in state.averages[:1])):
            unet.compile()
    with ExitStack() as stack:
        clips, held_out = _clips(data, loaded, chosen, out, state, progress, stack)
        _check_begun(out, loaded, clips, chosen, resume=resume, write=state.is_main)

        def make(step: int) -> Batch:
            place = (step * state.world + state.rank) * chosen.batch
            batch = clips.batch(range(place, place + chosen.batch))
            return draw_batch(batch, loaded, chosen, step_seed(chosen.loop.seed, step, "distill", state.rank))

        batches = stack.enter_context(Ahead(make, depth=chosen.ahead, last=chosen.loop.steps))

        def step_fn(step: int, state: State) -> Mapping[str, Tensor]:
            target = state.averages[0]["unet"] if state.averages else state.weights()["unet"]
            losses = step_losses(state.modules["unet"], target, loaded.unet, batches(step), chosen)
            return {"loss": losses.mean()}

        result = run_loop(
            step_fn=step_fn, state=state, settings=chosen.loop, out=out, resume=resume,
            probe=Probe(loaded, held_out, chosen), title="distill", progress=progress,
        )  # fmt: skip
    if result.finished and state.is_main:
        with quietly():
            info = student_info(loaded, _notes(loaded, chosen, state.world))
            write_model(
                out / STUDENT, unet=_kept(state), vae=loaded.vae, image_encoder=loaded.image_encoder,
                feature_extractor=loaded.feature_extractor, info=info,
            )  # fmt: skip
    state.wait()
    return result


def student_info(teacher: Components, notes: str = "") -> ModelInfo:
    """The card of a student: few steps, full re-noising, no guidance, in the teacher's sizes."""
    own = replace(
        teacher.defaults, schedule="animatelcm", gamma=1.0, min_guidance=1.0, max_guidance=1.0, good_steps=4
    )  # fmt: skip
    return ModelInfo(
        name=f"{teacher.name}-student",
        title=f"Few-step student of {teacher.name}",
        kind="student",
        defaults=own,
        licence=teacher.info.licence,
        memory_gb=teacher.info.memory_gb,
        notes=notes,
    )


class Probe:
    """What a student has learned, on a few clips with fixed noise; `svdlab.training.loop.Probe`.

    `one_step`: root mean square distance of its one-step sample to where the teacher's ODE ends from the same noise.
    `consistency`: mean distance of its answers at both ends of the teacher's steps, over the whole grid. Both in units
    of scaled latents, lower is better.
    `gain`: see `few_step_gain`, higher is better.

    Of a World, clips are measured that training never
    sees; of videos, the first of the data.
    """

    def __init__(self, teacher: Components, clips: Clips, settings: DistillSettings) -> None:
        self.teacher, self.settings = teacher, settings
        self._clips = clips
        self._batch: Batch | None = None
        self._ends: Tensor | None = None

    @torch.no_grad()
    def __call__(self, step: int, state: State) -> dict[str, float]:
        """The measures of the weights that would be written now."""
        unet = _kept(state)
        with state.autocast():
            return self.measure(unet)

    @torch.no_grad()
    def measure(self, unet: nn.Module) -> dict[str, float]:
        """The measures of any UNet, such as the teacher's own before distillation."""
        grid = distillation_grid(self.settings.grid)
        batch = self._fixed()
        dtype = next(unet.parameters()).dtype
        student = conditioned(unet, batch, dtype=None if dtype == torch.float32 else dtype)
        x = start(batch.noise, grid)
        if self._ends is None:
            self._ends = self._solve(x, batch, grid)
        first = denoise(student, x, grid[:1].expand(len(x)))
        phi, gaps = teacher_network(self.teacher.unet, batch, together=self.settings.together), []
        for i in torch.linspace(0, len(grid) - 2, min(8, len(grid) - 1)).long().tolist():
            here, there = grid[i].expand(len(x)), grid[i + 1].expand(len(x))
            y, z = teacher_pair(phi, batch.latents, batch.noise, here, there, solver=self.settings.solver)
            gaps.append((denoise(student, y, here) - denoise(student, z, there)).abs().mean())
        one_step = (first - self._ends).square().mean().sqrt()
        return {
            "one_step": one_step.item(),
            "consistency": torch.stack(gaps).mean().item(),
            "gain": few_step_gain(student, x, batch.latents),
        }

    def _fixed(self) -> Batch:
        if self._batch is None:
            clips = self._clips.batch(range(self.settings.probe_clips))
            seed = step_seed(self.settings.loop.seed, 0, "distill probe")
            self._batch = draw_batch(clips, self.teacher, self.settings, seed)
        return self._batch

    def _solve(self, x: Tensor, batch: Batch, grid: Tensor) -> Tensor:
        phi = teacher_network(self.teacher.unet, batch, together=self.settings.together)
        for i in range(len(grid) - 1):
            here, there = grid[i].expand(len(x)), grid[i + 1].expand(len(x))
            x = ode_step(lambda y, level: denoise(phi, y, level), x, here, there, solver=self.settings.solver)
        return x


def few_step_gain(student: Network, x: Tensor, truth: Tensor, *, steps: int = 4) -> float:
    """By how many dB a few-step sample is nearer to the true clip than the still picture is; below 0: farther.

    Over all frames but the first, in latents. Where a clip has several futures, a decided sample may score below a
    blurred one: look at the clips too.

    Args:
        student: with its conditioning.
        x: at the first noise level, `[batch, frames, channels, height, width]`.
        truth: clean latents, like x.
    """
    levels = sigmas(steps)

    def denoiser(y: Tensor, sigma: float) -> Tensor:
        return denoise(student, y, torch.full((len(y),), sigma, dtype=torch.float64))

    made = sample(denoiser, x, levels, reinjection(range(len(x)), levels, x))
    later = slice(min(1, truth.shape[1] - 1), None)
    wrong, still = (((one - truth)[:, later] ** 2).mean().clamp(min=1e-9) for one in (made, truth[:, :1]))
    return float(10 * (still / wrong).log10())


# ---------------------------------------------------------------- the parts of a run


def load_teacher(teacher: Components | str | os.PathLike[str], settings: DistillSettings) -> Components:
    """The teacher, on the CPU unless it came loaded."""
    if not isinstance(teacher, Components):
        half = settings.loop.device != "cpu" and torch.cuda.is_available()
        teacher = load_components(teacher, device="cpu", dtype="fp16" if half else "fp32")
    if teacher.info.kind == "student":
        raise TrainingError(f"teacher = {teacher.name!r}: is a student already. Give its many-step model.")
    if teacher.info.kind == "random":
        log.warning("%s has random weights: its student learns nothing but to imitate noise.", teacher.name)
    return teacher


def _student_of(teacher: Components, settings: DistillSettings) -> nn.Module:
    student: Any = nn.Module.to(copy.deepcopy(teacher.unet), torch.float32)
    count = choose_trainables(student, settings.trainables)
    log.info("%s: %.2f million weights are trained (%s)", teacher.name, count / 1e6, settings.trainables)
    if settings.gradient_checkpointing:
        student.enable_gradient_checkpointing()
    return student.train()


def _moved(teacher: Components, device: torch.device) -> Components:
    for part in (teacher.unet, teacher.vae, teacher.image_encoder):
        nn.Module.to(part, device=device)
    moved = replace(teacher, device=device)
    Pipeline(moved)  # keeps the VAE's encoder in fp32, where it would overflow in half precision
    return moved


def _clips(
    data: Any,
    teacher: Components,
    settings: DistillSettings,
    out: Path,
    state: State,
    progress: bool,
    stack: ExitStack,
) -> tuple[Clips, Clips]:
    """The data as clips, and those that quality is measured on: scenes of a world that training never reaches."""
    if isinstance(data, str | os.PathLike):
        if not state.is_main:  # of several processes the first encodes the videos, the others read what it wrote
            state.wait()
        shown = progress and state.is_main
        found: Clips = prepare_videos(data, teacher, settings.clips, cache=out / "clips", progress=shown)
        if state.is_main:
            state.wait()
        return found, found
    if hasattr(data, "scene"):
        from svdlab.training.world import HELD_OUT

        source = stack.enter_context(Renderer(data, processes=settings.processes))
        found = WorldClips(data, teacher, scenes=settings.scenes, source=source)
        return found, WorldClips(data, teacher, first=HELD_OUT)
    if hasattr(data, "batch") and hasattr(data, "key"):
        return data, data
    raise TrainingError(
        f"data = {str(data)[:200]!r} ({type(data).__name__}): must be a folder of videos, a World, or an object with"
        " `key` and `batch(numbers)`, see svdlab.training.clips.Clips."
    )


def _kept(state: State) -> nn.Module:
    """The network that is the result: the last average, or without one the student."""
    return state.weights(len(state.averages) - 1 if state.averages else None)["unet"]


def _notes(teacher: Components, settings: DistillSettings, processes: int) -> str:
    low, high = (f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in settings.guidance(teacher))
    return (
        f"Consistency distillation of {teacher.name} ({teacher.fingerprint}): {settings.loop.steps} steps of"
        f" {settings.batch * processes} clips, grid of {settings.grid}, {settings.solver} steps of the teacher."
        f" Guidance built in: {low} at the first frame, {high} at the last."
    )


def _check_begun(
    out: Path, teacher: Components, clips: Clips, settings: DistillSettings, *, resume: bool, write: bool
) -> None:
    """A resumption must share teacher, data and settings."""
    weights = teacher.fingerprint.rsplit("-", 1)[0]  # whatever precision it was loaded in
    record = {"teacher": weights, "data": clips.key, **asdict(settings)}
    check_record(out / RECORD, record, free=(*FREE, *LOOP_FREE), resume=resume, write=write)

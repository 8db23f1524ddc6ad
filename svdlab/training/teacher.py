"""Train a teacher from nothing: latents, decoder, then the denoiser in stages; and write it as a model."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from svdlab.conditioning import to_signed
from svdlab.errors import TrainingError
from svdlab.models.cards import ModelInfo, weights_gb
from svdlab.request import Defaults
from svdlab.training.clips import Ahead
from svdlab.training.data import Renderer, Source, scene_numbers
from svdlab.training.frames import draw_numbers
from svdlab.training.loop import Result, run_loop
from svdlab.training.networks import build_image_encoder, build_unet, use_plain_attention, write_model
from svdlab.training.objective import teacher_losses
from svdlab.training.probe import teacher_quality
from svdlab.training.recipe import Recipe, Stage, check_recipe, decoder_lengths
from svdlab.training.settings import step_seed
from svdlab.training.state import State, make_state
from svdlab.training.upsampling import Upsampling, begin_upsampling, fit_upsampling
from svdlab.training.vae import PATCH, Projection, build_vae, fit_pca, train_decoder

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder

log = logging.getLogger("svdlab")

PARTS = ("decoder", "unet")
MODEL = "model"  # folder of the finished teacher, below `out`
PROJECTION = "projection.safetensors"
UPSAMPLING = "upsampling.safetensors"
FIT_FROM, PROBE_FROM = 10**9, 2 * 10**9  # scenes so far along that no step sees them
PROBE_CLIPS = 8

Worlds = Callable[[str], Source]
"""Name of a stage of the world -> the world."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How a call of `train` ended."""

    folder: Path | None  # the finished model; None: stopped by Ctrl-C, or only a part was asked for
    finished: bool  # False: stopped by Ctrl-C, the same call goes on
    seconds: float  # spent on all stages, over all calls


def train(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    part: str | None = None,
    resume: bool = True,
    worlds: Worlds | None = None,
    progress: bool = True,
) -> Trained:
    """Train a teacher as a recipe says, or go on where an earlier call stopped.

    Below `out` come `decoder/` and one folder a stage, each with checkpoints and curves, and in the end `model/`, a
    diffusers folder in fp16 that `svdlab.load` takes. Under `accelerate launch` every process calls this.

    Args:
        part: "decoder" or "unet": only that, for two processes side by side, which need nothing of one another; a call
            without it puts them together. None: one after the other.
        worlds: where the clips come from; None: `svdlab.training.world.World` at the recipe's size and seed.

    Raises:
        TrainingError: the folder was begun with another recipe, or see `run_loop`.

    Example:
        >>> train(read_recipe("experiments/tiny.toml"), "runs/tiny-teacher").folder
        PosixPath('runs/tiny-teacher/model')
    """
    if part not in (None, *PARTS):
        raise TrainingError(f"part = {part!r}: must be one of {', '.join(PARTS)}, or None for all.")
    out = Path(out)
    check_recipe(out, recipe, resume=resume)
    worlds = worlds or partial(_world, recipe)
    for name in {recipe.decoder.world, *(stage.world for stage in recipe.stages)}:
        worlds(name)  # a name that is wrong is found now, not after hours
    projection = fit_projection(recipe, worlds, out)
    vae = build_vae(projection, size=recipe.size, channels=recipe.vae_channels, seed=recipe.seed)
    seconds = 0.0
    if part != "unet":
        result = _train_decoder(vae, projection, recipe, worlds, out, progress)
        seconds = result.seconds
        if not result.finished or part == "decoder":
            return Trained(folder=None, seconds=seconds, finished=result.finished)
    latent_size = recipe.size // PATCH
    unet = build_unet(recipe.unet, latent_size=latent_size, num_frames=recipe.num_frames, seed=recipe.seed)
    image_encoder, feature_extractor = build_image_encoder(embedding=recipe.unet.embedding, seed=recipe.seed)
    modules: dict[str, nn.Module] = {"unet": unet, "image_encoder": image_encoder}
    for number, stage in enumerate(recipe.stages, start=1):
        folder = out / f"{number}-{stage.world}"
        result, main = _train_stage(modules, projection, stage, recipe, worlds(stage.world), folder, progress)
        seconds += result.seconds
        if not result.finished:
            return Trained(folder=None, seconds=seconds, finished=False)
    if part == "unet":
        return Trained(folder=None, seconds=seconds, finished=True)
    if main:
        info = teacher_info(recipe, seconds)
        parts: dict[str, Any] = {**modules, "vae": vae, "feature_extractor": feature_extractor}
        write_model(out / MODEL, **parts, info=info)
        log.info("%s: trained in %.0f s, %.1f MB", out / MODEL, seconds, 1e3 * weights_gb(out / MODEL))
    return Trained(folder=out / MODEL, seconds=seconds, finished=True)


def fit_projection(recipe: Recipe, worlds: Worlds, out: Path) -> Projection:
    """The linear map to latents: read from `out`, or fitted to frames of the decoder's world and written there."""
    path = out / PROJECTION
    if not path.exists():
        fit_pca(_frames_to_fit(recipe, worlds)).save(path)
    projection = Projection.load(path)
    log.info("latents: the best linear reconstruction of a frame has %.1f dB", projection.psnr)
    return projection


def fit_beginning(projection: Projection, recipe: Recipe, worlds: Worlds, out: Path, *, progress: bool) -> Upsampling:
    """What the decoder begins as: read from `out`, or fitted to the same frames as the projection and written there."""
    path = out / UPSAMPLING
    if not path.exists():
        pixels = to_signed(_frames_to_fit(recipe, worlds))
        noise, steps, seed = recipe.decoder.noise, recipe.decoder.upsampling_steps, recipe.seed
        fit_upsampling(projection, pixels, steps=steps, noise=noise, seed=seed, progress=progress).save(path)
    return Upsampling.load(path)


def _frames_to_fit(recipe: Recipe, worlds: Worlds) -> np.ndarray:
    """uint8 `[n, size, size, 3]`: some frames of clips of the decoder's world that nothing else is trained on."""
    with Renderer(worlds(recipe.decoder.world), processes=recipe.processes) as renderer:
        scenes = renderer.batch(range(FIT_FROM, FIT_FROM + recipe.decoder.pca_clips))
    frames = scenes["frames"][:, :: max(1, recipe.num_frames // 4)]
    return np.ascontiguousarray(frames.reshape(-1, *frames.shape[2:]))


def teacher_info(recipe: Recipe, seconds: float) -> ModelInfo:
    """The card of a teacher: 25 Euler steps on SVD's grid."""
    steps = sum(stage.loop.steps for stage in recipe.stages)
    worlds = ", ".join(stage.world for stage in recipe.stages)
    return ModelInfo(
        name=recipe.name,
        title=f"Teacher trained on a procedural world ({recipe.num_frames} frames of {recipe.size} px)",
        kind="teacher",
        defaults=Defaults(
            num_frames=recipe.num_frames,
            width=recipe.size,
            height=recipe.size,
            size_factor=PATCH,
            schedule="karras",
            gamma=0.0,
            max_guidance=recipe.max_guidance,
            good_steps=25,
        ),
        licence="Apache-2.0",
        memory_gb=0.0,  # of a folder it is counted when the card is read
        notes=f"Trained by svdlab in {seconds:.0f} s: {steps} steps on the stages {worlds}, seed {recipe.seed}.",
    )


def _train_stage(
    modules: dict[str, nn.Module],
    projection: Projection,
    stage: Stage,
    recipe: Recipe,
    source: Source,
    folder: Path,
    progress: bool,
) -> tuple[Result, bool]:
    """Train the networks in place; afterwards they hold the averaged weights. And whether this process is the main."""
    modules["unet"].train().requires_grad_(True)
    modules["image_encoder"].train().requires_grad_(recipe.train_image_encoder)
    settings = stage.loop
    state = make_state(modules, settings)
    if state.device.type == "cpu":
        for networks in (modules, *state.averages):
            use_plain_attention(networks["unet"])
    moved = projection.to(state.device)

    with ExitStack() as stack:
        renderer = stack.enter_context(Renderer(source, processes=recipe.processes))
        make = partial(_scenes, renderer, rank=state.rank, world=state.world, stage=stage)
        ahead = stack.enter_context(Ahead(make, depth=recipe.ahead, last=settings.steps))

        def step_fn(step: int, state: State) -> dict[str, Tensor]:
            scenes = {key: value.to(state.device, non_blocking=True) for key, value in ahead(step).items()}
            generator = torch.Generator(state.device).manual_seed(
                step_seed(settings.seed, step, folder.name, state.rank)
            )
            if stage.some is not None:
                scenes["numbers"] = draw_numbers(scenes["frames"].shape[1], stage.some, generator)
            return teacher_losses(state.modules, moved, scenes, stage.objective, generator)

        @cache
        def held_out() -> dict[str, Tensor]:
            scenes = _tensors(renderer.batch(range(PROBE_FROM, PROBE_FROM + PROBE_CLIPS)), stage)
            return {key: value.to(state.device) for key, value in scenes.items()}

        def probe(step: int, state: State) -> dict[str, float]:
            generator = torch.Generator(state.device).manual_seed(step_seed(settings.seed, 0, "probe"))
            with state.autocast():
                return teacher_quality(state.weights(0 if settings.averages else None), moved, held_out(), generator)

        result = run_loop(
            step_fn=step_fn, state=state, settings=settings, out=folder, title=folder.name, progress=progress,
            probe=probe if settings.probe_steps else None,
        )  # fmt: skip
    trained = state.weights(0 if settings.averages else None)
    for name, module in modules.items():
        module.to("cpu").load_state_dict(trained[name].state_dict())
        module.eval().requires_grad_(False)
    return result, state.is_main


def _scenes(renderer: Renderer, step: int, *, rank: int, world: int, stage: Stage) -> dict[str, Tensor]:
    return _tensors(renderer.batch(scene_numbers(step, rank=rank, world=world, batch=stage.batch)), stage)


def _tensors(scenes: dict[str, np.ndarray], stage: Stage) -> dict[str, Tensor]:
    frames = np.ascontiguousarray(scenes["frames"][:, : stage.frames])
    numbers = {key: torch.as_tensor(np.asarray(scenes[key])).float() for key in ("motion_bucket_id", "fps")}
    return {"frames": torch.from_numpy(frames), **numbers}


def _train_decoder(
    vae: AutoencoderKLTemporalDecoder,
    projection: Projection,
    recipe: Recipe,
    worlds: Worlds,
    out: Path,
    progress: bool,
) -> Result:
    settings, loop, lengths = recipe.decoder, recipe.decoder.loop, decoder_lengths(recipe)
    begin_upsampling(vae, fit_beginning(projection, recipe, worlds, out, progress=progress))
    with ExitStack() as stack:
        renderer = stack.enter_context(Renderer(worlds(settings.world), processes=recipe.processes))

        def make(step: int, rank: int = 0) -> Tensor:
            """Successive frames of some clips; how many, and from which moment, are functions of the step.

            A decoder that saw windows of one length alone fails at the ends of longer ones.
            """
            length = lengths[step_seed(loop.seed, step, "length") % len(lengths)]
            clips = max(1, settings.frames // length)
            numbers = scene_numbers(step, rank=rank, world=64, batch=settings.frames)[:clips]
            frames = renderer.batch(numbers)["frames"]
            first = step_seed(loop.seed, step, "moment", rank) % (recipe.num_frames - length + 1)
            return to_signed(frames[:, first : first + length])

        rendered = stack.enter_context(Ahead(make, depth=recipe.ahead, last=loop.steps))
        return train_decoder(
            vae, projection, lambda step, rank: rendered(step) if rank == 0 else make(step, rank),
            settings=loop, out=out / "decoder", noise=settings.noise, progress=progress,
        )  # fmt: skip


def _world(recipe: Recipe, stage: str) -> Source:
    from svdlab.training.world import World

    return World(size=recipe.size, num_frames=recipe.num_frames, stage=stage, seed=recipe.seed)  # type: ignore[arg-type]

"""One step of distillation: what is drawn for it, how the networks are conditioned, and its loss.

The formulas are in `svdlab.training.consistency`; here they meet SVD's networks. The public few-step student of SVD was
distilled at one motion bucket and one frame rate (Wang et al. 2024); here both vary with the data, or within a range.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from svdlab.errors import TrainingError
from svdlab.models.components import Components
from svdlab.training.clips import ClipBatch, encode_pictures
from svdlab.training.consistency import (
    SAMPLINGS,
    SOLVERS,
    Network,
    distillation_grid,
    guidance_ramp,
    guidance_range,
    guided,
    matching_losses,
    sample_indices,
    teacher_pair,
)
from svdlab.training.settings import LoopSettings
from svdlab.training.videos import ClipSettings

TEMPORAL = ("temporal_", "time_mixer", "time_pos_embed")
"""Parts of the names of the parameters that SVD added to an image model, and that mix frames."""


@dataclass(frozen=True, kw_only=True)
class DistillLoop(LoopSettings):
    """The training loop with the defaults of a distillation, which starts from a network that is good already.

    `averages` are the running averages of the student's weights: the first is the target (none: the student itself is,
    as in Song & Dhariwal 2023, which saves a copy of the network), the last is what is written as the result.

    Example:
        >>> DistillLoop(steps=1000, averages=(0.95, 0.99))
    """

    steps: int = 2000
    learning_rate: float = 1e-4  # the true SVD wants much less: AnimateLCM took 1e-6
    averages: tuple[float, ...] = (0.95,)


@dataclass(frozen=True, kw_only=True)
class DistillSettings:
    """How a teacher is distilled. The defaults are those of AnimateLCM's SVD where it has them, but for the motion.

    Settings marked * may change between a run and its resumption.

    Example:
        >>> DistillSettings(grid=20, solver="heun", batch=16, loop=DistillLoop(steps=1000))
    """

    batch: int = 8  # clips a step, in each process
    grid: int = 40  # points of the training grid; `animatelcm` and `even` sample at points of the grid of 40
    solver: str = "euler"  # of the teacher's step: "euler", or "heun" at twice the cost
    min_guidance: tuple[float, float] | None = None  # at the first frame: drawn between these; None: the teacher's own
    max_guidance: tuple[float, float] | None = None  # at the last frame; (1, 1): none, at half the teacher's cost
    huber_c: float = 0.001  # of the pseudo-Huber loss
    weight_exponent: float = 0.1  # of the weight (1 / (sigma_i - sigma_i+1))^p
    sampling: str = "uniform"  # of the place on the grid: "uniform" or "lognormal"
    sampling_mean: float = 0.7  # of ln sigma, for "lognormal"
    sampling_std: float = 1.6
    motion_bucket_id: tuple[int, int] | None = None  # drawn between these; None: as fast as the clip is
    fps: tuple[int, int] | None = None  # drawn between these; None: as the clip has it
    cond_aug_mean: float = -3.0  # of the logarithm of the noise on the picture, as SVD was trained (median 0.05)
    cond_aug_std: float = 0.5
    cond_aug_uniform: float = 0.0  # share of rows whose noise is uniform in 0 to 1 instead
    trainables: str = "all"  # or "temporal": only what mixes frames
    gradient_checkpointing: bool = False  # * activations are computed twice: a third slower, in much less memory
    together: bool = True  # * both halves of the guided teacher in one call; False: in turn, in half the memory
    probe_clips: int = 4  # * clips on which quality is measured, every `loop.probe_steps`
    clips: ClipSettings = field(default_factory=ClipSettings)  # how videos are cut
    scenes: int | None = None  # of a World: go round so many; None: a new one each time
    processes: int = 0  # * that render a World
    ahead: int = 2  # * batches that are made ahead, in the background
    loop: DistillLoop = field(default_factory=DistillLoop)

    def __post_init__(self) -> None:
        rules: tuple[tuple[str, bool, str], ...] = (
            ("batch", _whole(self.batch, 1), "a whole number from 1"),
            ("grid", _whole(self.grid, 2), "a whole number from 2; 40 is usual"),
            ("solver", self.solver in SOLVERS, "'euler' or 'heun'"),
            ("min_guidance", _within(self.min_guidance, 0, 20), "two numbers that ascend, from 0 to 20, or None"),
            ("max_guidance", _within(self.max_guidance, 0, 20), "two numbers that ascend, from 0 to 20, or None"),
            ("huber_c", 0 < self.huber_c < math.inf, "above 0"),
            ("weight_exponent", 0 <= self.weight_exponent < math.inf, "0 or more"),
            ("sampling", self.sampling in SAMPLINGS, "'uniform' or 'lognormal'"),
            ("sampling_std", 0 < self.sampling_std < math.inf, "above 0"),
            ("motion_bucket_id", _within(self.motion_bucket_id, 0, 1023), "two that ascend, from 0 to 1023, or None"),
            ("fps", _within(self.fps, 1, 60), "two that ascend, from 1 to 60, or None"),
            ("cond_aug_std", 0 <= self.cond_aug_std < math.inf, "0 or more"),
            ("cond_aug_uniform", 0 <= self.cond_aug_uniform <= 1, "a share from 0 to 1"),
            ("trainables", self.trainables in ("all", "temporal"), "'all' or 'temporal'"),
            ("scenes", self.scenes is None or _whole(self.scenes, 1), "a whole number from 1, or None"),
            ("processes", _whole(self.processes, 0), "a whole number from 0"),
            ("ahead", _whole(self.ahead, 0), "a whole number from 0"),
            ("probe_clips", _whole(self.probe_clips, 1), "a whole number from 1"),
        )
        for name, kept, rule in rules:
            if not kept:
                raise TrainingError(f"{name} = {getattr(self, name)!r}: must be {rule}.")

    def guidance(self, teacher: Components) -> tuple[tuple[float, float], tuple[float, float]]:
        """The bounds of guidance at the first frame and at the last."""
        own = teacher.defaults
        return (
            self.min_guidance or (own.min_guidance, own.min_guidance),
            self.max_guidance or (own.max_guidance, own.max_guidance),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Everything that one step needs, on the device but for `index`.

    Attributes:
        latents, noise: float32 `[batch, frames, 4, h, w]`: clean scaled latents and unit noise.
        image_latents: float32 `[batch, 4, h, w]`, of the noised first frame, unscaled.
        embeddings: float32 `[batch, 1, channels]`.
        time_ids: float32 `[batch, 3]`: fps - 1, motion bucket, strength of the picture's noise.
        guidance: float32 `[batch, frames, 1, 1, 1]`; None: the teacher is not guided.
        index: int64 `[batch]`, places on the grid, on the CPU.
    """

    latents: Tensor
    noise: Tensor
    image_latents: Tensor
    embeddings: Tensor
    time_ids: Tensor
    guidance: Tensor | None
    index: Tensor


def draw_batch(clips: ClipBatch, teacher: Components, settings: DistillSettings, seed: int) -> Batch:
    """Draw what is random in a step, noise the pictures and encode them: a pure function of its arguments.

    Random numbers are drawn on the CPU, in a fixed order, and then moved.
    """
    generator = torch.Generator().manual_seed(seed)
    count, frames = clips.latents.shape[:2]
    index = sample_indices(
        distillation_grid(settings.grid), count, generator,
        how=settings.sampling, mean=settings.sampling_mean, std=settings.sampling_std,
    )  # fmt: skip
    noise = torch.randn(clips.latents.shape, generator=generator)
    strength = draw_cond_aug(count, settings, generator)
    height, width = clips.pictures.shape[1:3]
    grain = torch.randn(count, 3, height, width, generator=generator) * strength.view(-1, 1, 1, 1)
    low, high = (guidance_range(bounds, count, generator) for bounds in settings.guidance(teacher))
    bucket = _from_range(settings.motion_bucket_id, clips.motion_bucket_id, generator)
    fps = _from_range(settings.fps, clips.fps, generator)
    device = teacher.device
    guided_at_all = max(settings.guidance(teacher)[1]) > 1
    return Batch(
        latents=clips.latents.to(device),
        noise=noise.to(device),
        image_latents=encode_pictures(teacher, clips.pictures, noise=grain).to(device),
        embeddings=clips.embeddings[:, None].to(device),
        time_ids=torch.stack([fps - 1, bucket, strength], dim=1).to(device),
        guidance=guidance_ramp(low, high, frames).to(device) if guided_at_all else None,
        index=index,
    )


def draw_cond_aug(count: int, settings: DistillSettings, generator: torch.Generator) -> Tensor:
    """Strength of the noise on the conditioning picture, float32 `[count]`: log-normal, or for a share uniform."""
    logarithm = settings.cond_aug_mean + settings.cond_aug_std * torch.randn(count, generator=generator)
    flat, choice = torch.rand(2, count, generator=generator)
    return torch.where(choice < settings.cond_aug_uniform, flat, logarithm.exp())


def _from_range(bounds: tuple[int, int] | None, own: Tensor, generator: torch.Generator) -> Tensor:
    low, high = bounds or (0, 0)
    drawn = torch.randint(int(low), int(high) + 1, own.shape, generator=generator).float()  # drawn in any case
    return drawn if bounds else own


# ---------------------------------------------------------------- networks


def conditioned(unet: nn.Module, batch: Batch, *, picture: bool = True, dtype: torch.dtype | None = None) -> Network:
    """The UNet with the conditioning of a batch, as `network(scaled_x, c_noise) -> v`.

    Args:
        picture: False: the unconditional branch, zero latent and zero embedding, but the same time ids.
        dtype: compute in this one; None: as autocast says.
    """
    frames = batch.latents.shape[1]
    latent = batch.image_latents.unsqueeze(1).expand(-1, frames, -1, -1, -1)
    embedding = batch.embeddings
    if not picture:
        latent, embedding = torch.zeros_like(latent), torch.zeros_like(embedding)

    def network(x: Tensor, c_noise: Tensor) -> Tensor:
        inputs = torch.cat([x, latent], dim=2)
        if dtype is None:
            return _call(unet, inputs, c_noise, embedding, batch.time_ids)
        with _no_autocast(x.device.type):
            return _call(unet, inputs.to(dtype), c_noise, embedding.to(dtype), batch.time_ids)

    return network


def teacher_network(unet: nn.Module, batch: Batch, *, together: bool = True) -> Network:
    """The frozen teacher, guided as the batch says; in half precision if its weights are, else as autocast says."""
    own = next(unet.parameters()).dtype
    dtype = None if own == torch.float32 else own
    if batch.guidance is None:
        return conditioned(unet, batch, dtype=dtype)
    if not together:
        without = conditioned(unet, batch, picture=False, dtype=dtype)
        return guided(conditioned(unet, batch, dtype=dtype), without, batch.guidance)
    scale, both = batch.guidance, conditioned(unet, _doubled(batch), dtype=dtype)

    def network(x: Tensor, c_noise: Tensor) -> Tensor:
        without, with_ = both(torch.cat([x, x]), torch.cat([c_noise, c_noise])).to(scale.dtype).chunk(2)
        return without + scale * (with_ - without)

    return network


def step_losses(
    student: nn.Module, target: nn.Module, teacher: nn.Module, batch: Batch, settings: DistillSettings
) -> Tensor:
    """The weighted loss of each row, `[batch]`; a gradient flows into `student` alone.

    Args:
        student, target, teacher: UNets; `target` may be `student` itself.
    """
    grid = distillation_grid(settings.grid)
    sigma, sigma_next = grid[batch.index], grid[batch.index + 1]
    phi = teacher_network(teacher, batch, together=settings.together)
    x, x_next = teacher_pair(phi, batch.latents, batch.noise, sigma, sigma_next, solver=settings.solver)
    return matching_losses(
        conditioned(student, batch), conditioned(target, batch), x, x_next, sigma, sigma_next,
        huber_c=settings.huber_c, exponent=settings.weight_exponent,
    )  # fmt: skip


def choose_trainables(unet: nn.Module, which: str) -> int:
    """Let `all` or only the `temporal` parameters have gradients; how many numbers those are.

    Raises:
        TrainingError: the network has no temporal layers.
    """
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(which == "all" or any(part in name for part in TEMPORAL))
    count = sum(parameter.numel() for parameter in unet.parameters() if parameter.requires_grad)
    if not count:
        raise TrainingError(f"trainables = {which!r}: the network has no such parameters. Use 'all'.")
    return count


def _call(unet: nn.Module, x: Tensor, c_noise: Tensor, embedding: Tensor, ids: Tensor) -> Tensor:
    return unet(x, c_noise, encoder_hidden_states=embedding, added_time_ids=ids, return_dict=False)[0]


def _doubled(batch: Batch) -> Batch:
    """The batch twice, first without its pictures."""
    return Batch(
        latents=torch.cat([batch.latents, batch.latents]),
        noise=batch.noise,
        image_latents=torch.cat([torch.zeros_like(batch.image_latents), batch.image_latents]),
        embeddings=torch.cat([torch.zeros_like(batch.embeddings), batch.embeddings]),
        time_ids=torch.cat([batch.time_ids, batch.time_ids]),
        guidance=batch.guidance,
        index=batch.index,
    )


def _no_autocast(device: str) -> contextlib.AbstractContextManager[Any]:
    if not torch.amp.is_autocast_available(device):  # such as meta, on which only shapes are computed
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


# ---------------------------------------------------------------- checks


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _within(bounds: Any, low: float, high: float) -> bool:
    try:
        return bounds is None or (len(bounds) == 2 and low <= bounds[0] <= bounds[1] <= high)
    except (TypeError, ValueError):
        return False

"""What a teacher learns: to predict v from a noised clip, its picture and its three numbers.

The loss of EDM (Karras et al. 2022, section 5) with SVD's preconditioning: for x = x0 + sigma n the network is to give
F* = (n - sigma x0) / sqrt(sigma^2 + 1); its plain squared error is (sigma^2 + 1) / sigma^2 times that of the denoiser.
Noise levels are drawn log-normally, as SVD's were (Blattmann et al. 2023), and for a share uniformly in log sigma up
to 700: few-step sampling begins there, where a log-normal draw hardly ever is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from svdlab.conditioning import clip_pixels, to_signed
from svdlab.errors import TrainingError
from svdlab.sampling.schedules import SIGMA_MAX
from svdlab.training.consistency import rows
from svdlab.training.frames import frames_numbered
from svdlab.training.vae import Projection, encode

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Distributions that a step draws from, and the weight of moving parts.

    Example:
        >>> Objective(motion_weight=5.0)
    """

    sigma_mean: float = 0.3  # of ln sigma, for the log-normal share
    sigma_std: float = 1.5
    high_share: float = 0.4  # share of rows whose sigma is log-uniform in high_from .. 700
    high_from: float = 5.0
    aug_mean: float = -3.0  # of ln cond_aug, for the log-normal share (median 0.05)
    aug_std: float = 0.5
    aug_uniform: float = 0.3  # share of rows whose cond_aug is uniform in 0 .. 1
    aug_fixed: float = 0.2  # share of rows whose cond_aug is 0 or 0.02
    dropout: float = 0.1  # share of rows that see no picture, for guidance
    motion_weight: float = 0.0  # places that change count 1 + so much, at sigma above motion_from
    motion_from: float = 1.0
    faint: float = 0.0  # a row counts sigma^2 / (sigma^2 + faint^2): below, an error of F hardly changes the clip

    def __post_init__(self) -> None:
        shares = ("high_share", "aug_uniform", "aug_fixed", "dropout")
        rules = [(name, 0 <= getattr(self, name) <= 1, "a share from 0 to 1") for name in shares]
        rules += [(name, getattr(self, name) > 0, "above 0") for name in ("sigma_std", "aug_std")]
        rules.append(("high_from", 0 < self.high_from < SIGMA_MAX, f"above 0, below {SIGMA_MAX:g}"))
        rules.append(("aug_fixed", self.aug_uniform + self.aug_fixed <= 1, "at most 1 together with aug_uniform"))
        rules += [(name, getattr(self, name) >= 0, "0 or more") for name in ("motion_weight", "faint")]
        for name, kept, rule in rules:
            if not kept:
                raise TrainingError(f"{name} = {getattr(self, name)!r}: must be {rule}.")


def draw_sigma(count: int, objective: Objective, generator: torch.Generator) -> Tensor:
    """Noise levels of a batch, float32 `[count]`, on the generator's device."""
    device = generator.device
    normal = torch.randn(count, generator=generator, device=device) * objective.sigma_std + objective.sigma_mean
    flat, choice = torch.rand(2, count, generator=generator, device=device)
    low, high = math.log(objective.high_from), math.log(SIGMA_MAX)
    logarithm = torch.where(choice < objective.high_share, low + (high - low) * flat, normal)
    return logarithm.exp().clamp(0.002, SIGMA_MAX)


def draw_cond_aug(count: int, objective: Objective, generator: torch.Generator) -> Tensor:
    """Strengths of the noise on the pictures, float32 `[count]`: log-normal, uniform in 0 .. 1, or 0 and 0.02."""
    device = generator.device
    normal = torch.randn(count, generator=generator, device=device) * objective.aug_std + objective.aug_mean
    flat, choice = torch.rand(2, count, generator=generator, device=device)
    fixed = torch.where(flat < 0.5, 0.0, 0.02)
    strength = torch.where(choice < objective.aug_uniform + objective.aug_fixed, fixed, normal.exp())
    return torch.where(choice < objective.aug_uniform, flat, strength)


def embed(image_encoder: nn.Module, pictures: Tensor) -> Tensor:
    """CLIP embeddings `[batch, 1, channels]` of pictures `[batch, 3, height, width]` in [-1, 1], as the pipeline's."""
    mean, std = (pictures.new_tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    encoded: Any = image_encoder((clip_pixels(pictures) - mean) / std)
    return encoded.image_embeds[:, None]


def teacher_losses(
    modules: Mapping[str, nn.Module],
    projection: Projection,
    scenes: Mapping[str, Tensor],
    objective: Objective,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The loss of one batch, and its plain error below and above sigma 5.

    With `numbers`, of some frames of each clip alone: at high noise, where all are guessed from the picture, a few tell
    nearly as much as all of them, in a fraction of the time.

    Args:
        modules: `unet` and `image_encoder`; a gradient flows into what requires one.
        scenes: on the device of all: `frames` uint8 `[batch, frames, height, width, 3]`, `motion_bucket_id`, `fps`;
            it may have `numbers`, int64 `[some]`: the frames that are noised and predicted, rising. Without: all.
        generator: the only source of chance, on that device.

    Returns:
        `loss`, `error` (the loss without weights), `error_high` (of the rows whose sigma is above 5; 0 if none).
    """
    with torch.autocast(generator.device.type, enabled=False), torch.no_grad():
        pixels = to_signed(scenes["frames"])
        x0 = encode(pixels, projection)
        still, numbers = x0[:, :1], scenes.get("numbers")
        if numbers is not None:
            x0 = x0[:, numbers]
        count = len(x0)
        sigma, aug = (draw(count, objective, generator) for draw in (draw_sigma, draw_cond_aug))
        first = pixels[:, 0]
        grain = torch.randn(first.shape, generator=generator, device=first.device)
        picture = encode(first + rows(aug, first) * grain, projection)
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        seen = (torch.rand(count, generator=generator, device=x0.device) >= objective.dropout).float()
        level = rows(sigma, x0)
        root = (level**2 + 1).sqrt()
        inputs = torch.cat([(x0 + level * noise) / root, rows(seen, x0) * picture[:, None].expand_as(x0)], dim=2)
        target = (noise - level * x0) / root
        ids = torch.stack([scenes["fps"].float() - 1, scenes["motion_bucket_id"].float(), aug], dim=1)
    embedding = embed(modules["image_encoder"], first) * rows(seen, x0[:, 0, 0])[..., :1]
    with frames_numbered(modules["unet"], numbers):
        v = modules["unet"](
            inputs, 0.25 * sigma.log(), encoder_hidden_states=embedding, added_time_ids=ids, return_dict=False
        )[0].float()
    square = functional.mse_loss(v, target, reduction="none").mean(2, keepdim=True)
    error = square.detach().mean((1, 2, 3, 4))
    counts = sigma**2 / (sigma**2 + objective.faint**2)
    high = (sigma > 5).float()
    return {
        "loss": (square * motion_weights(x0, still, sigma, objective) * rows(counts, x0)).mean(),
        "error": error.mean(),
        "error_high": (error * high).sum() / high.sum().clamp(min=1),
    }


def motion_weights(x0: Tensor, still: Tensor, sigma: Tensor, objective: Objective) -> Tensor:
    """Weights `[batch, frames, 1, height, width]`, of mean 1 in each row: more where a clip has left its picture.

    At low sigma the network sees where things are; there all places count alike.
    """
    moved = ((x0 - still).abs().mean(2, keepdim=True) / 0.5).clamp(max=1)
    weight = 1 + objective.motion_weight * moved * rows((sigma > objective.motion_from).float(), x0)
    return weight / weight.mean((1, 2, 3, 4), keepdim=True)

"""How a UNet begins: as the network that repeats its picture, v = -p, which is right at high noise if nothing moves.

In SVD's preconditioning (v-prediction, Karras et al. 2022) the network's answer F at high sigma is minus the clip. A
network with random weights needs many thousands of steps to come near its own picture, because a group norm forgets the
brightness and contrast that are to be repeated. So the way of the picture from the input to the output is constructed
(see `linear`), all residual branches end in zeros, and what is left to learn is what changes. Its weights are large
ones of a few layers (`CARRIERS`), which should learn more slowly than the rest.

Also the numbers that say what is to change (noise level, bucket, frame rate, cond_aug, number of the frame) are told
apart from the beginning. With random weights they hardly are: the whole range of frames moves what it is added to by a
tenth of its size, and buckets 250 and 255 differ nearly as much as 0 and 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from svdlab.training.linear import carry, zero
from svdlab.training.vae import LATENTS

PILLAR = 8.0  # constant that outweighs a latent in the statistics of a norm group
LOG_SIGMA = (-6.2, 6.55)  # 0.002 to 700
IDS = ((4.0, 29.0), (0.0, 255.0), (0.0, 1.0))  # frame rate minus 1, bucket, cond_aug
# Deviation of an embedding over its numbers; what it is added to has about 3 and 0.6.
IDS_STRENGTH, FRAME_STRENGTH = 1.0, 0.5
CARRIERS = ("conv_out", "conv_norm_out", "up_blocks.1.resnets.1.spatial_res_block.conv_shortcut")
"""Parts of the names of the layers that carry the picture, for `LoopSettings.faster`, in a UNet of two levels."""


@torch.no_grad()
def begin_with_picture(unet: Any) -> None:
    """Set weights of a UNet whose residual branches end in zeros, so that it answers as the module's text says.

    The picture goes from the first convolution over the outermost skip connection and the shortcut of the last residual
    block to the output, with the constants that keep the last norm from forgetting it.

    Example:
        >>> begin_with_picture(unet)
    """
    width = unet.config.block_out_channels[0]
    block = unet.up_blocks[-1].resnets[-1].spatial_res_block
    _spread_time(unet)
    ids = unet.add_embedding
    _tell_apart(ids.linear_1, ids.linear_2, unet.add_time_proj, IDS, IDS_STRENGTH)
    frames = ((0.0, unet.config.num_frames - 1.0),)
    for module in unet.modules():
        if hasattr(module, "time_pos_embed"):
            embed = module.time_pos_embed
            _tell_apart(embed.linear_1, embed.linear_2, module.time_proj, frames, FRAME_STRENGTH)
    _enter(unet.conv_in, width)
    put, constant, read = carry(LATENTS, width, PILLAR)
    zero(block.conv_shortcut, unet.conv_out)
    block.conv_shortcut.weight[: len(put), width :: width // LATENTS, 0, 0] = put  # the skipped channels come last
    block.conv_shortcut.bias[: len(put)] = constant
    unet.conv_out.weight[:, : read.shape[1], 1, 1] = -read


def _enter(conv: Any, width: int) -> None:
    """The first convolution writes, for each latent, a norm group {p, -p, x, -x, K, -K}, of mean zero."""
    zero(conv)
    group = width // LATENTS
    for latent in range(LATENTS):
        first = latent * group
        for offset, source in ((0, LATENTS + latent), (2, latent)):  # the picture comes after the noisy clip
            conv.weight[first + offset, source, 1, 1] = 1
            conv.weight[first + offset + 1, source, 1, 1] = -1
        conv.bias[first + 4], conv.bias[first + 5] = PILLAR, -PILLAR


def _spread_time(unet: Any) -> None:
    """Let the embedding tell noise levels apart.

    SVD gives ln(sigma) / 4, about -1.5 to 1.6, to an embedding that was made for 0 to 1000: with random weights the
    whole range moves it by less than the ids do. Here every unit of its first layer bends at a noise level of its own.
    """
    first, second = unet.time_embedding.linear_1, unet.time_embedding.linear_2
    first.weight *= 12
    second.weight *= 4
    levels = torch.linspace(*LOG_SIGMA, len(first.weight))[torch.randperm(len(first.weight))]
    first.bias.copy_(-(first.weight * unet.time_proj(0.25 * levels)).sum(1))


def _tell_apart(
    first: Any, second: Any, project: Any, spans: Sequence[tuple[float, float]], strength: float, points: int = 65
) -> None:
    """Let an embedding of numbers within `spans` change evenly along each of them, by `strength`.

    Each unit of the first layer sees one of the numbers, through those of its sinusoids that rise or fall along the
    whole span, and bends at a value of its own.
    """
    width, seen = first.in_features // len(spans), []
    zero(first)
    for number, span in enumerate(spans):
        waves = project(torch.linspace(*span, points))
        steps = waves.diff(dim=0)
        slow = steps.sum(0).abs() > 0.8 * steps.abs().sum(0)
        units = torch.arange(number, len(first.weight), len(spans))
        weight = torch.randn(len(units), width) * slow
        weight *= 1.5 / (waves @ weight.T).std(0)[:, None]
        first.weight[units, number * width : (number + 1) * width] = weight
        first.bias[units] = -(weight * waves[torch.randint(points, (len(units),))]).sum(1)
        seen.append(waves[torch.randint(points, (256,))])
    second.weight *= strength / second(functional.silu(first(torch.cat(seen, dim=1)))).std(0).mean()

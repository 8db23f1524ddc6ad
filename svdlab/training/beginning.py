"""How a UNet begins: as the network that repeats its picture, v = -p, which is right at high noise if nothing moves.

In SVD's preconditioning (v-prediction, Karras et al. 2022) the network's answer F at high sigma is minus the clip. A
network with random weights needs many thousands of steps to come near its own picture, because a group norm forgets the
brightness and contrast that are to be repeated. So the way of the picture from the input to the output is constructed
(see `linear`), all residual branches end in zeros, and what is left to learn is what changes. Its weights are large
ones of a few layers (`CARRIERS`), which should learn more slowly than the rest.
"""

from __future__ import annotations

from typing import Any

import torch

from svdlab.training.linear import carry, zero
from svdlab.training.vae import LATENTS

PILLAR = 8.0  # constant that outweighs a latent in the statistics of a norm group
LOG_SIGMA = (-6.2, 6.55)  # 0.002 to 700
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
    unet.add_embedding.linear_2.weight *= 2
    levels = torch.linspace(*LOG_SIGMA, len(first.weight))[torch.randperm(len(first.weight))]
    first.bias.copy_(-(first.weight * unet.time_proj(0.25 * levels)).sum(1))

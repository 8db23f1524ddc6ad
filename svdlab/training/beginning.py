"""How a UNet begins: as the network that repeats its picture.

In SVD's preconditioning (v-prediction, Karras et al. 2022) the answer F to a clip that stays as its picture p is, from
x = p + sigma n,

    F = (c_in x - sqrt(1 + sigma^2) p) / sigma,

which for sigma above 2 or so is -p. A network with random weights needs thousands of steps to come near it, because a
group norm forgets the brightness and contrast that it should repeat. So the way of the picture through the last norm is
constructed (see `linear.carry`), the network begins as F = -p, and what is left to learn is what changes, and how to
use x at low sigma. Everything constructed can be trained away; give its layers a smaller learning rate.
"""

from __future__ import annotations

from typing import Any

import torch

from svdlab.training.linear import carry, zero
from svdlab.training.vae import LATENTS

PILLAR = 8.0  # constant that outweighs a latent in the statistics of the last norm
LOG_SIGMA = (-6.2, 6.55)  # 0.002 to 700


@torch.no_grad()
def begin_with_picture(unet: Any) -> None:
    """Set weights of a UNet whose residual branches end in zeros, so that it answers the negative of its picture.

    The picture's latents go from the first convolution over the outermost skip connection into the last residual block,
    whose shortcut prepares them for norm and nonlinearity. All other channels of the first convolution stay random.
    """
    _spread_time(unet)
    unet.conv_in.weight[:LATENTS] = 0
    unet.conv_in.bias[:LATENTS] = 0
    for latent in range(LATENTS):
        unet.conv_in.weight[latent, LATENTS + latent, 1, 1] = 1  # the picture comes after the noisy clip
    shortcut = unet.up_blocks[-1].resnets[-1].spatial_res_block.conv_shortcut
    width = unet.config.block_out_channels[0]
    put, constant, read = carry(LATENTS, width, PILLAR)
    zero(shortcut, unet.conv_out)
    shortcut.weight[: len(put), -width : LATENTS - width, 0, 0] = put  # the skipped channels come last
    shortcut.bias[: len(put)] = constant
    unet.conv_out.weight[:, : read.shape[1], 1, 1] = -read


def _spread_time(unet: Any) -> None:
    """Let the embedding tell noise levels apart.

    SVD gives ln(sigma) / 4, about -1.5 to 1.6, to an embedding that was made for 0 to 1000: with random weights the
    whole range moves it by less than the ids do. Here every unit of its first layer bends at a noise level of its own.
    """
    first, second = unet.time_embedding.linear_1, unet.time_embedding.linear_2
    first.weight *= 6
    second.weight *= 3
    unet.add_embedding.linear_2.weight *= 2
    levels = torch.linspace(*LOG_SIGMA, len(first.weight))[torch.randperm(len(first.weight))]
    first.bias.copy_(-(first.weight * unet.time_proj(0.25 * levels)).sum(1))

"""How a UNet begins: as a good linear denoiser of clips that stay near their picture.

If a clip differs from its picture p by noise of deviation s, the best guess of it from x = x0 + sigma n is the mixture
(s^2 x + sigma^2 p) / (s^2 + sigma^2). In SVD's preconditioning (v-prediction, Karras et al. 2022) that is the answer

    F = -h(sigma) (sqrt(1 + sigma^2) p - (1 - s^2) c_in x),    h = sigma / (s^2 + sigma^2),

at high sigma F = -p, the clip that repeats its picture. A network with random weights needs many thousands of steps to
come near it: a group norm forgets the brightness and contrast that it should repeat, and sigma enters as a sum where a
product is wanted. So the way from the input to the output is constructed (see `linear`), approximately, as

    F = -p - h'(sigma) (0.55 p - (1 - s^2) c_in x),    1 / h' = 1 / h + 0.04,

and what is left to learn is what changes. What is constructed has large weights, which a common learning rate would
destroy: see `hold_constructed`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from svdlab.training.linear import carry, zero
from svdlab.training.vae import LATENTS

NEAR = 0.15  # s, deviation of a clip from its picture that the beginning supposes
SHARE = 0.55  # of the picture in the part that depends on sigma; fits h (sqrt(1 + sigma^2) - 1) where that matters
SOFTLY = 0.04  # bounds 1 / h', which would be 700 at the highest noise
PILLAR = 8.0  # constant that outweighs a latent in the statistics of a norm group
REACH = 24.0  # so much larger is the constant of the part that depends on sigma, at h' = 1
LOG_SIGMA = (-6.2, 6.55)  # 0.002 to 700


def hold_constructed(unet: Any) -> None:
    """Keep training from what is constructed, but for the last shortcut, norm and convolution, which may learn slowly.

    Example:
        >>> hold_constructed(unet.requires_grad_(True))
    """
    block = unet.up_blocks[-1].resnets[-1].spatial_res_block
    for module in (unet.conv_in, unet.time_embedding, unet.add_embedding, block):
        module.requires_grad_(False)
    block.conv_shortcut.requires_grad_(True)


def mixing(sigma: Tensor) -> Tensor:
    """h' of the module's text: how strongly the beginning mixes the noisy clip in.

    Example:
        >>> mixing(torch.tensor([0.15])).round(decimals=2)
        tensor([2.94])
    """
    return 1 / ((NEAR**2 + sigma**2) / sigma + SOFTLY)


@torch.no_grad()
def begin_as_mixture(unet: Any) -> None:
    """Set weights of a UNet whose residual branches end in zeros, so that it answers as the module's text says.

    Picture and noisy latents go from the first convolution over the outermost skip connection into the last residual
    block: its shortcut passes the picture, its branch adds the part that depends on sigma.
    """
    width = unet.config.block_out_channels[0]
    block = unet.up_blocks[-1].resnets[-1].spatial_res_block
    _spread_time(unet)
    _enter(unet.conv_in, width)
    put, constant, read = carry(LATENTS, width, PILLAR)
    group = width // LATENTS
    zero(block.conv_shortcut, block.conv1, block.conv2, block.time_emb_proj, unet.conv_out)
    block.conv_shortcut.weight[: len(put), width::group, 0, 0] = put  # the skipped channels come last
    block.conv_shortcut.bias[: len(put)] = constant
    unet.conv_out.weight[:, : read.shape[1], 1, 1] = -read

    inner, ones, back = carry(LATENTS, width, 1.0)
    restore = PILLAR * (2 / group) ** 0.5  # what the branch's first norm divides by
    for offset, amount in enumerate((SHARE, -SHARE, NEAR**2 - 1, 1 - NEAR**2)):
        block.conv1.weight[: len(inner), width + offset :: group, 1, 1] = amount * restore * inner
    weight, bias = _fit_time(unet)
    block.time_emb_proj.weight[: len(ones)] = torch.outer(ones, REACH * weight)
    block.time_emb_proj.bias[: len(ones)] = ones * REACH * bias
    block.conv2.weight[: len(put), : back.shape[1], 1, 1] = REACH * put @ back


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


def _fit_time(unet: Any, *, samples: int = 8192, ridge: float = 1e-5) -> tuple[Tensor, Tensor]:
    """(weight, bias) that read 1 / h'(sigma) from the activated embedding, whatever the ids: least relative error."""
    levels = torch.empty(samples).uniform_(*LOG_SIGMA)
    ids = torch.rand(samples, 3) * torch.tensor([29.0, 255.0, 1.0])
    ids[: samples // 4, 1] = 0  # the ends of a range need more than their share
    ids[samples // 4 : samples // 2, 1] = 255
    ids[::2, 2] *= 0.05
    embedding = unet.time_embedding(unet.time_proj(0.25 * levels))
    embedding = embedding + unet.add_embedding(unet.add_time_proj(ids.flatten()).reshape(samples, -1))
    features = torch.nn.functional.silu(embedding).double()
    rows = torch.cat([features, torch.ones(samples, 1).double()], dim=1)
    scaled = rows * mixing(levels.exp()).double()[:, None]
    normal = scaled.T @ scaled + ridge * samples * torch.eye(rows.shape[1]).double()
    solution = torch.linalg.solve(normal, scaled.T @ torch.ones(samples).double()).float()
    return solution[:-1], solution[-1]

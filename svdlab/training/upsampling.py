"""What the decoder begins as: the best linear upsampling of latents, fitted in two minutes and built into its layers.

A decoder of stock layers has a linear way from latents to colours: the first convolution, the shortcuts of its blocks,
and a convolution behind each of three enlargements. That way alone is a network of four small convolutions. Fitted to
frames by itself it comes near the best linear reconstruction of a patch (`Projection.psnr`), because what
each convolution sees reaches into the neighbouring patches; then the residual branches, which start at zero, have only
to learn what is not linear. A decoder that starts from colours of whole patches is 6 dB worse and needs most of its
training for this.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from svdlab.files import atomic_path
from svdlab.training.linear import carry, zero
from svdlab.training.settings import LoopSettings, rate_at, step_seed
from svdlab.training.vae import COLOUR_PILLAR, LATENTS, Projection, encode

WIDTH = 64  # channels of the linear way; the decoder's narrowest level must have as many
BATCH = 32
RATE = 3e-3


class Upsampling(nn.Module):
    """Latents `[n, 16, h, w]` -> pixels `[n, 3, 8 h, 8 w]` in about [-1, 1]: four convolutions, three enlargements.

    Example:
        >>> Upsampling()(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 3, 64, 64])
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (LATENTS, WIDTH, WIDTH, WIDTH, 3)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths))

    def forward(self, latents: Tensor) -> Tensor:
        """Enlarged by repeating each place, as in diffusers' upsamplers, then convolved; three times."""
        first, *others = self.convs
        x = first(latents)
        for conv in others:
            x = conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x

    def save(self, path: Path) -> None:
        """Write it as safetensors, whole or not at all."""
        from safetensors.torch import save_file

        with atomic_path(path) as tmp:
            save_file(dict(self.state_dict()), tmp)

    @classmethod
    def load(cls, path: Path) -> Upsampling:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        upsampling = cls()
        upsampling.load_state_dict(load_file(path))
        return upsampling


def fit_upsampling(
    projection: Projection,
    pixels: Tensor,
    *,
    steps: int = 1200,
    noise: float = 0.04,
    seed: int = 0,
    progress: bool = True,
) -> Upsampling:
    """Fit the linear way to frames by least squares, with AdamW: a function of its arguments, on the CPU.

    Args:
        pixels: float32 `[n, 3, height, width]` in [-1, 1], a thousand or more.
        noise: standard deviation of what is added to the latents.

    Example:
        >>> fit_upsampling(projection, pixels).save(Path("runs/tiny-teacher/upsampling.safetensors"))
    """
    generator = torch.Generator().manual_seed(step_seed(seed, 0, "upsampling"))
    latents = torch.cat([encode(part, projection) for part in pixels.split(256)])
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(step_seed(seed, 0, "upsampling weights"))
        upsampling = Upsampling()
    optimizer = torch.optim.AdamW(upsampling.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = LoopSettings(steps=steps, warmup=50)
    for step in tqdm(range(steps), desc="upsampling", unit="step", disable=not progress):
        optimizer.param_groups[0]["lr"] = RATE * rate_at(step, schedule)
        chosen = torch.randint(len(pixels), (BATCH,), generator=generator)
        given = latents[chosen]
        made = upsampling(given + noise * torch.randn(given.shape, generator=generator))
        loss = functional.mse_loss(made, pixels[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(upsampling.parameters(), 1.0)
        optimizer.step()
    return upsampling.requires_grad_(False)


@torch.no_grad()
def begin_upsampling(vae: Any, upsampling: Upsampling) -> None:
    """Build the linear way into the decoder of a VAE of `build_vae`, whose blocks pass their input on.

    Example:
        >>> begin_upsampling(vae, fit_upsampling(projection, pixels))
    """
    decoder = vae.decoder
    doubles = [decoder.up_blocks[i].upsamplers[0].conv for i in range(3)]
    first, *others = (cast(Any, conv) for conv in upsampling.convs)
    zero(decoder.conv_in, *doubles)
    for layer, conv in zip((decoder.conv_in, *doubles[:2]), (first, *others[:2]), strict=True):
        layer.weight[:WIDTH, : conv.weight.shape[1]] = conv.weight
        layer.bias[:WIDTH] = conv.bias
    put, constant, _ = carry(3, vae.config["block_out_channels"][0], COLOUR_PILLAR)
    doubles[2].weight[: len(put), :WIDTH] = torch.einsum("pc,cikl->pikl", put, others[2].weight)
    doubles[2].bias[: len(put)] = put @ others[2].bias + constant

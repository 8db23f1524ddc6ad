"""The small VAE: an encoder that is constructed, not trained, and a decoder that starts as an upsampling.

The encoder computes 16 numbers of each patch of 8 x 8 pixels: its leading principal components, all on one scale. So
equal errors of latents are equal errors of pixels, and a sampler decides the coarse before the fine, as in pictures;
when each had unit variance, all was decided at once, and objects broke up into details. It is built into stock layers:
the strided convolutions split the picture into its phases and project them, the residual branches are zero, and the one
norm and nonlinearity on the way are passed linearly (see `linear.carry`). So a latent is one strided convolution of the
picture, to within a percent, and training data is encoded at no cost.

The factor 8 is SVD's own. SVD has 4 latent channels; here a frame has only 8 x 8 latent pixels, and 16 channels tell
more of it than 4 would at a factor of 4 (a linear reconstruction of 26.3 dB against 24.0 dB), in a quarter of the
places, so that a thing that moves has fewer of them to cross.

With one layer a block, the decoder's attention exists but diffusers never calls it; it is frozen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from svdlab.errors import TrainingError
from svdlab.training.linear import carry, copy_channels, make_identity, zero
from svdlab.training.loop import Result, run_loop
from svdlab.training.settings import LoopSettings, step_seed
from svdlab.training.state import State, make_state

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder

PATCH = 8  # px a side of what one latent pixel sees
LATENTS = 16
LARGEST = 2.0  # deviation of the largest component
CHANNELS = (96, 64, 96, 96)  # from the picture's size to an eighth of it
# Constants that outweigh the signal in the statistics of a norm group, as multiples of its unit. Latents may be large
# (cond_aug noise); colours lie in [-1, 1], and the decoder is trained, for which smaller constants are kinder.
LATENT_PILLAR = 16.0
COLOUR_PILLAR = 3.0

FrameFn = Callable[[int, int], Tensor]
"""`frames(step, rank)` -> float32 `[batch, frames, 3, height, width]` in [-1, 1], a pure function of its arguments."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """The linear map from patches to latents, and back to the patch's mean colour.

    Example:
        >>> latents = encode(pixels, fit_pca(frames))
    """

    weight: Tensor  # [16, 3, 8, 8]: latents = conv(pixels, weight, bias, stride=8), pixels in [-1, 1]
    bias: Tensor  # [16]
    colour: Tensor  # [3, 16]: mean colour of a patch = colour @ latent + colour_bias
    colour_bias: Tensor  # [3]
    psnr: float  # dB, of the best linear reconstruction of the frames it was fitted to, over [-1, 1]

    def to(self, device: torch.device | str) -> Projection:
        """The same on another device."""
        names = ("weight", "bias", "colour", "colour_bias")
        return Projection(**{name: getattr(self, name).to(device) for name in names}, psnr=self.psnr)

    def save(self, path: Path) -> None:
        """Write it as safetensors, whole or not at all."""
        from safetensors.torch import save_file

        from svdlab.files import atomic_path

        names = ("weight", "bias", "colour", "colour_bias")
        with atomic_path(path) as tmp:
            save_file({name: getattr(self, name).cpu().contiguous() for name in names}, tmp, {"psnr": repr(self.psnr)})

    @staticmethod
    def load(path: Path) -> Projection:
        """Read what `save` wrote."""
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return Projection(**tensors, psnr=float(file.metadata()["psnr"]))


def fit_pca(frames: np.ndarray, *, patch: int = PATCH) -> Projection:
    """Principal components of the patches of some frames, scaled together so that the largest has a deviation of 2.

    The sixteenth has about a twentieth of that; 2 puts most of them near SVD's noise levels of 0.1 to 1.

    Args:
        frames: uint8 `[n, height, width, 3]`; a few hundred, of what is to be encoded.
        patch: px a side; the picture's sides must be multiples.

    Raises:
        TrainingError: the frames are not of that form, or all alike.

    Example:
        >>> fit_pca(world.scene(0).frames).weight.shape
        torch.Size([16, 3, 8, 8])
    """
    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[1] % patch or frames.shape[2] % patch:
        raise TrainingError(
            f"frames: uint8 of shape [n, height, width, 3] with sides that are multiples of {patch} are needed, not"
            f" {frames.dtype} {list(frames.shape)}."
        )
    n, height, width, _ = frames.shape
    pixels = torch.tensor(frames).permute(0, 3, 1, 2).double() / 127.5 - 1
    split = pixels.reshape(n, 3, height // patch, patch, width // patch, patch).permute(0, 2, 4, 1, 3, 5)
    rows = split.reshape(-1, 3 * patch * patch)
    mean = rows.mean(0)
    centred = rows - mean
    variances, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    variances, vectors = variances.flip(0).clamp(min=0)[:LATENTS], vectors.flip(1)[:, :LATENTS].T
    if variances[0] < 1e-8:
        raise TrainingError("frames: all patches are alike, so they have no principal components. Give other frames.")
    vectors = vectors * torch.where(vectors.sum(1) < 0, -1.0, 1.0)[:, None]  # eigenvectors come with either sign
    scale = float(variances[0].sqrt()) / LARGEST
    weight = vectors / scale
    lost = (centred**2).mean() - variances.sum() / len(mean)
    colour = (vectors * scale).reshape(LATENTS, 3, -1).mean(2).T
    return Projection(
        weight=weight.reshape(LATENTS, 3, patch, patch).float(),
        bias=-(weight @ mean).float(),
        colour=colour.float(),
        colour_bias=mean.reshape(3, -1).mean(1).float(),
        psnr=float(10 * torch.log10(4 / lost.clamp(min=1e-12))),
    )


def encode(pixels: Tensor, projection: Projection) -> Tensor:
    """Latents of pixels `[..., 3, height, width]` in [-1, 1]: `[..., 16, height / 8, width / 8]`, one convolution.

    Example:
        >>> encode(torch.zeros(2, 25, 3, 64, 64), projection).shape
        torch.Size([2, 25, 16, 8, 8])
    """
    flat = pixels.flatten(0, -4) if pixels.ndim > 4 else pixels
    latents = functional.conv2d(flat, projection.weight, projection.bias, stride=projection.weight.shape[-1])
    return latents.reshape(*pixels.shape[:-3], *latents.shape[-3:])


def build_vae(projection: Projection, *, size: int = 64, channels: tuple[int, ...] = CHANNELS, seed: int = 0) -> Any:
    """A stock `AutoencoderKLTemporalDecoder` whose encoder computes `projection`.

    Its decoder gives each patch's mean colour, enlarged without smoothing, until it is trained. The posterior has no
    variance, `scaling_factor` is 1. All on the CPU in fp32, without gradients.

    Args:
        size: px, recorded in the config.
        channels: at full, half, quarter and eighth size; multiples of 32, all but the second at least 96.
        seed: of the branches that start at zero and the random weights inside of them.

    Raises:
        TrainingError: channels that the construction does not fit into, or another patch than 8 px.

    Example:
        >>> vae = build_vae(fit_pca(frames))
    """
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder

    if (
        len(channels) != 4
        or any(count % 32 for count in channels)
        or min(channels[0], *channels[2:]) < 96
        or channels[1] < 64
        or channels[3] > channels[2]
    ):
        raise TrainingError(
            f"channels = {channels}: four multiples of 32 are needed. The first, third and fourth must be at least"
            " 96, so that a norm group can carry a signal between two constants; the second at least 64; the fourth no"
            " more than the third."
        )
    if projection.weight.shape[-1] != PATCH:
        raise TrainingError(f"projection: patches of {PATCH} px are needed, not of {projection.weight.shape[-1]}.")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=LATENTS,
            sample_size=size,
            scaling_factor=1.0,
            force_upcast=False,
        )
    vae.eval().requires_grad_(False)
    with torch.no_grad():
        for name, module in vae.named_modules():
            if type(module).__name__ in ("ResnetBlock2D", "TemporalResnetBlock"):
                make_identity(module)
            if name.endswith("to_out.0"):
                zero(module)
        _construct_encoder(vae, projection)
        _construct_decoder(vae, projection)
    return vae


def decoder_loss(decoder: nn.Module, pixels: Tensor, latents: Tensor) -> dict[str, Tensor]:
    """Mean absolute error plus twice the mean squared error of decoded clips, and the PSNR in dB.

    Args:
        pixels: `[batch, frames, 3, height, width]` in [-1, 1].
        latents: `[batch, frames, 16, height / 8, width / 8]`.
    """
    batch, frames = pixels.shape[:2]
    still = torch.zeros(batch, frames, device=pixels.device)
    decoded = decoder(latents.flatten(0, 1), image_only_indicator=still, num_frames=frames).float()
    target = pixels.flatten(0, 1)
    squared = functional.mse_loss(decoded, target)
    return {"loss": functional.l1_loss(decoded, target) + 2 * squared, "psnr": 10 * torch.log10(4 / squared.detach())}


def train_decoder(
    vae: AutoencoderKLTemporalDecoder,
    projection: Projection,
    frames: FrameFn,
    *,
    settings: LoopSettings,
    out: Path,
    noise: float = 0.04,
    resume: bool = True,
    progress: bool = True,
) -> Result:
    """Train the decoder of `vae` to undo `projection`; afterwards it holds the averaged weights.

    Args:
        frames: clips by step; see `FrameFn`.
        noise: standard deviation of what is added to the latents, so that the decoder forgives a denoiser's errors.

    Raises:
        TrainingError: see `run_loop`.

    Example:
        >>> train_decoder(vae, projection, frames, settings=LoopSettings(steps=400), out=Path("runs/decoder"))
    """
    decoder = vae.decoder.requires_grad_(True)
    decoder.mid_block.attentions.requires_grad_(False)  # never called with one layer
    state = make_state({"decoder": decoder}, settings)
    moved = projection.to(state.device)

    def step_fn(step: int, state: State) -> dict[str, Tensor]:
        pixels = frames(step, state.rank).to(state.device)
        generator = torch.Generator(state.device).manual_seed(step_seed(settings.seed, step, "decoder", state.rank))
        with torch.autocast(state.device.type, enabled=False):
            latents = encode(pixels, moved)
        latents = latents + noise * torch.randn(latents.shape, generator=generator, device=state.device)
        return decoder_loss(state.modules["decoder"], pixels, latents)

    result = run_loop(
        step_fn=step_fn, state=state, settings=settings, out=out, resume=resume, title="decoder", progress=progress
    )
    best = state.weights(0 if settings.averages else None)["decoder"]
    decoder.load_state_dict(best.state_dict())
    nn.Module.to(vae, device="cpu").eval().requires_grad_(False)
    return result


# The construction.


def _construct_encoder(vae: AutoencoderKLTemporalDecoder, projection: Projection) -> None:
    encoder: Any = vae.encoder
    copy_channels(encoder.conv_in, 3)
    halves = [encoder.down_blocks[i].downsamplers[0].conv for i in range(3)]
    put, constant, read = carry(LATENTS, vae.config["block_out_channels"][-1], LATENT_PILLAR)
    zero(*halves, encoder.conv_out, vae.quant_conv)
    for conv, channels in zip(halves[:2], (3, 12), strict=True):
        _split_phases(conv, channels)
    for v, u in itertools.product(range(2), repeat=2):
        taps = projection.weight[:, :, 4 * v : 4 * v + 4, 4 * u : 4 * u + 4]
        halves[2].weight[: len(put), :48, v, u] = put @ _as_phases(taps)
    halves[2].bias[: len(put)] = put @ projection.bias + constant
    encoder.conv_norm_out.weight.fill_(1)
    encoder.conv_norm_out.bias.zero_()
    encoder.conv_out.weight[:LATENTS, : read.shape[1], 1, 1] = read
    encoder.conv_out.bias[LATENTS:] = -30  # logarithm of the posterior's variance
    for i in range(2 * LATENTS):
        vae.quant_conv.weight[i, i] = 1


def _split_phases(conv: Any, channels: int) -> None:
    """A strided convolution that turns the 4 phases of a picture into channels: pixel (2 v + dy, 2 u + dx) of channel c
    becomes channel (2 dy + dx) channels + c at (v, u)."""
    for dy, dx, channel in itertools.product(range(2), range(2), range(channels)):
        conv.weight[(2 * dy + dx) * channels + channel, channel, dy, dx] = 1


def _as_phases(taps: Tensor) -> Tensor:
    """Filters `[n, 3, 4, 4]` as weights `[n, 48]` of the channels that two splits in phases make of 4 x 4 pixels."""
    split = taps.reshape(len(taps), 3, 2, 2, 2, 2)  # y = 2 ey + dy, x = 2 ex + dx; the first split has dy and dx
    return split.permute(0, 2, 4, 3, 5, 1).reshape(len(taps), 48)


def _construct_decoder(vae: AutoencoderKLTemporalDecoder, projection: Projection) -> None:
    decoder: Any = vae.decoder
    zero(decoder.conv_in, decoder.conv_out, decoder.time_conv_out)
    decoder.conv_in.weight[:3, :, 1, 1] = projection.colour
    decoder.conv_in.bias[:3] = projection.colour_bias
    doubles = [decoder.up_blocks[i].upsamplers[0].conv for i in range(3)]
    put, constant, read = carry(3, vae.config["block_out_channels"][0], COLOUR_PILLAR)
    for conv in doubles[:2]:
        copy_channels(conv, 3)
    zero(doubles[2])
    doubles[2].weight[: len(put), :3, 1, 1] = put
    doubles[2].bias[: len(put)] = constant
    decoder.conv_norm_out.weight.fill_(1)
    decoder.conv_norm_out.bias.zero_()
    decoder.conv_out.weight[:, : read.shape[1], 1, 1] = read
    for i in range(3):
        decoder.time_conv_out.weight[i, i, 1] = 1

"""The decoder's low-memory way: the pixels of the whole clip, computed in slices.

The decoder of a temporal VAE (`AutoencoderKLTemporalDecoder` of diffusers) alternates two kinds of layers. Spatial
ones look at one frame: they run some frames at a time. Temporal ones look at all frames, but never across channels and
places at once: a norm needs the whole clip of one group of channels, a convolution of kernel (3, 1, 1) all channels and
frames of one row. So norms run some groups and convolutions some rows at a time, in place. What stays in memory for the
whole clip is one activation between blocks and two within a temporal block; the plain decoder keeps more, and wider.

Nothing is left out and nothing overlaps, so this is no approximation as tiling is: each number is the same sum of the
same terms. A library may add them in another order where a slice is small, so slices are not: see `SLICE` and `VECTOR`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

SLICE = 2**20  # numbers in a slice, or one frame or row where that is more
# Channels that a norm sees at least: with fewer than fit a vector of the processor, sums are rounded otherwise.
VECTOR = 16

Layer = Callable[[Tensor], Tensor]


@torch.no_grad()
def decode_in_slices(vae: Any, part: Tensor, *, numbers: int = SLICE) -> Tensor:
    """What `vae.decode(part, num_frames=len(part)).sample` gives, in less memory and more time.

    Args:
        vae: an `AutoencoderKLTemporalDecoder` in eval mode.
        part: scaled latents `[frames, channels, height, width]`; is left as it is.
        numbers: how many numbers of a layer's input make a slice. For a few thousand, libraries take other algorithms.

    Returns:
        Pixels in [-1, 1], `[frames, 3, height * 8, width * 8]`.

    Example:
        >>> pixels = decode_in_slices(pipe.components.vae, latents / 0.18215)
    """
    decoder = vae.decoder
    still = torch.zeros(1, len(part), dtype=part.dtype, device=part.device)  # the mixers' "this is a lone picture": no
    x = _spatial((decoder.conv_in,), part.clone(), numbers)
    waiting: list[Layer] = []  # layers that look at one frame run together: nothing between them is kept for all frames
    for layer, temporal in _layers(decoder):
        waiting.append(layer)
        if temporal is not None:
            x = _spatial(waiting, x, numbers)
            _temporal(*temporal, x, still, numbers)
            waiting = []
    x = _spatial(waiting, x, numbers)
    return decoder.time_conv_out(x[None].transpose(1, 2))[0].transpose(0, 1)  # of 3 channels: small


def _layers(decoder: Any) -> Iterator[tuple[Layer, tuple[Any, Any] | None]]:
    """After `conv_in`: the spatial layers in order, each with the temporal block and mixer that follow it, if any."""

    def residual(block: Any) -> tuple[Layer, tuple[Any, Any]]:
        return partial(block.spatial_res_block, temb=None), (block.temporal_res_block, block.time_mixer)

    mid = decoder.mid_block
    yield residual(mid.resnets[0])
    for block, attention in zip(mid.resnets[1:], mid.attentions, strict=False):  # as diffusers pairs them
        yield attention, None
        yield residual(block)
    dtype = next(itertools.chain(decoder.up_blocks.parameters(), decoder.up_blocks.buffers())).dtype
    yield (lambda x: x.to(dtype)), None
    for up in decoder.up_blocks:
        for block in up.resnets:
            yield residual(block)
        for upsampler in up.upsamplers or ():
            yield upsampler, None
    for layer in (decoder.conv_norm_out, decoder.conv_act, decoder.conv_out):
        yield layer, None


def _spatial(layers: Sequence[Layer], x: Tensor, numbers: int) -> Tensor:
    """The layers on `[frames, channels, height, width]`, some frames at a time, in place where the shape stays.

    The layout in memory is kept too: after an attention channels come last, and for these norms sum in another order.
    """
    out = x
    for frames in _slices(len(x), of=x, numbers=numbers):
        y = x[frames]
        for layer in layers:
            y = layer(y)
        if frames.start == 0 and (y.shape[1:], y.dtype, _last(y)) != (x.shape[1:], x.dtype, _last(x)):
            layout = torch.channels_last if _last(y) else torch.contiguous_format
            shape = (len(x), *y.shape[1:])
            out = torch.empty(shape, dtype=y.dtype, device=y.device, memory_format=layout)
        out[frames] = y
    return out


def _last(x: Tensor) -> bool:
    """Whether channels, the second axis, are the innermost in memory."""
    layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return not x.is_contiguous() and x.is_contiguous(memory_format=layout)


def _temporal(block: Any, mixer: Any, x: Tensor, still: Tensor, numbers: int) -> None:
    """A `TemporalResnetBlock` and the mixing with its input, in place on `[frames, channels, height, width]`."""
    x = x[None].transpose(1, 2)  # [1, channels, frames, height, width], as temporal layers take it
    trial = block.conv1(x[:, :, :, :1])  # some convolutions keep a layout, others do not, and the second norm sees it
    h = torch.empty_like(x, memory_format=torch.channels_last_3d if _last(trial) else torch.contiguous_format)
    _norm(block.norm1, block.nonlinearity, x, h, numbers)
    for rows in _slices(x.shape[3], of=x, numbers=numbers):
        h[:, :, :, rows] = block.conv1(h[:, :, :, rows])
    _norm(block.norm2, block.nonlinearity, h, h, numbers)
    for rows in _slices(x.shape[3], of=x, numbers=numbers):
        before = x[:, :, :, rows]
        after = before + block.conv2(h[:, :, :, rows])
        x[:, :, :, rows] = mixer(x_spatial=before, x_temporal=after, image_only_indicator=still)


def _norm(norm: Any, activation: Layer, x: Tensor, out: Tensor, numbers: int) -> None:
    """Group norm and activation of `[1, channels, frames, height, width]`, some groups at a time, into `out`."""
    width = x.shape[1] // norm.num_groups
    for groups in _slices(norm.num_groups, of=x, numbers=numbers, least=-(-VECTOR // width)):
        some = slice(groups.start * width, groups.stop * width)
        count = groups.stop - groups.start
        out[:, some] = activation(F.group_norm(x[:, some], count, norm.weight[some], norm.bias[some], norm.eps))


def _slices(length: int, *, of: Tensor, numbers: int, least: int = 1) -> list[slice]:
    """0 to `length`, an axis of `of`, in slices of about so many numbers, but never less than `least` steps."""
    size = max(least, -(-numbers * length // of.numel()))
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]

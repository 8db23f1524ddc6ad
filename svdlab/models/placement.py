"""Placement: where the networks of a model lie while a clip is made, so that it fits the memory there is.

| way | networks | decoder |
|---|---|---|
| `none` | all on the device | plain |
| `slices` | all on the device | in slices (`svdlab.low_memory`) |
| `parts` | one on the device at a time, the others wait in the machine's memory | in slices |

What a clip takes is computed from shapes: the weights, and the most that the denoiser or the decoder holds at one time,
counted over every tensor that the networks make (attention without its matrix, as fused kernels compute it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from svdlab.errors import ModelError
from svdlab.memory import bytes_free
from svdlab.request import Defaults

WAYS = ("none", "slices", "parts")
PARTS = ("unet", "vae", "image_encoder")
SPARE = 1.1  # for what libraries take beside tensors: workspaces, and gaps between blocks
# Tensors of the widest layer that are held at one time, of all frames of a clip or chunk; in slices, of one frame more.
_DENOISER = 27
_DECODER = 8
_SLICED, _SLICED_MORE = 2.25, 5.25


@dataclass(frozen=True, kw_only=True)
class Placed:
    """The way that was taken, and why, in words.

    Attributes:
        way: one of `WAYS`.
        reason: such as ``"25 frames of 1024x576 px take about 11.6 GB, 20.1 GB are free"``.
    """

    way: str
    reason: str


def check_way(low_memory: str | bool) -> str:
    """`low_memory` as one of `WAYS` or "auto"; True and False are "slices" and "none".

    Raises:
        ModelError: it is something else.

    Example:
        >>> check_way(True)
        'slices'
    """
    if isinstance(low_memory, bool):
        return "slices" if low_memory else "none"
    if low_memory not in ("auto", *WAYS):
        raise ModelError(
            f"low_memory = {low_memory!r}: must be 'auto' (what fits), 'none', 'slices' (the decoder in slices: the"
            " same pixels, slower) or 'parts' (and one network on the device at a time)."
        )
    return low_memory


def decoder_bytes(vae: Any, *, frames: int, width: int, height: int, sliced: bool = False) -> int:
    """What decoding so many frames at once holds at most, beside the weights, in bytes.

    Args:
        vae: an `AutoencoderKLTemporalDecoder`, also without data ("meta").
        frames: of one chunk.
        sliced: by `svdlab.low_memory.decode_in_slices`.

    Example:
        >>> decoder_bytes(vae, frames=5, width=1024, height=576) / 1e9  # SVD in half precision
        6.039797760
    """
    held = _SLICED * frames + _SLICED_MORE if sliced else _DECODER * frames
    return round(held * vae.config["block_out_channels"][0] * width * height * _itemsize(vae.decoder))


def denoiser_bytes(unet: Any, vae: Any, *, frames: int, width: int, height: int, rows: int = 1) -> int:
    """What a denoiser call holds at most, beside the weights, in bytes; `rows` counts clips, guided ones twice."""
    factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
    places = (width // factor) * (height // factor)
    return rows * frames * places * unet.config["block_out_channels"][0] * _DENOISER * _itemsize(unet)


def clip_bytes(networks: Mapping[str, Any], size: Defaults) -> dict[str, int]:
    """Way -> bytes that a clip of this size takes at most.

    Args:
        networks: the three of `PARTS`.
        size: frames, width, height, `decode_chunk` and guidance of the clip.

    Example:
        >>> {way: round(count / 1e9, 1) for way, count in clip_bytes(networks, CATALOGUE["svd-xt"].defaults).items()}
        {'none': 13.7, 'slices': 13.7, 'parts': 12.1}
    """
    unet, vae = networks["unet"], networks["vae"]
    pixels: dict[str, Any] = {"width": size.width, "height": size.height}
    chunk = min(size.decode_chunk or size.num_frames, size.num_frames)
    rows = 2 if size.max_guidance > 1 else 1
    denoiser = denoiser_bytes(unet, vae, frames=size.num_frames, rows=rows, **pixels)
    plain = decoder_bytes(vae, frames=chunk, **pixels)
    sliced = decoder_bytes(vae, frames=chunk, sliced=True, **pixels)
    weights = {name: _weights(networks[name]) for name in PARTS}
    every = sum(weights.values())
    alone = max(weights["unet"] + denoiser, weights["vae"] + sliced, weights["image_encoder"])
    taken = {"none": every + max(denoiser, plain), "slices": every + max(denoiser, sliced), "parts": alone}
    return {way: round(SPARE * count) for way, count in taken.items()}


def place(low_memory: str, networks: Mapping[str, Any], size: Defaults, device: torch.device) -> Placed:
    """The way that was asked for; for "auto" the first that fits what is free on the device for a clip of this size.

    On a CPU all networks are in the machine's memory anyway, so there "auto" does not take "parts".

    Args:
        low_memory: one of `WAYS`, or "auto".
        networks: the three of `PARTS`, not yet on the device.

    Example:
        >>> place("auto", networks, defaults, torch.device("cuda")).way
        'none'
    """
    if low_memory != "auto":
        return Placed(way=low_memory, reason="as asked")
    free = bytes_free(device)
    if free is None:
        return Placed(way="none", reason=f"what is free on {device.type} is not known")
    if device.type == "cpu":  # the weights are there already
        free += sum(_weights(networks[name]) for name in PARTS)
    need = clip_bytes(networks, size)
    way = choose_way(need, free, ways=WAYS if device.type == "cuda" else WAYS[:2])
    clip = f"{size.num_frames} frames of {size.width}x{size.height} px take about"
    reason = f"{clip} {_gb(need[way])}, {_gb(free)} are free"
    if way != "none":
        reason = f"{clip} {_gb(need['none'])} the plain way and {_gb(need[way])} so, {_gb(free)} are free"
    return Placed(way=way, reason=reason)


def choose_way(need: Mapping[str, int], free: int, *, ways: Sequence[str] = WAYS) -> str:
    """The first of `ways` that needs no more than is free; where none does, the last, which needs least.

    Example:
        >>> choose_way({"none": 12, "slices": 10, "parts": 8}, free=11)
        'slices'
    """
    return next((way for way in ways if need[way] <= free), ways[-1])


def _weights(network: nn.Module) -> int:
    return sum(weight.nbytes for weight in network.parameters())


def _itemsize(network: nn.Module) -> int:
    return next(network.parameters()).dtype.itemsize


def _gb(count: int) -> str:
    return f"{count / 1e9:.2g} GB" if count < 1e9 else f"{count / 1e9:.1f} GB"

"""Full size: the networks of Stable Video Diffusion XT with random weights; the same arithmetic, the same time.

What they make is noise. They are for `svdlab bench --random-weights` on machines that have no weights.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from svdlab.errors import BenchError
from svdlab.memory import bytes_free
from svdlab.models import CATALOGUE
from svdlab.models.components import Components
from svdlab.models.device import choose_device, choose_dtype, dtype_name
from svdlab.models.placement import clip_bytes
from svdlab.pipeline import Pipeline

if TYPE_CHECKING:
    from torch import nn

# The published configurations, where they differ from the defaults of their classes.
VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 768,
    "scaling_factor": 0.18215,
    "force_upcast": True,
}
CLIP: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 1024,
    "hidden_act": "gelu",
}


def build_parts(device: torch.device | str, dtype: torch.dtype) -> dict[str, nn.Module]:
    """UNet, VAE and image encoder of SVD-XT, their weights drawn on the device; on "meta" they have shapes alone.

    Example:
        >>> sum(weight.numel() for weight in build_parts("meta", torch.float16)["unet"].parameters())
        1524623082
    """
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
    from transformers.models.clip.configuration_clip import CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    with torch.device("meta"):
        parts: dict[str, nn.Module] = {
            "unet": UNetSpatioTemporalConditionModel(),
            "vae": AutoencoderKLTemporalDecoder(**VAE),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP)),
        }
    for part in parts.values():
        # torch's own `to`: those of the libraries talk.
        torch.nn.Module.to(part, device="meta", dtype=dtype).eval().requires_grad_(False)
        if torch.device(device).type != "meta":
            _fill(part, torch.device(device))
    return parts


def _fill(part: nn.Module, device: torch.device) -> None:
    """Weights that keep the variance of what goes through, so that nothing overflows; norms and blends at 1 and 0.5."""
    part.to_empty(device=device)
    torch.manual_seed(0)
    for name, tensor in [*part.named_parameters(), *part.named_buffers()]:
        if name.endswith("position_ids"):
            tensor.copy_(torch.arange(tensor.numel(), device=device).view_as(tensor))
        elif tensor.ndim > 1:
            tensor.uniform_(-1, 1).mul_(math.sqrt(3 / tensor[0].numel()))
        else:
            tensor.fill_(0.5 if "mix_factor" in name else float(name.endswith("weight")))


def random_pipeline(
    model: str,
    *,
    num_frames: int | None = None,
    width: int | None = None,
    height: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Pipeline:
    """A pipeline of a full-size model of the catalogue with random weights, if a clip of this size fits the memory.

    Args:
        model: of the catalogue, such as ``"svd-xt"``; its defaults are used.
        num_frames, width, height: of the clips to come; None: the model's own.
        device, dtype: as of `svdlab.load`.

    Raises:
        BenchError: the model is not one of full size, or memory does not suffice; the text says how much is missing.

    Example:
        >>> random_pipeline("svd-xt", num_frames=2, width=256, height=256)
    """
    from transformers.models.clip.image_processing_clip import CLIPImageProcessor

    info = CATALOGUE.get(model)
    if info is None or info.kind not in ("student", "teacher") or not info.repo_id:
        full = ", ".join(name for name, entry in CATALOGUE.items() if entry.repo_id)
        raise BenchError(f"--random-weights with model = {model!r}: must be a model of full size: {full}.")
    place, _ = choose_device(device)
    kind, _ = choose_dtype(dtype, place)
    own = info.defaults
    size = replace(own, num_frames=num_frames or own.num_frames, width=width or own.width, height=height or own.height)
    need, free = clip_bytes(build_parts("meta", kind), size)["none"], bytes_free(place)
    if free is not None and need > free:
        raise BenchError(
            f"{model} with random weights, {size.num_frames}x{size.height}x{size.width} in {dtype_name(kind)}: needs"
            f" about {need / 1e9:.1f} GB on {place}, and {free / 1e9:.1f} GB are free. Take fewer frames or a"
            " smaller size (--num-frames, --width, --height), half precision (--dtype bf16), or a larger device."
        )
    parts: dict[str, Any] = build_parts(place, kind)
    return Pipeline(
        Components(
            name=f"{model} (random weights)",
            info=info,
            **parts,
            feature_extractor=CLIPImageProcessor(),
            defaults=own,
            device=place,
            dtype=kind,
            fingerprint=f"random-{dtype_name(kind)}",
            revision=None,
            source="random weights in the shapes of SVD-XT; for timing alone",
        )
    )

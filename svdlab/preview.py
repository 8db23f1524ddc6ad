"""Preview: a cheap look at a sample while it is still being denoised, or before it is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svdlab.clip import Clip
from svdlab.conditioning import to_signed
from svdlab.errors import ModelError
from svdlab.sample import Look


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What the sample looks like after one denoiser call; of a hosted model, how its job stands."""

    k: int  # 0 .. steps - 1; -1 while a hosted model has shown nothing
    steps: int
    sigma: float  # the noise level of the call
    latents: Tensor | None  # the estimate of the clean latents, float32 [frames, 4, height / factor, width / factor]
    frames: np.ndarray  # rough colours at the size of the latents, uint8 [frames, height / factor, width / factor, 3]
    decode: Callable[[], Clip] = field(repr=False)  # decode this estimate properly; after the last step, the clip
    note: str = ""  # of a hosted job: "queued, 2 ahead", "running", "done"


def rgb_map(latent: Tensor, image: np.ndarray) -> Callable[[Tensor], np.ndarray]:
    """A linear map from latents to colours, fitted by least squares on the picture's own latent; costs nothing.

    Args:
        latent: unscaled latent of the picture, `[4, h, w]`.
        image: the picture, uint8 `[height, width, 3]`.

    Returns:
        A function: unscaled latents `[frames, 4, h, w]` -> uint8 `[frames, h, w, 3]`.
    """
    height, width = latent.shape[-2:]
    small = torch.nn.functional.adaptive_avg_pool2d(to_signed(image[None]), (height, width))[0]

    def with_one(values: Tensor) -> Tensor:  # [..., 4, h, w] -> [..., h * w, 5]
        columns = values.float().cpu().flatten(-2).transpose(-1, -2)
        return torch.cat([columns, torch.ones_like(columns[..., :1])], dim=-1)

    design, target = with_one(latent).double(), small.flatten(1).T.double()
    ridge = 1e-3 * torch.eye(design.shape[1], dtype=torch.float64)  # a flat picture must not make the map explode
    weights = torch.linalg.solve(design.T @ design + ridge, design.T @ target).float()

    def to_rgb(latents: Tensor) -> np.ndarray:
        colours = (with_one(latents) @ weights).view(len(latents), *latents.shape[-2:], 3)
        return ((colours / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).numpy()

    return to_rgb


CHUNK = 8  # frames that the small decoder takes at a time; each is decoded by itself, so it changes nothing


def load_tiny(
    folder: str | Path, *, channels: int = 4, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Look:
    """A small decoder of your own, diffusers' `AutoencoderTiny`, for previews at full size.

    Stable Video Diffusion has the latents of Stable Diffusion, so weights such as TAESD's serve. They decode frame by
    frame: fine details flicker and are not those of the clip.

    Args:
        folder: its ``config.json`` and ``diffusion_pytorch_model.safetensors``; nothing is downloaded.
        channels: of the latents.
        device, dtype: where and how it computes.

    Returns:
        A function: scaled latents `[frames, 4, h, w]` -> uint8 `[frames, 8 h, 8 w, 3]` (for TAESD).

    Raises:
        ModelError: there are no such weights in the folder, or they are for other latents.

    Example:
        >>> sample.preview(load_tiny("taesd")).shape
        (25, 576, 1024, 3)
    """
    vae = _open_tiny(Path(folder), channels).to(device, dtype).eval()

    @torch.no_grad()
    def look(latents: Tensor) -> np.ndarray:
        parts = [vae.decode(part.to(device, dtype)).sample for part in latents.split(CHUNK)]
        pixels = (torch.cat(parts).float() / 2 + 0.5).clamp(0, 1).nan_to_num()
        return (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    return look


def _open_tiny(folder: Path, channels: int) -> Any:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"preview_weights = {str(folder)!r}: there is no config.json. Give the folder of an AutoencoderTiny of"
            " diffusers, such as a copy of madebyollin/taesd, or leave it out: previews are then a linear map."
        )
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    from svdlab.models.guard import check_part

    try:
        weights = folder / "diffusion_pytorch_model.safetensors"
        config = AutoencoderTiny.load_config(folder, local_files_only=True)
        check_part(
            folder,
            config,
            [weights],
            lambda: AutoencoderTiny.from_config(config),
            fix="Fetch both anew.",
            index=weights.with_name(f"{weights.name}.index.json"),
        )
        vae = AutoencoderTiny.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except Exception as error:  # of many kinds, and whatever it is, these weights cannot be used
        raise ModelError(
            f"preview_weights = {str(folder)!r}: cannot be opened as an AutoencoderTiny of diffusers"
            f" ({type(error).__name__}: {str(error).splitlines()[0]})."
        ) from None
    if vae.config.latent_channels != channels:
        raise ModelError(
            f"preview_weights = {str(folder)!r}: is for latents of {vae.config.latent_channels} channels, the model's"
            f" have {channels}. Give weights for the latents of Stable Diffusion 1 or 2."
        )
    return vae

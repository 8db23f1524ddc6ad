"""Preview: a cheap look at a sample while it is still being denoised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from svdlab.clip import Clip
from svdlab.conditioning import to_signed


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

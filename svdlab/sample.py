"""Sample: a clip before its frames are made; what decoding on demand keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from svdlab.clip import Clip
    from svdlab.request import Request

Look = Callable[["Tensor"], np.ndarray]
"""Latents as a sample has them -> rough frames, uint8 `[frames, height, width, 3]` of any size."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the denoiser made of a request. Called, it is decoded and gives the clip.

    Attributes:
        latents: float32 `[frames, 4, height / factor, width / factor]` on the CPU, scaled as the sampler left them.
        request: with every field filled in.
        image: the prepared picture that the model saw, uint8 `[height, width, 3]`.
        seconds: what each stage so far would have cost alone: `condition`, `denoise`.
        seconds_spent: what was really spent on them.
        vram_peak_mb: peak memory of a CUDA device so far in MB (10^6 bytes); None elsewhere.
        look: the linear map of latents to colours, fitted to this picture (`svdlab.preview.rgb_map`).
        decode: makes the frames; its result is the clip that decoding at once gives.

    Example:
        >>> [sample] = pipe.denoise([request])
        >>> sample.preview().shape, sample().frames.shape
        ((25, 8, 8, 3), (25, 64, 64, 3))
    """

    latents: Tensor
    request: Request
    image: np.ndarray
    seconds: Mapping[str, float]
    seconds_spent: float
    vram_peak_mb: float | None
    look: Look = field(repr=False)
    decode: Callable[[], Clip] = field(repr=False)

    @property
    def seed(self) -> int | None:
        """The seed of the request."""
        return self.request.seed

    def preview(self, look: Look | None = None, *, count: int | None = None) -> np.ndarray:
        """Rough frames, uint8 `[frames, height, width, 3]`: by `look`, else by the linear map, at the latents' size.

        Args:
            look: such as `svdlab.preview.load_tiny` gives.
            count: only so many of the frames, evenly picked, the first and the last among them (one: the first).
        """
        frames = len(self.latents)
        picked = np.linspace(0, frames - 1, min(count or frames, frames)).round().astype(int)
        return (look or self.look)(self.latents[picked])

    def __call__(self) -> Clip:
        """The clip: decoded now."""
        return self.decode()

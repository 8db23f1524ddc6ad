"""What the picture contributes: the CLIP embedding, the image latent and the added time ids.

Stable Video Diffusion (Blattmann et al. 2023) sees its picture twice: once as an embedding that attention reads (no
noise), and once as a latent beside the noised sample, made from the picture plus noise of strength `cond_aug`. Three
numbers go in beside the noise level: fps - 1, the motion bucket and `cond_aug` itself.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from svdlab.models.components import Components
from svdlab.request import Request

CLIP_SIZE = 224


@dataclass(frozen=True)
class Conditioning:
    """What one request's picture and settings contribute to each denoiser call; no batch dimension."""

    embedding: Tensor  # [1, channels], CLIP's projected image embedding
    image_latent: Tensor  # [4, height / factor, width / factor], not multiplied by the VAE's scaling factor
    time_ids: Tensor  # [3]: fps - 1, motion_bucket_id, cond_aug


def to_signed(images: np.ndarray | Tensor) -> Tensor:
    """uint8 `[..., height, width, 3]` -> float32 `[..., 3, height, width]` in [-1, 1]; a tensor stays where it is."""
    pixels = images if isinstance(images, Tensor) else torch.tensor(images)
    return pixels.movedim(-1, -3).float() / 127.5 - 1


def clip_pixels(images: Tensor) -> Tensor:
    """Shrink or stretch pictures in [-1, 1] to CLIP's 224 x 224, as in SVD: blur against aliasing, then bicubic.

    The Gaussian's standard deviation is (size / 224 - 1) / 2 px a side, its window about four of them; where the
    picture is smaller than 224 px there is nothing to blur. Returns values in about [0, 1], not normalised for CLIP.
    """
    from torchvision.transforms.functional import gaussian_blur

    height, width = images.shape[-2:]
    sigma = [max((size / CLIP_SIZE - 1) / 2, 0.001) for size in (width, height)]
    window = [int(max(4 * s, 3)) // 2 * 2 + 1 for s in sigma]
    blurred = gaussian_blur(images, kernel_size=window, sigma=sigma)
    small = functional.interpolate(blurred, size=(CLIP_SIZE, CLIP_SIZE), mode="bicubic", align_corners=True)
    return (small + 1) / 2


@torch.no_grad()
def embed_pictures(components: Components, images: np.ndarray, *, chunk: int = 32) -> Tensor:
    """CLIP embeddings of uint8 pictures `[n, height, width, 3]`: float32 `[n, channels]`, on the model's device."""
    mean, std = (
        torch.tensor(getattr(components.feature_extractor, name)).view(1, 3, 1, 1)
        for name in ("image_mean", "image_std")
    )
    encoder, parts = components.take("image_encoder"), []
    for first in range(0, len(images), chunk):
        pixels = (clip_pixels(to_signed(images[first : first + chunk])) - mean) / std
        encoded = encoder(pixels.to(components.device, components.dtype))
        parts.append(encoded.image_embeds.float())
    return torch.cat(parts)


@torch.no_grad()
def encode_picture(components: Components, image: np.ndarray, noise: Tensor, cond_aug: float) -> Tensor:
    """The image latent: mode of the VAE's posterior of the picture plus `cond_aug` times unit noise.

    Args:
        image: uint8 `[height, width, 3]`.
        noise: `[3, height, width]`, added in [-1, 1] units, before the VAE.

    Returns:
        `[4, height / factor, width / factor]`, unscaled.
    """
    noised = to_signed(image[None]) + cond_aug * noise
    vae = components.take("vae")
    weight = next(vae.encoder.parameters())  # its own type: half-precision models keep an fp32 encoder where they must
    return vae.encode(noised.to(weight.device, weight.dtype)).latent_dist.mode()[0].to(components.dtype)


def time_ids(request: Request) -> Tensor:
    """The three numbers beside the noise level, float32 `[3]`: SVD was conditioned on fps - 1."""
    return torch.tensor([request.fps - 1, request.motion_bucket_id, request.cond_aug], dtype=torch.float32)


@dataclass(frozen=True)
class _Entry:
    value: Tensor
    seconds: float


class TensorCache:
    """The most recently used tensors, up to a number of bytes, each with the seconds it cost to make.

    Example:
        >>> cache = TensorCache(max_bytes=1000)
        >>> value, cost, spent = cache.get("key", lambda: torch.zeros(3))
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> tuple[Tensor, float, float]:
        """The tensor of `key` (made now if not there), the seconds it costs to make, and the seconds spent now."""
        if key in self._entries:
            self._entries.move_to_end(key)
            entry = self._entries[key]
            return entry.value, entry.seconds, 0.0
        began = time.perf_counter()
        value = make()
        if value.is_cuda:
            torch.cuda.synchronize(value.device)
        seconds = time.perf_counter() - began
        self._entries[key] = _Entry(value, seconds)
        while self.nbytes > self.max_bytes and len(self._entries) > 1:
            self._entries.popitem(last=False)
        return value, seconds, seconds

    @property
    def nbytes(self) -> int:
        """Bytes held by the cached tensors."""
        return sum(entry.value.nbytes for entry in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

"""Pictures and frames that several tests use."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from svdlab.images import load_image


def noise(height: int = 20, width: int = 30, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def packed(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def pixels(source: object, **options: object) -> np.ndarray:
    image = load_image(source, **options)
    assert image.mode == "RGB"
    assert image.info == {}
    return np.asarray(image)


def moving_square(count: int = 25, height: int = 64, width: int = 96) -> np.ndarray:
    """A bright square that walks over a shaded ground, two pixels a frame."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0] = np.linspace(40, 120, width)
    frames[..., 2] = np.linspace(160, 90, height)[:, None]
    for k in range(count):
        frames[k, 20:36, 4 + 2 * k : 20 + 2 * k] = (250, 220, 40)
    return frames

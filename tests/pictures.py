"""Small pictures for tests, made on the spot."""

from __future__ import annotations

import numpy as np
from PIL import Image


def blobs(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    """A smooth coloured picture, different for each seed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)

"""A moving picture of a few rough frames, small enough to be sent after every step."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_ENLARGED, _SMALL, _LARGE = 384, 256, 720  # px on a page, as the player shows a lone clip


def moving_picture(frames: np.ndarray, *, fps: float) -> bytes:
    """Frames as an animated WebP that loops, losslessly.

    Args:
        frames: uint8 `[frames, height, width, 3]`.
        fps: frames per second, above 0.

    Example:
        >>> moving_picture(preview.frames, fps=10)[8:12]
        b'WEBP'
    """
    pictures = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps),
        loop=0,
        lossless=True,
        quality=0,  # of the search for a small file; the pixels are the same
        method=0,
    )
    return buffer.getvalue()


def page_width(width: int, height: int) -> int:
    """How wide a clip of this size is shown: small ones enlarged by a whole factor, large ones no wider than 720 px.

    Example:
        >>> page_width(64, 64), page_width(1024, 576)
        (384, 720)
    """
    if width >= _SMALL:
        return min(width, _LARGE)
    return width * max(1, _ENLARGED // max(width, height))

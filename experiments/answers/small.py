"""Figures as small PNG files, so that they can stand in a repository."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

COLOURS = (256, 128, 64, 32, 16)


def small_png(figure: Any, *, dpi: int, limit: int, **how: Any) -> bytes:
    """A matplotlib figure as a PNG with a palette, of as many colours as fit into `limit` bytes.

    Args:
        how: more arguments of `savefig`.

    Raises:
        OSError: 16 colours are still too many.

    Example:
        >>> len(small_png(sl.plot.schedules(), dpi=90, limit=60_000)) < 60_000
        True
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, **how)
    picture = Image.open(drawn).convert("RGB")
    for colours in COLOURS:
        data = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(data, format="png", optimize=True)
        if data.tell() < limit:
            return data.getvalue()
    raise OSError(f"a picture of {picture.width}x{picture.height} px does not fit into {limit} bytes.")

"""Strip: the preview of a cell that is not decoded yet, a few frames of rough colours side by side in one JPEG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from svdlab.errors import ModelError, VideoError
from svdlab.sweep.artifacts import LATENTS, PREVIEW, encode_latents

if TYPE_CHECKING:
    from svdlab.sample import Look, Sample

COUNT = 5  # frames of a strip, evenly picked
SHORT, LONG = 64, 256  # px: the short side of a frame is enlarged to at least the one, shrunk to at most the other
MOST = 4096  # px: the long side of a frame; a JPEG holds 65,500


def make_files(sample: Sample, *, preview: bool, look: Look | None = None) -> dict[str, bytes]:
    """The files of a cell that is decoded when somebody looks: its latents, and a preview where one is wanted.

    Args:
        look: makes the frames of the preview; None for the linear map.

    Raises:
        ModelError: latents that are not finite, which decoding at once would have said.
    """
    if not bool(sample.latents.isfinite().all()):
        raise ModelError("latents are not finite. Damaged weights, or too little range: try dtype='float32'.")
    files = {LATENTS: encode_latents(sample.latents)}
    return files | {PREVIEW: make_strip(sample.preview(look, count=COUNT))} if preview else files


def make_strip(frames: np.ndarray) -> bytes:
    """`COUNT` of the frames uint8 `[frames, height, width, 3]`, evenly picked, side by side as a JPEG.

    Small frames, such as those of the linear map, are enlarged by a whole factor without smoothing, large ones shrunk.
    Of fewer frames some are there twice.

    Example:
        >>> read_strip(make_strip(sample.preview())).shape
        (5, 64, 64, 3)
    """
    from svdlab.video import to_jpeg

    picked = frames[np.linspace(0, len(frames) - 1, COUNT).round().astype(int)]
    return to_jpeg(Image.fromarray(np.concatenate([_sized(frame) for frame in picked], axis=1)))


def read_strip(data: bytes) -> np.ndarray:
    """The frames of a strip, uint8 `[COUNT, height, width, 3]`.

    Raises:
        VideoError: it is damaged.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError) as error:
        raise VideoError(f"the preview cannot be read ({error}). Decode the cell: Sweep.decode().") from None
    if pixels.shape[1] % COUNT:
        raise VideoError(f"the preview is {pixels.shape[1]} px wide, which {COUNT} frames side by side cannot be.")
    return np.stack(np.split(pixels, COUNT, axis=1))


def _sized(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    shrink = min(1.0, LONG / min(height, width), MOST / max(height, width))
    if shrink < 1:
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
    factor = max(1, min(-(-SHORT // min(height, width)), MOST // max(height, width)))
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)

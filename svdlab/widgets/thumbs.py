"""Thumbnails of cells: the middle frame of the mp4, small, made when it is asked for and kept in memory.

A cell that is not decoded yet shows the middle frame of its preview, in rough colours. Nothing is written.
"""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from pathlib import Path
from typing import IO

import av
import numpy as np
from PIL import Image

from svdlab.errors import VideoError
from svdlab.sweep.artifacts import PREVIEW, VIDEO, cell_path
from svdlab.sweep.strip import read_strip
from svdlab.video import CONTAINERS, to_jpeg, to_rgb

HEIGHT = 128  # px, at the most; smaller clips keep their size
KEPT = 2000  # thumbnails, at about 5 KB each


def middle_frame(path: str | os.PathLike[str] | bytes, *, frames: int | None = None) -> np.ndarray:
    """The middle frame of an mp4: uint8 `[height, width, 3]`. Those before it are decoded, but not turned into colours.

    Args:
        path: the file, or its bytes.
        frames: how many it has; by default what it says itself.

    Raises:
        VideoError: the file is missing or damaged.

    Example:
        >>> middle_frame("clip.mp4").shape
        (64, 64, 3)
    """
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}  # the data comes from this file alone
    try:
        with _opened(path) as file, av.open(file, mode="r", options=options) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # starting threads takes longer than a small clip
            for number, frame in enumerate(container.decode(stream)):
                if number == (frames or stream.frames) // 2:
                    return to_rgb(frame)
    except (OSError, av.FFmpegError, ValueError, IndexError) as error:
        raise VideoError(f"path = {_named(path)}: has no middle frame to show ({error}).") from error
    raise VideoError(f"path = {_named(path)}: is cut short; its middle frame is not there.")


def _opened(path: str | os.PathLike[str] | bytes) -> IO[bytes]:
    return io.BytesIO(path) if isinstance(path, bytes) else Path(path).open("rb")


def _named(path: str | os.PathLike[str] | bytes) -> str:
    return f"{len(path)} bytes" if isinstance(path, bytes) else repr(str(path))


def preview_frame(path: str | os.PathLike[str]) -> np.ndarray:
    """The middle frame of a cell's preview: uint8 `[height, width, 3]`.

    Raises:
        VideoError: the file is missing or damaged.
    """
    try:
        frames = read_strip(Path(path).read_bytes())
    except OSError as error:
        raise VideoError(f"path = {str(path)!r}: cannot be read ({error.strerror}).") from None
    return frames[len(frames) // 2]


def thumbnail(frame: np.ndarray, *, height: int = HEIGHT) -> bytes:
    """A frame as a JPEG that is at most `height` px high.

    Example:
        >>> len(thumbnail(clip.frames[12])) < 10_000
        True
    """
    picture = Image.fromarray(frame)
    if picture.height > height:
        width = max(1, round(picture.width * height / picture.height))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return to_jpeg(picture, quality=80)


class Thumbnails:
    """The thumbnails of a run directory; those used last are kept.

    Args:
        folder: the run directory.
        kept: how many stay in memory.

    Example:
        >>> thumbs = Thumbnails("runs/first")
        >>> thumbs.get("b7a0db9b006c460c")[:2]
        b'\\xff\\xd8'
    """

    def __init__(self, folder: str | os.PathLike[str], *, kept: int = KEPT) -> None:
        self.folder = Path(folder)
        self.kept = kept
        self._known: OrderedDict[str, bytes] = OrderedDict()

    def get(self, cell: str) -> bytes:
        """The thumbnail of a finished cell as JPEG.

        Raises:
            VideoError: the cell's mp4 is missing or damaged, and there is no preview.
        """
        if cell in self._known:
            self._known.move_to_end(cell)
            return self._known[cell]
        place = self.folder / cell_path(cell)
        if (place / PREVIEW).exists() and not (place / VIDEO).exists():
            return thumbnail(preview_frame(place / PREVIEW))  # not kept: once it is decoded there is a better one
        self._known[cell] = thumbnail(middle_frame(place / VIDEO))
        if len(self._known) > self.kept:
            self._known.popitem(last=False)
        return self._known[cell]

    def __len__(self) -> int:
        return len(self._known)

"""Montage: a grid of clips as one video or one picture, with the words that say what is what.

A grid is a list of rows. A tile is a clip (uint8 ``[frames, height, width, 3]``), None for a clip that is not there, or
a text, such as the error of a cell that failed. Clips of several sizes and lengths may stand side by side: each is
centred in its place, and shorter ones hold their last frame.
"""

from __future__ import annotations

import logging
import math
import numbers
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from svdlab.errors import VideoError
from svdlab.files import atomic_path
from svdlab.layout import Headers, Layout, lay_out, shown_size
from svdlab.lettering import font_for, line_height, write
from svdlab.video import write_video

log = logging.getLogger("svdlab")

Tile = np.ndarray | str | None

MAX_VIDEO_SIDE = 4096  # px; what decoders in hardware take
MAX_PICTURE_SIDE = 16_384  # px
MAX_BYTES = 2 * 2**30  # of all frames together
MIN_CELL, MAX_CELL = 16, 4096  # px, of cell_height
FIT_WITHIN = 1920  # px; cell_height=None chooses the largest tiles with which the whole stays within this
HEIGHTS = (256, 224, 192, 160, 128, 112, 96, 80, 64, 48, 32)  # that cell_height=None chooses from

_PAPER, _INK, _QUIET, _RULE = (255, 255, 255), (34, 34, 34), (105, 105, 105), (190, 190, 190)
_MISSING, _HATCH = (243, 243, 243), (218, 218, 218)
_FAILED, _FAILED_EDGE, _FAILED_INK = (253, 241, 239), (225, 180, 175), (140, 30, 25)


def montage_frames(
    grid: Sequence[Sequence[Tile]],
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    super_rows: Sequence[str] = (),
    super_columns: Sequence[str] = (),
    title: str | None = None,
    corner: str | None = None,
    cell_height: int | None = None,
    gap: int = 4,
) -> np.ndarray:
    """Clips in a grid with headers: uint8 ``[frames, height, width, 3]``, height and width even, as many frames as the
    longest clip.

    Args:
        grid: rows of tiles, all rows equally long; see the top of this module for what a tile can be.
        row_labels, column_labels: a text for each row and column, or none at all.
        super_rows, super_columns: texts that each span an equal number of rows or columns, for grids of grids.
        title: above everything.
        corner: in the upper left corner, above the row labels; the place to name the axes.
        cell_height: of a tile in px at the most, 16 to 4096. A smaller clip is enlarged by the largest whole factor
            that fits, without smoothing; a larger one is shrunk. None: the largest, up to 256, with which the whole
            stays within 1920 px both ways.
        gap: px between tiles, 0 to 64; groups are three times as far apart.

    Raises:
        VideoError: an argument is not as described, or the picture would be too large.

    Example:
        >>> frames = montage_frames([[a, b], [c, None]], row_labels=["slow", "fast"], column_labels=["1", "4"])
    """
    return _montage(
        _rows(grid),
        limit=MAX_VIDEO_SIDE,
        cell_height=cell_height,
        gap=gap,
        row_labels=row_labels,
        column_labels=column_labels,
        super_rows=super_rows,
        super_columns=super_columns,
        title=title,
        corner=corner,
    )


def montage_picture(grid: Sequence[Sequence[Tile]], **options: Any) -> Image.Image:
    """The same as one picture, of tiles that are single frames: uint8 ``[height, width, 3]``, None, or a text.

    Args:
        grid: rows of tiles.
        options: those of `montage_frames`.

    Raises:
        VideoError: as `montage_frames`.

    Example:
        >>> montage_picture([[clip.frames[0], clip.frames[-1]]], column_labels=["first", "last"]).save("ends.png")
    """
    rows = [[_still(tile) for tile in row] for row in _rows(grid)]
    return Image.fromarray(_montage(rows, limit=MAX_PICTURE_SIDE, **options)[0])


def write_montage(
    path: str | os.PathLike[str],
    grid: Sequence[Sequence[Tile]],
    *,
    fps: float,
    crf: float = 18,
    metadata: Mapping[str, str] | None = None,
    **options: Any,
) -> Path:
    """Write the grid as a labelled mp4; returns the path.

    Args:
        path: ends in ``.mp4``.
        grid: rows of tiles.
        fps: frames a second of the video. Clips of other rates are shown frame by frame beside each other.
        crf, metadata: as for `svdlab.video.write_video`.
        options: those of `montage_frames`.

    Raises:
        VideoError: as `montage_frames` and `svdlab.video.write_video`.

    Example:
        >>> write_montage("steps.mp4", [[a, b, c]], fps=10, column_labels=["1 step", "2 steps", "4 steps"])
    """
    write_video(path, montage_frames(grid, **options), fps=fps, crf=crf, metadata=metadata)
    return Path(path)


def save_animation(path: str | os.PathLike[str], frames: np.ndarray, fps: float) -> Path:
    """Write frames as an endless GIF or animated WebP, by the suffix, for places that show no video; returns the path.

    Both are many times larger than an mp4, a GIF most of all, and a GIF has 256 colours and times in 1/100 s. Make the
    frames small first (`montage_frames` with a small `cell_height`). The size is logged.

    Args:
        path: ends in ``.gif`` or ``.webp``.
        frames: uint8 ``[frames, height, width, 3]``.
        fps: 1 to 50; browsers slow a GIF down that is faster.

    Raises:
        VideoError: an argument is not as described.

    Example:
        >>> save_animation("readme.webp", montage_frames([[a, b]], cell_height=128), fps=10)
    """
    path = Path(path)
    _check_tile(frames, "frames")
    if path.suffix.lower() not in (".gif", ".webp"):
        raise VideoError(f"path = {str(path)!r}: the name must end in .gif or .webp; `write_montage` writes an mp4.")
    if isinstance(fps, bool) or not isinstance(fps, numbers.Real) or not 1 <= fps <= 50:
        raise VideoError(f"fps = {fps!r}: must be a number from 1 to 50.")
    if not path.parent.is_dir():
        raise VideoError(f"path = {str(path)!r}: there is no folder {str(path.parent)!r}. Create it first.")
    gif = path.suffix.lower() == ".gif"
    tick = 10 if gif else 1  # ms; rounding the moments, not the durations, keeps the whole as long as the clip
    moments = [tick * round(1000 * k / fps / tick) for k in range(len(frames) + 1)]
    options: dict[str, Any] = {"duration": [end - begin for begin, end in pairwise(moments)], "loop": 0}
    pictures = [Image.fromarray(frame) for frame in frames]
    if gif:
        # One palette for all frames: with one each, still parts of the picture would flicker.
        sample = Image.fromarray(frames[:: math.ceil(len(frames) / 8)].reshape(-1, frames.shape[2], 3))
        palette = sample.quantize(256)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    else:
        options |= {"quality": 80, "method": 4}
    try:
        with atomic_path(path) as tmp:
            pictures[0].save(tmp, save_all=True, append_images=pictures[1:], **options)
    except OSError as error:
        raise VideoError(f"path = {str(path)!r}: cannot be written ({error.strerror or error}).") from error
    log.info("%s: %d frames, %.1f MB", path.name, len(frames), path.stat().st_size / 1e6)
    return path


# ---------------------------------------------------------------- checks


def _rows(grid: Any) -> list[list[Any]]:
    wrong = "must be a list of rows, each a list of tiles, all equally long and not empty"
    if isinstance(grid, str | np.ndarray) or not isinstance(grid, Sequence) or not len(grid):
        raise VideoError(f"grid: got {_named(grid)}; {wrong}.")
    for index, row in enumerate(grid):
        if isinstance(row, str | np.ndarray) or not isinstance(row, Sequence) or not len(row):
            raise VideoError(f"grid[{index}]: got {_named(row)}; {wrong}.")
        if len(row) != len(grid[0]):
            raise VideoError(f"grid[{index}]: has {len(row)} tiles, the first row has {len(grid[0])}; {wrong}.")
    return [list(row) for row in grid]


def _named(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {list(value.shape)} and type {value.dtype}"
    return f"an empty {type(value).__name__}" if isinstance(value, Sequence) and not value else type(value).__name__


def _check_tile(tile: Any, name: str) -> None:
    if not isinstance(tile, np.ndarray) or tile.dtype != np.uint8 or tile.ndim != 4 or tile.shape[3] != 3:
        raise VideoError(
            f"{name}: got {_named(tile)}; uint8 [frames, height, width, 3] with values 0 to 255 is needed."
        )
    if tile.size == 0:
        raise VideoError(f"{name}: shape {list(tile.shape)} holds nothing; at least one frame is needed.")


def _still(tile: Any) -> Tile:
    if tile is None or isinstance(tile, str):
        return tile
    if not isinstance(tile, np.ndarray) or tile.ndim != 3:
        raise VideoError(f"grid: got {_named(tile)}; a tile of a picture is a single frame, uint8 [height, width, 3].")
    return tile[None]


def _check_headers(
    down: int,
    across: int,
    *,
    row_labels: Any = (),
    column_labels: Any = (),
    super_rows: Any = (),
    super_columns: Any = (),
    title: Any = None,
    corner: Any = None,
) -> Headers:
    for name, labels, count, what in (
        ("row_labels", row_labels, down, "rows"),
        ("column_labels", column_labels, across, "columns"),
        ("super_rows", super_rows, down, "rows"),
        ("super_columns", super_columns, across, "columns"),
    ):
        texts = isinstance(labels, Sequence) and all(isinstance(text, str) for text in labels)
        if isinstance(labels, str) or not texts:
            raise VideoError(f"{name} = {labels!r:.80}: must be a list of texts.")
        if labels and name.startswith("super") and count % len(labels):
            raise VideoError(f"{name}: {len(labels)} texts are given; their number must divide the {count} {what}.")
        if labels and not name.startswith("super") and len(labels) != count:
            raise VideoError(f"{name}: {len(labels)} texts are given; one for each of the {count} {what}, or none.")
    for name, text in (("title", title), ("corner", corner)):
        if text is not None and not isinstance(text, str):
            raise VideoError(f"{name} = {text!r:.80}: must be a text, or None.")
    return Headers(
        rows=row_labels,
        columns=column_labels,
        super_rows=super_rows,
        super_columns=super_columns,
        title=title or "",
        corner=corner or "",
    )


# ---------------------------------------------------------------- planning


def _montage(
    rows: list[list[Any]], *, limit: int, cell_height: int | None = None, gap: int = 4, **headers: Any
) -> np.ndarray:
    return _filled(rows, _plan(rows, headers, cell_height=cell_height, gap=gap, limit=limit))


def _plan(
    rows: list[list[Any]], headers: Mapping[str, Any], *, cell_height: int | None, gap: int, limit: int
) -> Layout:
    """Check what is left to check and find the layout; by trial where the size is free."""
    down, across = len(rows), len(rows[0])
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            if tile is not None and not isinstance(tile, str):
                _check_tile(tile, f"grid[{y}][{x}]")
    words = _check_headers(down, across, **headers)
    for name, value, low, high in (("cell_height", cell_height, MIN_CELL, MAX_CELL), ("gap", gap, 0, 64)):
        if name == "cell_height" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise VideoError(f"{name} = {value!r}: must be a whole number from {low} to {high}.")
    sizes = {tile.shape[1:3] for row in rows for tile in row if isinstance(tile, np.ndarray)}
    length = _length(rows)

    def trial(height: int) -> Layout:
        return lay_out(down, across, sizes, words, cell_height=height, gap=gap)

    def fits(layout: Layout, side: int) -> bool:
        return max(layout.size) <= side and math.prod(layout.size) * 3 * length <= MAX_BYTES

    if cell_height is None:
        layout = next((layout for layout in map(trial, HEIGHTS) if fits(layout, FIT_WITHIN)), trial(HEIGHTS[-1]))
    else:
        layout = trial(cell_height)
    if fits(layout, limit):
        return layout
    smaller = (height for height in (*HEIGHTS, MIN_CELL) if height < (cell_height or HEIGHTS[-1]))
    best = next((height for height in smaller if fits(trial(height), limit)), None)
    mend = f"Give cell_height={best} or less, or choose" if best else "No smaller cell_height helps: choose"
    raise VideoError(
        f"grid: {down} rows and {across} columns make {length} frames of {layout.size[1]} x {layout.size[0]} px;"
        f" allowed are {limit} px a side and {MAX_BYTES // 2**30} GiB of frames in all. {mend} fewer rows and columns."
    )


def _length(rows: list[list[Any]]) -> int:
    return max([len(tile) for row in rows for tile in row if isinstance(tile, np.ndarray)], default=1)


# ---------------------------------------------------------------- drawing


def _filled(rows: list[list[Any]], layout: Layout) -> np.ndarray:
    """The empty sheet, once for each frame, with the clips in their places."""
    sheet = np.asarray(_sheet(rows, layout))
    out = np.repeat(sheet[None], _length(rows), axis=0)
    high, wide = layout.cell
    for row, top in zip(rows, layout.tops, strict=True):
        for tile, left in zip(row, layout.lefts, strict=True):
            if isinstance(tile, np.ndarray):
                height, width = shown_size(tile.shape[1:3], high)
                y, x = top + (high - height) // 2, left + (wide - width) // 2
                out[: len(tile), y : y + height, x : x + width] = _scaled(tile, height, width)
                out[len(tile) :, y : y + height, x : x + width] = out[len(tile) - 1, y : y + height, x : x + width]
    return out


def _scaled(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    factor = height // frames.shape[1]
    if factor:
        return frames.repeat(factor, axis=1).repeat(factor, axis=2)
    resized = (Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS) for frame in frames)
    return np.stack([np.asarray(picture) for picture in resized])


def _sheet(rows: list[list[Any]], layout: Layout) -> Image.Image:
    sheet = Image.new("RGB", layout.size[::-1], _PAPER)
    draw = ImageDraw.Draw(sheet)
    for left, top, width, height in layout.rules:
        draw.rectangle((left, top, left + width - 1, top + height - 1), fill=_RULE)
    for text, box, where in layout.texts:
        if where == "upward":
            turned = Image.new("RGB", (box[3], box[2]), _PAPER)
            write(ImageDraw.Draw(turned), text, (0, 0, box[3], box[2]), layout.font, "bottom", _INK)
            sheet.paste(turned.transpose(Image.Transpose.ROTATE_90), box[:2])
        else:
            write(draw, text, box, layout.font, where, _QUIET if where == "corner" else _INK)
    for row, top in zip(rows, layout.tops, strict=True):
        for tile, left in zip(row, layout.lefts, strict=True):
            if tile is None:
                sheet.paste(_missing_tile(layout), (left, top))
            elif isinstance(tile, str):
                sheet.paste(_text_tile(tile, layout), (left, top))
    return sheet


def _missing_tile(layout: Layout) -> Image.Image:
    """Hatched, so that it cannot be taken for a grey clip, with the words on a plain ground."""
    high, wide = layout.cell
    tile = Image.new("RGB", (wide, high), _MISSING)
    draw = ImageDraw.Draw(tile)
    for x in range(-high, wide, 12):
        draw.line((x, high, x + high, 0), fill=_HATCH, width=2)
    line = line_height(layout.font)
    text = math.ceil(layout.font.getlength("no clip")) + line
    if text <= wide and line <= high:
        left, top = (wide - text) // 2, (high - line) // 2
        draw.rectangle((left, top - 2, left + text, top + line + 2), fill=_MISSING)
        write(draw, "no clip", (0, 0, wide, high), layout.font, "middle", _QUIET)
    return tile


def _text_tile(text: str, layout: Layout) -> Image.Image:
    high, wide = layout.cell
    tile = Image.new("RGB", (wide, high), _FAILED)
    draw = ImageDraw.Draw(tile)
    draw.rectangle((0, 0, wide - 1, high - 1), outline=_FAILED_EDGE)
    pad = max(3, wide // 24)
    font = font_for(text, max(11, round(layout.font.size * 0.85)))
    write(draw, text, (pad, pad, wide - 2 * pad, high - 2 * pad), font, "middle", _FAILED_INK)
    return tile

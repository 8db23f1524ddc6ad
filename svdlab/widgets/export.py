"""Export: what a view shows of a sweep, as a PNG contact sheet, a labelled montage mp4, or CSV.

Example:
    >>> view = View.of(sweep, x="steps", y="cond_aug", show="both")
    >>> save_mp4(sweep, view, "steps.mp4")
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from svdlab.errors import SvdlabError, ViewError
from svdlab.files import write_atomic
from svdlab.lettering import font_for, line_height, wrap, write
from svdlab.montage import montage_picture, write_montage
from svdlab.sweep.artifacts import PREVIEW, VIDEO, cell_path
from svdlab.sweep.frame import write_csv
from svdlab.video import read_video, to_png
from svdlab.widgets.arrange import MISSING, Arrangement, Header, Tile, arrange, show_value
from svdlab.widgets.feed import metric_facts
from svdlab.widgets.thumbs import middle_frame, preview_frame

if TYPE_CHECKING:
    import pandas as pd

    from svdlab.sweep import Sweep
    from svdlab.widgets.view import View

TYPES = {"png": "image/png", "mp4": "video/mp4", "csv": "text/csv"}
SIDE = 1920  # px that all tiles together should stay within
LOWEST, HIGHEST = 32, 256  # px, of a clip
MOST_TILES = 2000
_PAPER = (255, 255, 255)
_LETTERS = 13  # px, under a tile

Frames = Callable[[str], np.ndarray]  # cell -> uint8 [frames, height, width, 3]


def save(sweep: Sweep, view: View, path: str, what: str) -> Path:
    """Write `what` ("png", "mp4" or "csv") to a path as a person types it: the suffix may be left out.

    Raises:
        ViewError: no path, an unknown `what`, a file that is there, or nothing is seen.
    """
    if what not in TYPES:
        raise ViewError(f"what = {what!r}: must be one of {', '.join(TYPES)}.")
    if not path.strip():
        raise ViewError("path: is empty; name the file that is to be written.")
    given = Path(path.strip()).expanduser()
    if given.suffix.lower() not in (f".{kind}" for kind in TYPES):
        given = given.with_name(f"{given.name}.{what}")
    save_it = {"png": save_png, "mp4": save_mp4, "csv": save_csv}[what]
    return save_it(sweep, view, given.with_suffix(f".{what}"))


def save_png(sweep: Sweep, view: View, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a contact sheet: the middle frame of every tile, with headers, and numbers where the view shows them.

    Raises:
        ViewError: the file is there and `overwrite` is false, the name does not end in .png, or nothing is seen.
        VideoError: the whole would be too large.
    """
    path = checked_path(path, ".png", overwrite=overwrite)
    data = to_png(picture(sweep, view))
    try:
        write_atomic(path, data)
    except OSError as error:
        raise ViewError(f"path = {str(path)!r}: cannot be written ({error.strerror or error}).") from error
    return path


def save_mp4(sweep: Sweep, view: View, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write all clips that are seen as one mp4, side by side and in step frame by frame, with headers.

    A view of numbers alone is written with its clips. The rate is that of the first clip.

    Raises:
        ViewError: as `save_png`, with .mp4; or no clip is seen.
        VideoError: the whole would be too large.
    """
    path = checked_path(path, ".mp4", overwrite=overwrite)
    frame = sweep.frame()
    arrangement = _seen(frame, view)
    first = next((tile.cell for row in arrangement.tiles for tile in row if tile.status == "done"), None)
    if first is None:
        raise ViewError("there is no finished clip among what is shown, so there is nothing to play. Change the view.")
    fps = read_video(sweep.mp4(first), max_frames=1).fps
    tiles, options = _drawn(frame, arrangement, view, lambda cell: read_video(sweep.mp4(cell)).frames, clips=True)
    about = {"comment": f"svdlab view of {sweep.name}: {view!r}", "title": _title(sweep, view)}
    return write_montage(path, tiles, fps=fps, metadata=about, title=_title(sweep, view), **options)


def save_csv(sweep: Sweep, view: View, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the rows of the frame whose cells are seen, in the order in which they are seen, all cells of each tile.

    Raises:
        ViewError: as `save_png`, with .csv.
    """
    path = checked_path(path, ".csv", overwrite=overwrite)
    frame = sweep.frame()
    keys = [key for row in _seen(frame, view).tiles for tile in row for key in tile.cells]
    try:
        write_csv(frame.set_index("cell", drop=False).loc[keys], path)
    except OSError as error:
        raise ViewError(f"path = {str(path)!r}: cannot be written ({error.strerror or error}).") from error
    return path


def picture(sweep: Sweep, view: View, *, decode: bool = True) -> Image.Image:
    """What is seen as one PIL picture; see `save_png`.

    Args:
        decode: make the frames of cells that are not decoded yet; without, their previews are shown.

    Raises:
        ViewError: nothing is seen.
        VideoError: the whole would be too large.
    """
    frame = sweep.frame()

    def still(cell: str) -> np.ndarray:
        place = sweep.path / cell_path(cell)
        if decode or (place / VIDEO).exists():
            return middle_frame(sweep.mp4(cell))[None]
        if not (place / PREVIEW).exists():
            raise ViewError("not decoded yet")
        return preview_frame(place / PREVIEW)[None]

    tiles, options = _drawn(frame, _seen(frame, view), view, still, clips=view.show != "heat")
    stills = [[tile[0] if isinstance(tile, np.ndarray) else tile for tile in row] for row in tiles]
    return montage_picture(stills, title=_title(sweep, view), **options)


def checked_path(path: str | os.PathLike[str], suffix: str, *, overwrite: bool) -> Path:
    """`path`, if it has this suffix, its folder is there, and nothing is in its place unless `overwrite`.

    Raises:
        ViewError: it is not so.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() != suffix:
        raise ViewError(f"path = {str(path)!r}: the name must end in {suffix}.")
    if not path.parent.is_dir():
        raise ViewError(f"path = {str(path)!r}: there is no folder {str(path.parent)!r}. Create it first.")
    if path.is_dir() or (path.exists() and not overwrite):
        free = free_path(path.stem, suffix, folder=path.parent)
        raise ViewError(f"path = {str(path)!r}: is there already, and stays as it is. {str(free)!r} is free.")
    return path


def free_path(name: str, suffix: str = "", *, folder: Path | None = None) -> Path:
    """``name`` + ``suffix`` in a folder (by default the working directory), with a number behind it if it is taken.

    Without a suffix, a name under which none of the kinds of export is there.

    Example:
        >>> free_path("first", ".png")
        PosixPath('first-2.png')
    """
    folder = Path() if folder is None else folder
    suffixes = [suffix] if suffix else [f".{kind}" for kind in TYPES]
    for number in itertools.count(1):
        candidate = name if number == 1 else f"{name}-{number}"
        if not any((folder / f"{candidate}{one}").exists() for one in suffixes):
            return folder / f"{candidate}{suffix}"
    raise AssertionError("itertools.count ends never")


# ---------------------------------------------------------------- drawing


def _seen(frame: pd.DataFrame, view: View) -> Arrangement:
    arrangement = arrange(frame, view)
    count = sum(map(len, arrangement.tiles))
    if count == 0:
        raise ViewError("the view shows no cell, so there is nothing to write. Change its filters, locks or shortlist.")
    if count > MOST_TILES:
        raise ViewError(f"the view shows {count} tiles; at most {MOST_TILES} are written at once. Lock an axis.")
    return arrangement


def _title(sweep: Sweep, view: View) -> str:
    """The sweep's name, what is locked, the order, and what the numbers are."""
    if view.show == "shortlist":
        locked = "shortlist"
    else:
        values = {name: "all" if value is None else show_value(value) for name, value in view.lock.items()}
        locked = ", ".join(f"{name} {value}" for name, value in values.items())
    parts = [sweep.name, locked]
    if view.metric is not None and view.show != "grid":
        unit = metric_facts(view.metric)["unit"]
        parts.append(f"{view.metric} in {unit}" if unit else view.metric)
    if view.sort is not None:
        parts.append(f"by {view.sort[0]}, {'lowest' if view.sort[1] else 'highest'} first")
    return "; ".join(part for part in parts if part)


def _drawn(
    frame: pd.DataFrame, arrangement: Arrangement, view: View, frames: Frames, *, clips: bool
) -> tuple[list[list[Any]], dict[str, Any]]:
    """Tiles and headers for `svdlab.montage`; a list is broken into lines."""
    across = math.ceil(math.sqrt(len(arrangement.columns))) if arrangement.flat else len(arrangement.columns)
    down = math.ceil(len(arrangement.columns) / across) if arrangement.flat else len(arrangement.rows)
    height = max(LOWEST, min(HIGHEST, SIDE // down, SIDE // across))
    heat = _colours(frame, view) if view.show != "grid" else None
    captions = [caption.label for caption in arrangement.captions or [Header()] * len(arrangement.columns)]
    lines = max([len(_wrapped(text, height)) for text in captions], default=0) if arrangement.flat else 0
    failed = frame[frame["status"] == "failed"]
    errors = {cell: text.partition("\n")[0] for cell, text in zip(failed["cell"], failed["error"], strict=True)}
    pen = _Pen(frames=frames, height=height, heat=heat, lines=lines, clips=clips, errors=errors)
    rows = [
        [_draw(tile, caption, pen) for tile, caption in zip(row, captions, strict=True)] for row in arrangement.tiles
    ]
    drawn = [tile for row in rows for tile in row if isinstance(tile, np.ndarray)]
    options: dict[str, Any] = {"cell_height": max([tile.shape[1] for tile in drawn], default=height)}
    if arrangement.flat:
        padded = [*rows[0], *[None] * (down * across - len(rows[0]))]
        return [padded[at : at + across] for at in range(0, len(padded), across)], options
    return rows, options | _headers(arrangement, view)


def _headers(arrangement: Arrangement, view: View) -> dict[str, Any]:
    def labels(headers: tuple[Header, ...], place: str | None) -> list[str]:
        return [show_value(dict(header.values)[place]) for header in headers] if place else []

    def supers(place: str | None) -> list[str]:
        return [f"{place} {show_value(value)}" for value in view.axes[place]] if place else []

    names = [f"{view.y} ↓" if view.y else "", f"{view.x} →" if view.x else ""]
    return {
        "row_labels": labels(arrangement.rows, view.y),
        "column_labels": labels(arrangement.columns, view.x),
        "super_rows": supers(view.super_y),
        "super_columns": supers(view.super_x),
        "corner": "  ".join(filter(None, names)) or None,
    }


def _colours(frame: pd.DataFrame, view: View) -> Callable[[float], tuple[int, int, int]] | None:
    """Value -> colour, over all values of the sweep, as on the page."""
    if view.metric is None or frame[view.metric].notna().sum() == 0:
        return None
    from matplotlib import colormaps

    low, high = float(frame[view.metric].min()), float(frame[view.metric].max())
    cividis = colormaps["cividis"]

    def colour(value: float) -> tuple[int, int, int]:
        red, green, blue, _ = cividis((value - low) / (high - low) if high > low else 0.5, bytes=True)
        return int(red), int(green), int(blue)

    return colour


@dataclass(frozen=True, kw_only=True)
class _Pen:
    """How tiles are drawn."""

    frames: Frames
    height: int  # px of a clip
    heat: Callable[[float], tuple[int, int, int]] | None  # value -> colour; None: numbers are not shown
    lines: int  # of the longest caption, so that all tiles are equally high
    clips: bool  # False: numbers alone
    errors: Mapping[str, str]  # cell -> the first line of why it failed


def _draw(tile: Tile, caption: str, pen: _Pen) -> np.ndarray | str | None:
    """One tile as the montage takes it: frames with what is written below them, a text, or None."""
    if tile.status == MISSING:
        return None
    assert tile.cell is not None
    if tile.status == "failed":
        return f"{caption}\nfailed: {pen.errors[tile.cell]}".strip()
    if tile.status != "done":
        blank = np.full((1, pen.height if pen.clips else pen.height // 2, pen.height, 3), 243, np.uint8)
        return _write_over(blank, f"{caption}\n{tile.status}".strip())
    number = f"{tile.value:.3g}" if tile.value is not None else "-"
    fill = pen.heat(tile.value) if pen.heat and tile.value is not None else _PAPER
    if not pen.clips:
        return _write_over(np.full((1, pen.height // 2, pen.height, 3), fill, np.uint8), number)
    try:
        shown = _scaled(pen.frames(tile.cell), pen.height)
    except SvdlabError as error:
        return str(error)
    if tile.dimmed:
        shown = (255 - (255 - shown.astype(np.uint16)) // 4).astype(np.uint8)
    bands = [_band(shown, number, fill, 1)] if pen.heat else []
    if pen.lines:
        bands.append(_band(shown, caption, _PAPER, pen.lines))
    return np.concatenate([shown, *bands], axis=1)


def _scaled(frames: np.ndarray, height: int) -> np.ndarray:
    """Frames at `height` px or less: enlarged by a whole factor without smoothing, or shrunk."""
    import cv2

    if frames.shape[1] <= height:
        factor = height // frames.shape[1]
        return frames.repeat(factor, axis=1).repeat(factor, axis=2)
    width = max(1, round(frames.shape[2] * height / frames.shape[1]))
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames])


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, font_for(text, _LETTERS), width - 2, 8)


def _band(frames: np.ndarray, text: str, fill: tuple[int, int, int], lines: int) -> np.ndarray:
    """A strip with a text, as wide as the frames and for each of them."""
    count, _, width, _ = frames.shape
    strip = np.full((1, line_height(font_for("", _LETTERS)) * lines + 2, width, 3), fill, np.uint8)
    return np.broadcast_to(_write_over(strip, text), (count, *strip.shape[1:]))


def _write_over(frames: np.ndarray, text: str) -> np.ndarray:
    """Text in the middle of a single frame, black or white, whichever is readable on it."""
    canvas = Image.fromarray(frames[0])
    light = float(frames[0, 0, 0] @ np.array([0.2126, 0.7152, 0.0722])) > 120
    ink = (0, 0, 0) if light else (255, 255, 255)
    font = font_for(text, _LETTERS)
    write(ImageDraw.Draw(canvas), text, (1, 1, canvas.width - 2, canvas.height - 2), font, "middle", ink)
    return np.asarray(canvas)[None]

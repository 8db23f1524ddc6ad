"""Layout: where the tiles and the words of a montage go."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from svdlab.lettering import Box, Font, font_for, line_height, wrap

Text = tuple[str, Box, str]  # text, box, alignment as for `lettering.write`, or "upward"
Size = tuple[int, int]  # height, width


@dataclass(frozen=True, kw_only=True)
class Headers:
    """The words around a grid; `super_rows` and `super_columns` each span an equal number of rows or columns."""

    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    super_rows: Sequence[str] = ()
    super_columns: Sequence[str] = ()
    title: str = ""
    corner: str = ""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Places in px, from the upper left corner.

    Attributes:
        lefts, tops: of the columns and rows of tiles.
        cell: height and width of a tile's place.
        font: of all words.
        size: height and width of the whole, even.
        texts, rules: the words, and the thin lines that tie a group together.
    """

    lefts: list[int]
    tops: list[int]
    cell: Size
    font: Font
    size: Size
    texts: list[Text] = field(default_factory=list)
    rules: list[Box] = field(default_factory=list)


def shown_size(size: Size, cell_height: int) -> Size:
    """The size at which a clip is shown: enlarged by the largest whole factor that fits, or shrunk to `cell_height`.

    Example:
        >>> shown_size((64, 64), 200), shown_size((576, 1024), 200)
        ((192, 192), (200, 356))
    """
    height, width = size
    if height <= cell_height:
        factor = cell_height // height
        return height * factor, width * factor
    return cell_height, max(1, round(width * cell_height / height))


def lay_out(down: int, across: int, sizes: Iterable[Size], headers: Headers, *, cell_height: int, gap: int) -> Layout:
    """Place a grid of `down` rows and `across` columns; `sizes` are those of its clips, each (height, width)."""
    shown = [shown_size(size, cell_height) for size in sizes]
    high = max((height for height, _ in shown), default=cell_height)
    wide = max((width for _, width in shown), default=cell_height)
    letters = min(20, max(12, round(high / 12)))
    words = [*headers.rows, *headers.columns, *headers.super_rows, *headers.super_columns]
    font = font_for("".join([*words, headers.title, headers.corner]), letters)
    line, margin, pad = line_height(font), letters, letters // 2

    # Across: margin, upward super headers, row labels, tiles, margin.
    label_left = margin + (line + pad if headers.super_rows else 0)
    label_width = _width([*headers.rows, headers.corner], font, max(wide, 8 * letters))
    lefts = _steps(
        label_left + (label_width + pad if label_width else 0), across, wide, gap, len(headers.super_columns)
    )
    right = max(lefts[-1] + wide, margin + _width([headers.title], font, 30 * letters))

    # Down: margin, title, super headers, column labels and corner, tiles, margin.
    texts: list[Text] = []
    rules: list[Box] = []
    y = margin
    if headers.title:
        tall = _height([headers.title], font, right - margin, 3)
        texts.append((headers.title, (margin, y, right - margin, tall), "left"))
        y += tall + pad
    if headers.super_columns:
        spans = _spans(lefts, wide, len(headers.super_columns))
        tall = _height(headers.super_columns, font, spans[0][1], 2)
        texts += [
            (text, (x, y, width, tall), "bottom") for text, (x, width) in zip(headers.super_columns, spans, strict=True)
        ]
        rules += [(x, y + tall + pad // 2, width, 1) for x, width in spans]
        y += tall + pad
    tall = max(_height(headers.columns, font, wide, 3), _height([headers.corner], font, label_width, 4))
    texts += [(text, (x, y, wide, tall), "bottom") for text, x in zip(headers.columns, lefts, strict=False)]
    texts.append((headers.corner, (label_left, y, label_width, tall), "corner"))
    tops = _steps(y + (tall + pad if tall else 0), down, high, gap, len(headers.super_rows))
    texts += [(text, (label_left, y, label_width, high), "right") for text, y in zip(headers.rows, tops, strict=False)]
    if headers.super_rows:
        spans = _spans(tops, high, len(headers.super_rows))
        texts += [
            (text, (margin, y, line, height), "upward")
            for text, (y, height) in zip(headers.super_rows, spans, strict=True)
        ]
        rules += [(margin + line + pad // 2, y, 1, height) for y, height in spans]
    return Layout(
        lefts=lefts,
        tops=tops,
        cell=(high, wide),
        font=font,
        size=(_even(tops[-1] + high + margin), _even(right + margin)),
        texts=[text for text in texts if text[0]],
        rules=rules,
    )


def _steps(start: int, count: int, size: int, gap: int, groups: int) -> list[int]:
    """Where `count` tiles begin; groups are three gaps apart."""
    span = count // groups if groups else count
    return [start + k * (size + gap) + 2 * gap * (k // span) for k in range(count)]


def _spans(starts: list[int], size: int, groups: int) -> list[tuple[int, int]]:
    """Beginning and length of each group of tiles."""
    each = len(starts) // groups
    return [(starts[k], starts[k + each - 1] + size - starts[k]) for k in range(0, len(starts), each)]


def _width(texts: Iterable[str], font: Font, most: int) -> int:
    """Px that the widest line takes, where lines wider than `most` are wrapped."""
    lines = [part for text in texts if text for part in wrap(text, font, most, 99)]
    return math.ceil(max((font.getlength(part) for part in lines), default=0))


def _height(texts: Iterable[str], font: Font, width: int, most: int) -> int:
    """Px that the longest text takes in `width`, in at most so many lines."""
    return line_height(font) * max((len(wrap(text, font, width, most)) for text in texts if text), default=0)


def _even(length: int) -> int:
    return length + length % 2  # mp4 stores colour for 2 x 2 pixels

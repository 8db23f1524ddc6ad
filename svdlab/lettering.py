"""Lettering: text drawn on pictures, wrapped to fit its box."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from PIL import ImageDraw, ImageFont

from svdlab.errors import VideoError

Font = ImageFont.FreeTypeFont
Box = tuple[int, int, int, int]  # left, top, width, height
MOST_LETTERS = 2000  # of a text that are looked at


@functools.lru_cache(maxsize=64)
def _sized(path: str | None, size: int) -> Font:
    font = ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise VideoError(
            "this Pillow is built without FreeType and cannot draw labels; install Pillow from its wheels."
        )
    return font


@functools.cache
def _broad_font() -> str | None:
    """DejaVu Sans as matplotlib carries it: accents, Greek, Cyrillic, arrows."""
    spec = importlib.util.find_spec("matplotlib")
    path = Path(spec.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if spec and spec.origin else None
    return str(path) if path and path.is_file() else None


def font_for(text: str, size: int) -> Font:
    """Pillow's own font; where it lacks a letter of `text`, a broader one for all of it."""
    own = _sized(None, size)
    absent = own.getmask("\ue000")  # a code point for private use: the box that stands for what is not there
    unusual = {letter for letter in text if not " " <= letter <= "~" and not letter.isspace()}
    if _broad_font() and any(bytes(own.getmask(letter)) == bytes(absent) for letter in unusual):
        return _sized(_broad_font(), round(size * 0.9))  # it is drawn larger at equal size
    return own


def line_height(font: Font) -> int:
    """Px from one line of text to the next."""
    return round(font.size * 1.3)


def wrap(text: str, font: Font, width: float, most: int) -> list[str]:
    """Lines no wider than `width`: broken between words, within a word that is too long; `most` of them, then "..."."""
    lines: list[str] = []
    for paragraph in text[:MOST_LETTERS].splitlines() or [""]:
        current = ""
        for word in paragraph.split():
            joined = f"{current} {word}" if current else word
            if font.getlength(joined) <= width:
                current = joined
                continue
            if current:
                lines.append(current)
            *full, current = _broken(word, font, width)
            lines += full
        lines.append(current)
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and font.getlength(last + "...") > width:
        last = last[:-1]
    return [*lines[: most - 1], last.rstrip() + "..."]


def _broken(word: str, font: Font, width: float) -> list[str]:
    """A word in pieces that fit, at least one letter each."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and font.getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def write(draw: ImageDraw.ImageDraw, text: str, box: Box, font: Font, where: str, fill: tuple[int, int, int]) -> None:
    """Draw wrapped text into a box.

    Args:
        where: `left` (from the upper left corner), `corner` (from the left, at the bottom), `right` (in the middle of
            the right edge), `bottom` or `middle` (centred).
    """
    left, top, width, height = box
    line = line_height(font)
    lines = wrap(text, font, width, max(1, height // line))
    share_above = {"left": 0.0, "right": 0.5, "middle": 0.5}.get(where, 1.0)
    share_before = {"left": 0.0, "corner": 0.0, "right": 1.0}.get(where, 0.5)
    y = top + (height - line * len(lines)) * share_above + line / 2
    for part in lines:
        x = left + (width - font.getlength(part)) * share_before
        draw.text((round(x), round(y)), part, font=font, fill=fill, anchor="lm")
        y += line

"""Picture: a picture as the Explorer holds it: its pixels, what to call it, and how code can name it again."""

from __future__ import annotations

import base64
import io
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from svdlab import examples
from svdlab.files import write_atomic
from svdlab.images import ImageSource, ImageWarning, load_image
from svdlab.sniff import picture_format

if TYPE_CHECKING:
    from PIL import Image

_LONGEST = 60  # letters of a label
_SUFFIXES = {"JPEG": ".jpg"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One picture.

    Attributes:
        image: the whole picture, mode RGB.
        label: what to call it, one line.
        source: the path or address that gives it again; None for one that came as bytes or as an object.
        example: its name among `svdlab.examples`, if it is one of them.
        data: the bytes of a file that was uploaded.
        notes: what deserved a warning, in words.
    """

    image: Image.Image = field(repr=False)
    label: str
    source: str | None = None
    example: str | None = None
    data: bytes | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """A file name to save it under, made of plain letters."""
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(self.label).stem).strip("-") or "picture"
        kind = (picture_format(self.data) if self.data else None) or "PNG"
        return stem[:_LONGEST] + _SUFFIXES.get(kind, f".{kind.lower()}")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the bytes as they were uploaded; a picture that came another way is written as PNG. Returns the path.

        Example:
            >>> picture.save("cat.png")
        """
        data = self.data
        if data is None:
            buffer = io.BytesIO()
            self.image.save(buffer, "PNG")
            data = buffer.getvalue()
        write_atomic(path, data)
        return Path(path)


def open_picture(source: ImageSource) -> Picture:
    """Open whatever `svdlab.load_image` takes, or the name of a bundled example.

    A file of that name in the working directory goes before the example.

    Raises:
        ImageError: it cannot be used as a picture.

    Example:
        >>> open_picture("rocket").example
        'rocket'
    """
    if isinstance(source, str) and source in examples.names() and not Path(source).exists():
        image, notes = _load(examples.path(source))
        return Picture(image=image, label=source, example=source, notes=notes)
    image, notes = _load(source)
    for name in examples.names():
        if isinstance(source, os.PathLike) and Path(source) == examples.path(name):
            return Picture(image=image, label=name, example=name, notes=notes)
    if not isinstance(source, str | os.PathLike):
        name = getattr(source, "filename", None) or "picture"
        return Picture(image=image, label=_one_line(Path(str(name)).name), notes=notes)
    text = os.fsdecode(source)
    if text.lower().startswith("data:"):
        return Picture(image=image, label="picture", notes=notes)
    return Picture(image=image, label=_name_of(text), source=text, notes=notes)


def open_upload(name: str, data: bytes) -> Picture:
    """Open a file that came through the browser.

    Args:
        name: as the browser gives it; only shown, never used as a path.
        data: the file's bytes.

    Raises:
        ImageError: it cannot be used as a picture.
    """
    label = _one_line(re.split(r"[/\\]", name)[-1]) or "picture"
    # load_image takes no bytes, but an address that holds them; in its errors the file is called by its name.
    address = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    try:
        image, notes = _load(address)
    except Exception as error:
        error.args = tuple(_called(label, text, len(address)) for text in error.args)
        raise
    return Picture(
        image=image, label=label, data=data, notes=tuple(_called(label, note, len(address)) for note in notes)
    )


def _load(source: ImageSource) -> tuple[Image.Image, tuple[str, ...]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ImageWarning)
        image = load_image(source)
    return image, tuple(str(warning.message) for warning in caught)


def _called(label: str, text: str, length: int) -> str:
    return str(text).replace(f"the data: address ({length} characters)", repr(label))


def _name_of(text: str) -> str:
    return _one_line(Path(re.split(r"[?#]", text)[0] if "://" in text else text).name)


def _one_line(text: str) -> str:
    """Without what would break a line or a terminal, and not too long; the end stays, because it says what it is."""
    clean = "".join(letter for letter in text if letter.isprintable())
    return clean if len(clean) <= _LONGEST else "..." + clean[3 - _LONGEST :]

"""The pictures of a sweep: found, opened once, given a digest and a label."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from svdlab.errors import ImageError, SpecError
from svdlab.images import ImageSource, image_digest, load_image


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One picture of a sweep.

    Attributes:
        label: what tables call it: the stem of its file's name, made unique.
        digest: `svdlab.images.image_digest` of the loaded picture.
        source: where it came from, in words; None for one that was in memory.
        image: the picture itself, RGB, at its own size.
    """

    label: str
    digest: str
    source: str | None
    image: Image.Image = field(repr=False)


def find_images(given: Any, *, base: Path, where: str = "") -> tuple[ImageSource, ...]:
    """A picture, or a list of them, as a list of sources: file patterns are expanded, paths made whole.

    Args:
        given: a path, a pattern such as ``"pictures/*.png"``, an address, a PIL image or an array; or a list of these.
        base: the folder that relative paths start from.
        where: the beginning of an error's text.

    Raises:
        SpecError: nothing is given, a file is missing, a pattern matches nothing, or a source is listed twice.
    """
    listed = list(given) if isinstance(given, Iterable) and not isinstance(given, _ONE) else [given]
    sources: list[ImageSource] = []
    for item in listed:
        if not isinstance(item, _ONE):
            raise SpecError(
                f"{where}images: {item!r} ({type(item).__name__}) is not a picture. Allowed are paths, patterns such as"
                " 'pictures/*.png', http(s) and data: addresses, PIL images and arrays."
            )
        found = _find(item, base, where) if isinstance(item, str | os.PathLike) else [item]
        for source in found:
            if isinstance(source, str) and source in [other for other in sources if isinstance(other, str)]:
                raise SpecError(
                    f"{where}images: {_describe(source)!r} is listed twice; each picture may be listed once."
                )
        sources += found
    if not sources:
        raise SpecError(f"{where}images = []: a sweep needs at least one picture.")
    return tuple(sources)


_ONE = (str, os.PathLike, Image.Image, np.ndarray)


def _find(item: str | os.PathLike[str], base: Path, where: str) -> list[str]:
    text = os.fsdecode(os.fspath(item))
    if _is_address(text):
        return [text]
    path = base / Path(text).expanduser()
    if path.is_file():
        return [str(path)]
    if glob.has_magic(text):
        if found := sorted(name for name in glob.glob(str(path), recursive=True) if Path(name).is_file()):  # noqa: PTH207
            return found
        raise SpecError(f"{where}images: no file matches {text!r} in {base}.")
    here = sorted(file.name for file in path.parent.iterdir()) if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, here, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise SpecError(f"{where}images: there is no file {text!r} in {base}.{hint}")


def _is_address(text: str) -> bool:
    return text.startswith("data:") or "://" in text[:16]


def open_pictures(
    sources: Sequence[ImageSource], *, labels: Mapping[str, str], progress: Callable[[str], None] | None = None
) -> tuple[Picture, ...]:
    """Open every picture, so that a bad one is found before anything is computed.

    Args:
        sources: as `find_images` gives them.
        labels: digest -> label of pictures that already have one; they keep it.

    Raises:
        ImageError: one or more cannot be opened; all of them are named.
        SpecError: two sources show the same picture.
    """
    opened: dict[str, tuple[ImageSource, Image.Image]] = {}
    problems = []
    for source in sources:
        try:
            image = load_image(source)
        except ImageError as error:
            problems.append(str(error))
            continue
        digest = image_digest(image)
        if digest in opened:
            raise SpecError(
                f"images: {_describe(source)} and {_describe(opened[digest][0])} show the same picture; keep one."
            )
        opened[digest] = (source, image)
    if problems:
        raise ImageError("\n".join(problems))
    taken = set(labels.values())
    pictures = []
    for digest, (source, image) in opened.items():
        label = labels.get(digest) or _unique(_stem(source), taken)
        taken.add(label)
        pictures.append(Picture(label=label, digest=digest, source=source_text(source), image=image))
    return tuple(pictures)


def _unique(stem: str, taken: set[str]) -> str:
    label, count = stem, 1
    while label in taken:
        count += 1
        label = f"{stem}-{count}"
    return label


def _stem(source: ImageSource) -> str:
    if isinstance(source, Image.Image):
        source = getattr(source, "filename", "") or ""
    if not isinstance(source, str) or source.startswith("data:"):
        return "image"
    path = urlsplit(source).path if _is_address(source) else source
    return "".join(letter for letter in Path(path).stem if letter.isprintable()) or "image"


def source_text(source: ImageSource) -> str | None:
    """Where a picture came from: its path, or its address without what may be secret (user, query, fragment)."""
    if not isinstance(source, str):
        return None
    if source.startswith("data:"):
        return "data:"
    if not _is_address(source):
        return source
    parts = urlsplit(source)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _describe(source: ImageSource) -> str:
    return source_text(source) or f"a {type(source).__name__}"

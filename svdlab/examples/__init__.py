"""Pictures that come with svdlab, to begin with. Whose they are says `SOURCES.md` beside them.

Example:
    >>> from svdlab import examples
    >>> examples.names()
    ('fish', 'kite', 'rocket')
    >>> clip = pipe(examples.path("fish"))
"""

from __future__ import annotations

import difflib
from pathlib import Path

from svdlab.errors import ImageError

_FOLDER = Path(__file__).parent
_SUFFIXES = (".jpg", ".png")


def names() -> tuple[str, ...]:
    """The names of the bundled pictures, in order.

    Example:
        >>> names()
        ('fish', 'kite', 'rocket')
    """
    return tuple(sorted(_files()))


def path(name: str) -> Path:
    """Where the bundled picture `name` lies; every function that takes a picture takes this path.

    Raises:
        ImageError: there is no such picture.

    Example:
        >>> path("rocket").name
        'rocket.jpg'
    """
    files = _files()
    if name not in files:
        close = difflib.get_close_matches(str(name), files, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "A picture of your own is given by its path."
        raise ImageError(f"name = {name!r}: no example of that name; there are {', '.join(names())}. {hint}")
    return files[name]


def _files() -> dict[str, Path]:
    return {file.stem: file for file in _FOLDER.iterdir() if file.suffix in _SUFFIXES}

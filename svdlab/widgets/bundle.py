"""The front end of the widgets: files in `static/`, joined into one module or style sheet; there is no build step."""

from __future__ import annotations

import functools
import re
from importlib import resources

_STATEMENT = re.compile(r"^\s*(import|export)\b", re.MULTILINE)


def esm(*names: str) -> str:
    """The files of `static/` called `names`, joined in this order into one JavaScript module.

    All share one scope: the last file has the `export default`, the others declare plain functions and classes, and
    none imports anything, so a module needs no network and no second file.

    Raises:
        ValueError: there is no such file, or its statements break the rule above.

    Example:
        >>> class Widget(anywidget.AnyWidget):
        ...     _esm = esm("clock.js", "dom.js", "player.js")
    """
    for name in names:
        wanted = ["export"] if name == names[-1] else []
        if (found := _STATEMENT.findall(_read(name, ".js"))) != wanted:
            raise ValueError(f"{name}: has {found or 'no'} import/export statements; wanted here: {wanted or 'none'}.")
    return "\n".join(_read(name, ".js") for name in names)


def css(*names: str) -> str:
    """The style sheets of `static/` called `names`, joined in this order.

    Raises:
        ValueError: there is no such file.

    Example:
        >>> css("player.css").splitlines()[0]
        '/* The frame player. */'
    """
    return "\n".join(_read(name, ".css") for name in names)


@functools.cache
def _read(name: str, suffix: str) -> str:
    file = resources.files("svdlab.widgets").joinpath("static", name)
    if not name.endswith(suffix) or "/" in name or not file.is_file():
        raise ValueError(f"{name!r}: must be the name of a {suffix} file in svdlab/widgets/static.")
    return file.read_text(encoding="utf-8")

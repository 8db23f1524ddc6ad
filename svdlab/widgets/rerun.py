"""A notebook cell that is run again makes its widgets anew; what the former ones were doing has nobody to see it."""

from __future__ import annotations

import weakref
from typing import Any, Protocol


class Closable(Protocol):
    """Something that ends its work when it is closed."""

    def close(self) -> None:
        """End the work."""


_made: dict[str, tuple[str, list[weakref.ref[Any]]]] = {}


def replace_former(widget: Closable, *, cell: tuple[str, str] | None = None) -> None:
    """Close the widgets that an earlier run of the same notebook cell made and announced here; announce this one.

    Outside of a notebook that names its cells nothing happens.

    Args:
        widget: the new one.
        cell: of which cell and of which run of it; by default, what the kernel says.
    """
    found = cell or _current_cell()
    if found is None:
        return
    place, run = found
    former_run, former = _made.get(place, ("", []))
    if former_run != run:
        for reference in former:
            if (old := reference()) is not None:
                old.close()
        former = []
    _made[place] = (run, [*former, weakref.ref(widget)])


def _current_cell() -> tuple[str, str] | None:
    """The cell that is running and its run, as the kernel was told with the request; JupyterLab names its cells."""
    try:
        from IPython.core.getipython import get_ipython

        shell: Any = get_ipython()
        request = shell.get_parent()
        return str(request["metadata"]["cellId"]), str(request["header"]["msg_id"])
    except (ImportError, AttributeError, KeyError, TypeError):
        return None

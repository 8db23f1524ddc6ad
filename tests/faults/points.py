"""Named points of a run: every call that changes a file or the ledger, before and after it.

The interpreter itself tells of each call of a C function (`sys.setprofile`), so nothing in the library has to know
that it is watched. A point is called ``FUNCTION of svdlab:CALL:before|after``, such as ``store:fsync:after``.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import svdlab

SYSTEM = frozenset({"mkdir", "open", "write", "fsync", "ftruncate", "rename", "replace", "unlink", "rmdir"})
FILE = frozenset({"open", "write", "close", "__exit__"})
LEDGER = frozenset({"execute", "executemany", "executescript", "close"})
HOME = str(Path(svdlab.__file__).parent)
WATCHED = (os.path.join(HOME, "sweep", ""), os.path.join(HOME, "files.py"))  # noqa: PTH118 - compared as text
MOMENTS = {"c_call": "before", "c_return": "after", "c_exception": "after"}


def _changes(call: Any) -> bool:
    """Whether a C function changes files or the ledger."""
    name, owner = call.__name__, getattr(call, "__self__", None)
    if isinstance(owner, sqlite3.Connection | sqlite3.Cursor):
        return name in LEDGER
    module = getattr(call, "__module__", None) or type(owner).__module__
    return (module == "posix" and name in SYSTEM) or (module in ("io", "_io") and name in FILE)


def _caller(frame: FrameType | None) -> str | None:
    """The function of the sweep from which a call comes; None if it comes from elsewhere."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(WATCHED) and not file.endswith("database.py"):  # through which every statement goes
            name = frame.f_code.co_name
            return None if name == "<module>" else name.strip("<>")  # a module that is being imported
        frame = frame.f_back
    return None


@contextmanager
def watched(reached: Callable[[str], None]) -> Iterator[None]:
    """Call `reached` with the name of every point at the moment when it is reached."""

    def profile(frame: FrameType, event: str, call: Any) -> None:
        if event in MOMENTS and _changes(call) and (caller := _caller(frame)):
            reached(f"{caller}:{call.__name__}:{MOMENTS[event]}")

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def killing_at(number: int, tell: Callable[[str], None]) -> Callable[[str], None]:
    """For `watched`: SIGKILL to this process at the point of this number, from 0; `tell` gets its name before."""
    count = 0

    def reached(point: str) -> None:
        nonlocal count
        if count == number:
            tell(point)
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    return reached

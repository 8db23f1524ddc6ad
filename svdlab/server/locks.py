"""Locks that die with their process, so that a crash leaves nothing to clean up."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from svdlab.errors import ServerError


@contextlib.contextmanager
def held(path: Path, *, wait: Callable[[], bool] | None = None, taken: str = "is taken") -> Iterator[None]:
    """Hold the file `path` for the length of a `with` block; of several processes, one does.

    Args:
        path: of the lock; made if it is missing, never removed.
        wait: asked again and again while another process holds it; False gives up. None: do not wait.
        taken: what the error says of the lock if it is not to be had.

    Raises:
        ServerError: another process holds it, or the system has no such locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        raise ServerError("serving needs a POSIX system (Linux, macOS, or WSL on Windows).") from None
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if wait is None or not wait():
                    raise ServerError(f"{path.parent}: {taken}.") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(fd)

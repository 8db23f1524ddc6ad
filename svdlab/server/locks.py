"""Locks of the server's folder: one server a folder, one worker a slot."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from svdlab.errors import ServerError
from svdlab.files import file_lock


@contextlib.contextmanager
def held(path: Path, *, wait: Callable[[], bool] | None = None, taken: str = "is taken") -> Iterator[None]:
    """Hold the lock of the file `path` for the length of a `with` block; see `svdlab.files.file_lock`.

    Args:
        path: of the lock.
        wait: asked again and again while another process holds it; False gives up. None: do not wait.
        taken: what the error says of the lock if it is not to be had.

    Raises:
        ServerError: another process holds it, it cannot be written, or the system has no such locks.
    """
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(file_lock(path))
                break
            except BlockingIOError:
                if wait is None or not wait():
                    raise ServerError(f"{path.parent}: {taken}.") from None
                time.sleep(0.05)
            except NotImplementedError as error:
                raise ServerError(f"{path.parent}: cannot be locked ({error}).") from None
            except OSError as error:
                raise ServerError(
                    f"{path}: cannot be written ({error.strerror}). Allow writing there, or choose another folder."
                ) from None
        yield

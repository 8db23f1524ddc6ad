"""One writer a run directory: an exclusive lock that says who holds it, and that dies with its process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from svdlab.errors import SweepError
from svdlab.files import file_lock


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock of a run directory (its file ``lock``) for the length of a `with` block.

    The lock is that of `svdlab.files.file_lock`. The file stays, empty while nobody holds the lock; while held it names
    host, process and start.

    Raises:
        SweepError: another process, or another sweep of this process, holds it; or the system has no such locks.
    """
    with contextlib.ExitStack() as stack:
        try:
            fd = stack.enter_context(file_lock(Path(folder) / "lock", mode=0o644))
        except BlockingIOError:
            raise SweepError(
                f"{folder}: {holder(folder)} is writing there. Wait for it, stop it, or read along with"
                " svdlab.open_sweep; one directory has one writer."
            ) from None
        except NotImplementedError as error:
            raise SweepError(f"{folder}: cannot be locked ({error}).") from None
        except OSError as error:
            raise SweepError(
                f"{folder}: cannot be written ({error.strerror}). Allow writing there, or choose another directory;"
                " svdlab.open_sweep reads it all the same."
            ) from None
        os.ftruncate(fd, 0)
        try:
            os.write(fd, json.dumps(_me()).encode())
        except OSError as error:
            raise SweepError(f"{folder}: cannot be written ({error.strerror}). Make room and run again.") from None
        try:
            yield
        finally:
            os.ftruncate(fd, 0)


def holder(folder: str | os.PathLike[str]) -> str:
    """Who holds the lock of a run directory, in words."""
    try:
        info = json.loads((Path(folder) / "lock").read_text(encoding="utf-8"))
        return f"process {info['pid']} on {info['host']} (since {info['started']})"
    except (OSError, ValueError, KeyError, TypeError):  # not written yet, or just emptied
        return "another process"


def _me() -> dict[str, str | int]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": now()}


def now() -> str:
    """The time in UTC to the millisecond, as ISO 8601: ``2026-01-31T12:00:00.000+00:00``."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")

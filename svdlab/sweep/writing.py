"""Opening a run directory for writing: locked, cleaned of what a crash left, nothing lost that was finished."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from svdlab.errors import NewerError, SweepError
from svdlab.sweep.artifacts import TMP, VIDEO, cell_path, read_manifest, stored_keys, sweep_up, versions
from svdlab.sweep.ledger import FILE, Ledger
from svdlab.sweep.lock import locked

log = logging.getLogger("svdlab")

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK = (*FULL, errno.EROFS, errno.EIO, errno.ESTALE)  # never about a program's own mistakes
_ADVICE = {
    **dict.fromkeys(FULL, "Make room and run again"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "Allow writing there and run again, or choose another directory"
    ),
    **dict.fromkeys(
        (errno.ENOENT, errno.ESTALE), "The directory was moved or deleted under the run; put it back and run again"
    ),
}


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[Ledger]:
    """Hold a run directory for writing; gives its ledger, in which every cell is done, failed, skipped or pending.

    Raises:
        SweepError: the directory is something else's, locked, of another version, or damaged.
    """
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SweepError(f"{folder}: cannot be made ({error.strerror}). Choose another directory.") from None
    with locked(folder), opened(folder) as ledger:
        yield ledger


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Ledger]:
    """As `writing`, for a caller that holds the lock.

    What goes wrong with the disk while the directory is held, in this library's hands or in the caller's, is a
    SweepError.
    """
    with disk_in_words(folder), Ledger(folder, write=True) as ledger:
        crashed = ledger.close_crashed()
        ledger.begin(host=socket.gethostname(), pid=os.getpid(), versions=versions())
        try:
            recover(folder, ledger, crashed=crashed)
            yield ledger
        except BaseException as error:
            ledger.how = type(error).__name__
            raise
        finally:
            _end(ledger)


def _end(ledger: Ledger) -> None:
    """Note the end; where the disk does not take it, the next opening notes a crash, and why is said elsewhere."""
    try:
        ledger.end()
    except SweepError:
        if sys.exc_info()[1] is None:
            raise


@contextlib.contextmanager
def disk_in_words(folder: Path) -> Iterator[None]:
    """Turn what the system says about a disk, or about files of this folder, into a SweepError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK and not _within(error.filename, folder):
            raise
        raise SweepError(disk_words(folder, error)) from error


def _within(name: object, folder: Path) -> bool:
    return isinstance(name, str) and Path(name).absolute().is_relative_to(folder.absolute())


def disk_words(what: object, error: OSError) -> str:
    """What happened to a file or folder, and what to do about it.

    Example:
        >>> disk_words("runs/first", OSError(errno.ENOSPC, "No space left on device"))
        'runs/first: cannot be written (No space left on device). Make room and run again; what is done stays done.'
    """
    advice = _ADVICE.get(error.errno or 0, "See to the disk and run again")
    return f"{what}: cannot be written ({error.strerror or error}). {advice}; what is done stays done."


def check_folder(folder: Path) -> None:
    """Raise SweepError unless the folder is a run directory, empty, or not there."""
    if folder.exists() and not folder.is_dir():
        raise SweepError(f"{folder}: is a file. Give the name of a directory.")
    if not folder.is_dir() or (folder / FILE).exists() or (folder / "cells").is_dir():
        return
    names = sorted(path.name for path in folder.iterdir())
    if others := [name for name in names if name != "lock" and not name.startswith(TMP)]:
        raise SweepError(f"{folder}: holds other things ({', '.join(others[:3])}). Give a new or empty directory.")


def recover(folder: Path, ledger: Ledger, *, crashed: bool) -> None:
    """Bring ledger and folders into agreement, after a crash or after someone's hand.

    Cells whose folder is in place but whose row is not done are adopted from their manifests; done rows whose folder
    is gone, and cells that were running, become pending. Temporary names are removed if a process crashed.
    """
    if crashed and (count := sweep_up(folder)):
        log.info("%s: removed %d leftovers of a process that was killed", folder, count)
    states, stored = ledger.states(), set(stored_keys(folder))
    with ledger.transaction():
        for key in sorted(ledger.undecoded() & stored):
            _catch_up(folder, ledger, key)
        for key in sorted(stored):
            if states.get(key) != "done":
                _adopt(folder, ledger, key)
        lost = sorted(key for key, status in states.items() if status == "done" and key not in stored)
        ledger.release(lost)
        ledger.release()
    if lost:
        log.warning("%s: the folders of %d finished cells are gone; these cells are to do again", folder, len(lost))


def _catch_up(folder: Path, ledger: Ledger, key: str) -> None:
    """Enter a cell as decoded if its manifest says so: a process was killed between writing the one and the other."""
    if (folder / cell_path(key) / VIDEO).exists():  # may also be left from before the manifest was written
        with contextlib.suppress(SweepError):  # not whole: as with any damaged cell, repair says so
            manifest = read_manifest(folder, key)
            if VIDEO in manifest["files"]:
                ledger.finish(manifest, what="decoded")


def _adopt(folder: Path, ledger: Ledger, key: str) -> None:
    try:
        ledger.finish(read_manifest(folder, key), what="adopted")
    except NewerError:  # it is whole, and to be computed again it would have to go
        raise
    except SweepError as error:
        log.warning("not adopted, and to be computed again: %s", error)

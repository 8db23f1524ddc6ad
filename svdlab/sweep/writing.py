"""Opening a run directory for writing: locked, cleaned of what a crash left, nothing lost that was finished."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from svdlab.errors import SweepError
from svdlab.sweep.artifacts import read_manifest, stored_keys, sweep_up, versions
from svdlab.sweep.ledger import FILE, Ledger
from svdlab.sweep.lock import locked

log = logging.getLogger("svdlab")


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
    with locked(folder), Ledger(folder, write=True) as ledger:
        crashed = ledger.close_crashed()
        ledger.begin(host=socket.gethostname(), pid=os.getpid(), versions=versions())
        try:
            recover(folder, ledger, crashed=crashed)
            yield ledger
        except BaseException as error:
            ledger.how = type(error).__name__
            raise
        finally:
            ledger.end()


def check_folder(folder: Path) -> None:
    """Raise SweepError unless the folder is a run directory, empty, or not there."""
    if folder.exists() and not folder.is_dir():
        raise SweepError(f"{folder}: is a file. Give the name of a directory.")
    if not folder.is_dir() or (folder / FILE).exists() or (folder / "cells").is_dir():
        return
    if others := sorted(path.name for path in folder.iterdir() if path.name != "lock"):
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
        for key in sorted(stored):
            if states.get(key) != "done":
                _adopt(folder, ledger, key)
        lost = sorted(key for key, status in states.items() if status == "done" and key not in stored)
        ledger.release(lost)
        ledger.release()
    if lost:
        log.warning("%s: the folders of %d finished cells are gone; these cells are to do again", folder, len(lost))


def _adopt(folder: Path, ledger: Ledger, key: str) -> None:
    try:
        ledger.finish(read_manifest(folder, key), what="adopted")
    except SweepError as error:
        log.warning("not adopted, and to be computed again: %s", error)

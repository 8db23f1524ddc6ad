"""Place: a folder that is there as a whole, as it was before, or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from svdlab.errors import ReportError

KIND = "svdlab report"  # in a report's manifest.json, by which it is known


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; when the block ends well it takes the place of `target`.

    If the block raises, the temporary folder is removed and `target` is as it was.

    Raises:
        ReportError: `target` is something else than an older report or an empty folder, or cannot be written.
    """
    check_place(target)
    # The name does not begin with ".tmp-": a run directory sweeps such names up, and a report may lie in one.
    tmp = target.absolute().parent / f".report-{uuid.uuid4().hex[:12]}"
    try:
        tmp.mkdir(parents=True)
        yield tmp
        check_place(target)  # it may have changed meanwhile
        old = tmp.with_name(f"{tmp.name}-old")
        if target.exists():
            target.replace(old)
        tmp.replace(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise ReportError(
            f"folder = {str(target)!r}: cannot be written ({error.strerror or error})."
            " Free the disk, or choose another folder."
        ) from error
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def check_place(target: Path) -> None:
    """Refuse a place that holds anything but an older report.

    Raises:
        ReportError: it does.
    """
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise ReportError(f"folder = {str(target)!r}: is a file or a link; give the name of a folder.")
    if any(target.iterdir()) and not is_report(target):
        raise ReportError(
            f"folder = {str(target)!r}: is not empty and not a report, so nothing in it is touched."
            f" Choose another folder, such as {str(target / 'report')!r}."
        )


def is_report(folder: Path) -> bool:
    """Whether a folder is a report that svdlab wrote."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return bool(manifest["kind"] == KIND)
    except (OSError, ValueError, KeyError, TypeError):
        return False

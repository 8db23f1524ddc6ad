"""Report: a sweep as a folder of plain files with a page that opens from disk, without a server and without a network.

Example:
    >>> from svdlab.report import write_report
    >>> write_report(sl.open_sweep("runs/first"), "report")
    PosixPath('report/index.html')
"""

from __future__ import annotations

import base64
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from svdlab.errors import ReportError
from svdlab.report.contents import Contents, collect
from svdlab.report.page import build_page
from svdlab.report.place import new_folder

if TYPE_CHECKING:
    from svdlab.sweep import Sweep

__all__ = ["write_report"]

log = logging.getLogger("svdlab")

MAX_EMBEDDED = 200 * 10**6  # bytes in one page; browsers take long over more


def write_report(
    sweep: Sweep,
    folder: str | os.PathLike[str],
    *,
    videos: bool = True,
    embed: bool = False,
    plots: bool = True,
    title: str | None = None,
) -> Path:
    """Write a sweep, finished, running or failed, as a folder that opens in any browser; returns its ``index.html``.

    The page shows what was swept, the clips in a grid that can be turned around (`svdlab.widgets.SweepViewer` without
    its kernel), plots, a table of every cell, and how to make it all again. It asks nothing of the network and carries
    no path of this machine. Beside it lie ``clips/``, ``thumbs/``, ``images/``, ``plots/``, ``results.csv``,
    ``results.parquet``, ``spec.toml`` and ``manifest.json``.

    Args:
        sweep: from `svdlab.sweep` or `svdlab.open_sweep`; cells that are done by now are in the report.
        folder: where to; made with its parents. An older report there is replaced, all at once; anything else is left
            alone and refused.
        videos: copy the clips; without them the grid shows their middle frames.
        embed: put clips and pictures into the page, so that ``index.html`` alone can be sent around.
        plots: draw them; those that a sweep is too small for are left out, with the reason.
        title: of the page; the sweep's name unless told.

    Raises:
        ReportError: the folder holds something else, the disk is full, or an embedded page would exceed 200 MB.

    Example:
        >>> write_report(sweep, "report", title="How many steps are enough?")
        PosixPath('report/index.html')
    """
    if title is not None and (not isinstance(title, str) or not title.strip()):
        raise ReportError(f"title = {title!r}: must be a text, or None for the sweep's name.")
    target = Path(folder)
    with new_folder(target) as tmp:
        contents = collect(sweep, tmp, videos=videos, plots=plots)
        (tmp / "manifest.json").write_text(json.dumps(contents.manifest, indent=1) + "\n", encoding="utf-8")
        page = build_page(contents, title=title or contents.name, media=_embedded(tmp) if embed else None)
        (tmp / "index.html").write_text(page, encoding="utf-8")
    _say(target, contents)
    return target / "index.html"


def _say(target: Path, contents: Contents) -> None:
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    log.info("%s: %d clips, %.1f MB", target / "index.html", len(contents.shown), size / 1e6)
    for cell, reason in contents.broken.items():
        log.warning("%s: is not in the report (%s)", cell, reason)


_KINDS = {
    ".mp4": "video/mp4",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".csv": "text/csv",
    ".toml": "text/plain",
    ".json": "application/json",
    ".parquet": "application/octet-stream",
}


def _embedded(folder: Path) -> dict[str, str]:
    """Relative path -> data URI, of everything in the report.

    Raises:
        ReportError: it is too much for one page.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    if size > MAX_EMBEDDED:
        raise ReportError(
            f"embed = True: the page would hold {size / 1e6:.0f} MB; at most {MAX_EMBEDDED / 1e6:.0f} MB are embedded."
            " Leave embed out (the folder can be zipped), or give videos=False."
        )
    return {
        path.relative_to(folder).as_posix(): (
            f"data:{_KINDS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
        )
        for path in files
    }

"""Contents: what of a sweep goes into a report, copied into its folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.errors import ImageError, SvdlabError, SweepError
from svdlab.images import load_image
from svdlab.report.figures import Figure, draw_figures
from svdlab.report.place import KIND
from svdlab.report.repeat import spec_text
from svdlab.sweep.artifacts import image_path, versions
from svdlab.sweep.frame import COSTS, write_csv, write_parquet
from svdlab.sweep.ledger import Ledger
from svdlab.widgets.feed import Progress, cell_code, pack_table
from svdlab.widgets.thumbs import middle_frame, thumbnail
from svdlab.widgets.view import View, metric_columns

if TYPE_CHECKING:
    import pandas as pd

    from svdlab.sweep import Sweep

log = logging.getLogger("svdlab")

VERSION = 1  # of the folder's layout
PICTURE_HEIGHT = 160  # px, of the input pictures on the page


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything that the page is made of.

    Attributes:
        name: of the sweep.
        frame: `Sweep.frame` at one moment; the rest is of the same moment, as far as it can be.
        table: `svdlab.widgets.feed.pack_table`.
        view: what the viewer begins with (`View.to_dict`).
        progress: how far the sweep is.
        model, axes, fixed: as of the sweep.
        shown: cells whose clip can be shown.
        broken: finished cells that cannot, with the reason.
        videos: whether the clips are there.
        codes: cell -> Python that makes it, from the report's folder.
        pictures: label -> (thumbnail, the picture itself), relative paths.
        figures: the plots, and those that could not be drawn.
        spec: TOML, or None where nothing was declared.
        manifest: what is written into ``manifest.json``.
    """

    name: str
    frame: pd.DataFrame
    table: Mapping[str, Any]
    view: Mapping[str, Any]
    progress: Progress
    model: Mapping[str, Any]
    axes: Mapping[str, tuple[Any, ...]]
    fixed: Mapping[str, Any]
    shown: list[str]
    broken: dict[str, str]
    videos: bool
    codes: Mapping[str, str]
    pictures: Mapping[str, tuple[str, str]]
    figures: list[Figure]
    spec: str | None
    manifest: Mapping[str, Any] = field(repr=False)


def collect(sweep: Sweep, folder: Path, *, videos: bool, plots: bool) -> Contents:
    """Copy and draw everything into `folder`, and say what is there."""
    try:
        sweep.decode(progress=False)
    except SweepError as error:  # the cells without frames are named in the report
        log.warning("cells are left out: %s", error)
    frame = sweep.frame()
    with Ledger(sweep.path) as ledger:
        declaration = ledger.declaration()
    write_csv(frame, folder / "results.csv")
    write_parquet(frame, folder / "results.parquet")
    table = pack_table(sweep, frame)
    shown, broken = _copy_clips(sweep, frame, folder, videos=videos)
    pictures, sources = _copy_pictures(sweep, declaration.get("images", ()), folder)
    spec = spec_text(declaration, list(sources.values())) if declaration else None
    if spec:
        (folder / "spec.toml").write_text(spec, encoding="utf-8")
    manifest = {
        "kind": KIND,
        "version": VERSION,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "sweep": sweep.name,
        "cells": sweep.status(),
        "model": dict(sweep.model),
        "declaration": {
            name: declaration[name] for name in ("grid", "fixed", "seed", "metrics", "timing") if declaration
        },
        "pictures": {image["label"]: image["digest"] for image in declaration.get("images", ())},
        "clips": videos,
        "not_shown": broken,
        "versions": versions(),
    }
    return Contents(
        name=sweep.name,
        frame=frame,
        table=table,
        view=View.of(sweep).to_dict(),
        progress=Progress.of(sweep),
        model=sweep.model,
        axes=sweep.axes,
        fixed=sweep.fixed,
        shown=shown,
        broken=broken,
        videos=videos,
        codes=_codes(sweep, frame, sources),
        pictures=pictures,
        figures=draw_figures(frame, sweep.axes, _metrics(frame), folder / "plots") if plots else [],
        spec=spec,
        manifest=manifest,
    )


def _metrics(frame: pd.DataFrame) -> list[str]:
    """The metrics without the costs."""
    return [name for name in metric_columns(frame) if name not in COSTS]


def _copy_clips(sweep: Sweep, frame: pd.DataFrame, folder: Path, *, videos: bool) -> tuple[list[str], dict[str, str]]:
    """Thumbnails, and clips where they are wanted; a damaged one is left out and named."""
    (folder / "thumbs").mkdir()
    if videos:
        (folder / "clips").mkdir()
    shown, broken = [], {}
    for cell in frame.loc[frame["status"] == "done", "cell"]:
        try:
            data = _mp4(sweep, cell)
            thumb = thumbnail(middle_frame(data))
        except (SvdlabError, OSError) as error:
            broken[cell] = _short(error, sweep.path)
            continue
        (folder / "thumbs" / f"{cell}.jpg").write_bytes(thumb)
        if videos:
            (folder / "clips" / f"{cell}.mp4").write_bytes(data)
        shown.append(cell)
    return shown, broken


def _mp4(sweep: Sweep, cell: str) -> bytes:
    """The clip of a finished cell, if it has one by now."""
    with Ledger(sweep.path) as ledger:
        if not ledger.is_decoded(cell):
            raise SweepError("it is not decoded yet, and could not be for this report.")
    return sweep.mp4(cell)


def _copy_pictures(sweep: Sweep, images: Any, folder: Path) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """The kept pictures: label -> (thumbnail, file), and digest -> file; all relative to the report."""
    (folder / "images").mkdir()
    places, sources = {}, {}
    for image in images:
        kept = Path(image_path(image["digest"]))
        sources[image["digest"]] = name = f"images/{kept.name}"
        try:
            small = thumbnail(np.asarray(load_image(sweep.path / kept)), height=PICTURE_HEIGHT)
        except ImageError as error:
            log.warning("%s: is not in the report (%s)", kept, error)
            continue
        shutil.copyfile(sweep.path / kept, folder / name)
        (folder / f"images/{kept.stem}.jpg").write_bytes(small)
        places[image["label"]] = (f"images/{kept.stem}.jpg", name)
    return places, sources


def _codes(sweep: Sweep, frame: pd.DataFrame, sources: Mapping[str, str]) -> dict[str, str]:
    """Code of every cell, which reads the picture in the report's folder."""
    here = {(sweep.path / image_path(digest)).as_posix(): name for digest, name in sources.items()}
    codes = {}
    for k, cell in enumerate(frame["cell"]):
        code = cell_code(sweep, frame.iloc[k : k + 1], cell)
        for path, name in here.items():
            code = code.replace(repr(path), repr(name))
        codes[cell] = code
    return codes


def _short(error: Exception, path: Path) -> str:
    """An error without the path of the run directory, which is this machine's."""
    return str(error).replace(f"{path}/", "").replace(str(path), ".")

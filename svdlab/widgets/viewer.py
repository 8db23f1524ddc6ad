"""SweepViewer: any sweep, finished or running, as a grid of clips in step, a heat map, filters and a shortlist."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from svdlab.errors import SvdlabError, ViewError
from svdlab.widgets import export, feed
from svdlab.widgets.arrange import Arrangement, arrange
from svdlab.widgets.bundle import css, esm
from svdlab.widgets.display import StaticDisplay
from svdlab.widgets.thumbs import Thumbnails
from svdlab.widgets.view import PLACES, View
from svdlab.widgets.words import explain

if TYPE_CHECKING:
    from PIL.Image import Image

    from svdlab.sweep import Sweep

log = logging.getLogger("svdlab")

_MOST = 64  # cells of one answer


class SweepViewer(StaticDisplay, anywidget.AnyWidget):
    """A sweep to look at. Everything that its controls do can be done here; traits and controls follow each other.

    Args:
        sweep: a `Sweep`, or the path of a run directory.
        view: what to show first, a `View` of this sweep; by default `View.of(sweep)`.
        refresh_seconds: how often the page asks for news while cells are missing, from 0.5. It asks only while the
            viewer is on the page, and gets new rows only.
        height: of the window with the tiles, in px.

    Attributes:
        view: the `View` that is shown; assign another one, or use `select`.
        x, y, super_x, super_y, lock, metric, filters, sort, shortlist, show: its parts, as traits to read, set and
            observe.
        selected: key of the selected cell, or None.

    Raises:
        SweepError: not the directory of a sweep.
        ViewError: a part of the view is not of this sweep.

    Example:
        >>> viewer = SweepViewer("runs/first")
        >>> viewer.select(x="steps", y="cond_aug", motion_bucket_id=127, show="both")
        >>> viewer.save_mp4("steps.mp4")
    """

    _esm = esm(*feed.VIEWER_FILES, "viewer_widget.js")
    _css = css("viewer.css")

    x = traitlets.Unicode(None, allow_none=True)
    y = traitlets.Unicode(None, allow_none=True)
    super_x = traitlets.Unicode(None, allow_none=True)
    super_y = traitlets.Unicode(None, allow_none=True)
    lock = traitlets.Dict()
    metric = traitlets.Unicode(None, allow_none=True)
    filters = traitlets.Dict()
    sort = traitlets.Any(None, allow_none=True)
    shortlist = traitlets.Any(())
    show = traitlets.Unicode("grid")

    selected = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    refresh_seconds = traitlets.Float(2.0, min=0.5).tag(sync=True)
    height = traitlets.Int(560, min=100).tag(sync=True)
    _view = traitlets.Dict().tag(sync=True)
    _table = traitlets.Dict().tag(sync=True)
    _progress = traitlets.Dict().tag(sync=True)
    _export_path = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        sweep: Sweep | str | os.PathLike[str],
        view: View | None = None,
        *,
        refresh_seconds: float = 2.0,
        height: int = 560,
    ) -> None:
        from svdlab.sweep import open_sweep

        self.sweep = open_sweep(sweep) if isinstance(sweep, str | os.PathLike) else sweep
        self._frame = self.sweep.frame()
        self._thumbs = Thumbnails(self.sweep.path)
        self._current = View.of(self.sweep) if view is None else self._own(view)
        self._following = False  # while parts follow the view, so that they do not set it again
        super().__init__(
            refresh_seconds=refresh_seconds,
            height=height,
            _view=self._current.to_dict(),
            _table=feed.pack_table(self.sweep, self._frame),
            _progress=feed.Progress.of(self.sweep).to_dict(),
            _export_path=str(export.free_path(self.sweep.path.name or "sweep")),
        )
        self._follow()
        self.on_msg(self._on_message)

    # The view.

    @property
    def view(self) -> View:
        """The view that is shown."""
        return self._current

    @view.setter
    def view(self, view: View) -> None:
        self._show(self._own(view))

    def select(self, **changes: Any) -> SweepViewer:
        """Change parts of the view, as `View.select`; returns the viewer itself.

        Example:
            >>> viewer.select(y="seed", steps=4, sort=("flow_mean", False))
        """
        self._show(self._current.select(**changes))
        return self

    def arrangement(self) -> Arrangement:
        """Headers and tiles as they are shown now."""
        return arrange(self._frame, self._current)

    def spec(self) -> str:
        """Python that shows this view again.

        Example:
            >>> print(viewer.spec())
        """
        opened = f"sweep = sl.open_sweep({self.sweep.path.as_posix()!r})"
        start = f"import svdlab as sl\nfrom svdlab.widgets import View\n\n{opened}\n"
        return f"{start}view = {self._current.code()}\nsl.widgets.SweepViewer(sweep, view)\n"

    def code(self, cell: str | None = None) -> str:
        """Python that makes the clip of a cell again, by default of the selected one.

        Raises:
            ViewError: there is no such cell, or none is selected.
        """
        cell = self.selected if cell is None else cell
        if cell is None:
            raise ViewError("cell: none is selected; give its key, from the column `cell`.")
        return feed.cell_code(self.sweep, self._frame, cell)

    def refresh(self) -> int:
        """Read the run directory again and show what is new; returns how many cells have changed.

        The page does this by itself while cells are missing.
        """
        frame = self.sweep.frame()
        packed = feed.pack_table(self.sweep, frame)
        old, new = self._table, packed["rows"]
        news = [row for row, before in zip(new, old["rows"], strict=False) if row != before]
        alike = all(packed[name] == old[name] for name in packed if name != "rows") and len(new) == len(old["rows"])
        self._frame = frame
        if alike and [row[0] for row in new] == [row[0] for row in old["rows"]]:
            # In place, so that the trait stays quiet: pages get the new rows alone, and whoever connects later all.
            old["rows"][:] = new
            if news:
                self.send({"kind": "rows", "rows": news})
        else:  # other axes or columns: another declaration, a metric that was added, or the first clip
            self._current = self._current.refit(View.of(self.sweep))
            with self.hold_sync():
                self._table = packed
                self._view = self._current.to_dict()
            self._follow()
        self._progress = feed.Progress.of(self.sweep).to_dict()
        return len(news) + abs(len(new) - len(old["rows"]))

    def _own(self, view: View) -> View:
        """A view that was made elsewhere, checked against this sweep as it is now."""
        return View.of(self.sweep).select(**view.parts())

    def _show(self, view: View) -> None:
        self._current = view
        self._view = view.to_dict()
        self._follow()

    def _follow(self) -> None:
        """Set the parts to what the view says."""
        self._following = True
        try:
            with self.hold_trait_notifications():
                for name in (*PLACES, "metric", "sort", "shortlist", "show"):
                    setattr(self, name, getattr(self._current, name))
                self.lock, self.filters = dict(self._current.lock), dict(self._current.filters)
        finally:
            self._following = False

    @traitlets.observe(*PLACES, "lock", "metric", "filters", "sort", "shortlist", "show")
    def _on_part(self, change: Any) -> None:
        if self._following or change["new"] == getattr(self._current, change["name"]):
            return
        try:
            self._show(self._current.select(**{change["name"]: change["new"]}))
        except SvdlabError:
            self._follow()  # back to what holds; the person reads why
            raise

    @traitlets.observe("_view")
    def _on_page(self, change: Any) -> None:
        if change["new"] == self._current.to_dict():
            return
        try:
            self._current = self._current.select(**change["new"])
        except (SvdlabError, TypeError) as error:  # the page's table was older than this one
            log.warning("the viewer keeps its view: %s", error)
            self._view = self._current.to_dict()
        self._follow()

    @traitlets.validate("selected")
    def _check_selected(self, proposal: Any) -> str | None:
        cell = proposal["value"]
        if cell is not None and cell not in set(self._frame["cell"]):
            raise ViewError(
                f"selected = {cell!r}: is no cell of this sweep. Take a key from the column `cell`, or None."
            )
        return cell

    # What is written.

    def save_png(self, path: str | os.PathLike[str] | None = None, *, overwrite: bool = False) -> Path:
        """Write what is seen as a PNG contact sheet: the middle frame of each tile, with headers and numbers.

        Args:
            path: ends in ``.png``; by default the sweep's name in the working directory, with a number if taken.
            overwrite: whether a file that is there may be replaced.

        Raises:
            ViewError: the file is there, or nothing is seen.
            VideoError: too large for one picture.
        """
        return export.save_png(self.sweep, self._current, self._path(path, ".png"), overwrite=overwrite)

    def save_mp4(self, path: str | os.PathLike[str] | None = None, *, overwrite: bool = False) -> Path:
        """Write what is seen as one mp4, the clips side by side in step, with headers. Arguments as `save_png`."""
        return export.save_mp4(self.sweep, self._current, self._path(path, ".mp4"), overwrite=overwrite)

    def save_csv(self, path: str | os.PathLike[str] | None = None, *, overwrite: bool = False) -> Path:
        """Write the rows of the frame that are seen, in their order, as CSV. Arguments as `save_png`."""
        return export.save_csv(self.sweep, self._current, self._path(path, ".csv"), overwrite=overwrite)

    def static_picture(self) -> Image:
        """What is seen, as one picture; cells that are not decoded yet show their preview."""
        return export.picture(self.sweep, self._current, decode=False)

    def _path(self, path: str | os.PathLike[str] | None, suffix: str) -> Path:
        return export.free_path(self.sweep.path.name or "sweep", suffix) if path is None else Path(path)

    # Talking with the page.

    def _on_message(self, _: Any, message: Mapping[str, Any], buffers: Any) -> None:
        """Answer the page. An error becomes words in the answer: nobody would see a traceback."""
        kind = message.get("kind")
        if kind == "poll":
            try:
                self.refresh()
            except Exception as error:
                log.warning("the viewer could not read %s: %s", self.sweep.path, error)
            self.send({"kind": "polled"})
        elif kind == "media":
            self._send_media(str(message.get("what")), [str(cell) for cell in message.get("cells", ())][:_MOST])
        elif kind == "export":
            self._send_export(message)

    def _send_media(self, what: str, cells: list[str]) -> None:
        answer: dict[str, Any] = {"kind": "media", "what": what, "cells": cells, "types": {}, "texts": {}, "errors": {}}
        parts: list[bytes] = []
        for cell in cells:
            try:
                if what == "code":
                    answer["texts"][cell] = self.code(cell)
                else:
                    parts.append(self._media(what, cell))
                    answer["types"][cell] = "video/mp4" if what == "video" else "image/jpeg"
            except Exception as error:
                answer["errors"][cell] = explain(error)
        self.send(answer, buffers=parts)

    def _media(self, what: str, cell: str) -> bytes:
        rows = self._frame[self._frame["cell"] == cell]
        if rows.empty:  # nothing but cells of this sweep is read from the disk
            raise ViewError(f"cell = {cell!r}: is no cell of this sweep.")
        if what == "video":
            return self.sweep.mp4(cell)
        return self._thumbs.get(cell)

    def _send_export(self, message: Mapping[str, Any]) -> None:
        what, answer = str(message.get("what")), {"kind": "export", "id": message.get("id")}
        parts: list[bytes] = []
        try:
            path = export.save(self.sweep, self._current, str(message.get("path", "")), what)
            place = "" if path.is_absolute() else f", in {Path.cwd()}"
            answer |= {"text": f"written: {path}{place}", "name": path.name, "type": export.TYPES[what]}
            with contextlib.suppress(OSError):
                parts.append(path.read_bytes())
        except Exception as error:
            answer["error"] = explain(error)
        self.send(answer, buffers=parts)

    def __repr__(self) -> str:
        return f"SweepViewer({self.sweep.name}: {feed.Progress.of(self.sweep).text}, {self._current!r})"

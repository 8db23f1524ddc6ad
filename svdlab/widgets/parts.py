"""The small parts that the Explorer and a live sweep are made of: what is shown, and what the page asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anywidget
import ipywidgets
import traitlets

from svdlab.widgets.bundle import css, esm
from svdlab.widgets.display import StaticDisplay


def page(name: str) -> str:
    """The front end of the part in ``static/<name>.js``."""
    return esm("dom.js", "parts.js", f"{name}.js")


class Column(StaticDisplay, ipywidgets.VBox):
    """Widgets one below the other."""


class Row(StaticDisplay, ipywidgets.HBox):
    """Widgets side by side, as far as there is room."""


def close_all(*widgets: ipywidgets.Widget | None) -> None:
    """Take widgets off their pages."""
    for widget in widgets:
        if widget is not None:
            widget.close()


class Part(StaticDisplay, anywidget.AnyWidget):
    """A piece of a page. Python says what it shows, by traits; the page asks for things, by messages with a `kind`.

    Example:
        >>> work = Work()
        >>> work.on("begin", lambda message, buffers: ...)
        >>> work.ask("begin")  # as if its button had been pressed
    """

    _css = css("parts.css")

    def __init__(self, **traits: Any) -> None:
        self._telling = threading.RLock()
        super().__init__(**traits)
        self.trouble: Callable[[Exception], None] | None = None  # gets what an answer raises, to show it in words
        self._answers: dict[str, Callable[[dict[str, Any], list[Any]], None]] = {}
        self.on_msg(lambda _, content, buffers: self._heard(content, buffers))

    def tell(self, **traits: Any) -> None:
        """Change what is shown, all at once; from any thread, where plain assignments at the same time may be lost."""
        with self._telling, self.hold_sync():
            for name, value in traits.items():
                setattr(self, name, value)

    def on(self, kind: str, answer: Callable[[dict[str, Any], list[Any]], None]) -> None:
        """Call `answer(message, buffers)` when the page asks for `kind`."""
        self._answers[kind] = answer

    def ask(self, kind: str, buffers: list[Any] | None = None, **content: Any) -> None:
        """Do what the page does when somebody presses or types."""
        self._heard({"kind": kind, **content}, buffers or [])

    def _heard(self, content: Any, buffers: list[Any]) -> None:
        kind = content.get("kind") if isinstance(content, dict) else None
        if not isinstance(kind, str) or kind not in self._answers:
            return
        try:
            self._answers[kind](content, buffers)
        except Exception as error:  # raised into the kernel's message loop, nobody would see it
            if self.trouble is None:
                raise
            self.trouble(error)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Work(Part):
    """Buttons to begin and end work, a progress bar, and lines of text; asks for ``begin`` and ``end``."""

    _esm = page("work")
    begin = traitlets.Unicode("Start").tag(sync=True)
    end = traitlets.Unicode("Stop").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    ending = traitlets.Bool(False).tag(sync=True)  # asked to end, and not there yet
    ready = traitlets.Bool(True).tag(sync=True)  # whether it may begin
    progress = traitlets.Float(None, allow_none=True).tag(sync=True)  # 0 to 1; below 0: not known; None: no bar
    words = traitlets.Unicode("").tag(sync=True)
    notes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)


class Strip(Part):
    """The history; asks for ``show``, ``pin``, ``compare``, ``code`` and ``sweep`` with a clip's `number`."""

    _esm = page("strip")
    items = traitlets.List(traitlets.Dict()).tag(sync=True)  # number, title, pinned, thumb (JPEG)
    current = traitlets.Int(None, allow_none=True).tag(sync=True)


class CodeBox(Part):
    """Code to copy, hidden while there is none; asks to ``close``."""

    _esm = page("codebox")
    title = traitlets.Unicode("").tag(sync=True)
    code = traitlets.Unicode("").tag(sync=True)


class Table(Part):
    """Rows of text under a head; without a head, the first column names the rows. Empty, it is not seen."""

    _esm = page("table")
    caption = traitlets.Unicode("").tag(sync=True)
    head = traitlets.List(traitlets.Unicode()).tag(sync=True)
    rows = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    text = traitlets.List(traitlets.Int()).tag(sync=True)  # columns with words; the others hold numbers
    folds = traitlets.Bool(False).tag(sync=True)  # whether it can be folded away, under its caption
    unfolded = traitlets.Bool(True).tag(sync=True)


class Glimpse(Part):
    """A small moving picture with a caption."""

    _esm = page("glimpse")
    picture = traitlets.Bytes(b"").tag(sync=True)  # WebP
    caption = traitlets.Unicode("").tag(sync=True)
    width = traitlets.Int(256).tag(sync=True)  # px on the page
    pixelated = traitlets.Bool(False).tag(sync=True)

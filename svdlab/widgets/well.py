"""Well: where a picture comes in, by drop, upload, example, path or address; shown as the model sees it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import traitlets

from svdlab import examples
from svdlab.errors import SvdlabError
from svdlab.images import MAX_BYTES
from svdlab.widgets.parts import Part, page
from svdlab.widgets.picture import Picture, open_picture, open_upload
from svdlab.widgets.session import Session

_THUMB = 264  # px, the longer side at most: twice what the page shows, for fine screens


class Well(Part):
    """The picture of a session.

    Args:
        session: what is shown and changed.
        fetch: called with an http(s) address, which takes its time; hands the work to somebody else.
        changed: called after another picture was taken.
    """

    _esm = page("well")
    thumb = traitlets.Bytes(b"").tag(sync=True)
    caption = traitlets.Unicode("").tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    examples = traitlets.List(traitlets.Unicode()).tag(sync=True)
    max_bytes = traitlets.Int(MAX_BYTES).tag(sync=True)

    def __init__(self, session: Session, fetch: Callable[[str], None], changed: Callable[[], None]) -> None:
        super().__init__(examples=list(examples.names()))
        self.session = session
        self._fetch = fetch
        self._changed = changed
        self._parts: dict[int, bytes] = {}
        self._upload = ""
        self._seen: tuple[Any, ...] = ()
        self.on("example", lambda message, _: self.take(lambda: open_picture(examples.path(str(message.get("name"))))))
        self.on("source", lambda message, _: self._source(str(message.get("text"))))
        self.on("upload", self._receive)
        self.show()

    def show(self) -> None:
        """Show the session's picture as the model sees it."""
        picture, values = self.session.picture, self.session.values
        now = (picture, values["width"], values["height"])
        if picture is None or now == self._seen:
            return
        self._seen = now
        seen = self.session.prepared()
        assert seen is not None
        thumb = seen.copy()
        thumb.thumbnail((_THUMB, _THUMB))
        if max(thumb.size) <= _THUMB // 2:  # so small that its pixels may be seen
            thumb = thumb.resize((2 * thumb.width, 2 * thumb.height), 0)
        buffer = io.BytesIO()
        thumb.save(buffer, "PNG")
        size = f"{picture.image.width} x {picture.image.height}"
        caption = f"{picture.label}, {size}; the model sees {seen.width} x {seen.height}"
        self.tell(thumb=buffer.getvalue(), caption=caption)

    def take(self, opening: Callable[[], Picture]) -> None:
        """Take the picture that `opening` opens, or show why it cannot."""
        try:
            picture = self.session.use_picture(opening())
        except SvdlabError as error:
            self.tell(problem=str(error))
            return
        self.tell(problem="\n".join(picture.notes))
        self.show()
        self._changed()

    def _source(self, text: str) -> None:
        if text.lower().startswith(("http://", "https://")):
            self._fetch(text)
        else:
            self.take(lambda: open_picture(text))

    def _receive(self, message: dict[str, Any], buffers: list[Any]) -> None:
        """A piece of a file; the last one completes it."""
        upload, index, count = (message.get(name) for name in ("id", "index", "count"))
        if not (isinstance(upload, str) and isinstance(index, int) and isinstance(count, int) and len(buffers) == 1):
            return
        if upload != self._upload:  # another file: what is there of the former one is of no use
            self._upload, self._parts = upload, {}
        self._parts[index] = bytes(buffers[0])
        if sum(map(len, self._parts.values())) > MAX_BYTES:
            self._parts = {}
            words = f"The picture is larger than the {MAX_BYTES} bytes that are allowed. Save a smaller copy."
            self.tell(problem=words)
        elif len(self._parts) == count:
            data = b"".join(self._parts[place] for place in sorted(self._parts))
            self._parts = {}
            self.take(lambda: open_upload(str(message.get("name")), data))

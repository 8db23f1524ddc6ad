"""How widgets show themselves: alive in a running notebook, as a picture in one that is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svdlab.clip import display_is_static
from svdlab.video import to_jpeg

if TYPE_CHECKING:
    from PIL.Image import Image


class StaticDisplay:
    """Put before the widget class, this makes a widget show `static_picture()` where ``SVDLAB_DISPLAY=static``.

    A picture stays useful on a code host and in a notebook without a kernel. Such a widget also keeps its state to
    itself, so that programs which execute notebooks do not store its videos in them.

    Example:
        >>> class FramePlayer(StaticDisplay, anywidget.AnyWidget):
        ...     def static_picture(self):
        ...         return self.clips[0].contact_sheet()
    """

    def static_picture(self) -> Image:
        """What is shown in place of the live widget, a PIL picture of mode RGB."""
        raise NotImplementedError(f"{type(self).__name__} must say what its static picture is.")

    def open(self) -> None:
        """Connect the widget with the page, except where a picture is shown in its place."""
        if not display_is_static():
            super().open()  # type: ignore[misc]

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if display_is_static():
            return {"text/plain": repr(self), "image/jpeg": to_jpeg(self.static_picture())}
        self.open()  # where it was made in static mode and is shown live
        return super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]

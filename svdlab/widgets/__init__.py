"""Widgets: thin views over plain Python state. Everything that a widget does can be called without it.

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from svdlab.lazy import lazily

if TYPE_CHECKING:
    from svdlab.widgets.explorer import Explorer
    from svdlab.widgets.live import LiveSweep
    from svdlab.widgets.player import FramePlayer
    from svdlab.widgets.view import View
    from svdlab.widgets.viewer import SweepViewer

_HOMES = {"Explorer": "explorer", "FramePlayer": "player", "LiveSweep": "live", "SweepViewer": "viewer", "View": "view"}

__all__ = ["Explorer", "FramePlayer", "LiveSweep", "SweepViewer", "View"]

__getattr__, __dir__ = lazily(__name__, _HOMES, __all__)

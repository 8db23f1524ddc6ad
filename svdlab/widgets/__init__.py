"""Widgets: thin views over plain Python state. Everything that a widget does can be called without it.

Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svdlab.widgets.explorer import Explorer
    from svdlab.widgets.live import LiveSweep
    from svdlab.widgets.player import FramePlayer
    from svdlab.widgets.view import View
    from svdlab.widgets.viewer import SweepViewer

_HOMES = {"Explorer": "explorer", "FramePlayer": "player", "LiveSweep": "live", "SweepViewer": "viewer", "View": "view"}

__all__ = ["Explorer", "FramePlayer", "LiveSweep", "SweepViewer", "View"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"svdlab.widgets.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'svdlab.widgets' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

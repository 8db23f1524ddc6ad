"""Clips whose frames say which they are."""

from __future__ import annotations

import numpy as np

from svdlab.clip import Clip

FIRST, STEP = 20, 8  # grey of frame 0, and how much lighter each later frame is


def counting(frames: int = 25, *, fps: float = 8, side: int = 64, request: object = None) -> Clip:
    """A clip whose frame i is plain grey of level 20 + 8 i; at most 29 frames."""
    grey = FIRST + STEP * np.arange(frames, dtype=np.uint8)
    return Clip(frames=np.tile(grey[:, None, None, None], (1, side, side, 3)), fps=fps, request=request)

"""svdlab: a Jupyter-first laboratory for few-step image-to-video.

One picture and a grid of settings go in; clips, a DataFrame of metrics and notebooks to look at both come out.

    import svdlab as sl

    pipe = sl.load("tiny-random")
    clip = pipe("rocket.jpg", motion_bucket_id=127, cond_aug=0.02, steps=4, fps=10, seed=42)
    clip.save("rocket.mp4")

Importing svdlab is quick and loads no torch: every public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import TYPE_CHECKING, Any

from svdlab._version import __version__

if TYPE_CHECKING:
    from svdlab import examples, hosted, metrics, models, montage, plot, sampling, stats, widgets
    from svdlab.clip import Clip
    from svdlab.errors import SvdlabError
    from svdlab.images import load_image, prepare
    from svdlab.pipeline import Pipeline, load
    from svdlab.request import Defaults, Request
    from svdlab.sweep import Sweep, open_sweep, sweep


def _speak_to_people() -> None:
    """Show svdlab's own lines (which device and why, what is fetched) to a person at a prompt or in a notebook.

    A program that imports svdlab hears nothing unless it asks, and whoever has set up logging keeps it as it is.
    """
    log = logging.getLogger("svdlab")
    log.addHandler(logging.NullHandler())
    interactive = hasattr(sys, "ps1") or "ipykernel" in sys.modules
    if interactive and not logging.getLogger().handlers and len(log.handlers) == 1:
        handler = logging.StreamHandler(sys.stdout)  # the error stream is shown in red by notebooks
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)


_speak_to_people()

_HOMES = {
    "Clip": "svdlab.clip",
    "Defaults": "svdlab.request",
    "Pipeline": "svdlab.pipeline",
    "Request": "svdlab.request",
    "SvdlabError": "svdlab.errors",
    "Sweep": "svdlab.sweep",
    "load": "svdlab.pipeline",
    "load_image": "svdlab.images",
    "open_sweep": "svdlab.sweep",
    "prepare": "svdlab.images",
}
# `sweep` is a package that can also be called.
_ROOMS = ("examples", "hosted", "metrics", "models", "montage", "plot", "sampling", "stats", "sweep", "widgets")

__all__ = [
    "Clip",
    "Defaults",
    "Pipeline",
    "Request",
    "SvdlabError",
    "Sweep",
    "__version__",
    "examples",
    "hosted",
    "load",
    "load_image",
    "metrics",
    "models",
    "montage",
    "open_sweep",
    "plot",
    "prepare",
    "sampling",
    "stats",
    "sweep",
    "widgets",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"svdlab.{name}")
    raise AttributeError(f"module 'svdlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

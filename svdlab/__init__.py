"""svdlab: a Jupyter-first laboratory for few-step image-to-video.

One picture and a grid of settings go in; clips, a DataFrame of metrics and notebooks to look at both come out.

    import svdlab as sl

    pipe = sl.load("tiny")
    clip = pipe("rocket.jpg", motion_bucket_id=127, cond_aug=0.02, steps=4, fps=10, seed=42)
    clip.save("rocket.mp4")

Importing svdlab is quick and loads no torch: every public name is imported when it is first used.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from svdlab._version import __version__
from svdlab.lazy import lazily

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
    "Clip": "clip",
    "Defaults": "request",
    "Pipeline": "pipeline",
    "Request": "request",
    "SvdlabError": "errors",
    "Sweep": "sweep",
    "load": "pipeline",
    "load_image": "images",
    "open_sweep": "sweep",
    "prepare": "images",
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

__getattr__, __dir__ = lazily(__name__, {**_HOMES, **dict.fromkeys(_ROOMS, "")}, __all__)

"""The mathematics of few-step sampling: pure torch, no I/O. Everything here can be used without the rest of svdlab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svdlab.sampling.denoiser import Denoiser, Scalings, precondition, scalings
from svdlab.sampling.noise import Noise, NoiseStreams, reinjection
from svdlab.sampling.samplers import Step, iterate, sample, start, step_to
from svdlab.sampling.schedules import grid_indices, karras_grid, sigmas

if TYPE_CHECKING:
    from svdlab.sampling.scheduler import SVDLCMScheduler

__all__ = [
    "Denoiser",
    "Noise",
    "NoiseStreams",
    "SVDLCMScheduler",
    "Scalings",
    "Step",
    "grid_indices",
    "iterate",
    "karras_grid",
    "precondition",
    "reinjection",
    "sample",
    "scalings",
    "sigmas",
    "start",
    "step_to",
]


def __getattr__(name: str) -> Any:
    if name == "SVDLCMScheduler":  # alone in needing diffusers, which takes seconds to import
        from svdlab.sampling.scheduler import SVDLCMScheduler

        return SVDLCMScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

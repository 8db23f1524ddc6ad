"""Hosted: the endpoint `fal-ai/fast-svd-lcm` behind the interface of `Pipeline`, by the official client.

Example:
    >>> pipe = sl.load("fal-ai/fast-svd-lcm")                # reads FAL_KEY
    >>> clip = pipe("rocket.jpg", motion_bucket_id=180, seed=42)
    >>> pipe = sl.hosted.load("fal-ai/fast-svd-lcm", timeout=120, concurrency=4, max_calls=50)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svdlab.hosted.endpoints import ENDPOINTS, Endpoint
    from svdlab.hosted.jobs import Calls, Update
    from svdlab.hosted.pipeline import HostedPipeline, load

_HOMES = {
    "Calls": "jobs",
    "ENDPOINTS": "endpoints",
    "Endpoint": "endpoints",
    "HostedPipeline": "pipeline",
    "Update": "jobs",
    "load": "pipeline",
}

__all__ = ["ENDPOINTS", "Calls", "Endpoint", "HostedPipeline", "Update", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

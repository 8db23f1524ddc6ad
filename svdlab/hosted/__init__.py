"""Hosted: the endpoint `fal-ai/fast-svd-lcm` behind the interface of `Pipeline`, by the official client.

Example:
    >>> pipe = sl.load("fal-ai/fast-svd-lcm")                # reads FAL_KEY
    >>> clip = pipe("rocket.jpg", motion_bucket_id=180, seed=42)
    >>> pipe = sl.hosted.load("fal-ai/fast-svd-lcm", timeout=120, concurrency=4, max_calls=50)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from svdlab.lazy import lazily

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

__getattr__, __dir__ = lazily(__name__, _HOMES, __all__)

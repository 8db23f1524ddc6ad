"""Batches: requests that run together, what they must share, and one on its way through the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svdlab.conditioning import Conditioning
from svdlab.errors import RequestError
from svdlab.request import Request
from svdlab.sampling import sigmas
from svdlab.sharing import SharedWalk
from svdlab.stopwatch import Stopwatch

SHARED = ("num_frames", "width", "height", "steps", "schedule", "sigma_max", "gamma", "decode_chunk")


@dataclass(kw_only=True)
class Job:
    """A batch on its way through the pipeline."""

    requests: list[Request]
    images: list[np.ndarray]
    watch: Stopwatch
    sigmas: Tensor
    conditioning: list[Conditioning] = field(default_factory=list)
    condition_cost: list[float] = field(default_factory=list)
    condition_spent: list[float] = field(default_factory=list)
    x: Tensor = field(default_factory=lambda: torch.empty(0))
    walk: SharedWalk | None = None

    def add(self, conditioning: Conditioning, cost: float, spent: float) -> None:
        """Take up the conditioning of the next row, with the seconds it costs alone and those spent on it."""
        self.conditioning.append(conditioning)
        self.condition_cost.append(cost)
        self.condition_spent.append(spent)

    def costs(self, row: int) -> tuple[dict[str, float], float]:
        """Seconds of each stage before decoding as if the row were alone, and those that were spent on it."""
        made = sum(self.walk.spent) if self.walk else 0.0
        # Without a walk, each row's share of all of it.
        rest = (self.watch.laps.get("denoise", 0.0) - made) / len(self.requests)
        cost, spent = (self.walk.cost[row], self.walk.spent[row]) if self.walk else (0.0, 0.0)
        seconds = {"condition": self.condition_cost[row], "denoise": rest + cost}
        return seconds, self.condition_spent[row] + rest + spent


def as_request(image: Any, **settings: Any) -> Request:
    """A picture and settings, or a request and changes to it, as one request."""
    if isinstance(image, Request):
        return image.replace(**settings) if settings else image
    return Request(image=image, **settings)


def is_guided(request: Request) -> bool:
    """Whether the denoiser runs twice a step: only with a maximum of guidance above 1, as in the stock pipeline."""
    return (request.max_guidance or 1.0) > 1


def check_batch(requests: Sequence[Request]) -> None:
    """Raise RequestError unless the resolved requests can run as one batch."""
    if not requests:
        raise RequestError("requests: the batch is empty; give at least one.")
    for name in SHARED:
        values = {getattr(request, name) for request in requests}
        if len(values) > 1:
            raise RequestError(f"{name} = {sorted(values, key=str)}: must be the same for all requests of a batch.")
    if len({is_guided(request) for request in requests}) > 1:
        raise RequestError("max_guidance: a batch must be guided as a whole (above 1) or not at all.")


def sigmas_of(request: Request) -> Tensor:
    """The noise levels of a resolved request, `[steps + 1]`; the last is 0."""
    return sigmas(request.steps, schedule=request.schedule or "", sigma_max=request.sigma_max or 0.0)

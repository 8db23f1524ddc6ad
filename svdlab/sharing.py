"""Sharing: denoiser calls that several requests have in common are made once.

A call is a pure function of what went in: the conditioning, the seed, and the noise levels walked so far, since noise
is a function of the seed and the level it is added at (`svdlab.sampling.noise`). So two requests that differ in `steps`
alone make the same first call, at the same `sigma_max`, and go on together for as long as their noise levels agree.
What is kept is the denoiser's answer; the sampler walks over the kept answers with the arithmetic of a walk alone, so
sharing changes no bit of a result.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from svdlab.sampling import Denoiser

Chain = tuple[Hashable, ...]
"""The keys of one request's denoiser calls, in order."""

CONDITIONS = ("width", "height", "num_frames", "seed", "cond_aug", "motion_bucket_id", "fps")


@lru_cache(maxsize=1024)
def levels(steps: int, schedule: str, sigma_max: float) -> tuple[float, ...]:
    """The noise levels that the denoiser is called at, without the final 0."""
    from svdlab.sampling import sigmas

    return tuple(sigmas(steps, schedule=schedule, sigma_max=sigma_max)[:-1].tolist())


def call_chain(settings: Mapping[str, Any], *, image: Hashable) -> Chain:
    """The keys of the denoiser calls of a resolved request; calls with equal keys are the same call.

    The k-th key holds the picture, the settings that reach the network, and the noise levels up to and with the k-th.
    `gamma` counts from the second call on, and guidance only where there is any. What is not in it (`decode_chunk`)
    reaches no call.

    Args:
        settings: every setting of a resolved request (`Request.settings()`).
        image: tells pictures apart, such as a hash of its pixels.

    Example:
        >>> four, eight = (call_chain(request.replace(steps=n).settings(), image="a") for n in (4, 8))
        >>> four[0] == eight[0], four[1] == eight[1]
        (True, False)
    """
    guidance = (settings["min_guidance"], settings["max_guidance"]) if settings["max_guidance"] > 1 else None
    root = (image, *(settings[name] for name in CONDITIONS), guidance)
    walked = levels(settings["steps"], settings["schedule"], settings["sigma_max"])
    return tuple((root, settings["gamma"] if k else None, walked[: k + 1]) for k in range(len(walked)))


def calls_to_make(chains: Iterable[Chain]) -> list[int]:
    """How many calls each request still has to make, if each finds what those before it made.

    Example:
        >>> calls_to_make([("a",), ("a", "b"), ("a", "c", "d")])
        [1, 1, 2]
    """
    made: set[Hashable] = set()
    counts = []
    for chain in chains:
        counts.append(len(set(chain) - made))
        made.update(chain)
    return counts


@dataclass(frozen=True)
class Known:
    """The answer of a call that was made, and the seconds it took."""

    denoised: Tensor  # [frames, channels, height, width]
    seconds: float


class SharedCalls:
    """The answers of denoiser calls that requests still to come will ask for again; what nobody needs is not kept.

    Args:
        chains: of all requests to come.

    Example:
        >>> shared = SharedCalls([call_chain(request.settings(), image=0) for request in requests])
        >>> for request in requests:
        ...     chain = call_chain(request.settings(), image=0)
        ...     [decode] = pipe.denoise([request], shared=shared, chains=[chain])
        ...     shared.release(chain)
    """

    def __init__(self, chains: Iterable[Chain]) -> None:
        self._users = Counter(key for chain in chains for key in chain)
        self._known: dict[Hashable, Known] = {}

    def get(self, key: Hashable) -> Known | None:
        """The answer of a call; None if it has to be made."""
        return self._known.get(key)

    def put(self, key: Hashable, known: Known) -> None:
        """Keep an answer, if another request than the one in hand will ask for it."""
        if self._users[key] > 1:
            self._known[key] = known

    def release(self, chain: Chain) -> None:
        """A request is through, with a clip or without: what only it needed is let go."""
        for key in chain:
            self._users[key] -= 1
            if self._users[key] <= 0:
                self._known.pop(key, None)

    def __len__(self) -> int:
        return len(self._known)


class SharedWalk:
    """A denoiser for a batch that makes only the calls that are not known, and keeps the account of each row.

    Args:
        rows: rows of the batch -> their denoiser.
        chains: of the rows; all of one length.
        walked: the noise levels of the walk, see `levels`.
        synchronize: waits for the device, so that the seconds are those of the call.

    Attributes:
        cost: seconds that the calls of each row cost, whoever made them.
        spent: seconds spent for each row; calls that were known cost nothing here.
    """

    def __init__(
        self,
        rows: Callable[[Sequence[int]], Denoiser],
        *,
        chains: Sequence[Chain],
        shared: SharedCalls,
        walked: Sequence[float],
        synchronize: Callable[[], None],
    ) -> None:
        self._rows, self._chains, self._shared, self._walked = rows, chains, shared, list(walked)
        self._synchronize = synchronize
        self.cost = [0.0] * len(chains)
        self.spent = [0.0] * len(chains)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """`denoiser(x, sigma) -> x0`, each row as it would be alone."""
        import torch

        k = self._walked.index(sigma)  # the levels descend, so each is there once
        keys = [chain[k] for chain in self._chains]
        known = {key: self._shared.get(key) for key in keys}
        makers = {key: row for row, key in reversed(list(enumerate(keys))) if known[key] is None}
        if rows := sorted(makers.values()):
            self._synchronize()
            began = time.perf_counter()
            denoised = self._rows(rows)(x if len(rows) == len(x) else x[rows], sigma)
            self._synchronize()
            each = (time.perf_counter() - began) / len(rows)
            for row, answer in zip(rows, denoised, strict=True):
                # A view would hold the answers of the whole batch for as long as one of them is needed.
                known[keys[row]] = Known(answer.clone() if len(rows) > 1 else answer, each)
                self._shared.put(keys[row], known[keys[row]])  # type: ignore[arg-type]
                self.spent[row] += each
        answers = [known[key] for key in keys]
        for row, answer in enumerate(answers):
            self.cost[row] += answer.seconds  # type: ignore[union-attr]
        return torch.stack([answer.denoised for answer in answers])  # type: ignore[union-attr]

"""Noise is a function of the seed, not a state.

Each draw is a pure function of (seed, stream, sigma, shape): what was drawn before, in which batch, after which restart
or on which device changes nothing. Two requests that differ in one setting therefore share all other noise, and a clip
of 4 steps re-injects the same noise at a sigma as a clip of 8 steps that passes the same sigma.

Numbers come from Philox (Salmon et al. 2011), a counter-based generator, keyed by a hash of seed and stream, as float32
on the CPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from svdlab.request import MAX_SEED

Noise = Callable[[int], Tensor]
"""`noise(k) -> tensor`: what a sampler re-injects after step k."""


def draw(seed: int, stream: str, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 tensor on the CPU: a pure function of its arguments.

    Example:
        >>> torch.equal(draw(7, "initial", (2, 3)), draw(7, "initial", (2, 3)))
        True
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed = {seed!r}: must be a whole number from 0 to 2^63 - 1.")
    key = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=16, person=b"svdlab noise v1").digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    return torch.from_numpy(generator.standard_normal(tuple(shape), dtype=np.float32))


def sigma_key(sigma: float) -> str:
    """The name of a noise level within the stream of re-injected noise: nine significant digits.

    Enough to tell any two points of a schedule apart, few enough that rounding in the last place does not.
    """
    return f"{sigma:.9g}"


class NoiseStreams:
    """The separate noise streams of one seed.

    Example:
        >>> streams = NoiseStreams(42)
        >>> streams.initial((25, 4, 72, 128)).shape
        torch.Size([25, 4, 72, 128])
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def conditioning(self, shape: Sequence[int]) -> Tensor:
        """Noise put on the conditioning picture, `[3, height, width]`; scaled by `cond_aug` elsewhere."""
        return draw(self.seed, "conditioning", shape)

    def initial(self, shape: Sequence[int]) -> Tensor:
        """Unit noise that sampling starts from, `[frames, channels, height, width]`."""
        return draw(self.seed, "initial", shape)

    def reinjected(self, sigma: float, shape: Sequence[int]) -> Tensor:
        """Unit noise added when a sample is brought back up to `sigma`, `[frames, channels, height, width]`."""
        return draw(self.seed, f"reinjected/{sigma_key(sigma)}", shape)


def reinjection(seeds: Sequence[int], sigmas: Tensor, like: Tensor) -> Noise:
    """`noise(k)` for a batch: row i is drawn from `seeds[i]`, keyed by the sigma that step k goes to.

    Args:
        seeds: one a batch row.
        sigmas: `[steps + 1]`.
        like: `[batch, frames, channels, height, width]`; gives shape, device and dtype.
    """

    def noise(k: int) -> Tensor:
        level = float(sigmas[k + 1])
        rows = [NoiseStreams(seed).reinjected(level, like.shape[1:]) for seed in seeds]
        return torch.stack(rows).to(like.device, like.dtype)

    return noise

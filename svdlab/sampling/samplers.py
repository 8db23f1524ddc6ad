"""The sampler: one loop between latent consistency sampling and the Euler ODE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from svdlab.errors import RequestError
from svdlab.sampling.denoiser import Denoiser
from svdlab.sampling.noise import Noise


@dataclass(frozen=True)
class Step:
    """What is known after one denoiser call."""

    k: int  # 0 .. steps - 1
    sigma: float  # the noise level of the call
    x: Tensor  # the noised sample that went in, [batch, frames, channels, height, width]
    denoised: Tensor  # the estimate of x0 that came out, same shape
    next_x: Tensor  # the sample at the next noise level; after the last step, the result


def start(noise: Tensor, sigmas: Tensor) -> Tensor:
    """The sample that sampling starts from: sqrt(sigma_max^2 + 1) times unit noise.

    The root, instead of sigma_max alone, is what SVD's own sampler uses: the variance of x0 + sigma n.
    """
    return noise * torch.hypot(sigmas[0], sigmas.new_ones(())).to(noise.dtype)


def step_to(x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, gamma: float, z: Tensor | None) -> Tensor:
    """Go from noise level `sigma` to `sigma_next`: part of the way along the ODE, the rest by fresh noise.

    s_lo = (1 - gamma) sigma_next;  x' = D + s_lo (x - D) / sigma + sqrt(sigma_next^2 - s_lo^2) z.
    gamma = 1 is multistep consistency sampling with full re-noising (Song et al. 2023, algorithm 1); gamma = 0 the
    Euler step of Karras et al. 2022 (algorithm 1 without Heun's correction). Between them lies the gamma-sampling of
    Kim et al. 2024 (consistency trajectory models), in EDM's units.

    Args:
        z: unit noise like x; not needed (None) where nothing is re-injected.
    """
    low = (1 - gamma) * sigma_next
    x_next = denoised if low == 0 else denoised + (low / sigma) * (x - denoised)
    added = (sigma_next**2 - low**2) ** 0.5
    if added > 0:
        assert z is not None, "noise is needed to go up to a noise level"
        x_next = x_next + added * z
    return x_next


def iterate(denoiser: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, gamma: float = 1.0) -> Iterator[Step]:
    """Sample step by step; each `Step` is yielded as soon as its denoiser call is done. See `sample`."""
    _check(sigmas, gamma)
    levels = sigmas.tolist()
    for k, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = denoiser(x, sigma)
        z = noise(k) if gamma > 0 and sigma_next > 0 else None
        x_next = step_to(x, denoised, sigma, sigma_next, gamma, z)
        yield Step(k, sigma, x, denoised, x_next)
        x = x_next


def sample(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    gamma: float = 1.0,
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> Tensor:
    """Draw a sample by calling `denoiser` at each of `sigmas`.

    Args:
        denoiser: `denoiser(x, sigma) -> x0`.
        x: `[batch, frames, channels, height, width]`, already scaled to the first noise level (`start`).
        sigmas: `[steps + 1]`, descending, ending in 0 (`svdlab.sampling.sigmas`).
        noise: `noise(k)` is the unit noise re-injected after step k. It is asked only where some is needed.
        gamma: share of re-noising; 1: latent consistency, 0: Euler ODE.
        callback: gets a dict `k, x, sigma, denoised` after each denoiser call.

    Returns:
        The clean sample, like x.

    Raises:
        RequestError: sigmas that do not descend to 0, or gamma outside [0, 1].

    Example:
        >>> x0 = torch.zeros(1, 2, 4, 8, 8)
        >>> s = sigmas(4)
        >>> x = start(torch.randn(x0.shape), s)
        >>> torch.equal(sample(lambda x, sigma: x0, x, s, lambda k: torch.randn(x0.shape)), x0)
        True
    """
    for step in iterate(denoiser, x, sigmas, noise, gamma=gamma):
        if callback is not None:
            callback({"k": step.k, "x": step.x, "sigma": step.sigma, "denoised": step.denoised})
        x = step.next_x
    return x


def _check(sigmas: Tensor, gamma: float) -> None:
    if sigmas.ndim != 1 or len(sigmas) < 2 or sigmas[-1] != 0 or not bool((sigmas[:-1] > sigmas[1:]).all()):
        raise RequestError(
            f"sigmas = {sigmas.tolist()}: must be at least two descending noise levels, the last 0;"
            " svdlab.sampling.sigmas(steps) makes them."
        )
    if not 0 <= gamma <= 1:
        raise RequestError(f"gamma = {gamma!r}: must be a number from 0 (Euler) to 1 (latent consistency).")

"""The one contract between models and samplers: `denoiser(x, sigma) -> x0`.

`x` is `[batch, frames, channels, height, width]` noised to level `sigma`; the answer is the model's estimate of the
clean `x0`, of the same shape. Whatever keeps this contract can be sampled: a UNet with its conditioning, or an oracle
in a test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

Denoiser = Callable[[Tensor, float], Tensor]
"""`denoiser(x, sigma) -> x0`, see the module."""


class Scalings(NamedTuple):
    """Coefficients of the EDM preconditioning at one sigma."""

    c_skip: float
    c_out: float
    c_in: float
    c_noise: float


def scalings(sigma: float) -> Scalings:
    """Preconditioning of Stable Video Diffusion: EDM with sigma_data = 1 and v-prediction.

    c_skip = 1 / (sigma^2 + 1), c_out = -sigma / sqrt(sigma^2 + 1), c_in = 1 / sqrt(sigma^2 + 1) and
    c_noise = ln(sigma) / 4, which is not multiplied by 1000. Karras et al. 2022, table 1, with v-prediction
    (Salimans & Ho 2022): the network's target is F* = (n - sigma x0) / sqrt(sigma^2 + 1) for x = x0 + sigma n.

    Example:
        >>> scalings(0.0)[:3]
        (1.0, -0.0, 1.0)
    """
    root = math.hypot(sigma, 1.0)
    return Scalings(1 / root**2, -sigma / root, 1 / root, 0.25 * math.log(sigma + 1e-44))


def precondition(network: Callable[[Tensor, float], Tensor]) -> Denoiser:
    """Make a denoiser of a raw v-prediction network: D(x, sigma) = c_skip x + c_out F(c_in x, c_noise).

    Args:
        network: `F(scaled_x, c_noise) -> v`, same shape as x. It may compute in half precision; the combination is done
            in the precision of x.

    Example:
        >>> denoiser = precondition(lambda x, t: torch.zeros_like(x))
        >>> denoiser(torch.ones(1), 1.0)
        tensor([0.5000])
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        if sigma == 0:  # c_skip = 1, c_out = 0: the boundary condition D(x, 0) = x, exactly
            return x
        c_skip, c_out, c_in, c_noise = scalings(sigma)
        return c_skip * x + c_out * network(c_in * x, c_noise).to(x.dtype)

    return denoise

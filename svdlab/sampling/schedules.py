"""Sigma schedules: which noise levels the denoiser is called at.

Noise levels are in EDM units (Karras et al. 2022, "Elucidating the design space of diffusion-based generative models"):
x = x0 + sigma * n with x0 of about unit variance. Stable Video Diffusion samples from sigma 700 down to 0.002.
"""

from __future__ import annotations

import torch
from torch import Tensor

from svdlab.errors import RequestError
from svdlab.request import LCM_GRID, SCHEDULES

SIGMA_MIN = 0.002
SIGMA_MAX = 700.0
RHO = 7.0
EVEN_LAST = 35  # grid index (sigma 0.040) of the last call of `even`; where `animatelcm` ends at 8 steps


def karras_grid(n: int, *, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = RHO) -> Tensor:
    """`n` noise levels from `sigma_max` down to `sigma_min`, evenly spaced in sigma^(1/rho); Karras et al. 2022, eq. 5.

    Returns float64 `[n]`, descending.

    Example:
        >>> karras_grid(40)[[0, 10, 20, 30]]
        tensor([700.0000, 128.5637,  13.6784,   0.4969], dtype=torch.float64)
    """
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    grid = (high + ramp * (low - high)) ** rho
    grid[0] = sigma_max  # exactly, without the rounding of root and power
    return grid


def grid_indices(steps: int, schedule: str) -> list[int]:
    """Which of the 40 points of the training grid the denoiser is called at, for `animatelcm` and `even`.

    `animatelcm` strides by floor(40 / steps), as the reference scheduler does, so the last call is at index
    (steps - 1) * floor(40 / steps): for some step counts far from the end of the grid. `even` spreads the calls
    evenly over 0..35 (0..39 above 36 steps, where 36 points no longer suffice), so more steps never end earlier.

    Example:
        >>> grid_indices(4, "animatelcm"), grid_indices(4, "even")
        ([0, 10, 20, 30], [0, 12, 23, 35])
    """
    if schedule == "animatelcm":
        return [k * (LCM_GRID // steps) for k in range(steps)]
    if steps == 1:
        return [0]
    last = max(EVEN_LAST, steps - 1)
    return [int(k * last / (steps - 1) + 0.5) for k in range(steps)]


def sigmas(steps: int, *, schedule: str = "animatelcm", sigma_max: float = SIGMA_MAX) -> Tensor:
    """The noise levels of a clip: `steps` calls of the denoiser, then 0.

    Args:
        steps: denoiser calls; 1 to 40 for `animatelcm` and `even`, 1 to 100 for `karras`.
        schedule: `animatelcm`: the reference few-step schedule, a stride over the 40-point training grid. More steps
            can end at a *higher* last sigma (14 steps: 2.27, 8 steps: 0.040).
            `even`: points of the same grid, spread so that every step count above 1 ends at the same low sigma.
            `karras`: the grid itself with `steps` points, what SVD's own Euler sampler uses.
        sigma_max: where sampling starts.

    Returns:
        float64 `[steps + 1]`, strictly descending, ending in 0.

    Raises:
        RequestError: an unknown schedule, or a step count that it cannot give.

    Example:
        >>> sigmas(4)
        tensor([700.0000, 128.5637,  13.6784,   0.4969,   0.0000], dtype=torch.float64)
    """
    if schedule not in SCHEDULES:
        raise RequestError(f"schedule = {schedule!r}: must be one of {', '.join(map(repr, SCHEDULES))}.")
    most = 100 if schedule == "karras" else LCM_GRID
    if not 1 <= steps <= most:
        raise RequestError(f"steps = {steps!r}: must be a whole number from 1 to {most} with schedule={schedule!r}.")
    if not sigma_max > SIGMA_MIN:
        raise RequestError(f"sigma_max = {sigma_max!r}: must be above {SIGMA_MIN}, where the grid ends.")
    if schedule == "karras":
        called = karras_grid(steps, sigma_max=sigma_max)
    else:
        called = karras_grid(LCM_GRID, sigma_max=sigma_max)[grid_indices(steps, schedule)]
    return torch.cat([called, called.new_zeros(1)])

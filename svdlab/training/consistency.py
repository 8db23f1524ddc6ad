"""The consistency-distillation step as plain functions: grid, teacher's ODE step, target, loss and weights.

A consistency function f maps every point of an ODE trajectory to the trajectory's end at sigma = 0. It is learned from
a teacher by asking that two neighbouring points of one trajectory have one answer (Song et al. 2023, "Consistency
Models", arXiv:2303.01469, algorithm 2). In the latent space of a video model, with guidance built into the teacher's
step, this is latent consistency distillation (Luo et al. 2023, "Latent Consistency Models", arXiv:2310.04378,
algorithm 1; Wang et al. 2024, AnimateLCM, arXiv:2402.00769). Here in EDM's units, with SVD's preconditioning, for which
the boundary condition f(x, 0) = x holds exactly.

Samples are `[batch, frames, channels, height, width]`, in the units of scaled latents. Each row of a batch has a noise
level of its own: `sigma` is float64 `[batch]`, kept on the CPU, so that no step waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from svdlab.errors import TrainingError
from svdlab.request import LCM_GRID
from svdlab.sampling import karras_grid, scalings

Network = Callable[[Tensor, Tensor], Tensor]
"""`network(scaled_x, c_noise) -> v`: a raw v-prediction network; `c_noise` is `[batch]`."""

BatchDenoiser = Callable[[Tensor, Tensor], Tensor]
"""`denoiser(x, sigma) -> x0`, as `svdlab.sampling.Denoiser`, but with one sigma a row."""

Solver = Literal["euler", "heun"]
Sampling = Literal["uniform", "lognormal"]

SOLVERS: tuple[str, ...] = get_args(Solver)
SAMPLINGS: tuple[str, ...] = get_args(Sampling)


def distillation_grid(n: int = LCM_GRID) -> Tensor:
    """The noise levels between which the teacher steps: `n` points of SVD's range, then 0; float64 `[n + 1]`.

    The first `n` are what the student will be called at; for n = 40 they are the grid of the `animatelcm` schedule.

    Example:
        >>> distillation_grid(40)[[0, 39, 40]]
        tensor([7.0000e+02, 2.0000e-03, 0.0000e+00], dtype=torch.float64)
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise TrainingError(
            f"grid = {n!r}: must be a whole number from 2, the points of the training grid; 40 is usual."
        )
    points = karras_grid(n)
    return torch.cat([points, points.new_zeros(1)])


def sample_indices(
    grid: Tensor,
    batch: int,
    generator: torch.Generator,
    *,
    how: str = "uniform",
    mean: float = 0.7,
    std: float = 1.6,
) -> Tensor:
    """Draw where on the grid each row of a batch starts: int64 `[batch]`, in 0 .. n - 1, on the CPU.

    Args:
        grid: `[n + 1]`, as `distillation_grid` makes it.
        batch: rows.
        generator: on the CPU; the only source of chance.
        how: `uniform` (Song et al. 2023; AnimateLCM), or `lognormal`: interval i with the probability that a normal
            ln sigma falls into it (Song & Dhariwal 2023, "Improved Techniques for Training Consistency Models",
            arXiv:2310.14189, eq. 10). The latter all but leaves out sigma 700, where a one-step sample is made.
        mean, std: of ln sigma, for `lognormal`; the defaults are those of SVD's own training.

    Example:
        >>> sample_indices(distillation_grid(40), 3, torch.Generator().manual_seed(0)).shape
        torch.Size([3])
    """
    return torch.multinomial(index_probabilities(grid, how=how, mean=mean, std=std), batch, True, generator=generator)


def index_probabilities(grid: Tensor, *, how: str = "uniform", mean: float = 0.7, std: float = 1.6) -> Tensor:
    """How often each interval (grid[i + 1], grid[i]) is drawn: float64 `[n]`, sums to 1. See `sample_indices`.

    Raises:
        TrainingError: `how` is not one of `uniform` and `lognormal`, or `std` is not above 0.
    """
    if how not in SAMPLINGS:
        raise TrainingError(f"sampling = {how!r}: must be one of {', '.join(map(repr, SAMPLINGS))}.")
    if how == "uniform":
        return torch.full((len(grid) - 1,), 1 / (len(grid) - 1), dtype=torch.float64)
    if not std > 0:
        raise TrainingError(f"sampling_std = {std!r}: must be above 0, the spread of ln sigma; 1.6 is SVD's.")
    below = torch.erf((grid.double().log() - mean) / (math.sqrt(2) * std))  # ln 0 = -inf, whose erf is -1
    mass = below[:-1] - below[1:]
    return mass / mass.sum()


# ---------------------------------------------------------------- denoisers


def denoise(network: Network, x: Tensor, sigma: Tensor) -> Tensor:
    """D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), one sigma a row; rows at sigma 0 come back as they are.

    The coefficients are those of `svdlab.sampling.scalings` (Karras et al. 2022, table 1, with v-prediction). A student
    trained on this is the consistency function itself: no further factor, since D(x, 0) = x.

    Args:
        network: may compute in half precision; the combination is done in the precision of `x`.
        x: `[batch, frames, channels, height, width]`.
        sigma: `[batch]`, on the CPU.

    Example:
        >>> x = torch.ones(2, 1, 1, 1, 1)
        >>> denoise(lambda x, t: torch.zeros_like(x), x, torch.tensor([0.0, 1.0])).flatten()
        tensor([1.0000, 0.5000])
    """
    table = torch.tensor([scalings(level) for level in sigma.tolist()], dtype=torch.float64)
    c_skip, c_out, c_in, c_noise = table.to(x.device, x.dtype).unbind(1)
    v = network(rows(c_in, x) * x, c_noise).to(x.dtype)
    return torch.where(rows(sigma == 0, x), x, rows(c_skip, x) * x + rows(c_out, x) * v)


def guided(conditional: Network, unconditional: Network, scale: Tensor) -> Network:
    """The guidance-augmented teacher: F = F_u + g (F_c - F_u), which the student learns to give in one call.

    Classifier-free guidance (Ho & Salimans 2022) inside the distillation (Luo et al. 2023, section 4.2); SVD's own
    guidance grows over the frames. Because c_skip and c_out are common to both, guiding F is guiding D.

    Args:
        scale: g, `[batch, frames, 1, 1, 1]`, from `guidance_ramp`.
    """

    def network(x: Tensor, c_noise: Tensor) -> Tensor:
        # One after the other, not as one batch: at SVD's size memory is what is short.
        without = unconditional(x, c_noise).to(scale.dtype)
        return without + scale * (conditional(x, c_noise).to(scale.dtype) - without)

    return network


def guidance_ramp(low: Tensor, high: Tensor, frames: int) -> Tensor:
    """Guidance that goes linearly from `low` at the first frame to `high` at the last: `[batch, frames, 1, 1, 1]`.

    Args:
        low, high: `[batch]`.

    Example:
        >>> guidance_ramp(torch.ones(1), 3 * torch.ones(1), 3).flatten()
        tensor([1., 2., 3.])
    """
    part = torch.linspace(0, 1, frames, dtype=low.dtype, device=low.device)
    return torch.lerp(low[:, None], high[:, None], part)[:, :, None, None, None]


def guidance_range(bounds: tuple[float, float], batch: int, generator: torch.Generator) -> Tensor:
    """One strength of guidance a row, uniform within `bounds` (equal bounds: fixed); float32 `[batch]`, on the CPU.

    Always draws, so that fixing the guidance leaves all later draws of the generator as they were.
    """
    low, high = bounds
    return low + (high - low) * torch.rand(batch, generator=generator)


# ---------------------------------------------------------------- the teacher's step


def ode_step(denoiser: BatchDenoiser, x: Tensor, sigma: Tensor, sigma_next: Tensor, *, solver: str = "euler") -> Tensor:
    """One step of the probability-flow ODE dx / dsigma = (x - D(x, sigma)) / sigma, from `sigma` down to `sigma_next`.

    Euler: x' = D + (sigma' / sigma) (x - D), which is x + (sigma' - sigma) (x - D) / sigma without its cancellation.
    Heun: the mean of the slopes at both ends, second order (Karras et al. 2022, algorithm 1). Rows with sigma' = 0 have
    no slope there; they take Euler's step, which is x' = D.

    Args:
        denoiser: the teacher, called once (Euler) or twice (Heun).
        x: `[batch, frames, channels, height, width]` at `sigma`.
        sigma, sigma_next: `[batch]`, on the CPU; sigma > sigma_next >= 0.

    Raises:
        TrainingError: an unknown solver.
    """
    if solver not in SOLVERS:
        raise TrainingError(f"solver = {solver!r}: must be one of {', '.join(map(repr, SOLVERS))}.")
    denoised = denoiser(x, sigma)
    reached = denoised + rows(sigma_next / sigma, x) * (x - denoised)
    if solver == "euler" or not bool((sigma_next > 0).any()):
        return reached
    above = sigma_next > 0
    level = torch.where(above, sigma_next, sigma)  # of the rows at 0 nothing is used; any level in range will do
    slope = (x - denoised) / rows(sigma, x)
    slope_next = (reached - denoiser(reached, level)) / rows(level, x)
    corrected = x + rows(sigma_next - sigma, x) * (slope + slope_next) / 2
    return torch.where(rows(above, x), corrected, reached)


# ---------------------------------------------------------------- the loss


def pseudo_huber(difference: Tensor, c: float) -> Tensor:
    """sqrt(d^2 + c^2) - c for each element: quadratic within about `c`, then linear (Charbonnier et al. 1997).

    Written as d^2 / (sqrt(d^2 + c^2) + c), which does not cancel for small d. As a loss of consistency models: Song &
    Dhariwal 2023, section 3.3 (there over the whole vector); element by element with c = 0.001: Luo et al. 2023.

    Example:
        >>> pseudo_huber(torch.tensor([0.0, 3.0]), 4.0)
        tensor([0., 1.])
    """
    square = difference**2
    return square / ((square + c**2).sqrt() + c)


def level_weights(sigma: Tensor, sigma_next: Tensor, exponent: float) -> Tensor:
    """w = (1 / (sigma - sigma'))^exponent, float64 `[batch]`.

    Exponent 1 is Song & Dhariwal 2023, section 3.3; AnimateLCM's SVD takes 0.1, which on the grid of 40 points runs
    from 0.63 at sigma 700 to about 1.9 at the end; 0 is no weighting.
    """
    return (1 / (sigma - sigma_next)) ** exponent


def matching_losses(
    student: Network,
    target: Network,
    x: Tensor,
    x_next: Tensor,
    sigma: Tensor,
    sigma_next: Tensor,
    *,
    huber_c: float,
    exponent: float,
) -> Tensor:
    """How far the student's answer at (x, sigma) is from the target's at (x', sigma'): weighted losses, `[batch]`.

        P = D_student(x, sigma),  T = stopgrad D_target(x', sigma'),  loss_b = w_b mean(pseudo_huber(P - T, c))

    The gradient flows into the student alone. At the last interval (sigma' = 0) T is x' itself. `target` is a running
    average of the student (Song et al. 2023, eq. 8), or the student itself, which needs no further memory and has no
    bias from the average's lag (Song & Dhariwal 2023, section 3.2).

    Args:
        x, x_next: two points of one trajectory of the teacher, `[batch, frames, channels, height, width]`.
        sigma, sigma_next: their noise levels, `[batch]`, on the CPU.
        huber_c: of `pseudo_huber`, above 0.
        exponent: of `level_weights`.
    """
    with torch.no_grad():
        wanted = x_next if not bool((sigma_next > 0).any()) else denoise(target, x_next, sigma_next)
    given = denoise(student, x, sigma)
    each = pseudo_huber(given - wanted, huber_c).flatten(1).mean(1)
    return level_weights(sigma, sigma_next, exponent).to(each.device, each.dtype) * each


def teacher_pair(
    teacher: Network, x0: Tensor, noise: Tensor, sigma: Tensor, sigma_next: Tensor, *, solver: str = "euler"
) -> tuple[Tensor, Tensor]:
    """Two neighbouring points of a trajectory: x = x0 + sigma n, and x' where the teacher's ODE step takes it.

    No gradient is kept. Song et al. 2023, algorithm 2.

    Args:
        x0, noise: clean scaled latents and unit noise, `[batch, frames, channels, height, width]`.
        sigma, sigma_next: `[batch]`, on the CPU.
    """
    x = x0 + rows(sigma, x0) * noise
    with torch.no_grad():
        x_next = ode_step(lambda y, level: denoise(teacher, y, level), x, sigma, sigma_next, solver=solver)
    return x, x_next


def rows(values: Tensor, like: Tensor) -> Tensor:
    """`values` `[batch]`, shaped to act on `like` row by row: on its device, and (but for booleans) of its type."""
    kind = values.dtype if values.dtype == torch.bool else like.dtype
    return values.to(like.device, kind).view(-1, *[1] * (like.ndim - 1))

"""Identities of the consistency-distillation step, on oracles and on Gaussian data, whose ODE is known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from svdlab.errors import TrainingError
from svdlab.sampling import grid_indices, precondition, sigmas, step_to
from svdlab.training.consistency import (
    Network,
    denoise,
    distillation_grid,
    guidance_ramp,
    guidance_range,
    guided,
    index_probabilities,
    level_weights,
    matching_losses,
    ode_step,
    pseudo_huber,
    rows,
    sample_indices,
    teacher_pair,
)

SHAPE = (2, 3, 4, 2)  # frames, channels, height, width
LEVELS = st.floats(0.002, 700)
PLAIN = {"huber_c": 0.001, "exponent": 0.1}


def draw(seed: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def column(*levels: float) -> Tensor:
    return torch.tensor(levels, dtype=torch.float64)


def as_network(denoiser: Callable[[Tensor, Tensor], Tensor]) -> Network:
    """The raw network F of a denoiser D: F = (D - c_skip x) / c_out, with sigma read back from c_noise."""

    def network(scaled: Tensor, c_noise: Tensor) -> Tensor:
        sigma = (4 * c_noise).exp()
        root = rows((sigma**2 + 1).sqrt(), scaled)
        x = scaled * root
        return (denoiser(x, sigma) - x / root**2) / (-rows(sigma, x) / root)

    return network


MEAN, SPREAD = 0.3, 0.5  # of the Gaussian data in the tests below


def gaussian_denoiser(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x] for x0 ~ N(MEAN, SPREAD^2)."""
    variance = rows(sigma, x) ** 2
    return (SPREAD**2 * x + variance * MEAN) / (SPREAD**2 + variance)


def gaussian_ode(x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """The exact solution of the probability-flow ODE of that data, from `sigma` to `sigma_next`."""
    ratio = (SPREAD**2 + rows(sigma_next, x) ** 2) / (SPREAD**2 + rows(sigma, x) ** 2)
    return MEAN + (x - MEAN) * ratio.sqrt()


def gaussian_map(x: Tensor, sigma: Tensor) -> Tensor:
    return gaussian_ode(x, sigma, torch.zeros_like(sigma))


# ---------------------------------------------------------------- grid and indices


def test_grid_ends_in_zero_and_holds_the_levels_of_the_few_step_schedule() -> None:
    grid = distillation_grid(40)
    assert grid.shape == (41,)
    assert grid.dtype == torch.float64
    assert grid[0] == 700
    assert grid[-1] == 0
    assert bool((grid[:-1] > grid[1:]).all())
    assert torch.equal(grid[grid_indices(4, "animatelcm")], sigmas(4)[:-1])


@pytest.mark.parametrize("n", [1, 0, -3, 2.5, True, "40"])
def test_grid_of_another_size_is_refused(n: object) -> None:
    with pytest.raises(TrainingError, match=r"grid = .*whole number from 2"):
        distillation_grid(n)  # type: ignore[arg-type]


def test_uniform_indices_reach_both_ends_and_only_the_grid() -> None:
    grid = distillation_grid(5)
    drawn = sample_indices(grid, 500, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {0, 1, 2, 3, 4}
    counts = torch.bincount(drawn)
    assert int(counts.min()) >= 70
    assert int(counts.max()) <= 130


def test_lognormal_probabilities_are_the_masses_of_the_intervals() -> None:
    grid = distillation_grid(40)
    probabilities = index_probabilities(grid, how="lognormal", mean=0.7, std=1.6)
    normal = torch.distributions.Normal(torch.tensor(0.7, dtype=torch.float64), 1.6)
    below = normal.cdf(grid[:-1].log())
    wanted = torch.cat([below[:-1] - below[1:], below[-1:]])  # the last interval reaches down to 0
    assert torch.allclose(probabilities, wanted / below[0], atol=1e-12)
    assert probabilities.sum().item() == pytest.approx(1)
    assert probabilities[0] < 1e-3  # sigma 700 is all but left out, as documented
    middle = int(probabilities.argmax())
    assert 0.2 < grid[middle] < 20


def test_drawing_is_a_function_of_the_generator() -> None:
    grid = distillation_grid(40)
    first, again, other = (
        sample_indices(grid, 20, torch.Generator().manual_seed(seed), how="lognormal") for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_unknown_sampling_and_bad_spread_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"sampling = 'normal'.*'uniform', 'lognormal'"):
        index_probabilities(distillation_grid(4), how="normal")
    with pytest.raises(TrainingError, match=r"sampling_std = 0"):
        index_probabilities(distillation_grid(4), how="lognormal", std=0)


# ---------------------------------------------------------------- denoiser


def test_boundary_condition_is_exact_even_where_the_network_is_not_finite() -> None:
    x = draw(0, 2)
    assert torch.equal(denoise(lambda y, t: torch.full_like(y, math.nan), x, column(0, 0)), x)


@given(sigma=LEVELS, seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_true_velocity_gives_back_the_clean_sample(sigma: float, seed: int) -> None:
    """D = x0 if F = F* = (n - sigma x0) / sqrt(sigma^2 + 1)."""
    x0, noise = draw(seed), draw(seed + 1000)
    velocity = (noise - sigma * x0) / math.sqrt(sigma**2 + 1)
    found = denoise(lambda x, t: velocity, x0 + sigma * noise, column(sigma))
    assert torch.allclose(found, x0, atol=1e-9)


def test_network_sees_unit_variance_input_and_a_quarter_of_the_logarithm() -> None:
    seen = {}

    def network(x: Tensor, c_noise: Tensor) -> Tensor:
        seen.update(x=x, t=c_noise)
        return torch.zeros_like(x)

    x = draw(3, 2)
    denoise(network, x, column(700, 2))
    assert torch.allclose(seen["x"], x / rows(column(700**2 + 1, 5).sqrt(), x))
    assert seen["t"].tolist() == pytest.approx([1.63777, 0.25 * math.log(2)], abs=1e-5)


@given(sigma=LEVELS)
@settings(max_examples=20, deadline=None)
def test_each_row_is_the_sampler_s_denoiser_at_its_own_sigma(sigma: float) -> None:
    x = draw(4, 2)
    both = denoise(lambda y, t: y**2 + rows(t, y), x, column(sigma, 5.0))
    one = precondition(lambda y, t: y**2 + t)
    assert torch.allclose(both[:1], one(x[:1], sigma))
    assert torch.allclose(both[1:], one(x[1:], 5.0))


def test_half_precision_network_leaves_the_combination_in_full() -> None:
    x = draw(5).float()
    assert denoise(lambda y, t: y.bfloat16(), x, column(1.0)).dtype == torch.float32


# ---------------------------------------------------------------- guidance


def test_guidance_is_a_ramp_over_frames_and_one_row_each() -> None:
    ramp = guidance_ramp(torch.tensor([1.0, 1.5]), torch.tensor([3.0, 1.5]), 5)
    assert ramp.shape == (2, 5, 1, 1, 1)
    assert ramp[:, :, 0, 0, 0].tolist() == [[1, 1.5, 2, 2.5, 3], [1.5] * 5]
    assert guidance_ramp(torch.ones(1), 3 * torch.ones(1), 1).flatten().tolist() == [1.0]


def test_guided_teacher_extrapolates_frame_by_frame() -> None:
    x, t = draw(6, 2), torch.zeros(2)
    scale = guidance_ramp(torch.tensor([1.0, 0.0]), torch.tensor([3.0, 1.0]), 2).double()
    v = guided(lambda y, _: y, lambda y, _: 0.5 * y, scale)(x, t)
    factor = torch.tensor([[1.0, 2.0], [0.5, 1.0]], dtype=torch.float64)  # 0.5 + g (1 - 0.5)
    assert torch.allclose(v, factor[:, :, None, None, None] * x)


def test_guiding_the_network_is_guiding_the_denoiser() -> None:
    x, sigma, scale = draw(7), column(3.0), torch.full((1, 2, 1, 1, 1), 2.5, dtype=torch.float64)
    with_, without = (lambda y, t: y.sin()), (lambda y, t: y.cos())
    low = denoise(without, x, sigma)
    assert torch.allclose(
        denoise(guided(with_, without, scale), x, sigma), low + scale * (denoise(with_, x, sigma) - low)
    )


def test_guidance_is_drawn_within_its_range_and_a_fixed_one_takes_the_same_draws() -> None:
    one, other = (torch.Generator().manual_seed(0) for _ in range(2))
    drawn = guidance_range((1.5, 2.5), 200, one)
    assert 1.5 <= drawn.min() < 1.6
    assert 2.4 < drawn.max() <= 2.5
    assert set(guidance_range((3.0, 3.0), 200, other).tolist()) == {3.0}
    assert torch.rand(1, generator=one) == torch.rand(1, generator=other)


# ---------------------------------------------------------------- the teacher's step


@given(sigma=st.floats(0.01, 700), share=st.floats(0, 0.99))
@settings(max_examples=30, deadline=None)
def test_euler_step_is_the_textbook_step_and_the_sampler_s(sigma: float, share: float) -> None:
    x, x0 = draw(8) * sigma, draw(9)
    after = ode_step(lambda y, s: x0, x, column(sigma), column(share * sigma))
    assert torch.allclose(after, x + (share * sigma - sigma) * (x - x0) / sigma, atol=1e-8)
    assert torch.allclose(after, step_to(x, x0, sigma, share * sigma, 0.0, None), atol=1e-8)


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_last_interval_ends_at_the_denoised_sample(solver: str) -> None:
    x = draw(10, 2)
    wanted = gaussian_denoiser(x, column(0.002, 3.0))
    after = ode_step(gaussian_denoiser, x, column(0.002, 3.0), column(0, 0), solver=solver)
    assert torch.allclose(after, wanted, atol=1e-12)
    mixed = ode_step(gaussian_denoiser, x, column(0.002, 3.0), column(0, 2.0), solver=solver)
    assert torch.allclose(mixed[0], wanted[0], atol=1e-12)
    assert bool(torch.isfinite(mixed).all())


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_the_solvers_on_gaussian_data(solver: str, order: int) -> None:
    """Halving the step divides the error over a fixed interval by 2 (Euler) or 4 (Heun)."""
    x = draw(11) * 3

    def error(steps: int) -> float:
        levels = torch.linspace(3.0, 1.0, steps + 1, dtype=torch.float64)
        y = x
        for i in range(steps):
            y = ode_step(gaussian_denoiser, y, levels[i : i + 1], levels[i + 1 : i + 2], solver=solver)
        return (y - gaussian_ode(x, column(3.0), column(1.0))).abs().max().item()

    assert math.log2(error(32) / error(64)) == pytest.approx(order, abs=0.1)


def test_unknown_solver_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"solver = 'rk4'.*'euler', 'heun'"):
        ode_step(gaussian_denoiser, draw(0), column(2.0), column(1.0), solver="rk4")


def test_teacher_pair_starts_on_the_noised_sample_and_keeps_no_gradient() -> None:
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    x0, noise, sigma, after = draw(12, 2), draw(13, 2), column(5.0, 2.0), column(4.0, 0.0)
    x, x_next = teacher_pair(lambda y, t: weight * y, x0, noise, sigma, after)
    assert torch.allclose(x, x0 + torch.stack([5 * noise[0], 2 * noise[1]]))
    assert not x_next.requires_grad


# ---------------------------------------------------------------- the loss


def test_pseudo_huber_is_its_formula_and_does_not_cancel() -> None:
    d = torch.linspace(-3, 3, 61, dtype=torch.float64)
    assert torch.allclose(pseudo_huber(d, 0.5), (d**2 + 0.25).sqrt() - 0.5)
    tiny = torch.tensor([1e-5], dtype=torch.float32)
    assert pseudo_huber(tiny, 0.5).item() == pytest.approx(1e-10, rel=1e-3)  # the plain form gives 0 in fp32


def test_pseudo_huber_has_a_finite_gradient_at_zero() -> None:
    d = torch.zeros(3, requires_grad=True)
    pseudo_huber(d, 1e-3).sum().backward()
    assert d.grad is not None
    assert d.grad.tolist() == [0, 0, 0]


def test_weights_on_the_usual_grid() -> None:
    grid = distillation_grid(40)
    weights = level_weights(grid[:-1], grid[1:], 0.1)
    assert weights[0].item() == pytest.approx(0.63, abs=0.005)
    assert weights[-1].item() == pytest.approx(1.9, abs=0.05)
    assert bool((weights[1:-1] >= weights[:-2]).all())
    assert torch.equal(level_weights(grid[:-1], grid[1:], 0.0), torch.ones(40, dtype=torch.float64))
    assert torch.allclose(level_weights(grid[:-1], grid[1:], 1.0), 1 / (grid[:-1] - grid[1:]))


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_oracle_teacher_and_oracle_student_have_no_loss(solver: str) -> None:
    grid = distillation_grid(40)
    index = torch.arange(40)
    x0, noise = draw(14, 40), draw(15, 40)
    oracle = as_network(lambda x, sigma: x0)
    sigma, after = grid[index], grid[index + 1]
    x, x_next = teacher_pair(oracle, x0, noise, sigma, after, solver=solver)
    assert matching_losses(oracle, oracle, x, x_next, sigma, after, **PLAIN).abs().max() < 1e-6


def test_exact_solution_map_is_a_fixed_point_on_gaussian_data() -> None:
    """With points of one exact trajectory, the true consistency function has no loss, and the denoiser has."""
    grid = distillation_grid(40)
    sigma, after = grid[:-1], grid[1:]
    x = MEAN + draw(16, 40) * rows((SPREAD**2 + sigma**2).sqrt(), draw(16, 40))
    x_next = gaussian_ode(x, sigma, after)
    true, other = as_network(gaussian_map), as_network(gaussian_denoiser)
    assert matching_losses(true, true, x, x_next, sigma, after, **PLAIN).max() < 1e-6
    middle = (sigma > 0.1) & (sigma < 2)
    assert matching_losses(other, other, x, x_next, sigma, after, **PLAIN)[middle].min() > 1e-4


def test_exact_map_is_near_a_fixed_point_of_the_solvers_and_nearer_with_heun() -> None:
    grid = distillation_grid(40)
    sigma, after = grid[:-1], grid[1:]
    teacher, true = as_network(gaussian_denoiser), as_network(gaussian_map)
    mean = {}
    for solver in ("euler", "heun"):
        x, x_next = teacher_pair(teacher, MEAN + SPREAD * draw(17, 40), draw(18, 40), sigma, after, solver=solver)
        mean[solver] = matching_losses(true, true, x, x_next, sigma, after, **PLAIN).mean().item()
    assert mean["euler"] < 0.05
    assert mean["heun"] < 0.2 * mean["euler"]


def test_at_the_last_interval_the_target_is_the_teacher_s_answer() -> None:
    def unused(x: Tensor, t: Tensor) -> Tensor:
        raise AssertionError("the target network has nothing to say at sigma 0")

    x, x_next, sigma, after = draw(19), draw(20), column(0.002), column(0.0)
    student = as_network(gaussian_denoiser)
    loss = matching_losses(student, unused, x, x_next, sigma, after, huber_c=0.5, exponent=0.0)
    wanted = pseudo_huber(gaussian_denoiser(x, sigma) - x_next, 0.5).mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_gradient_flows_into_the_student_alone() -> None:
    torch.manual_seed(0)
    parts = [nn.Conv3d(2, 2, 1).double() for _ in range(3)]
    student, target, teacher = (lambda x, t, net=net: net(x) for net in parts)
    x0, noise, sigma, after = draw(21, 2), draw(22, 2), column(5.0, 0.002), column(4.0, 0.0)
    x0, noise = x0.transpose(1, 2)[:, :2], noise.transpose(1, 2)[:, :2]
    x, x_next = teacher_pair(teacher, x0, noise, sigma, after)
    matching_losses(student, target, x, x_next, sigma, after, **PLAIN).sum().backward()
    found = [[p.grad is not None and bool(p.grad.abs().sum() > 0) for p in net.parameters()] for net in parts]
    assert found == [[True, True], [False, False], [False, False]]


def test_without_an_average_the_target_is_the_student_with_its_gradient_stopped() -> None:
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    x, x_next, sigma, after = draw(23), draw(24), column(2.0), column(1.0)

    def student(y: Tensor, t: Tensor) -> Tensor:
        return weight * y

    (alone,) = torch.autograd.grad(matching_losses(student, student, x, x_next, sigma, after, **PLAIN).sum(), weight)
    frozen = weight.detach().clone()
    (beside,) = torch.autograd.grad(
        matching_losses(student, lambda y, t: frozen * y, x, x_next, sigma, after, **PLAIN).sum(), weight
    )
    assert torch.equal(alone, beside)

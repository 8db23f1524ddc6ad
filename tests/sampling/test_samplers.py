from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.errors import RequestError
from svdlab.sampling import NoiseStreams, precondition, reinjection, sample, scalings, sigmas, start, step_to

SHAPE = (1, 3, 4, 4, 4)


def unit(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@given(st.floats(0.002, 1000))
def test_preconditioning_inverts_v_prediction(sigma):
    x0, n = unit(0).double(), unit(1).double()
    target = (n - sigma * x0) / math.sqrt(sigma**2 + 1)
    denoised = precondition(lambda x, t: target)(x0 + sigma * n, sigma)
    assert torch.allclose(denoised, x0, atol=1e-6)


def test_network_sees_unit_variance_and_a_quarter_log_sigma():
    seen = {}

    def network(x, c_noise):
        seen.update(std=x.std().item(), c_noise=c_noise)
        return torch.zeros_like(x)

    sigma = 50.0
    wide = torch.randn(1, 25, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    precondition(network)(wide * math.sqrt(sigma**2 + 1), sigma)
    assert seen["std"] == pytest.approx(1, abs=0.02)
    assert seen["c_noise"] == pytest.approx(0.25 * math.log(sigma))


def test_at_sigma_zero_the_denoiser_is_the_identity():
    x = unit(0)
    assert precondition(lambda x, t: torch.full_like(x, torch.nan))(x, 0.0) is x
    assert scalings(0.0)[:3] == (1, 0, 1)


@settings(deadline=None)
@given(st.integers(1, 40), st.sampled_from(["animatelcm", "even", "karras"]), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_an_oracle_recovers_x0_at_every_step_count(steps, schedule, gamma):
    x0 = unit(7)
    levels = sigmas(steps, schedule=schedule)
    got = sample(lambda x, sigma: x0, start(unit(1), levels), levels, lambda k: unit(100 + k), gamma=gamma)
    assert torch.equal(got, x0)


def test_full_renoising_is_the_denoised_plus_noise_at_the_next_level():
    levels, noises = sigmas(3), [unit(10), unit(11), unit(12)]
    seen = []
    start_x = start(unit(1), levels)
    sample(lambda x, s: 0.5 * torch.tanh(x), start_x, levels, noises.__getitem__, callback=seen.append)
    assert [set(entry) for entry in seen] == [{"k", "x", "sigma", "denoised"}] * 3
    assert torch.equal(seen[0]["x"], start_x)
    for k in (0, 1):
        expected = seen[k]["denoised"] + levels[k + 1].item() * noises[k]
        assert torch.allclose(seen[k + 1]["x"], expected, rtol=1e-6)


def test_gamma_between_keeps_the_variance_of_the_next_level():
    """With x - D = sigma n, the part along the ODE and the fresh part add up to sigma_next in variance."""
    generator = torch.Generator().manual_seed(0)
    n, z = torch.randn(2, 200_000, generator=generator)
    for gamma in (0.0, 0.25, 0.5, 0.75, 1.0):
        x_next = step_to(70.0 * n, torch.zeros_like(n), 70.0, 13.0, gamma, z)
        assert x_next.std().item() == pytest.approx(13.0, rel=0.01)


def test_noise_is_asked_only_where_it_is_needed():
    asked = []

    def noise(k):
        asked.append(k)
        return unit(k)

    levels = sigmas(4)
    sample(lambda x, s: x * 0, start(unit(0), levels), levels, noise, gamma=0.0)
    assert asked == []
    sample(lambda x, s: x * 0, start(unit(0), levels), levels, noise, gamma=1.0)
    assert asked == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
@pytest.mark.parametrize("steps", [1, 2, 5, 25])
def test_gamma_zero_is_diffusers_euler_with_svds_settings(steps):
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

    euler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    euler.set_timesteps(steps)
    levels = sigmas(steps, schedule="karras")
    assert torch.allclose(euler.sigmas.double(), levels, rtol=1e-5)

    def network(x, t):
        return torch.sin(3 * x + t)

    x = unit(3) * euler.init_noise_sigma
    assert torch.allclose(x, start(unit(3), levels), rtol=1e-6)
    for t in euler.timesteps:
        v = network(euler.scale_model_input(x, t), t)
        x = euler.step(v, t, x, return_dict=False)[0]
    got = sample(precondition(network), start(unit(3), levels), levels, unit, gamma=0.0)
    assert torch.linalg.norm(got - x) <= 1e-4 * torch.linalg.norm(x)


@pytest.mark.parametrize("schedule", ["animatelcm", "even", "karras"])
@pytest.mark.parametrize("gamma", [0.0, 0.4, 1.0])
def test_the_diffusers_scheduler_gives_the_same_latents(schedule, gamma):
    from svdlab.sampling import SVDLCMScheduler

    def network(x, t):
        return torch.cos(2 * x - float(t))

    seeds = [5, 6]
    noise = torch.stack([NoiseStreams(seed).initial(SHAPE[1:]) for seed in seeds])
    levels = sigmas(4, schedule=schedule)
    got = sample(precondition(network), start(noise, levels), levels, reinjection(seeds, levels, noise), gamma=gamma)
    scheduler = SVDLCMScheduler(noise_seed=seeds, schedule=schedule, gamma=gamma)
    scheduler.set_timesteps(4)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        v = network(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(v, t, x).prev_sample
    assert torch.allclose(x, got, rtol=1e-5, atol=1e-6)


def test_the_diffusers_scheduler_saves_and_loads_its_settings(tmp_path):
    from svdlab.sampling import SVDLCMScheduler

    SVDLCMScheduler(noise_seed=9, schedule="even", gamma=0.5, sigma_max=300.0).save_pretrained(tmp_path)
    loaded = SVDLCMScheduler.from_pretrained(tmp_path)
    assert (loaded.config.noise_seed, loaded.config.schedule, loaded.config.gamma) == (9, "even", 0.5)
    loaded.set_timesteps(4)
    assert loaded.sigmas[0] == 300
    assert loaded.step(torch.zeros(SHAPE), loaded.timesteps[0], unit(0), return_dict=False)[0].shape == SHAPE


def test_the_diffusers_scheduler_refuses_what_it_cannot_do():
    from svdlab.sampling import SVDLCMScheduler

    with pytest.raises(RequestError, match="gamma = 2"):
        SVDLCMScheduler(gamma=2)
    scheduler = SVDLCMScheduler(noise_seed=[1, 2])
    scheduler.set_timesteps(2)
    with pytest.raises(RequestError, match="2 seeds for 1 videos"):
        scheduler.step(torch.zeros(SHAPE), scheduler.timesteps[0], unit(0))


@pytest.mark.parametrize("levels", [[1.0], [1.0, 0.5], [1.0, 2.0, 0.0], [[1.0, 0.0]]])
def test_levels_that_do_not_descend_to_zero_are_refused(levels):
    with pytest.raises(RequestError, match="must be at least two descending noise levels, the last 0"):
        sample(lambda x, s: x, unit(0), torch.tensor(levels), unit)


def test_gamma_outside_its_range_is_refused():
    with pytest.raises(RequestError, match=r"gamma = 1\.5"):
        sample(lambda x, s: x, unit(0), sigmas(2), unit, gamma=1.5)


def test_the_package_names_only_what_it_has():
    import svdlab.sampling as sampling

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sampling.nothing

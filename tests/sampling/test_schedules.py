from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import RequestError
from svdlab.sampling import grid_indices, karras_grid, scalings, sigmas

# Noise levels of the reference few-step sampler, 5 significant digits.
REFERENCE = {
    1: [700],
    2: [700, 13.678],
    3: [700, 70.541, 2.2691],
    4: [700, 128.56, 13.678, 0.49688],
    5: [700, 186.75, 36.584, 4.3526, 0.2012],
    6: [700, 266.19, 86.664, 22.76, 4.3526, 0.49688],
    7: [700, 315.74, 128.56, 45.851, 13.678, 3.1666, 0.49688],
    8: [700, 315.74, 128.56, 45.851, 13.678, 3.1666, 0.49688, 0.039754],
}


@pytest.mark.parametrize("steps", REFERENCE)
def test_animatelcm_gives_the_reference_sigmas(steps):
    got = sigmas(steps)
    assert got[-1] == 0
    assert got[:-1].tolist() == pytest.approx(REFERENCE[steps], rel=1e-4)


@pytest.mark.parametrize(
    ("steps", "last"), [(9, 0.2012), (14, 2.269), (16, 0.4969), (21, 13.68), (25, 4.353), (40, 0.002)]
)
def test_animatelcm_can_end_high(steps, last):
    assert sigmas(steps)[-2].item() == pytest.approx(last, rel=1e-3)


def test_network_times_of_four_steps():
    times = [scalings(sigma).c_noise for sigma in sigmas(4)[:-1].tolist()]
    assert times == pytest.approx([1.6378, 1.2141, 0.6540, -0.1749], abs=1e-4)


def test_grid_has_the_ends_it_was_asked_for():
    grid = karras_grid(40)
    assert grid[0] == 700
    assert grid[-1].item() == pytest.approx(0.002, rel=1e-9)
    assert grid[[1, 19, 38]].tolist() == pytest.approx([601.2, 17.73, 0.004799], rel=1e-3)


@given(st.integers(2, 40))
def test_even_never_ends_higher_with_more_steps(steps):
    indices = grid_indices(steps, "even")
    assert indices[0] == 0
    assert indices[-1] >= 35
    assert len(set(indices)) == steps


@given(st.sampled_from(["animatelcm", "even", "karras"]), st.integers(1, 40), st.floats(1, 2000))
def test_sigmas_descend_from_sigma_max_to_zero(schedule, steps, sigma_max):
    got = sigmas(steps, schedule=schedule, sigma_max=sigma_max)
    assert got.shape == (steps + 1,)
    assert got.dtype == torch.float64
    assert got[0] == sigma_max
    assert got[-1] == 0
    assert (got[:-1] > got[1:]).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"steps": 0}, "steps = 0: must be a whole number from 1 to 40"),
        ({"steps": 41}, "steps = 41"),
        ({"steps": 101, "schedule": "karras"}, "from 1 to 100"),
        ({"steps": 4, "schedule": "cosine"}, "schedule = 'cosine': must be one of 'animatelcm'"),
        ({"steps": 4, "sigma_max": 0.001}, "sigma_max = 0.001: must be above 0.002"),
    ],
)
def test_impossible_schedules_are_refused(call, words):
    with pytest.raises(RequestError, match=words):
        sigmas(**call)

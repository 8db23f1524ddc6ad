from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import StatsError
from svdlab.stats import paired_power, pairs_needed


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_published_sample_sizes(effect, pairs):
    """Cohen's small, medium and large effect: the numbers of the usual tables for a paired t-test, 80 % at 5 %."""
    assert pairs_needed(effect) == pairs
    assert pairs_needed(-effect) == pairs


def test_the_power_is_that_of_the_noncentral_t():
    at = scipy.stats.t.ppf(0.975, 11)
    assert paired_power(0.7, 12) == pytest.approx(scipy.stats.nct.sf(at, 11, 0.7 * math.sqrt(12)))


def test_simulated_intervals_exclude_zero_as_often():
    values = np.random.default_rng(0).normal(0.9, 1, size=(4000, 12))
    reach = scipy.stats.t.ppf(0.975, 11) * values.std(axis=1, ddof=1) / np.sqrt(12)
    assert (values.mean(axis=1) - reach > 0).mean() == pytest.approx(paired_power(0.9, 12), abs=0.02)


@given(st.floats(0.05, 5), st.floats(0.2, 0.99))
def test_it_is_the_smallest_number_that_will_do(effect, power):
    pairs = pairs_needed(effect, power=power)
    assert pairs >= 2
    assert paired_power(effect, pairs) >= power
    assert pairs == 2 or paired_power(effect, pairs - 1) < power


def test_no_effect_needs_no_number():
    assert pairs_needed(0.0) is None
    assert pairs_needed(1e-6) is None
    assert pairs_needed(math.nan) is None


def test_certainty_needs_two():
    assert pairs_needed(math.inf) == 2


def test_bad_shares_are_refused():
    with pytest.raises(StatsError, match=r"power = 80: must be a share"):
        pairs_needed(0.5, power=80)
    with pytest.raises(StatsError, match=r"level = 95"):
        pairs_needed(0.5, level=95)
    with pytest.raises(StatsError, match=r"pairs = 1: an interval needs at least 2"):
        paired_power(0.5, 1)

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.errors import StatsError
from svdlab.stats import clustered_mean, t_interval
from svdlab.stats.intervals import check_level, t_quantile

UNIT = ("image", "seed")
finite = st.floats(-1e3, 1e3, allow_nan=False).map(lambda v: round(v, 3))


def cross(images: int, seeds: int) -> dict[str, np.ndarray]:
    return {"image": np.repeat(np.arange(images), seeds), "seed": np.tile(np.arange(seeds), images)}


def test_the_t_interval_is_scipys():
    values = [0.3, 1.2, 0.7, 2.0, 1.1]
    expected = scipy.stats.t.interval(0.9, 4, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert t_interval(values, 0.9)[1:] == pytest.approx(expected)
    assert t_interval(values)[0] == np.mean(values)


def test_one_value_has_no_interval():
    mean, low, high = t_interval([3.0])
    assert mean == 3
    assert math.isnan(low)
    assert math.isnan(high)


def test_tabled_quantiles():
    """Student's table, two-sided 5 %."""
    assert [round(t_quantile(df), 3) for df in (1, 2, 5, 10, 30)] == [12.706, 4.303, 2.571, 2.228, 2.042]


def test_one_unit_a_cluster_is_the_ordinary_interval():
    values = np.array([0.3, 1.2, 0.7, 2.0])
    found = clustered_mean(values, {"image": np.zeros(4), "seed": np.arange(4)}, over=UNIT)
    assert (found.value, found.low, found.high) == pytest.approx(t_interval(values))
    assert found.over == ("seed",)
    assert found.scope == "for this picture and new seeds"
    assert found.size == "n = 4: 1 picture x 4 seeds"


def test_a_full_cross_adds_the_variances_of_both_means():
    values = np.random.default_rng(0).normal(size=(3, 5)) + np.arange(3)[:, None]
    found = clustered_mean(values.ravel(), cross(3, 5), over=UNIT)
    pictures, seeds = (values.mean(axis=axis).var(ddof=1) / values.shape[1 - axis] for axis in (1, 0))
    assert found.se**2 == pytest.approx(pictures + seeds)
    assert found.df == pytest.approx((pictures + seeds) ** 2 / (pictures**2 / 2 + seeds**2 / 4))
    assert found.high - found.value == pytest.approx(scipy.stats.t.ppf(0.975, found.df) * found.se)
    assert found.scope == "for new pictures and new seeds"


def test_over_seeds_alone_pictures_do_not_count():
    values = np.random.default_rng(0).normal(size=(3, 5))
    apart = clustered_mean((values + 100 * np.arange(3)[:, None]).ravel(), cross(3, 5), over=["seed"])
    assert apart.se == pytest.approx(values.mean(axis=0).std(ddof=1) / np.sqrt(5))
    assert apart.scope == "for these pictures and new seeds"


def test_seeds_of_their_own_are_counted_within_their_pictures():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    found = clustered_mean(values, {"image": np.array([0, 0, 1, 1]), "seed": np.arange(4)}, over=UNIT)
    assert found.over == ("image",)
    assert (found.low, found.high) == pytest.approx(t_interval([1.5, 5.5])[1:])


def test_pictures_and_seeds_that_go_together_count_once():
    values = np.array([1.0, 2.0, 4.0])
    found = clustered_mean(values, {"image": np.arange(3), "seed": np.arange(3)}, over=UNIT)
    assert found.over == ("image",)
    assert (found.low, found.high) == pytest.approx(t_interval(values)[1:])


def test_a_single_unit_says_so():
    found = clustered_mean([2.0], {"image": ["a"], "seed": [1]}, over=UNIT)
    assert found.value == 2
    assert not found.known
    assert not found.settled
    assert found.scope == "no interval: a single unit"


def test_equal_units_have_an_interval_without_width():
    found = clustered_mean([2.0] * 4, cross(2, 2), over=UNIT)
    assert (found.low, found.high) == (2, 2)
    assert found.settled


@pytest.mark.parametrize(
    ("images", "seeds", "spread"),
    [
        (1, 5, (0, 1, 0.5)),
        (2, 4, (0, 0, 1)),
        (3, 4, (0, 1, 1)),
        (4, 4, (1, 0, 1)),
        (4, 6, (1, 1, 1)),
        (6, 6, (1, 0, 0.2)),
    ],
)
def test_intervals_hold_the_true_mean_about_as_often_as_they_say(images, seeds, spread):
    """Values with a picture's part, a seed's part and a rest. Counting units as independent holds far less often."""
    random = np.random.default_rng(7)
    held = naive = 0
    for _ in range(200):
        parts = random.normal(size=(images, 1)), random.normal(size=(1, seeds)), random.normal(size=(images, seeds))
        values = sum(size * part for size, part in zip(spread, parts, strict=True)).ravel()
        found = clustered_mean(values, cross(images, seeds), over=UNIT)
        held += found.low <= 0 <= found.high
        low, high = t_interval(values)[1:]
        naive += low <= 0 <= high
    assert 0.90 <= held / 200 <= 1
    if spread[0] and images > 1:
        assert naive / 200 < 0.85


@settings(max_examples=40, deadline=None)
@given(st.lists(finite, min_size=6, max_size=6), finite, st.permutations(range(6)))
def test_order_shift_and_sign(values, shift, order):
    values, labels, order = np.array(values), cross(2, 3), list(order)
    found = clustered_mean(values, labels, over=UNIT)
    other = clustered_mean(values[order], {name: label[order] for name, label in labels.items()}, over=UNIT)
    assert (other.low, other.high) == pytest.approx((found.low, found.high), abs=1e-9)
    moved = clustered_mean(values + shift, labels, over=UNIT)
    assert moved.se == pytest.approx(found.se, abs=1e-9)
    turned = clustered_mean(-values, labels, over=UNIT)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


@pytest.mark.parametrize("level", [0, 1, 95, "0.95", True, math.nan])
def test_a_level_is_a_share(level):
    with pytest.raises(StatsError, match=r"level = .* must be a share between 0 and 1"):
        check_level(level)

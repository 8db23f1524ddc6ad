from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.errors import StatsError
from svdlab.stats import clustered_mean, trend
from svdlab.stats.resample import bootstrap_interval, cluster_weights, fewest_clusters
from svdlab.stats.trend import spearman_rows
from tests.stats.conftest import Noise, drop, shuffled, table

BUCKETS = (32, 64, 127, 180, 224)


def rising(noise: int = 0, size: float = 30.0):
    draw = Noise(noise)
    return lambda *, image, seed, motion_bucket_id, **_: (
        1000 * image + motion_bucket_id + size * draw(image, seed, motion_bucket_id)
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=4))
def test_rows_are_scipys_spearman_also_with_ties(rows):
    values, x = np.array(rows, dtype=float), np.array([1.0, 2, 4, 8, 12, 16])
    found, flat = spearman_rows(values, x)
    for rho, still, row in zip(found, flat, values, strict=True):
        assert still == (np.ptp(row) == 0)
        assert rho == pytest.approx(0 if still else scipy.stats.spearmanr(x, row).statistic)


def test_a_missing_value_is_left_out_with_its_place():
    found, _ = spearman_rows(np.array([[1.0, np.nan, 0.0, 2.0]]), np.array([1.0, 2, 3, 4]))
    assert found[0] == pytest.approx(scipy.stats.spearmanr([1, 3, 4], [1, 0, 2]).statistic)


def test_a_steady_rise_hidden_by_pictures_is_found():
    """Over all clips at once the pictures hide it."""
    df = table(rising(size=0), motion_bucket_id=BUCKETS)
    found = trend(df, "motion_bucket_id", "flow_mean")
    assert found.rho.value == 1
    assert found.monotone == "rising"
    assert (found.rising, found.falling, found.lines, found.flat) == (8, 0, 8, 0)
    assert scipy.stats.spearmanr(df["motion_bucket_id"], df["flow_mean"]).statistic < 0.6


def test_the_mean_of_the_units_and_their_clustered_interval():
    df = table(rising(), images=3, seeds=4, motion_bucket_id=BUCKETS)
    found = trend(df, "motion_bucket_id", "flow_mean")
    rho = [scipy.stats.spearmanr(unit["motion_bucket_id"], unit["flow_mean"]).statistic
           for _, unit in df.groupby(["image", "seed"])]  # fmt: skip
    assert found.units["rho"].tolist() == pytest.approx(rho)
    labels = {"image": found.units["image"], "seed": found.units["seed"]}
    expected = clustered_mean(rho, labels, over=["image", "seed"])
    assert found.method == "t"
    assert (found.rho.low, found.rho.high) == pytest.approx((expected.low, min(1, expected.high)))


def test_other_settings_make_lines_of_their_own():
    def rule(*, image, seed, steps, fps):
        return (steps if fps == 5 else -steps) + 100 * fps

    found = trend(table(rule, steps=(1, 2, 4), fps=(5, 10)), "steps", "flow_mean")
    assert found.rho.value == 0
    assert found.lines == 16


def test_a_curve_that_turns_is_told_from_one_that_rises():
    df = table(lambda *, image, seed, steps: {1: 0, 2: 3, 4: 2}[steps] + seed, steps=(1, 2, 4))
    found = trend(df, "steps", "flow_mean")
    assert found.monotone == "turning"
    assert "it turns, with its top at 2 and its bottom at 1" in found.sentence
    assert trend(df.assign(flow_mean=-df["flow_mean"]), "steps", "flow_mean").rho.value == -found.rho.value


def test_a_metric_that_does_not_react():
    found = trend(table(lambda *, image, seed, steps: seed), "steps", "flow_mean")
    assert found.rho.value == 0
    assert found.flat == found.lines == 8
    assert found.monotone == "flat"
    assert "flow_mean does not change with steps at all" in found.sentence


def test_the_sentence():
    words = trend(table(rising(), motion_bucket_id=BUCKETS), "motion_bucket_id", "flow_mean").sentence
    assert words.startswith("flow_mean rises with motion_bucket_id: Spearman's rho is 0.")
    assert "on average (95 % t interval 0." in words
    assert "of 8 pairs of picture and seed, 8 rise and 0 fall" in words
    assert "px/frame at 32 and" in words


def test_noise_is_not_settled_and_said_so():
    draw = Noise(3)
    df = table(lambda *, image, seed, steps: draw(image, seed, steps), steps=(1, 2, 4, 8))
    assert "Whether flow_mean rises or falls with steps is not settled" in trend(df, "steps", "flow_mean").sentence


def test_one_unit_has_no_interval():
    found = trend(table(rising(), images=1, seeds=1, motion_bucket_id=BUCKETS), "motion_bucket_id", "flow_mean")
    assert not found.rho.known
    assert "no interval: a single unit" in found.sentence


def test_failed_cells_shorten_their_line_alone():
    df = table(rising(size=0), motion_bucket_id=(32, 127, 200, 224))
    df = drop(df, image="picture 0", seed=0, motion_bucket_id=127)
    found = trend(df, "motion_bucket_id", "flow_mean")
    assert found.rho.value == 1
    assert found.rho.n == 8
    assert found.curve["n"].tolist() == [7] * 4  # the means are of complete lines
    df = drop(df, image="picture 0", seed=0, motion_bucket_id=32)
    found = trend(df, "motion_bucket_id", "flow_mean")
    assert found.rho.n == 7
    assert found.left_out == {"failed": 2, "on lines of fewer than 3 values": 2}


def test_the_bootstrap_comes_with_enough_pictures_and_seeds():
    df = table(rising(size=60), images=5, seeds=5, motion_bucket_id=BUCKETS)
    found = trend(df, "motion_bucket_id", "flow_mean")
    assert found.method == "bootstrap"
    assert -1 <= found.rho.low < found.rho.value < found.rho.high <= 1
    assert "95 % bootstrap interval" in found.sentence
    again = trend(shuffled(df), "motion_bucket_id", "flow_mean")
    assert (again.rho.low, again.rho.high) == (found.rho.low, found.rho.high)
    few = trend(df[df["seed"] < 3], "motion_bucket_id", "flow_mean", method="bootstrap")
    assert "a bootstrap of 3 is too narrow" in few.sentence


def test_the_bootstrap_of_seeds_is_scipys():
    values = np.random.default_rng(0).normal(size=12)
    labels = {"seed": np.arange(12)}
    estimate = clustered_mean(values, labels, over=["seed"])
    low, high = bootstrap_interval(values, labels, estimate=estimate, resamples=20_000, seed=1)
    level = 1 - 2 * scipy.stats.norm.cdf(-scipy.stats.t.ppf(0.975, 11) * np.sqrt(12 / 11))
    expected = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", confidence_level=level, n_resamples=20_000, rng=2
    ).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.03)


def test_pictures_and_seeds_are_drawn_independently():
    labels = {"image": np.repeat([0, 1], 3), "seed": np.tile([0, 1, 2], 2)}
    weights = cluster_weights(labels, over=["image", "seed"], resamples=500, seed=0).reshape(500, 2, 3)
    pictures, seeds = weights.sum(axis=2) / 3, weights.sum(axis=1) / 2
    np.testing.assert_allclose(weights, pictures[:, :, None] * seeds[:, None, :])
    assert weights.sum(axis=(1, 2)) == pytest.approx(np.full(500, 6.0))
    assert cluster_weights({"seed": [1, 1]}, over=["seed"], resamples=5, seed=0) is None


@pytest.mark.parametrize(("images", "seeds"), [(1, 6), (5, 5), (8, 6)])
def test_bootstrap_intervals_hold_the_true_mean(images, seeds):
    random = np.random.default_rng(11)
    labels = {"image": np.repeat(np.arange(images), seeds), "seed": np.tile(np.arange(seeds), images)}
    held = 0
    for k in range(200):
        parts = random.normal(size=(images, 1)) * (images > 1), random.normal(size=(1, seeds))
        values = (parts[0] + parts[1] + random.normal(size=(images, seeds))).ravel()
        estimate = clustered_mean(values, labels, over=["image", "seed"])
        low, high = bootstrap_interval(values, labels, estimate=estimate, resamples=500, seed=k)
        held += low <= 0 <= high
    assert 0.90 <= held / 200 <= 0.995
    assert fewest_clusters(estimate) == (seeds if images == 1 else min(images, seeds))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda df: trend(df, "step", "flow_mean"), "x = 'step': no such column. Did you mean 'steps'"),
        (lambda df: trend(df, "image", "flow_mean"), "numbers are needed"),
        (lambda df: trend(df, "steps", "steps"), "x and metric are both 'steps'"),
        (lambda df: trend(df[df.steps > 1], "steps", "flow_mean"), "compare(df, 'flow_mean', steps=(first, second))"),
        (
            lambda df: trend(df, "steps", "flow_mean", method="BCa"),
            "method = 'BCa': must be one of 'auto', 'bootstrap'",
        ),
        (
            lambda df: trend(df, "steps", "flow_mean", resamples=10),
            "resamples = 10: must be a whole number of at least",
        ),
        (lambda df: trend(df, "steps", "flow_mean", axes="steps"), "axes = 'steps': must be a sequence of columns"),
        (lambda df: trend(df.assign(status="failed"), "steps", "flow_mean"), "no finished cells (24 failed)"),
        (lambda df: trend(df.assign(flow_mean=np.nan), "steps", "flow_mean"), "none of the 24 finished cells has it"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(call, message):
    with pytest.raises(StatsError) as refused:
        call(table(lambda *, image, seed, steps: steps))
    assert message in str(refused.value)

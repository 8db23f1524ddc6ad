from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.errors import StatsError
from svdlab.stats import variance
from svdlab.stats.variance import BY_PICTURE, BY_SEED, GROUPS, PICTURE, SEED, SETTINGS
from tests.stats.conftest import Noise, drop, shuffled, table


def shares(found, column: str = "share") -> pd.Series:
    return found.table.set_index("source")[column]


def mixture(noise: int = 0, *, setting=1.0, picture=1.0, seed=1.0, rest=1.0):
    """Standard deviations of each part; three step counts, two pictures."""
    draw = Noise(noise)
    steps_effect = {1: -(1.5**0.5), 2: 0.0, 4: 1.5**0.5}
    sizes = {"setting": setting, "picture": picture, "seed": seed, "rest": rest}

    def rule(*, image, seed, steps):
        own = {"setting": steps_effect[steps], "picture": 2 * image - 1, "seed": draw(image, seed)}
        own["rest"] = draw(image, seed, steps) if rest else 0.0
        return sum(size * own[name] for name, size in sizes.items())

    return rule


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (lambda *, image, seed, steps: steps**2, SETTINGS),
        (lambda *, image, seed, steps: image, PICTURE),
        (lambda *, image, seed, steps: seed**2, SEED),
        (lambda *, image, seed, steps: (2 * image - 1) * (steps - 7 / 3), BY_PICTURE),
        (lambda *, image, seed, steps: (seed - 1.5) * (steps - 7 / 3), BY_SEED),
    ],
)
def test_what_has_one_source_has_it_all(rule, source):
    found = shares(variance(table(rule), "flow_mean"))
    assert found[source] == pytest.approx(1)
    assert found[[name for name in GROUPS if name != source]].tolist() == pytest.approx([0] * 4, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-50, 50), st.floats(0.01, 100))
def test_shares_add_up_and_neither_order_nor_unit_matters(noise, shift, scale):
    df = table(mixture(noise), seeds=3)
    found = variance(df, "flow_mean")
    for column in ("share", "adjusted"):
        assert shares(found, column)[list(GROUPS)].sum() == pytest.approx(1)
    other = variance(shuffled(df.assign(flow_mean=shift + scale * df["flow_mean"])), "flow_mean")
    assert shares(other).tolist() == pytest.approx(shares(found).tolist(), abs=1e-6)
    assert other.gap == pytest.approx(found.gap, abs=1e-6)


def test_every_setting_and_pair_has_its_part_of_all_settings():
    def rule(*, image, seed, steps, fps, schedule):
        return steps + 0.1 * fps + (schedule == "even") * fps + seed

    df = table(rule, steps=(1, 2), fps=(5, 10), schedule=("even", "karras"), seeds=3)
    found = shares(variance(df, "flow_mean"))
    single = ["steps", "fps", "schedule", "steps x fps", "steps x schedule", "fps x schedule", "three or more settings"]
    assert found[single].sum() == pytest.approx(found[SETTINGS])
    assert found["fps x schedule"] > 0.01
    assert found["steps x fps"] == pytest.approx(0, abs=1e-12)
    assert variance(df, "flow_mean").table["df"].tolist() == [1] * 7 + [7, 1, 4, 7, 28]


def test_components_are_found_on_average():
    truth = {SETTINGS: 1.0, PICTURE: 0.25, SEED: 0.5, BY_PICTURE: 0.0, BY_SEED: 0.75}
    size = {"setting": 1.0, "picture": 0.5, "seed": 0.5**0.5, "rest": 0.75**0.5}
    found = [shares(variance(table(mixture(k, **size), seeds=6), "flow_mean"), "adjusted") for k in range(40)]
    mean = pd.concat(found, axis=1).mean(axis=1)
    for name, part in truth.items():
        assert mean[name] == pytest.approx(part / sum(truth.values()), abs=0.04)
    assert variance(table(mixture(0, **size), seeds=100), "flow_mean").table.set_index("source")["sd"][
        SEED
    ] == pytest.approx(0.5**0.5, rel=0.2)


def test_chance_alone_is_taken_away_from_the_settings():
    df = table(mixture(5, setting=0.0, picture=0.0, seed=0.0), seeds=4)
    found = variance(df, "flow_mean")
    assert shares(found)[SETTINGS] > 0.03
    assert shares(found, "adjusted")[SETTINGS] < shares(found)[SETTINGS]


def test_jackknife_intervals_hold_the_true_gap():
    true = (1.0 - 0.5) / (1.0 + 0.25 + 0.5 + 0.75)
    size = {"setting": 1.0, "picture": 0.5, "seed": 0.5**0.5, "rest": 0.75**0.5}
    held = 0
    for k in range(80):
        value, low, high = variance(table(mixture(k, **size), seeds=4), "flow_mean").gap
        held += low <= true <= high
        assert low <= value <= high
    assert 0.85 <= held / 80 <= 1


def test_the_sentence_says_which_explains_more():
    found = variance(table(mixture(seed=0.2, rest=0.1)), "flow_mean")
    assert found.sentence.startswith(
        "Of the variance of flow_mean (2 pictures x 4 seeds x 3 values of steps): all settings "
    )
    assert "The settings explain more than the seed, by " in found.sentence
    assert "% jackknife interval" in found.sentence
    assert "over 4 seeds" in found.sentence
    other = variance(table(mixture(setting=0.01, seed=2, rest=0.01, picture=0)), "flow_mean")
    assert "The seed explains more than the settings, by " in other.sentence
    assert other.gap[2] < 0
    even = variance(table(mixture(3, setting=1, seed=1.2, rest=1)), "flow_mean")
    assert "so which explains more is not settled" in even.sentence


def test_two_seeds_tell_which_but_not_how_surely():
    found = variance(table(mixture(seed=0.1, rest=0.1), seeds=2), "flow_mean")
    assert found.jackknifed is None
    assert found.table["low"].isna().all()
    assert "The settings explain more than the seed here; how sure" in found.sentence


def test_pictures_are_left_out_one_at_a_time_when_seeds_are_few():
    found = variance(table(mixture(), images=4, seeds=2), "flow_mean")
    assert found.jackknifed == "image"
    assert "over 4 pictures" in found.sentence


def test_one_seed_cannot_say_what_noise_does():
    found = variance(table(mixture(), seeds=1), "flow_mean")
    assert shares(found, "adjusted").isna().all()
    assert shares(found)[[SETTINGS, PICTURE, BY_PICTURE]].sum() == pytest.approx(1)
    assert "With one seed there is no telling what the noise explains." in found.sentence


def test_a_constant_metric_has_no_variance():
    found = variance(table(mixture()), "warp_error")
    assert found.table["share"].isna().all()
    assert "is the same in all 24 clips" in found.sentence


def test_nothing_varies_but_the_seed():
    found = variance(table(lambda *, image, seed, steps: seed, images=1, steps=(4,)), "flow_mean")
    assert shares(found)[SEED] == 1
    assert "Nothing but the seed and the picture varies." in found.sentence


def test_a_gap_costs_its_seed_and_is_counted():
    df = table(mixture())
    gapped = drop(df, image="picture 1", seed=3, steps=4)
    found = variance(gapped, "flow_mean")
    assert found.left_out == {"failed": 1}
    assert "To make the grid full, seed = 3 was left out (5 finished cells)." in found.sentence
    pd.testing.assert_frame_equal(found.table, variance(df[df["seed"] != 3], "flow_mean").table)


def test_seeds_of_their_own_for_each_picture():
    df = table(mixture())
    own = df.assign(seed=df["seed"] + 10 * (df["image"] == "picture 1"))
    pd.testing.assert_frame_equal(variance(own, "flow_mean").table, variance(df, "flow_mean").table)


def test_a_column_of_ones_own_is_a_setting():
    df = table(mixture())
    both = pd.concat([df.assign(weights="a"), df.assign(weights="b", flow_mean=df["flow_mean"] + 10)])
    assert shares(variance(both, "flow_mean", axes=["weights"]))["weights"] > 0.8
    with pytest.raises(StatsError, match="cannot be told apart"):
        variance(both, "flow_mean")


def test_the_sources_are_an_orthogonal_projection():
    """The sum of squares of a setting is that of its level means, whatever else varies."""
    df = table(mixture(2), images=3, seeds=5)
    means = df.groupby("steps")["flow_mean"].mean()
    expected = (
        15 * np.sum((means - df["flow_mean"].mean()) ** 2) / np.sum((df["flow_mean"] - df["flow_mean"].mean()) ** 2)
    )
    assert shares(variance(df, "flow_mean"))["steps"] == pytest.approx(expected)

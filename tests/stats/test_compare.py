from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.errors import StatsError
from svdlab.stats import clustered_mean, compare, pairs_needed, t_interval
from tests.stats.conftest import Noise, drop, shuffled, table, truth


def known(noise: int = 0, size: float = 0.1, effect: float = 0.5):
    draw = Noise(noise)
    return lambda *, image, seed, steps, **_: (
        10 * image + seed + effect * (steps == 4) + size * draw(image, seed, steps)
    )


def test_pictures_and_seeds_cancel_in_the_difference():
    df = table(known(size=0), steps=(1, 4))
    found = compare(df, "flow_mean", steps=(1, 4))
    assert found.difference.value == pytest.approx(0.5)
    assert (found.difference.low, found.difference.high) == pytest.approx((0.5, 0.5))
    assert found.means == pytest.approx((6.5, 7.0))
    assert (found.up, found.down, found.same) == (8, 0, 0)


def test_the_numbers_by_hand():
    df = table(known(), images=3, seeds=4, steps=(1, 4))
    found = compare(df, "flow_mean", steps=(1, 4))
    wide = df.pivot_table(index=["image", "seed"], columns="steps", values="flow_mean")
    d = (wide[4] - wide[1]).unstack("seed").to_numpy()
    assert found.difference.value == pytest.approx(d.mean())
    assert found.difference.se**2 == pytest.approx(d.mean(1).var(ddof=1) / 3 + d.mean(0).var(ddof=1) / 4)
    assert found.effect_size == pytest.approx(d.mean() / d.std(ddof=1))
    assert found.needed == pairs_needed(d.mean() / d.mean(axis=0).std(ddof=1))
    assert found.needed_of == "seed"
    assert found.units["difference"].tolist() == pytest.approx(d.ravel().tolist())


def test_with_one_picture_it_is_the_paired_t_interval():
    df = table(known(), images=1, seeds=6, steps=(1, 4))
    found = compare(df, "flow_mean", steps=(1, 4))
    d = df[df.steps == 4]["flow_mean"].to_numpy() - df[df.steps == 1]["flow_mean"].to_numpy()
    assert (found.difference.low, found.difference.high) == pytest.approx(t_interval(d)[1:])


def test_other_settings_are_averaged_within_a_unit():
    df = table(lambda *, image, seed, steps, fps: seed + steps * fps, steps=(1, 4), fps=(5, 10, 15), seeds=3)
    found = compare(df, "flow_mean", steps=(1, 4))
    assert found.pairs == 18
    assert found.difference.n == 6
    assert found.difference.value == pytest.approx(30)


def test_a_single_value_narrows_the_table():
    df = table(lambda *, image, seed, steps, fps: seed + steps * fps, steps=(1, 4), fps=(5, 10))
    assert compare(df, "flow_mean", steps=(1, 4), fps=5).difference.value == pytest.approx(15)


def test_several_settings_change_at_once():
    df = table(lambda *, image, seed, steps, fps: seed + steps * fps, steps=(1, 4), fps=(5, 10))
    found = compare(df, "flow_mean", steps=(1, 4), fps=(5, 10))
    assert found.difference.value == pytest.approx(35)
    assert found.second == "steps = 4 and fps = 10"


def test_seeds_can_be_compared_over_pictures():
    df = table(lambda *, image, seed, steps: seed + 0.1 * image * seed, images=3, seeds=2, steps=(1, 2))
    found = compare(df, "flow_mean", seed=(0, 1))
    assert found.difference.value == pytest.approx(1.1)
    assert found.difference.over == ("image",)
    assert found.needed_of == "image"


def test_two_sweeps_are_paired_on_all_that_varies_in_both():
    a, b = table(known(effect=0), steps=(1, 4)), table(known(1, effect=0), steps=(1, 4))
    b = shuffled(b.assign(flow_mean=b["flow_mean"] + 2))
    found = compare(a, b, "flow_mean", names=("teacher", "student"))
    assert found.pairs == 16
    assert found.difference.value == pytest.approx(2, abs=0.2)
    assert "higher with student than with teacher" in found.sentence


def test_what_differs_as_a_whole_is_what_is_compared():
    df = table(known(), steps=(1, 4))
    found = compare(df[df.steps == 1], df[df.steps == 4], "flow_mean", names=("one", "four"))
    assert truth(found)["difference"] == pytest.approx(truth(compare(df, "flow_mean", steps=(1, 4)))["difference"])


def test_sweeps_that_overlap_in_part_count_what_is_alone():
    a, b = table(known(), steps=(1, 2)), table(known(), steps=(2, 4), seeds=2)
    found = compare(a, b, "flow_mean")
    assert found.pairs == 4  # 2 pictures, 2 seeds, steps = 2
    assert found.difference.value == 0
    assert found.left_out == {"without a partner": 16}
    assert "on average the same" in found.sentence
    assert "Left out: 16 without a partner." in found.sentence


def test_failed_cells_take_their_partners_along():
    df = drop(table(known(), steps=(1, 4)), image="picture 0", seed=2, steps=4)
    found = compare(df, "flow_mean", steps=(1, 4))
    assert found.difference.n == 7
    assert found.left_out == {"failed": 1, "without a partner": 1}
    assert found.difference.size == "n = 7: 2 pictures, 4 seeds"


def test_done_without_the_metric_is_counted_too():
    df = table(known(), steps=(1, 4))
    df.loc[0, "flow_mean"] = np.nan
    df.loc[3, "flow_mean"] = np.inf
    assert compare(df, "flow_mean", steps=(1, 4)).left_out == {"without flow_mean": 2, "without a partner": 2}


def test_one_unit_has_no_interval_and_says_so():
    found = compare(table(known(), images=1, seeds=1, steps=(1, 4)), "flow_mean", steps=(1, 4))
    assert math.isnan(found.difference.low)
    assert math.isnan(found.effect_size)
    assert found.needed is None
    assert found.sentence.endswith("(no interval: a single unit; n = 1: 1 picture x 1 seed).")
    assert found.better is None


def test_the_sentence():
    df = table(known(size=0.1), steps=(1, 4))
    words = compare(df, "flow_mean", steps=(1, 4)).sentence
    assert words.startswith("flow_mean is 0.")
    assert "px/frame higher with steps = 4 than with steps = 1 (95 % interval 0." in words
    assert "for new pictures and new seeds; n = 8: 2 pictures x 4 seeds)" in words
    assert "Of 8 pairs of picture and seed it is higher in 8; effect size d_z = " in words
    assert "seeds of these pictures show it with 80 % power." in words


def test_the_better_one_is_named_when_it_is_settled():
    df = table(known()).rename(columns={"flow_mean": "psnr_input"}).query("steps != 2")
    found = compare(df, "psnr_input", steps=(4, 1))
    assert found.better == "first"
    assert "Higher is better: steps = 4 wins." in found.sentence
    assert compare(df.rename(columns={"psnr_input": "lpips_input"}), "lpips_input", steps=(4, 1)).better == "second"


def test_an_interval_with_zero_inside_settles_nothing():
    df = table(known(effect=0, size=1), steps=(1, 4)).rename(columns={"flow_mean": "psnr_input"})
    found = compare(df, "psnr_input", steps=(1, 4))
    assert found.better is None
    assert "The interval includes zero: the direction is not settled." in found.sentence


def test_the_number_needed_for_a_difference_that_matters():
    df = table(known(size=1), steps=(1, 4))
    d = compare(df, "flow_mean", steps=(1, 4)).units.groupby("seed")["difference"].mean()
    found = compare(df, "flow_mean", steps=(1, 4), smallest=0.25)
    assert found.needed == pairs_needed(0.25 / d.std(ddof=1))
    assert f"If it is really 0.25, about {found.needed} seeds" in found.sentence


def test_a_metric_that_never_changes():
    found = compare(table(known(), steps=(1, 4)), "warp_error", steps=(1, 4))
    assert found.difference.value == 0
    assert found.same == 8
    assert "not settled" not in found.sentence
    assert math.isnan(found.effect_size)
    assert found.needed is None


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(-100, 100), st.integers(0, 100))
def test_swapping_turns_the_sign_and_neither_order_nor_a_constant_matters(noise, constant, order):
    df = table(known(noise, size=1), seeds=3, steps=(1, 4))
    found = compare(df, "flow_mean", steps=(1, 4))
    swapped = compare(df, "flow_mean", steps=(4, 1))
    assert swapped.difference.value == pytest.approx(-found.difference.value, abs=1e-9)
    assert (swapped.difference.low, swapped.difference.high) == pytest.approx(
        (-found.difference.high, -found.difference.low), abs=1e-9
    )
    assert (swapped.up, swapped.down, swapped.needed) == (found.down, found.up, found.needed)
    moved = shuffled(df.assign(flow_mean=df["flow_mean"] + constant), order)
    same = compare(moved, "flow_mean", steps=(1, 4)).difference
    assert (same.value, same.low, same.high) == pytest.approx(
        (found.difference.value, found.difference.low, found.difference.high), abs=1e-6
    )


def test_intervals_hold_the_true_difference():
    """Pictures respond differently, seeds too; what is asked is the mean over all of them."""
    held = 0
    for k in range(80):
        noise = Noise(k)

        def rule(*, image, seed, steps, noise=noise):
            own = 0.5 + 0.3 * noise("picture", image) + 0.3 * noise("seed", seed)
            return 5 * noise("both", image, seed) + own * (steps == 4) + 0.3 * noise(image, seed, steps)

        found = compare(table(rule, images=4, seeds=4, steps=(1, 4)), "flow_mean", steps=(1, 4)).difference
        held += found.low <= 0.5 <= found.high
    assert 0.90 <= held / 80 <= 0.995


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda df: compare(df, "flow_mean"), "nothing to compare: name a setting"),
        (lambda df: compare(df, "flow_mean", steps=4), "nothing to compare"),
        (lambda df: compare(df, "flow_mean", steps=(1, 3)), "steps = 3: no row has this value. There are 1, 2, 4"),
        (lambda df: compare(df, "flow_mean", steps=(1, 2, 4)), "must be two values"),
        (lambda df: compare(df, "flow_mean", steps=(2, 2)), "the two are the same"),
        (lambda df: compare(df, "flow_mean", step=(1, 2)), "setting = 'step': no such column. Did you mean 'steps'"),
        (lambda df: compare(df, "flow_men", steps=(1, 2)), "metric = 'flow_men': no such column. Did you mean"),
        (lambda df: compare(df, "image", steps=(1, 2)), "numbers are needed. Measured are flow_mean, warp_error"),
        (lambda df: compare(df, df), "metric = None"),
        (lambda df: compare(df, "flow_mean", "warp_error"), "takes one table"),
        (lambda df: compare(df, df[df.seed > 9], "flow_mean"), "second: the table has no rows"),
        (lambda df: compare(df, "flow_mean", steps=(1, 2), over="seed"), "over = 'seed': must be a sequence"),
        (lambda df: compare(df, "flow_mean", steps=(1, 2), level=95), "level = 95"),
        (lambda df: compare(df, "flow_mean", steps=(1, 2), smallest=-1), "smallest = -1: must be a difference above 0"),
        (lambda df: compare(df, "flow_mean", steps=(1, 2), axes="steps"), "axes = 'steps': must be a sequence"),
        (lambda df: compare({}, "flow_mean", steps=(1, 2)), "first = dict: must be a DataFrame"),
        (lambda df: compare(df, 3, "flow_mean"), "second = int: must be a DataFrame"),
        (lambda df: compare(df[df.seed < 2], df[df.seed > 1], "flow_mean"), "no pairs"),
        (lambda df: compare(df, df.drop(columns="steps"), "flow_mean"), "cannot be told apart"),
        (lambda df: compare(df, df[df.steps == 1].drop(columns="steps"), "flow_mean"), "in one of the two tables only"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_in_words(call, message):
    with pytest.raises(StatsError) as refused:
        call(table(known()))
    assert message in str(refused.value)


def test_a_plain_table_without_pictures_or_seeds():
    df = pd.DataFrame({"steps": [1, 4], "quality": [0.1, 0.4]})
    found = compare(df, "quality", steps=(1, 4))
    assert found.difference.value == pytest.approx(0.3)
    assert not found.difference.known


def test_columns_of_ones_own():
    df = table(known(), steps=(1, 4))
    both = pd.concat([df.assign(weights="a"), df.assign(weights="b", flow_mean=df["flow_mean"] + 1)])
    found = compare(both, "flow_mean", weights=("a", "b"))
    assert found.difference.value == pytest.approx(1)
    with pytest.raises(StatsError, match=r"cannot be told apart.*weights.*in axes"):
        compare(both, "flow_mean", steps=(1, 4))
    assert compare(both, "flow_mean", steps=(1, 4), axes=["weights"]).pairs == 16


def test_another_unit_of_repetition():
    df = table(known(), images=3, steps=(1, 4)).rename(columns={"image": "scene"})
    found = compare(df, "flow_mean", steps=(1, 4), over=("scene", "seed"))
    wide = df.pivot_table(index=["scene", "seed"], columns="steps", values="flow_mean")
    labels = {name: wide.index.get_level_values(name) for name in wide.index.names}
    expected = clustered_mean(wide[4] - wide[1], labels, over=["scene", "seed"])
    assert (found.difference.low, found.difference.high) == pytest.approx((expected.low, expected.high))

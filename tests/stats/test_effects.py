from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from svdlab.errors import StatsError
from svdlab.stats import compare, effects, variance
from tests.stats.conftest import Noise, drop, shuffled, table


def crossed(noise: int = 0, size: float = 0.0):
    """Steps add 1 and 3; fps adds 2 with `even`, nothing with `karras`."""
    draw = Noise(noise)

    def rule(*, image, seed, steps, fps, schedule):
        both = 2 * (fps == 10) * (schedule == "even")
        return 10 * image + seed + {1: 0, 2: 1, 4: 3}[steps] + both + size * draw(image, seed, steps, fps, schedule)

    return table(rule, steps=(1, 2, 4), fps=(5, 10), schedule=("even", "karras"), seeds=3)


def row(found: pd.DataFrame, **where) -> pd.Series:
    hit = np.logical_and.reduce([found[name] == value for name, value in where.items()])
    assert hit.sum() == 1
    return found[hit].iloc[0]


def test_main_effects_by_construction():
    main = effects(crossed(), ["flow_mean"]).main
    assert row(main, axis="steps", value=2)["difference"] == pytest.approx(1)
    assert row(main, axis="steps", value=4)[["difference", "low", "high"]].tolist() == pytest.approx([3, 3, 3])
    assert row(main, axis="fps", value=10)["difference"] == pytest.approx(1)
    assert row(main, axis="schedule", value="karras")["difference"] == pytest.approx(-1)
    assert row(main, axis="steps", value=4)[["against", "n", "up", "down"]].tolist() == [1, 6, 6, 0]


def test_interactions_by_construction():
    found = effects(crossed(), ["flow_mean"]).interactions
    assert row(found, axes="fps x schedule")["difference"] == pytest.approx(-2)
    assert row(found, axes="steps x fps")["difference"] == pytest.approx(0, abs=1e-12)
    assert row(found, axes="steps x fps")["share"] == pytest.approx(0, abs=1e-12)
    assert row(found, axes="fps x schedule")["corners"] == "fps 5 to 10, at schedule karras less at schedule even"
    assert effects(crossed(), ["flow_mean"], interactions=False).interactions.empty


def test_a_main_effect_is_the_comparison_of_two_values():
    df = crossed(size=1.0)
    found = row(effects(df, ["flow_mean"]).main, axis="steps", value=4)
    other = compare(df, "flow_mean", steps=(1, 4))
    expected = [other.difference.value, other.difference.low, other.difference.high, other.up, other.down]
    assert found[["difference", "low", "high", "up", "down"]].tolist() == pytest.approx(expected)


def test_shares_are_those_of_the_analysis_of_variance():
    df = crossed(size=1.0)
    found, parts = effects(df, ["flow_mean"]), variance(df, "flow_mean").table.set_index("source")["share"]
    for axis in ("steps", "fps", "schedule"):
        assert found.main.query("axis == @axis")["share"].tolist() == pytest.approx(
            [parts[axis]] * (1 + (axis == "steps"))
        )
    for axes in ("steps x fps", "fps x schedule"):
        assert row(found.interactions, axes=axes)["share"] == pytest.approx(parts[axes])


def test_against_another_value_and_with_axes_of_choice():
    found = effects(crossed(), ["flow_mean"], axes=["steps"], against={"steps": 4})
    assert found.main["value"].tolist() == [1, 2]
    assert found.main["difference"].tolist() == pytest.approx([-3, -2])
    assert found.interactions.empty


def test_pictures_can_be_an_axis():
    found = effects(crossed(), ["flow_mean"], axes=["image"]).main
    assert found["difference"].tolist() == pytest.approx([10])
    assert found["n"].tolist() == [3]


def test_all_measurements_of_a_table_and_nothing_else():
    df = crossed().assign(seconds=1.0, seconds_spent=2.0, vram_peak_mb=np.nan)
    assert list(dict.fromkeys(effects(df).main["metric"])) == ["flow_mean", "warp_error", "seconds"]


def test_a_lost_cell_costs_its_own_pairs_only():
    df = drop(crossed(), image="picture 0", seed=1, steps=4, fps=10, schedule="even")
    found = effects(df, ["flow_mean"])
    assert row(found.main, axis="steps", value=4)["difference"] == pytest.approx(3)
    assert row(found.main, axis="fps", value=10)["difference"] == pytest.approx((5 * 1 + 0.8) / 6)
    assert found.notes == (
        "flow_mean: Left out: 1 failed. For the shares of variance, seed = 1 was left out (23 finished cells).",
    )
    assert found.sentence.endswith(found.notes[0])


def test_without_a_grid_there_are_no_shares():
    df = crossed()
    df["model"] = df["fps"].map({5: "a", 10: "b"}) + df["schedule"] + df["steps"].astype(str)
    found = effects(df, ["flow_mean"], axes=["steps", "fps"])
    assert found.main["n"].tolist() == [0, 0, 0]
    assert found.main["share"].isna().all()
    assert "There is no full grid, so there are no shares of variance." in found.sentence


def test_settings_that_go_together_are_not_told_apart():
    df = crossed()
    found = effects(df[(df["fps"] == 5) == (df["schedule"] == "even")], ["flow_mean"])
    assert found.main.query("axis == 'steps'")["difference"].tolist() == pytest.approx([1, 3])
    assert found.main.query("axis == 'fps'")["n"].tolist() == [0]
    assert found.main.query("axis == 'fps'")["share"].isna().all()


def test_a_value_that_never_finished_is_not_compared():
    df = drop(crossed(), steps=4)
    assert effects(df, ["flow_mean"]).main.query("axis == 'steps'")["value"].tolist() == [2]


def test_a_metric_missing_at_a_value_has_no_difference_there():
    df = crossed()
    df["other"] = df["flow_mean"].where(df["steps"] != 4)
    found = effects(df, ["flow_mean", "other"])
    lost = row(found.main, metric="other", axis="steps", value=4)
    assert np.isnan(lost["difference"])
    assert lost["n"] == 0
    assert "other with steps = 4 against steps = 1: no cells to compare." in found.sentences


def test_the_sentences():
    found = effects(crossed(size=0.1), ["flow_mean"])
    assert len(found.sentences) == len(found.main) + len(found.interactions) == 7
    assert found.sentences[1].startswith("flow_mean with steps = 4 against steps = 1: ")
    assert "px/frame higher (95 % interval " in found.sentences[1]
    assert "n = 6: 2 pictures x 3 seeds; up in 6, down in 0)" in found.sentences[1]
    assert found.sentences[-1].startswith(
        "The change of flow_mean from fps = 5 to 10, at schedule = karras against even: "
    )
    assert found.sentence.startswith("4 main effects and 3 interactions (n = 6: 2 pictures x 3 seeds): ")
    assert (
        "of 7 intervals (95 %) exclude zero; if nothing had an effect, 0.35 of them would by chance" in found.sentence
    )
    assert "Largest shares of variance: flow_mean by steps (" in found.sentence


def test_intervals_that_hold_together_are_those_of_a_stricter_level():
    df = crossed(size=1.0)
    single, all_ = (effects(df, ["flow_mean"], simultaneous=flag) for flag in (False, True))
    strict = effects(df, ["flow_mean"], level=1 - 0.05 / 7)
    pd.testing.assert_frame_equal(all_.main, strict.main)
    assert (all_.main["high"] - all_.main["low"] > single.main["high"] - single.main["low"]).all()
    assert "the intervals hold all together" in all_.sentence


def test_one_unit_has_no_intervals():
    found = effects(table(lambda *, image, seed, steps: steps, images=1, seeds=1), ["flow_mean"])
    assert found.main["low"].isna().all()
    assert found.main["difference"].tolist() == [1, 3]
    assert "there are no intervals, because only one unit" in found.sentence


def test_a_constant_metric_has_no_effects_and_no_shares():
    found = effects(crossed(), ["warp_error"])
    assert (found.main["difference"] == 0).all()
    assert found.main["share"].isna().all()
    assert "0 of 7 intervals (95 %) exclude zero" in found.sentence


def test_neither_order_nor_a_constant_matters():
    df = crossed(size=1.0)
    moved = shuffled(df.assign(flow_mean=df["flow_mean"] + 7), 3)
    first, second = (effects(frame, ["flow_mean"], against={"schedule": "even"}) for frame in (df, moved))
    first, second = (
        found.main.set_index(["axis", "value"]).sort_index(key=lambda c: c.map(str)) for found in (first, second)
    )
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": "flow_mean"}, "metrics = 'flow_mean': must be a sequence of columns, such as ('flow_mean',)"),
        ({"metrics": ["flow"]}, "metrics = 'flow': no such column"),
        ({"axes": ["bucket"]}, "axes = 'bucket': no such column"),
        ({"axes": ["cond_aug"]}, "axes = 'cond_aug': has one value only"),
        ({"against": {"steps": 3}}, "no finished cell has this value. There are 1, 2, 4"),
        ({"against": {"cond_aug": 0.02}}, "'cond_aug' is not among the axes"),
        ({"level": 2}, "level = 2"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_words(options, message):
    with pytest.raises(StatsError) as refused:
        effects(crossed(), **options)
    assert message in str(refused.value)


def test_a_table_in_which_nothing_varies_is_refused():
    with pytest.raises(StatsError, match="no setting varies"):
        effects(table(lambda *, image, seed, steps: seed, steps=(4,)))

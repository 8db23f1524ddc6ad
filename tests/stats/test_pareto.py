from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.errors import StatsError
from svdlab.stats import clustered_mean, pareto
from svdlab.stats.pareto import dominated
from tests.stats.conftest import Noise, drop, shuffled, table

POINTS = {1: (1.0, 5.0), 2: (2.0, 4.0), 3: (1.0, 4.0), 4: (3.0, 1.0), 5: (3.0, 1.0), 6: (2.0, 0.5)}  # more of both


def points(noise: float = 0.0, **options) -> pd.DataFrame:
    draw = Noise(0)
    df = table(
        lambda *, image, seed, steps: POINTS[steps][0] + noise * draw(image, seed, steps),
        steps=tuple(POINTS),
        **options,
    )
    return df.assign(flicker=[POINTS[steps][1] for steps in df["steps"]])


def front(found) -> list[int]:
    return sorted(found.front["steps"])


def test_the_front_by_hand_with_a_tie():
    found = pareto(points(), maximise=["flow_mean", "flicker"], minimise=[])
    assert front(found) == [1, 2, 4, 5]
    assert found.table.set_index("steps")["beaten_by"].to_dict() == {1: 0, 2: 0, 3: 2, 4: 0, 5: 0, 6: 3}
    assert found.table["front"].tolist() == [True] * 4 + [False] * 2
    assert found.table["kept"].tolist() == [1] * 4 + [0] * 2  # nothing is noisy


def test_less_of_one_and_more_of_the_other():
    found = pareto(points(), maximise=["flow_mean"], minimise=["flicker"])
    assert front(found) == [4, 5, 6]
    assert front(pareto(points(), maximise=[], minimise=["flicker"])) == [6]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_domination_as_it_is_defined(values):
    def beats(a, b):
        return all(x >= y for x, y in zip(a, b, strict=True)) and a != b

    found = dominated(np.array(values, dtype=float))
    assert found.tolist() == [sum(beats(a, b) for a in values) for b in values]
    assert (found == 0).any()


def test_means_and_limits_are_those_of_the_units():
    df = points(noise=1.0)
    found = pareto(df, maximise=["flow_mean"], minimise=["flicker"]).table.set_index("steps")
    for steps, rows in df.groupby("steps"):
        expected = clustered_mean(
            rows["flow_mean"], {name: rows[name] for name in ("image", "seed")}, over=["image", "seed"]
        )
        numbers = found.loc[steps, ["flow_mean", "flow_mean_low", "flow_mean_high"]].astype(float).tolist()
        assert numbers == pytest.approx([expected.value, expected.low, expected.high])


def test_how_firm_the_front_is():
    """Setting 2 is ahead of 1 by one tenth of the spread: it may well be the other way."""
    draw = Noise(4)
    df = table(
        lambda *, image, seed, steps: {1: 0.0, 2: 0.1, 4: -9.0}[steps] + draw(image, seed, steps), images=3, seeds=6
    )
    found = pareto(df, minimise=[]).table.set_index("steps")["kept"]
    assert found[[1, 2]].sum() == pytest.approx(1)
    assert found[[1, 2]].min() > 0.02
    assert found[4] == 0
    shared = df.assign(flow_mean=df["flow_mean"] * 0 + df["steps"] + 100 * df["seed"])  # what units share cancels
    assert pareto(shared, minimise=[]).table.set_index("steps")["kept"].to_dict() == {1: 0, 2: 0, 4: 1}


def test_equal_seeds_draw_equally_and_order_does_not_matter():
    df = points(noise=1.0)
    options = {"maximise": ["flow_mean"], "minimise": ["flicker"]}
    first, second = pareto(df, **options), pareto(shuffled(df), **options)
    pd.testing.assert_frame_equal(first.table, second.table)


def test_a_gap_costs_the_unit_and_is_counted():
    df = drop(points(noise=1.0), image="picture 1", seed=2, steps=3)
    found = pareto(df, minimise=["flicker"])
    assert found.n == 7
    assert found.left_out == {"failed": 1, "to compare all settings over the same units": 5}
    assert "5 to compare all settings over the same units" in found.sentence


def test_a_setting_that_always_failed_is_no_setting():
    found = pareto(drop(points(), steps=4), maximise=["flow_mean", "flicker"], minimise=[])
    assert front(found) == [1, 2, 5]
    assert found.n == 8


def test_settings_that_are_not_named_are_averaged():
    df = table(lambda *, image, seed, steps, fps: steps * fps, steps=(1, 2), fps=(5, 10))
    found = pareto(df, minimise=[], by=["steps"])
    assert found.table["flow_mean"].tolist() == [15, 7.5]
    assert found.table.columns.tolist()[:2] == ["steps", "flow_mean"]


def test_the_sentence():
    words = pareto(points(), maximise=["flow_mean", "flicker"], minimise=["warp_error"]).sentence
    assert words.startswith(
        "4 of 6 settings are on the front of more flow_mean, more flicker and less warp_error (n = 8: "
    )
    assert "steps = 1; steps = 2; steps = 4" in words
    assert "With pictures and seeds drawn anew, 4 of these stay on it in 95 % of draws, and 0 others come" in words
    assert "From so few it is rough." in words


def test_one_unit_says_that_it_cannot_tell():
    found = pareto(points(images=1, seeds=1), minimise=["flicker"])
    assert found.table["kept"].isna().all()
    assert "With a single unit there is no telling how firm that is." in found.sentence


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "minimise = 'seconds': no such column"),
        ({"maximise": "flow_mean"}, "maximise = 'flow_mean': must be a sequence"),
        ({"maximise": [], "minimise": []}, "both empty: name at least one metric"),
        ({"minimise": ["flow_mean"]}, "'flow_mean' is in maximise and in minimise"),
        (
            {"minimise": ["flicker"], "by": ["seed"]},
            "by = 'seed': pictures and seeds are what settings are averaged over",
        ),
        ({"minimise": ["flicker"], "by": ["bucket"]}, "no such column"),
    ],
)
def test_what_has_no_front_is_refused_in_words(options, message):
    with pytest.raises(StatsError) as refused:
        pareto(points(), **options)
    assert message in str(refused.value)

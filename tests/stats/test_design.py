from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from svdlab.errors import StatsError
from svdlab.stats import compare, effects
from svdlab.stats.design import levels_of, metric_columns, read_design
from tests.stats.conftest import drop, table


def known(*, image, seed, steps):
    return 10 * image + seed + steps


def test_units_and_settings_are_told_apart():
    design = read_design(table(known), metrics=["flow_mean"])
    assert design.units == ("image", "seed")
    assert design.settings == ("steps",)  # cond_aug does not vary
    assert design.size == "n = 8: 2 pictures x 4 seeds"


def test_lines_have_all_that_changes_side_by_side():
    df = drop(table(known), image="picture 1", seed=3, steps=2)
    lines, left_out = read_design(df, metrics=["flow_mean"]).lines("flow_mean", ["steps"])
    assert lines.shape == (8, 3)
    assert (lines[4] - lines[1]).tolist() == [3] * 8
    assert int(lines[2].isna().sum()) == 1
    assert left_out == {"failed": 1}


def test_cells_without_a_seed_are_left_out_and_counted():
    df = table(known)
    df["seed"] = df["seed"].where(df["seed"] > 0)
    found = compare(df, "flow_mean", steps=(1, 4))
    assert found.difference.n == 6
    assert found.left_out == {"without image or seed": 4}
    with pytest.raises(StatsError, match="no finished cell has a value of all of image, seed, steps"):
        effects(df.assign(seed=np.nan))


def test_categories_keep_their_own_order():
    df = table(known).assign(schedule=lambda df: pd.Categorical(df["steps"].map({1: "low", 2: "mid", 4: "high"})))
    df["schedule"] = df["schedule"].cat.set_categories(["low", "mid", "high", "never"])
    assert levels_of(df["schedule"]) == ["low", "mid", "high"]
    found = effects(df.drop(columns="steps"), ["flow_mean"])
    assert found.main["value"].tolist() == ["mid", "high"]
    assert found.main["difference"].tolist() == [1, 3]


def test_measurements_are_numbers_that_are_no_settings():
    df = table(known).assign(seconds=1.0, seconds_decode=0.5, own=1, flag=True, gone=np.nan, gamma=1.0)
    assert metric_columns(df) == ["flow_mean", "warp_error", "seconds", "own"]


def test_doubles_are_refused_with_the_column_that_would_tell_them_apart():
    df = table(known)
    with pytest.raises(StatsError, match="48 finished cells cannot be told apart: 2 have image = picture 0, seed = 0"):
        read_design(pd.concat([df, df]), metrics=["flow_mean"])
    with pytest.raises(StatsError, match=r"the column in which they differ \(prompt\?\) in axes"):
        read_design(pd.concat([df.assign(prompt="a"), df.assign(prompt="b")]), metrics=["flow_mean"])
    with pytest.raises(StatsError, match="2 have no setting"):
        read_design(pd.DataFrame({"quality": [1.0, 2.0]}), metrics=["quality"])

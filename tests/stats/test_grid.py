from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.errors import StatsError
from svdlab.stats.grid import full_grid, own_seeds, sums_of_squares


def series(**cells: float) -> pd.Series:
    """``a1=2.0`` -> seed "a", steps 1."""
    index = pd.MultiIndex.from_tuples([(name[0], int(name[1:])) for name in cells], names=["seed", "steps"])
    return pd.Series(list(cells.values()), index=index)


def test_a_table_worked_by_hand():
    """Rows 1 2 3 and 3 4 11: mean 4, row effects -2 and 2, column effects -2, -1 and 3."""
    found = sums_of_squares(np.array([[1.0, 2, 3], [3, 4, 11]]))
    assert found[frozenset({0})] == (pytest.approx(24), 1)
    assert found[frozenset({1})] == (pytest.approx(28), 2)
    assert found[frozenset({0, 1})] == (pytest.approx(12), 2)


def test_one_factor_is_scipys_f():
    values = np.random.default_rng(0).normal(size=(4, 6)) + np.arange(4)[:, None]
    found = sums_of_squares(values)
    between, within = found[frozenset({0})][0], found[frozenset({1})][0] + found[frozenset({0, 1})][0]
    assert (between / 3) / (within / 20) == pytest.approx(scipy.stats.f_oneway(*values).statistic)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 1000))
def test_the_parts_add_up(shape, seed):
    values = np.random.default_rng(seed).normal(size=shape)
    found = sums_of_squares(values)
    assert sum(square for square, _ in found.values()) == pytest.approx(np.sum((values - values.mean()) ** 2))
    assert sum(df for _, df in found.values()) == values.size - 1


def test_an_additive_table_has_no_interaction():
    values = np.arange(3.0)[:, None, None] + np.array([0.0, 5.0])[:, None] + np.array([1.0, 2.0, 9.0, 4.0])
    found = sums_of_squares(values)
    assert sum(square for axes, (square, _) in found.items() if len(axes) > 1) == pytest.approx(0, abs=1e-9)


def test_too_many_factors_are_refused():
    with pytest.raises(StatsError, match="13 settings vary, and at most 12"):
        sums_of_squares(np.zeros((2,) * 13))


def test_a_full_table_stays_as_it_is():
    grid = full_grid(series(a1=1.0, a2=2.0, b1=3.0, b2=4.0))
    np.testing.assert_array_equal(grid.values, [[1, 2], [3, 4]])
    assert grid.factors == {"seed": ("a", "b"), "steps": (1, 2)}
    assert grid.words_dropped == ""


def test_among_equals_the_seed_goes():
    cells = series(a1=1.0, a2=2.0, b1=3.0)
    grid = full_grid(cells, give_up=("seed",))
    np.testing.assert_array_equal(grid.values, [[1, 2]])
    assert grid.words_dropped == " To make the grid full, seed = b was left out (1 finished cell)."
    np.testing.assert_array_equal(full_grid(cells, give_up=("steps",)).values, [[1], [3]])


def test_what_always_failed_costs_itself_alone():
    grid = full_grid(series(a1=1.0, b1=1.0, c1=1.0, a2=2.0, b2=2.0, c2=2.0, a4=3.0), give_up=("seed",))
    assert grid.factors == {"seed": ("a", "b", "c"), "steps": (1, 2)}
    assert grid.lost == 1


def test_own_seeds_are_counted_within_their_picture():
    index = pd.MultiIndex.from_tuples(
        [("p", 7, 1), ("p", 9, 1), ("q", 3, 1), ("q", 5, 1)], names=["image", "seed", "steps"]
    )
    assert own_seeds(pd.Series(range(4), index=index)).index.get_level_values("seed").tolist() == [1, 2, 1, 2]
    shared = pd.Series(
        range(2), index=index[:1].append(index[2:3].set_levels([7, 7, 7, 7], level="seed", verify_integrity=False))
    )
    assert own_seeds(shared).index.get_level_values("seed").tolist() == [7, 7]


def test_settings_that_were_never_combined_are_no_grid():
    with pytest.raises(StatsError, match="to make one full, 3 of 4 would be left out"):
        full_grid(series(a1=1.0, b2=2.0, c3=3.0, d4=4.0))

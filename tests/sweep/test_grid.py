"""Grid: names and values are checked, points come in a stated order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import SpecError
from svdlab.request import SETTINGS, Request
from svdlab.sweep.grid import ORDER, make_grid, split_settings

AXES = st.fixed_dictionaries(
    {},
    optional={
        "motion_bucket_id": st.lists(st.integers(0, 255), min_size=1, max_size=4, unique=True),
        "cond_aug": st.lists(st.floats(0, 10), min_size=1, max_size=3, unique=True),
        "seed": st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3, unique=True),
        "steps": st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True),
        "schedule": st.lists(st.sampled_from(["animatelcm", "even", "karras"]), min_size=1, unique=True),
    },
)


def test_the_order_names_every_setting_once():
    assert sorted(ORDER) == sorted(SETTINGS)


@given(AXES)
def test_every_combination_comes_once_and_in_order(axes):
    grid = make_grid(axes, {"fps": 8})
    points = list(grid)
    assert len(points) == len(grid) == math.prod(len(values) for values in axes.values())
    assert len({tuple(point.items()) for point in points}) == len(points)
    assert list(grid.axes) == [name for name in ORDER if name in axes]
    assert all(list(grid.axes[name]) == axes[name] for name in axes)
    places = [tuple(grid.axes[name].index(point[name]) for name in grid.axes) for point in points]
    assert places == sorted(places)  # outermost first, values in the order given
    assert all(Request(image="x", **point).fps == 8 for point in points)


@given(AXES, st.randoms())
def test_the_order_in_which_axes_are_given_does_not_matter(axes, random):
    names = list(axes)
    random.shuffle(names)
    assert list(make_grid({name: axes[name] for name in names}, {})) == list(make_grid(axes, {}))


def test_steps_change_faster_than_what_decides_the_conditioning():
    points = list(make_grid({"steps": [1, 2], "seed": [0, 1], "cond_aug": [0.1, 0.2]}, {}))
    assert [(p["cond_aug"], p["seed"], p["steps"]) for p in points[:5]] == [
        (0.1, 0, 1),
        (0.1, 0, 2),
        (0.1, 1, 1),
        (0.1, 1, 2),
        (0.2, 0, 1),
    ]


@pytest.mark.parametrize(
    ("given_", "values"),
    [
        (range(3), (0, 1, 2)),
        (np.array([3, 1]), (3, 1)),
        ((n for n in (5, 6)), (5, 6)),
        ("1..4", (1, 2, 3, 4)),
        (7, (7,)),
    ],
)
def test_what_an_axis_may_be(given_, values):
    axis = make_grid({"seed": given_}, {}).axes["seed"]
    assert axis == values
    assert {type(value) for value in axis} == {int}


def test_whole_numbers_of_a_float_setting_become_floats():
    axis = make_grid({"cond_aug": "0..2"}, {"sigma_max": 80}).axes["cond_aug"]
    assert [repr(value) for value in axis] == ["0.0", "1.0", "2.0"]


@pytest.mark.parametrize(
    ("axes", "fixed", "words"),
    [
        ({"stepz": [1]}, {}, "stepz.*Did you mean 'steps'"),
        ({}, {"stepz": 1}, "stepz.*Did you mean 'steps'"),
        ({"image": ["a.png"]}, {}, "image: is not a setting"),
        ({"steps": [1]}, {"steps": 2}, "at the same time"),
        ({"steps": []}, {}, "at least one value"),
        ({"steps": [4, 4]}, {}, "value 4 is listed twice"),
        ({"cond_aug": [1, 1.0]}, {}, "value 1.0 is listed twice"),
        ({"steps": [0]}, {}, "steps = 0: must be a whole number from 1"),
        ({"steps": [2.5]}, {}, "steps = 2.5"),
        ({"steps": [True]}, {}, "steps = True"),
        ({"steps": "1...4"}, {}, "steps = '1...4': cannot read"),
        ({"steps": {1, 2}}, {}, "must be a list"),
        ({"steps": {"a": 1}}, {}, "must be a list"),
        ({"seed": [None]}, {}, "seed = None"),
        ({"schedule": ["eve"]}, {}, "must be one of 'animatelcm'"),
        ({}, {"steps": [1, 2]}, "a fixed setting has one value"),
        ({}, {"steps": "1..4"}, "a fixed setting has one value"),
        ({}, {"fps": 0}, "fps = 0"),
    ],
)
def test_refuses(axes, fixed, words):
    with pytest.raises(SpecError, match=words):
        make_grid(axes, fixed)


def test_errors_begin_with_the_place():
    with pytest.raises(SpecError, match=r"^a\.toml:3 steps: steps = 0"):
        make_grid({"steps": [0]}, {}, where=lambda name: f"a.toml:3 {name}: ")


def test_python_settings_are_split_into_axes_and_fixed_ones():
    axes, fixed = split_settings(
        {"steps": [1, 2], "seed": "0..3", "fps": 8, "schedule": "even", "gamma": None, "stepz": 3, "odd": "1,2"}
    )
    assert axes == {"steps": [1, 2], "seed": "0..3"}
    assert fixed == {"fps": 8, "schedule": "even", "stepz": 3, "odd": "1,2"}


def test_seeded():
    assert make_grid({"seed": [1]}, {}).seeded
    assert make_grid({}, {"seed": 1}).seeded
    assert not make_grid({"steps": [1]}, {}).seeded

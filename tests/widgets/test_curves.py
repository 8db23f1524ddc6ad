from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import WidgetError
from svdlab.widgets.curves import read_curves
from tests.widgets.clips import counting

NUMBERS = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(-5, 5))


@given(st.lists(NUMBERS, min_size=3, max_size=3))
def test_every_value_is_kept_or_is_none(values: list[float | None]) -> None:
    (read,) = read_curves({"m": values}, [counting(3)])["m"]["values"]
    for before, after in zip(values, read, strict=True):
        finite = before is not None and math.isfinite(before)
        assert after == (before if finite else None)
        assert isinstance(after, float) == finite


def test_arrays_and_lists_a_clip_with_units_where_they_are_known() -> None:
    clips = [counting(2), counting(3)]
    read = read_curves({"flow_mean": [np.float32([1, 2]), (3, 4, 5)], "own": [[0, 1], [math.nan, 1, 2]]}, clips)
    assert read == {
        "flow_mean": {"unit": "px/frame", "values": [[1.0, 2.0], [3.0, 4.0, 5.0]]},
        "own": {"unit": "", "values": [[0.0, 1.0], [None, 1.0, 2.0]]},
    }
    assert read_curves({"m": np.ones((2, 3))}, [counting(3), counting(3)])["m"]["values"] == [[1.0] * 3] * 2


def test_nothing_is_nothing() -> None:
    assert read_curves(None, [counting(2)]) == {}
    assert read_curves({}, [counting(2)]) == {}


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"m": [[1, 2]]}, r"metrics\['m'\]: got 1 lists, wanted 2, one a clip"),
        ({"m": [[1, 2], [1, 2]]}, r"metrics\['m'\]\[1\]: 2 values for 3 frames"),
        ({"m": [[1, 2], [1, 2, "x"]]}, r"metrics\['m'\]\[1\]: 'x' is not a number"),
        ({"m": [[1, 2], [1, 2, True]]}, r"True is not a number"),
        ({"m": [[1, 2], 3]}, r"metrics\['m'\]\[1\]: got int; give a list of numbers"),
        ({"m": "12"}, r"metrics\['m'\]: got str"),
        ({"m": 1.5}, r"metrics\['m'\]: got float"),
        ({3: [[1, 2], [1, 2, 3]]}, r"metrics: 3 is no name"),
        ([[1, 2], [1, 2, 3]], r"metrics = .*must be None, 'auto', or a dict"),
    ],
)
def test_curves_that_do_not_fit_are_refused(metrics: Any, words: str) -> None:
    with pytest.raises(WidgetError, match=words):
        read_curves(metrics, [counting(2), counting(3)])

"""Ranges: texts of values, read exactly and written back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import SpecError
from svdlab.sweep.ranges import format_values, parse_values

INTS = st.integers(-(10**6), 10**6)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("7", (7,)),
        ("1,2,5..8", (1, 2, 5, 6, 7, 8)),
        ("20..200:60", (20, 80, 140, 200)),
        ("20..205:60", (20, 80, 140, 200)),  # the step does not land on the end
        ("8..5", (8, 7, 6, 5)),
        ("10..0:5", (10, 5, 0)),
        ("3..3", (3,)),
        ("0..1:0.25", (0.0, 0.25, 0.5, 0.75, 1.0)),
        (" 0.02 , 1 ,0.3", (0.02, 1, 0.3)),
        ("1e-3,2E2", (0.001, 200.0)),
        ("-1..1", (-1, 0, 1)),
    ],
)
def test_reads(text, values):
    read = parse_values(text)
    assert read == values
    assert [type(value) for value in read] == [type(value) for value in values]


def test_steps_leave_no_float_dust():
    assert parse_values("0..1:0.1") == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot read ''"),
        ("1,,2", "cannot read ''"),
        ("1..", "cannot read '1..'"),
        ("one", "cannot read 'one'"),
        ("1...3", "cannot read '1...3'"),
        ("nan", "cannot read 'nan'"),
        ("0.1..0.5", "needs a step"),
        ("1..5:0", "must be above 0"),
        ("1..5:-1", "must be above 0"),
        ("0..1000000", "1,000,001 values"),
        ("0..60000,0..60000", "more than 100,000"),
    ],
)
def test_refuses(text, words):
    with pytest.raises(SpecError, match=words):
        parse_values(text)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1, 2], "1, 2"),
        ([32, 127, 224], "32, 127, 224"),
        ([20, 40, 60], "20..60:20"),
        ([3, 2, 1], "3..1"),
        ([1, 2, 5, 6, 7, 8], "1, 2, 5..8"),
        ([5, 5, 5], "5, 5, 5"),
        ([0.0, 0.1, 0.2, 0.3], "0.0..0.3:0.1"),
        ([1, 2.0, 3], "1, 2.0, 3"),
        (["even", "karras"], "even, karras"),
        ([True, False], "True, False"),
        ([], ""),
    ],
)
def test_writes(values, text):
    assert format_values(values) == text


@given(st.lists(st.one_of(INTS, FLOATS), min_size=1, max_size=30))
def test_round_trip_of_any_numbers(values):
    again = parse_values(format_values(values))
    assert list(again) == values
    assert [type(value) for value in again] == [type(value) for value in values]


@given(INTS, st.integers(1, 500), st.integers(3, 200), st.booleans())
def test_round_trip_of_even_steps(first, step, count, down):
    values = [first + (-step if down else step) * k for k in range(count)]
    text = format_values(values)
    assert text.count("..") == 1
    assert list(parse_values(text)) == values


@given(st.decimals("-100", "100", places=3), st.decimals("0.001", "3", places=3), st.integers(0, 200))
def test_a_range_is_its_law(first, step, count):
    last = first + step * count
    values = parse_values(f"{first}..{last}:{step}")
    assert values == tuple(float(first + step * k) for k in range(count + 1))

"""Keys: equal for equal content, and for nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import SweepError
from svdlab.sweep.keys import KEY_VERSION, canonical_json, cell_key

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=20,
)
SETTINGS = {"motion_bucket_id": 127, "cond_aug": 0.02, "steps": 4, "seed": 7, "schedule": "even"}


@given(JSON)
def test_canonical_json_keeps_the_content(value):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), JSON, max_size=6), st.randoms())
def test_the_order_of_names_does_not_matter(mapping, random):
    names = list(mapping)
    random.shuffle(names)
    assert canonical_json({name: mapping[name] for name in names}) == canonical_json(mapping)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_written_in_their_shortest_exact_form(value):
    assert canonical_json(value) == repr(float(value) + 0.0)


def test_zero_has_one_sign_and_numbers_keep_their_kind():
    assert canonical_json(-0.0) == "0.0"
    assert canonical_json([1, 1.0, True]) == "[1,1.0,true]"


@pytest.mark.parametrize(
    "value", [np.int64(1), np.float64(0.5), float("nan"), float("inf"), {1: 2}, {1, 2}, b"x", object()]
)
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(SweepError, match="cannot be part of a key"):
        canonical_json({"a": [value]})


def test_a_key_is_the_same_in_another_process():
    key = cell_key(SETTINGS, image="ab", model="cd")
    code = f"from svdlab.sweep.keys import cell_key; print(cell_key({SETTINGS!r}, image='ab', model='cd'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert other.stdout.strip() == key
    assert len(key) == 16
    assert set(key) <= set("0123456789abcdef")


def test_a_known_key():
    """Keys name the folders of runs that people keep: this one may change only together with KEY_VERSION."""
    assert (KEY_VERSION, cell_key({"steps": 4, "cond_aug": 0.02}, image="ab12", model="cd34")) == (
        1,
        "858e5441cbc9fabd",
    )


@pytest.mark.parametrize(
    "change", [{"image": "other"}, {"model": "other"}, {"steps": 5}, {"cond_aug": 0.020000000000000004}, {"seed": 8}]
)
def test_everything_that_decides_pixels_changes_the_key(change):
    settings = {**SETTINGS, **{name: value for name, value in change.items() if name in SETTINGS}}
    ids = {"image": "ab", "model": "cd"} | {name: value for name, value in change.items() if name not in SETTINGS}
    assert cell_key(settings, **ids) != cell_key(SETTINGS, image="ab", model="cd")


def test_open_settings_have_no_key():
    with pytest.raises(SweepError, match="seed = None"):
        cell_key({**SETTINGS, "seed": None}, image="ab", model="cd")

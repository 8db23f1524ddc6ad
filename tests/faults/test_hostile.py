"""Specs and pictures that nobody means: an error in words or a result, never another exception."""

from __future__ import annotations

import contextlib
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from svdlab.errors import ImageError, SvdlabError
from svdlab.images import load_image, prepare
from svdlab.sweep.spec import Spec, make_spec, read_spec

SPEC = b"""name = "odd"
model = "tiny-random"
images = ["rocket.png"]
metrics = ["flow_mean"]
timing = "shared"

[grid]
steps = [1, 2, 4]
motion_bucket_id = "32..224:96"
cond_aug = [0.02, 0.3]

[fixed]
fps = 10
"""
ODD = [
    b"",
    b"\0",
    b"[",
    b"]",
    b'"',
    b"=",
    b"-1",
    b"nan",
    b"1e999",
    b"{}",
    b"..",
    b":0",
    b"\xff",
    b"0..9999999999999",
    b"[[]]",
]


@pytest.fixture(scope="module")
def folder(home):
    return home / "pictures"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_spec_with_any_part_replaced_is_refused_in_words_or_read(folder, data):
    start = data.draw(st.integers(0, len(SPEC)))
    end = data.draw(st.integers(start, min(start + 20, len(SPEC))))
    path = folder / "spec.toml"
    path.write_bytes(SPEC[:start] + data.draw(st.sampled_from(ODD) | st.binary(max_size=8)) + SPEC[end:])
    with contextlib.suppress(SvdlabError):
        assert isinstance(read_spec(path), Spec)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["steps", "seed", "cond_aug", "schedule", "fps", "width", "gamma"]), value=_values)
def test_a_setting_of_any_value_is_refused_by_its_name_or_taken(folder, name, value):
    for part in ({"grid": {name: value}}, {"fixed": {name: value}}):
        try:
            make_spec(images=folder / "rocket.png", **{"grid": {}, "fixed": {}, **part})
        except SvdlabError as error:
            if name not in str(error):
                raise AssertionError(f"the error does not name {name}: {error}") from error


def test_a_huge_sparse_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 2 * 2**30)
    with pytest.raises(ImageError, match="bytes"):
        load_image(path)


def test_the_smallest_picture_is_one(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "one.png")
    prepared = prepare(load_image(tmp_path / "one.png"), width=32, height=32)
    assert (np.asarray(prepared) == (1, 2, 3)).all()


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
def test_a_picture_that_is_a_line_is_cropped_before_it_is_enlarged(tmp_path, size):
    """Enlarged as a whole it would have 21 thousand megapixels."""
    Image.new("L", size, 9).save(tmp_path / "line.png")
    prepared = prepare(load_image(tmp_path / "line.png"), width=1024, height=576)
    assert (np.asarray(prepared) == 9).all()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("page.png", b"<!doctype html><html><script>alert(1)</script></html>"),
        ("drawing.jpg", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'),
        ("note.webp", b"only a text\n"),
        ("nothing.png", b""),
    ],
)
def test_other_things_under_a_pictures_name_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=name):
        load_image(tmp_path / name)

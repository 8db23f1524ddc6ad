"""What bytes look like, by their first few."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from svdlab.sniff import describe, picture_format


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_real_pictures(format: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4)).save(buffer, format)
    assert picture_format(buffer.getvalue()) == format


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\xef\xbb\xbf\n <HTML lang=en>", "web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "SVG"),
        (b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg>", "SVG"),
        (b"<?xml version='1.0'?>\n<rss>", "XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"%PDF-1.7", "PDF"),
        (b"\x00\x00\x00\x18ftypheic", "HEIC"),
        (b"\x00\x00\x00\x18ftypavif", "AVIF"),
        (b"\x00\x00\x00\x18ftypisom", "MP4"),
        (b"\x1aE\xdf\xa3\x01", "WebM"),
        (b"\xff\x0a\x01", "JPEG XL"),
        (b"\x00\x00\x00\x0cjP  \r\n", "JPEG 2000"),
        (b"8BPS\x00\x01", "Photoshop"),
        (b"\x00\x00\x01\x00\x01", "icon"),
        (b"PK\x03\x04", "archive"),
        (b'{"detail": "not found"}', "JSON"),
        (b"iVBORw0KGgoAAAAN", "base64"),
        ("Grüße\n".encode(), "plain text"),
        (b"\x00\x01\x02\x03\x04\x05\x06\x07\x08", "starts with 00 01 02 03 04 05 06 07"),
    ],
)
def test_other_things_are_named(data: bytes, says: str) -> None:
    assert picture_format(data) is None
    assert says in describe(data)


def test_arrays_are_named() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    assert "np.load" in describe(buffer.getvalue())


@given(st.binary(max_size=2000))
def test_anything_gets_an_answer(data: bytes) -> None:
    assert describe(data)
    assert picture_format(data) in {None, "PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"}

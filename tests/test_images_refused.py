"""What `load_image` refuses: every refusal is an `ImageError` in words, and no file does harm."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from svdlab.errors import ImageError
from svdlab.images import load_image
from tests.media_samples import noise, packed, pixels, uri


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds hardly any pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"shape \[3, 8, 8\].*np\.moveaxis"),
        (np.zeros((8, 8, 2), np.uint8), r"1, 3 or 4 channels"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"shape \[1, 8, 8, 3\]"),
        (np.zeros(8, np.uint8), r"shape \[8\]"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \[0, 8, 3\]"),
        (np.array(3, np.uint8), r"shape \[\]"),
        (np.zeros((8, 8, 3), np.int64), r"type int64; allowed types"),
        (np.zeros((8, 8), bool), "type bool; allowed types"),
        (np.zeros((8, 8), np.complex64), "type complex64; allowed types"),
        (np.zeros((8, 8), object), "type object; allowed types"),
        (np.full((8, 8), 1.001), r"0\.\.1 \(these: 1\.001 to 1\.001\)"),
        (np.full((8, 8), -0.1), r"must lie in 0\.\.1"),
        (np.full((8, 8), np.nan), r"must lie in 0\.\.1 \(these: nan"),
        (np.full((8, 8), np.inf), r"must lie in 0\.\.1"),
        (np.full((8, 8, 3), 128.0), r"these: 128 to 128"),
    ],
)
def test_arrays_refused(array: np.ndarray, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        load_image(array)


@pytest.mark.parametrize("thing", [None, 3, b"\x89PNG", ["rocket.png"], {"url": "x"}])
def test_types_refused(thing: object) -> None:
    with pytest.raises(ImageError, match=r"image: got .*allowed are a path"):
        load_image(thing)


def test_tensors_get_a_hint() -> None:
    import torch

    with pytest.raises(ImageError, match=r"got torch\.Tensor; .*tensor\.cpu\(\)\.numpy\(\)"):
        load_image(torch.zeros(3, 8, 8))


def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ImageError, match=r"no file 'rockte\.png'\. The working directory is '.*'\. Check the path"
    ) as caught:
        load_image("rockte.png")
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(ImageError, match="no file") as caught:
        load_image(tmp_path / "rocket.png")
    assert "working directory" not in str(caught.value)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ImageError, match="no file"):
        load_image("file/rocket.png")


def test_things_that_are_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty.png").touch()
    for path, says in [
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is a pipe, socket or device"),
        ("/dev/zero", "is a pipe, socket or device"),
        (tmp_path / "empty.png", r"is empty \(0 bytes\)"),
    ]:
        with pytest.raises(ImageError, match=says):
            load_image(path)


def test_strings_that_cannot_be_paths() -> None:
    for text, says in [
        ("", "is a folder"),
        ("a\0b", "cannot be read as a file .*null"),
        ("x" * 5000, r"x\.\.\.' cannot be read as a file \(File name too long\)"),
        ("~no_such_user_here/x.png", "cannot be read as a file"),
        ("file:///tmp/x.png", "file:// is not read"),
        ("s3://bucket/x.png", "s3:// is not read"),
    ]:
        with pytest.raises(ImageError, match=says) as caught:
            load_image(text)
        assert len(str(caught.value)) < 500


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_one_may_not_read(tmp_path: Path) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(packed(Image.new("RGB", (2, 2))))
    path.chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        load_image(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data:image/png;base64", "must have the form"),
        ("data:image/png,rawbytes", "must have the form"),
        ("data:" + "x" * 5000, "must have the form"),
        ("data:image/png;base64,", r"is empty \(0 bytes\)"),
        ("data:image/png;base64,iVBORw0KGg", "not valid base64"),
        ("data:image/png;base64,iVBO\nRw0K", "not valid base64"),
        ("data:image/png;base64,iVBO%2B0K", "not valid base64"),
        ("data:image/png;base64,AA=A", "not valid base64"),
        ("data:image/png;base64,ÄÖÜß", "not valid base64"),
        ("data:image/png;base64,PHN2Zz48L3N2Zz4=", "looks like an SVG drawing"),
        ("DATA:image/png;base64,PGh0bWw+", "looks like a web page"),
    ],
)
def test_data_uris_refused(text: str, says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        load_image(text)
    assert len(str(caught.value)) < 300  # the address itself is never echoed


def test_byte_limit(tmp_path: Path) -> None:
    data = packed(Image.fromarray(noise()))
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    for source in (path, uri(data)):
        assert load_image(source, max_bytes=len(data)).size == (30, 20)
        with pytest.raises(ImageError, match=f"more than the|larger than the {len(data) - 3} bytes"):
            load_image(source, max_bytes=len(data) - 3)


@pytest.mark.parametrize("limit", [599, 600])
def test_pixel_limit(limit: int) -> None:
    array = noise(20, 30)
    sources = [array, Image.fromarray(array), uri(packed(Image.fromarray(array)))]
    for source in sources:
        if limit == 600:
            assert load_image(source, max_pixels=limit).size == (30, 20)
        else:
            with pytest.raises(ImageError, match=r"has 30 x 20 pixels, more than the 599"):
                load_image(source, max_pixels=limit)


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_by_their_header(width: int, height: int) -> None:
    """Beyond PIL's limit too, where Image.open itself would warn or fail; warnings are errors in these tests."""
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match=f"{width} x {height} pixels, more than the 64000000"):
        load_image(uri(png_header(width, height)))
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_small_tiff_with_huge_tiles_is_refused() -> None:
    tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 277: 1, 322: 12_000, 323: 12_000, 324: 8, 325: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    with pytest.raises(ImageError, match="12000 x 12000 pixels"):
        load_image(uri(data))


def rle_bitmap(width: int, height: int) -> bytes:
    """Ends after its first line of one pixel: 62 bytes that PIL fills up to the whole width."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 1, 0) + bytes(4)
    body = bytes([1, 0, 0, 0, 0, 1])
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


def test_a_large_run_length_bitmap_is_refused_before_it_is_decoded() -> None:
    """PIL would append each of its pixels on its own: minutes, for a file of a few bytes."""
    with pytest.raises(ImageError, match=r"run-length encoded bitmap of 4000001 x 1 pixels, more than the 4000000"):
        load_image(uri(rle_bitmap(4_000_001, 1)))
    assert load_image(uri(rle_bitmap(200, 1))).size == (200, 1)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"P3 1000 1001 255\n" + b"1 " * 3_003_000, "in digits of 1000 x 1001 pixels, more than the 1000000"),
        (b"P2 8000 7999 255\n", "in digits of 8000 x 7999 pixels"),
        (b"P5 1000 1001 254\n" + bytes(1_001_000), "unusual range of values of 1000 x 1001 pixels"),
        (b"P1 10 10\n" + b"#\n" * 1_000_000, "bytes for 10 x 10 pixels: refused"),
    ],
)
def test_a_ppm_that_is_decoded_in_python_is_bounded(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        load_image(uri(data))


def test_small_ppms_of_every_kind_are_read() -> None:
    for data in (b"P3 2 1 255\n" + b"1 " * 6, b"P2 2 1 9 # grey\n1 9", b"P1 2 1\n01", b"P5 2 1 254\n\x00\xfe"):
        assert load_image(uri(data)).size == (2, 1)
    assert load_image(uri(b"P5 2000 1000 255\n" + bytes(2_000_000))).size == (2000, 1000)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_a_lower_limit_of_pils_own_does_not_leak(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = uri(packed(Image.new("RGB", (64, 64), "white"), format))
    for limit in (3000, 10):  # PIL would warn at the first, fail at the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert (pixels(source) == 255).all()
        assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_cut_short(format: str, keep: float) -> None:
    data = packed(Image.fromarray(noise(64, 64)), format)
    with pytest.raises(ImageError, match=f"damaged or incomplete {format}.*Fetch or export it again"):
        load_image(uri(data[: int(len(data) * keep)]))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), format=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]))
def test_damage_of_any_kind_is_an_image_error_or_a_picture(data: st.DataObject, format: str) -> None:
    good = bytearray(packed(Image.fromarray(noise(16, 16)), format))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL remarks on odd metadata
        try:
            image = load_image(uri(bytes(good)), max_pixels=1_000_000)
        except ImageError as error:
            text = str(error)
        else:
            text = f"a picture of mode {image.mode}"
    assert text.startswith("image: the data: address") or text == "a picture of mode RGB"
    assert len(text) < 600


def test_a_float_image_is_refused() -> None:
    with pytest.raises(ImageError, match="mode F"):
        load_image(Image.new("F", (2, 2)))


def test_a_pil_image_whose_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(noise()).save(path)
    with Image.open(path) as image:
        pass
    with pytest.raises(ImageError, match="the PIL image is a damaged or incomplete PNG"):
        load_image(image)


@pytest.mark.parametrize("background", [(255, 255), (0, 0, 256), (-1, 0, 0), (0.5, 0.5, 0.5), "white"])
def test_backgrounds_refused(background: object) -> None:
    with pytest.raises(ImageError, match="three whole numbers from 0 to 255"):
        load_image(noise(), background=background)

"""Pictures of every kind in, one RGB image out."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from svdlab.errors import ImageError
from svdlab.images import ImageWarning, as_data_uri, image_digest, load_image
from tests.media_samples import noise, packed, pixels, uri

# ---------------------------------------------------------------- sources


def test_one_picture_one_key_however_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = noise()
    path = tmp_path / "picture.png"
    Image.fromarray(array).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    sources = [
        path, str(path), "picture.png", "~/picture.png", array, array.astype(np.uint16) * 257, array / 255,
        np.asfortranarray(array), np.dstack([array, np.full((20, 30, 1), 255, np.uint8)]),
        Image.open(path), Image.fromarray(array), uri(path.read_bytes()), as_data_uri(Image.fromarray(array)),
    ]  # fmt: skip
    keys = {image_digest(load_image(source)) for source in sources}
    assert keys == {hashlib.sha256(b"RGB 30 20\n" + array.tobytes()).hexdigest()}
    assert keys == {image_digest(array)}


def test_the_key_knows_the_shape() -> None:
    flat = np.zeros((4, 6, 3), np.uint8)
    assert image_digest(flat) != image_digest(flat.reshape(6, 4, 3))


@pytest.mark.parametrize("bad", [noise(channels=4), noise() / 255, Image.new("L", (2, 2)), "rocket.png"])
def test_the_key_is_for_rgb_only(bad: object) -> None:
    with pytest.raises(ImageError, match=r"is needed\. load_image\(\) makes"):
        image_digest(bad)


def test_the_result_is_a_new_image(tmp_path: Path) -> None:
    array = noise()
    given_image = Image.fromarray(array)
    given_image.info["comment"] = "kept"
    result = load_image(given_image)
    result.putpixel((0, 0), (1, 2, 3))
    assert given_image.getpixel((0, 0)) == tuple(array[0, 0])
    assert given_image.info == {"comment": "kept"}
    from_array = load_image(array)
    from_array.putpixel((0, 0), (1, 2, 3))
    assert np.array_equal(array, noise())


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_formats(format: str) -> None:
    image = Image.new("RGB", (32, 16), (200, 100, 50))
    assert np.abs(pixels(uri(packed(image, format), "application/x-whatever")).astype(int) - (200, 100, 50)).max() <= 3


def test_from_a_server() -> None:
    data = packed(Image.fromarray(noise()))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data if "picture" in self.path else b"<!doctype html><title>Album</title>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            assert np.array_equal(pixels(f"{address}/picture", allow_private_urls=True), noise())
            with pytest.raises(ImageError, match=r"/album' looks|/album looks like a web page"):
                load_image(f"{address}/album?key=secret", allow_private_urls=True)
            with pytest.raises(ImageError, match="larger than the 50 bytes"):
                load_image(f"{address}/picture", allow_private_urls=True, max_bytes=50)
            with pytest.raises(ImageError, match="not an address on the public internet"):
                load_image(f"{address}/picture")
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("name", "size"), [("rocket.jpg", (512, 342)), ("kite.png", (256, 256))])
def test_the_pictures_that_come_with_the_project(name: str, size: tuple[int, int]) -> None:
    folder = Path(__file__).parent.parent / "svdlab" / "examples"
    assert load_image(folder / name).size == size
    assert f"## {name}" in (folder / "SOURCES.md").read_text()


# ---------------------------------------------------------------- conversions


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("way", ["path", "pil"])
def test_exif_rotation(tmp_path: Path, orientation: int, way: str) -> None:
    upright = noise(6, 9)
    turned = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1), 7: upright[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(turned)).save(path, exif=exif)
    once = load_image(path if way == "path" else Image.open(path))
    assert np.array_equal(np.asarray(once), upright)
    assert np.array_equal(np.asarray(load_image(once)), upright)  # never turned twice


def see_through() -> np.ndarray:
    """Red pixels whose opacity runs from 0 to 255."""
    rgba = np.zeros((1, 256, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 255, np.arange(256)
    return rgba


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 200, 90)])
@pytest.mark.parametrize("way", ["array", "png", "webp", "float"])
def test_transparency_over_the_background(background: tuple[int, int, int], way: str) -> None:
    rgba = see_through()
    image = Image.fromarray(rgba)
    source = {
        "array": rgba,
        "float": rgba / 255,
        "png": uri(packed(image)),
        "webp": uri(packed(image, "WEBP", lossless=True, exact=True)),
    }[way]
    alpha = rgba[..., 3:] / 255
    wanted = alpha * (255, 0, 0) + (1 - alpha) * background
    assert np.abs(pixels(source, background=background) - wanted).max() <= 1
    assert np.array_equal(pixels(source, background=background)[0, [0, 255]], [background, (255, 0, 0)])


def test_transparency_is_white_behind_unless_told() -> None:
    clear = np.zeros((2, 2, 4), np.uint8)
    assert (pixels(clear) == 255).all()


@pytest.mark.parametrize("mode", ["LA", "PA", "P", "L", "1", "RGB", "I;16", "RGBa"])
def test_every_kind_of_transparency(mode: str) -> None:
    """The left pixel is clear, the right one opaque and black."""
    black = np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)
    if mode in ("LA", "RGBa"):
        source = Image.fromarray(black).convert(mode)
    elif mode == "PA":
        source = Image.new("PA", (2, 1))
        source.putpixel((1, 0), (0, 255))
    elif mode == "I;16":
        sixteen = Image.fromarray(np.array([[40000, 0]], np.uint16))
        source = uri(packed(sixteen, transparency=40000))
    else:  # one palette entry or one colour stands for clear
        grey = Image.fromarray(np.array([[255, 0]], np.uint8)).convert(mode)
        key = {"P": grey.getpixel((0, 0)), "RGB": (255, 255, 255)}.get(mode, 255)
        source = uri(packed(grey, transparency=key))
    assert pixels(source, background=(9, 8, 7)).tolist() == [[[9, 8, 7], [0, 0, 0]]]


def test_palette_with_alpha_per_entry() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([255, 0, 0, 0, 0, 255, 0, 255], "RGBA")
    assert pixels(image, background=(1, 2, 3)).tolist() == [[[1, 2, 3], [0, 255, 0]]]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(format: str) -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65278, 65535]], np.uint16)
    wanted = [0, 0, 1, 1, 128, 254, 255]
    assert pixels(uri(packed(Image.fromarray(values), format)))[0, :, 0].tolist() == wanted


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bit_arrays(dtype: str) -> None:
    values = (np.arange(256) * 257).astype(dtype)[None]
    assert pixels(values)[0, :, 1].tolist() == list(range(256))


def test_wide_grey_in_32_bits() -> None:
    assert pixels(Image.fromarray(np.array([[0, 65535]], np.int32)))[0, :, 2].tolist() == [0, 255]
    big_endian = Image.frombytes("I;16B", (2, 1), b"\x00\x00\xff\xff")
    assert pixels(big_endian)[0, :, 0].tolist() == [0, 255]
    for values in ([0, 65536], [-1, 0]):
        with pytest.raises(ImageError, match="0 to 65535 is allowed"):
            load_image(Image.fromarray(np.array([values], np.int32)))


def test_cmyk_as_programs_save_it() -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    for source in (
        ink,
        uri(packed(ink, "TIFF")),
        uri(packed(ink, "JPEG")),
    ):  # PIL writes JPEG inks inverted, as Adobe does
        assert np.abs(pixels(source).astype(int) - np.asarray(red)).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "HSV", "YCbCr", "LAB", "RGBX"])
def test_other_modes(mode: str) -> None:
    image = Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode)
    assert np.abs(pixels(image).astype(int) - 255).max() <= 1


def test_grey_arrays_fill_all_channels() -> None:
    grey = noise(channels=1)
    for source in (grey, grey[..., 0], grey[..., 0] / 255, np.float16(grey) / 255):
        assert np.abs(pixels(source).astype(int) - grey).max() <= (source.dtype == np.float16)


@given(st.integers(0, 255))
def test_floats_round_to_the_nearest_level(level: int) -> None:
    for shift in (-0.49, 0.0, 0.49):
        value = min(max((level + shift) / 255, 0.0), 1.0)
        assert pixels(np.full((1, 1), value))[0, 0, 0] == level


def test_a_colour_profile_is_left_aside(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = packed(Image.fromarray(noise()), icc_profile=profile)
    assert np.array_equal(pixels(uri(data)), noise())


# ---------------------------------------------------------------- animations


def frames_of(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (40 * k, 0, 0)) for k in range(count)]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_with_a_warning(format: str) -> None:
    first, *rest = frames_of(3)
    options = {"lossless": True} if format == "WEBP" else {}
    source = uri(packed(first, format, save_all=True, append_images=rest, **options))
    with pytest.warns(ImageWarning, match="more than one frame; frame 0 alone is used") as caught:
        assert (np.asarray(load_image(source)) == np.asarray(first)).all()
    assert caught[0].filename == __file__


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "JPEG"])
def test_a_single_frame_gives_no_warning(format: str) -> None:
    assert pixels(uri(packed(frames_of(1)[0], format))).shape == (8, 8, 3)


def test_a_phone_picture_with_a_hidden_second_one_gives_no_warning() -> None:
    first, second = frames_of(2)
    data = packed(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert (pixels(uri(data)) == 0).all()


def test_of_a_pil_animation_the_frame_it_stands_at() -> None:
    first, *rest = frames_of(3)
    animation = Image.open(io.BytesIO(packed(first, "GIF", save_all=True, append_images=rest)))
    animation.seek(2)
    with pytest.warns(ImageWarning, match="frame 2 alone"):
        assert load_image(animation).getpixel((0, 0)) == (80, 0, 0)
    assert animation.tell() == 2


# ---------------------------------------------------------------- data addresses


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_data_uri_there_and_back(format: str) -> None:
    image = Image.new("RGB", (40, 30), (200, 100, 50))
    text = as_data_uri(image, format)
    assert text.startswith(f"data:image/{format.lower()};base64,")
    assert np.abs(pixels(text).astype(int) - (200, 100, 50)).max() <= (0 if format == "PNG" else 3)


def test_data_uri_refusals() -> None:
    with pytest.raises(ImageError, match="format='GIF': allowed are"):
        as_data_uri(Image.new("RGB", (2, 2)), "GIF")
    with pytest.raises(ImageError, match="mode RGB is needed"):
        as_data_uri(Image.new("L", (2, 2)))

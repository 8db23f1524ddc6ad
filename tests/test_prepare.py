"""The one resize and crop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from svdlab.errors import ImageError
from svdlab.images import image_digest, prepare
from tests.media_samples import noise

sides = st.integers(1, 400)


@settings(deadline=None, max_examples=150)
@given(sides, sides, sides, sides)
def test_prepare_gives_the_exact_size_and_is_idempotent(width: int, height: int, to_width: int, to_height: int) -> None:
    image = Image.new("RGB", (width, height), (12, 200, 77))
    once = prepare(image, width=to_width, height=to_height)
    assert once.size == (to_width, to_height)
    assert once.getcolors() == [(to_width * to_height, (12, 200, 77))]  # nothing from outside the picture
    twice = prepare(once, width=to_width, height=to_height)
    assert image_digest(twice) == image_digest(once)
    assert twice is not once


@pytest.mark.parametrize("size", [(1, 300_000), (300_000, 1), (3, 900), (2, 2)])
def test_prepare_at_extreme_shapes(size: tuple[int, int]) -> None:
    assert prepare(Image.new("RGB", size), width=64, height=36).size == (64, 36)


def test_prepare_leaves_the_right_size_alone() -> None:
    image = Image.fromarray(noise(36, 64))
    assert image_digest(prepare(image, width=64, height=36)) == image_digest(image)


def test_prepare_crops_whole_pixels_when_one_side_fits() -> None:
    array = noise(40, 100)
    assert np.array_equal(prepare(Image.fromarray(array), width=60, height=40), array[:, 20:80])
    assert np.array_equal(prepare(Image.fromarray(array), width=100, height=20), array[10:30])


@settings(deadline=None, max_examples=60)
@given(st.integers(30, 300), st.integers(30, 300), st.integers(30, 300), st.integers(30, 300))
def test_prepare_keeps_the_centre_and_the_proportions(width: int, height: int, to_width: int, to_height: int) -> None:
    """A picture whose colours are its coordinates: red runs across, green runs down, in equal steps a pixel."""
    step = 200 / max(width, height)
    red = 128 + (np.arange(width) + 0.5 - width / 2) * step
    green = 128 + (np.arange(height) + 0.5 - height / 2) * step
    ramp = np.stack(np.broadcast_arrays(red[None, :], green[:, None], 0.0), axis=-1)
    out = np.asarray(prepare(Image.fromarray(np.rint(ramp).astype(np.uint8)), width=to_width, height=to_height))
    scale = max(to_width / width, to_height / height)
    across = 128 + (np.arange(to_width) + 0.5 - to_width / 2) * step / scale
    down = 128 + (np.arange(to_height) + 0.5 - to_height / 2) * step / scale
    inner = slice(to_height // 4, -(to_height // 4)), slice(to_width // 4, -(to_width // 4))  # edges repeat the border
    assert np.abs(out[..., 0] - across[None, :])[inner].max() <= 1.5
    assert np.abs(out[..., 1] - down[:, None])[inner].max() <= 1.5


@settings(deadline=None, max_examples=40)
@given(st.integers(8, 120), st.integers(8, 120), st.integers(8, 60), st.integers(8, 60), st.integers(0, 99))
def test_prepare_mirrors_with_its_picture(width: int, height: int, to_width: int, to_height: int, seed: int) -> None:
    """The crop favours no side: turning the picture by half turns the result by half."""
    array = noise(height, width, seed=seed)
    there = np.asarray(prepare(Image.fromarray(array), width=to_width, height=to_height)).astype(int)
    back = np.asarray(prepare(Image.fromarray(array[::-1, ::-1].copy()), width=to_width, height=to_height))[::-1, ::-1]
    assert np.abs(there - back).max() <= 1


def test_prepare_is_antialiased() -> None:
    """Shrunk by ten, fine stripes become grey, as a blur would make them, and not a pattern of stripes."""
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    out = np.asarray(prepare(Image.fromarray(stripes), width=40, height=40)).astype(int)
    assert np.abs(out - 128)[:, 3:-3].max() <= 1


def test_prepare_cuts_before_it_scales_without_a_trace() -> None:
    """The same as filtering the whole picture: the pixels near the crop take part."""
    image = Image.fromarray(noise(200, 100)).filter(ImageFilter.GaussianBlur(1))
    whole = image.resize((50, 100), Image.Resampling.LANCZOS).crop((0, 25, 50, 75))
    assert np.abs(np.asarray(prepare(image, width=50, height=50)).astype(int) - np.asarray(whole)).max() <= 1


@pytest.mark.parametrize("size", [0, -1, 1.5, "64", True, None, 20_000])
@pytest.mark.parametrize("side", ["width", "height"])
def test_prepare_refuses_sizes(size: object, side: str) -> None:
    with pytest.raises(ImageError, match=f"{side}={size!r}: allowed are whole numbers from 1 to 16384"):
        prepare(Image.new("RGB", (8, 8)), **{"width": 8, "height": 8, side: size})


def test_prepare_refuses_what_is_not_rgb() -> None:
    with pytest.raises(ImageError, match="got mode RGBA; a PIL image of mode RGB is needed"):
        prepare(Image.new("RGBA", (8, 8)), width=8, height=8)
    with pytest.raises(ImageError, match="got ndarray; a PIL image of mode RGB is needed"):
        prepare(noise(), width=8, height=8)

"""Contact sheets and stills."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import svdlab.video
from svdlab.errors import VideoError
from svdlab.video import contact_sheet, to_jpeg, to_png
from tests.media_samples import moving_square


def numbered(count: int, height: int, width: int) -> np.ndarray:
    """Flat frames, each of its own grey."""
    greys = np.linspace(60, 200, count).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (count, height, width, 3)).copy()


def tiles(sheet: Image.Image, width: int, height: int, gutter: int = 4) -> list[np.ndarray]:
    array = np.asarray(sheet)
    tops = range(gutter, array.shape[0] - height + 1, height + gutter)
    lefts = range(gutter, array.shape[1] - width + 1, width + gutter)
    return [array[y : y + height, x : x + width] for y in tops for x in lefts]


def test_small_frames_are_enlarged_by_whole_pixels() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    sheet = contact_sheet(frames, labels=False)
    assert sheet.mode == "RGB"
    assert sheet.size == (5 * 260 + 4, 2 * 260 + 4)  # four times 64, and gutters of 4
    shown = tiles(sheet, 256, 256)
    for frame, tile in zip(frames, shown, strict=False):
        assert np.array_equal(tile, frame.repeat(4, axis=0).repeat(4, axis=1))
    assert all((tile == 255).all() for tile in shown[7:])


def test_large_frames_are_shrunk() -> None:
    sheet = contact_sheet(numbered(25, 576, 1024), labels=False)
    assert sheet.size == (5 * (275 + 4) + 4, 5 * (155 + 4) + 4)
    greys = [int(tile[80, 140, 0]) for tile in tiles(sheet, 275, 155)]
    assert np.abs(np.array(greys) - np.linspace(60, 200, 25).astype(int)).max() <= 1


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 12),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 8),
    st.integers(200, 700),
    st.booleans(),
)
def test_sheets_never_exceed_their_width(
    count: int, height: int, width: int, columns: int, max_width: int, labels: bool
) -> None:
    sheet = contact_sheet(numbered(count, height, width), columns=columns, max_width=max_width, labels=labels)
    assert sheet.width <= max_width


@given(st.integers(1, 60), st.integers(2, 60))
def test_frames_are_picked_evenly(total: int, count: int) -> None:
    chosen = svdlab.video._evenly(total, count)
    assert chosen[0] == 0
    assert chosen[-1] == total - 1
    assert len(chosen) == min(total, count)
    gaps = np.diff(chosen)
    assert (gaps >= 1).all()
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_count_shows_first_and_last() -> None:
    frames = numbered(25, 40, 60)
    shown = tiles(contact_sheet(frames, count=3, labels=False), 240, 160)
    assert [int(tile[0, 0, 0]) for tile in shown] == [frames[0, 0, 0, 0], frames[12, 0, 0, 0], frames[24, 0, 0, 0]]
    assert len(tiles(contact_sheet(frames, count=99, labels=False), 240, 160)) == 25
    assert len(tiles(contact_sheet(frames, count=1, labels=False), 240, 160)) == 1


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_labels_are_readable_on_any_ground(grey: int) -> None:
    frames = np.full((12, 64, 64, 3), grey, np.uint8)
    for tile in tiles(contact_sheet(frames), 256, 256)[:12]:
        corner = tile[:40, :40].astype(int).mean(axis=2)
        assert (corner > 240).sum() > 10  # light digits
        assert (corner < 15).sum() > 60  # on a dark box
        assert (tile[60:, 60:] == grey).all()  # and nothing else touched
    one, eleven = (tiles(contact_sheet(frames), 256, 256)[k] for k in (1, 11))
    assert not np.array_equal(one, eleven)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"columns": 0}, "columns=0: allowed are whole numbers from 1"),
        ({"columns": 2.0}, "columns=2.0"),
        ({"columns": 500}, "columns=500: too many for max_width=1400"),
        ({"max_width": 10}, "max_width=10: allowed are whole numbers from 64"),
        ({"count": 0}, "count=0"),
        ({"count": True}, "count=True"),
    ],
)
def test_sheet_options_refused(options: dict, says: str) -> None:
    with pytest.raises(VideoError, match=says):
        contact_sheet(moving_square(2), **options)


def test_sheet_frames_refused() -> None:
    with pytest.raises(VideoError, match="uint8"):
        contact_sheet(moving_square() / 255)


def test_sheet_leaves_its_frames_alone() -> None:
    frames = numbered(3, 200, 300)
    before = frames.copy()
    contact_sheet(frames)
    contact_sheet(frames, columns=1, max_width=310)
    assert np.array_equal(frames, before)


# ---------------------------------------------------------------- stills


def test_stills_there_and_back() -> None:
    image = Image.fromarray(moving_square(1)[0])
    png = Image.open(io.BytesIO(to_png(image)))
    assert png.format == "PNG"
    assert np.array_equal(np.asarray(png), np.asarray(image))
    jpeg = Image.open(io.BytesIO(to_jpeg(image, quality=95)))
    assert jpeg.format == "JPEG"
    assert np.abs(np.asarray(jpeg).astype(int) - np.asarray(image)).mean() < 4
    assert len(to_jpeg(image, quality=20)) < len(to_jpeg(image)) < len(to_jpeg(image, quality=95))


def test_stills_refused() -> None:
    for quality in (0, 96, 85.0, True):
        with pytest.raises(VideoError, match=r"quality=.*allowed are whole numbers from 1 to 95"):
            to_jpeg(Image.new("RGB", (4, 4)), quality=quality)
    with pytest.raises(VideoError, match="got mode RGBA; a PIL image of mode RGB or L"):
        to_png(Image.new("RGBA", (4, 4)))
    with pytest.raises(VideoError, match="got ndarray"):
        to_jpeg(moving_square(1)[0])

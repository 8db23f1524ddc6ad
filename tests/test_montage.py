"""Montages: every clip in its place, pixel for pixel, and the words around them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from svdlab.errors import VideoError
from svdlab.lettering import font_for, wrap
from svdlab.montage import MAX_VIDEO_SIDE, montage_frames, montage_picture, save_animation, write_montage
from svdlab.video import read_video
from tests.media_samples import moving_square

COLOURS = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [250, 250, 10], [250, 10, 250], [10, 250, 250]])


def flat(colour: int, frames: int = 1, height: int = 16, width: int = 16) -> np.ndarray:
    return np.broadcast_to(COLOURS[colour].astype(np.uint8), (frames, height, width, 3)).copy()


def found(frame: np.ndarray, colour: int) -> tuple[int, int, int, int] | None:
    """Top, left, height, width of all that has exactly this colour; it must be a filled rectangle."""
    rows, columns = np.nonzero((frame == COLOURS[colour]).all(axis=2))
    if not len(rows):
        return None
    box = (rows.min(), columns.min(), rows.max() - rows.min() + 1, columns.max() - columns.min() + 1)
    assert len(rows) == box[2] * box[3]
    return tuple(int(side) for side in box)


def ink(frame: np.ndarray) -> int:
    return int((frame < 160).all(axis=2).sum())


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 2),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(8, 90), st.integers(8, 90)), min_size=6, max_size=6),
    st.integers(16, 100),
    st.integers(0, 20),
    st.booleans(),
)
def test_every_clip_is_shown_once_whole_and_in_reading_order(down, across, sizes, cell_height, gap, labels) -> None:
    grid = [[flat(y * across + x, 1, *sizes[y * across + x]) for x in range(across)] for y in range(down)]
    words = {"row_labels": ["row"] * down, "column_labels": ["column"] * across, "title": "A title"} if labels else {}
    frames = montage_frames(grid, cell_height=cell_height, gap=gap, **words)
    assert frames.shape[1] % 2 == 0
    assert frames.shape[2] % 2 == 0
    centres = {}
    for y in range(down):
        for x in range(across):
            height, width = sizes[y * across + x]
            top, left, tall, wide = found(frames[0], y * across + x)
            if height <= cell_height:  # a whole factor, the same both ways
                assert (tall, wide) == (height * (cell_height // height), width * (cell_height // height))
            else:
                assert tall == cell_height
                assert abs(wide - width * cell_height / height) <= 0.5
            centres[y, x] = (top + tall / 2, left + wide / 2)
    for (y, x), (down_at, across_at) in centres.items():
        assert x == 0 or across_at > centres[y, x - 1][1]
        assert y == 0 or down_at > centres[y - 1, x][0]
        assert abs(down_at - centres[y, 0][0]) <= 1
        assert abs(across_at - centres[0, x][1]) <= 1


def test_small_clips_are_enlarged_without_smoothing() -> None:
    clip = np.random.default_rng(0).integers(0, 200, (3, 16, 24, 3), dtype=np.uint8)
    frames = montage_frames([[clip]], cell_height=40)
    assert frames.shape[0] == 3
    large = clip.repeat(2, axis=1).repeat(2, axis=2)
    margin = (frames.shape[2] - large.shape[2]) // 2
    assert np.array_equal(frames[:, margin : margin + 32, margin : margin + 48], large)


def test_shorter_clips_hold_their_last_frame() -> None:
    short = np.concatenate([flat(0), flat(1)])
    frames = montage_frames([[short, flat(2, 5)]], cell_height=16)
    assert len(frames) == 5
    assert found(frames[0], 0)
    assert all(found(frame, 1) == found(frames[1], 1) and not found(frame, 0) for frame in frames[1:])
    assert all(found(frame, 2) == found(frames[0], 2) for frame in frames)


def test_missing_and_failed_tiles_say_so_and_never_change() -> None:
    frames = montage_frames([[flat(0, 2, 128, 128), None, "ValueError: too hot"]])
    assert np.array_equal(frames[0], frames[1])
    _, left, _, wide = found(frames[0], 0)
    pitch = wide + 4
    missing, failed = (frames[0][20:-20, left + k * pitch + 10 : left + k * pitch + wide - 10] for k in (1, 2))
    assert ink(missing) > 20
    assert ink(montage_frames([[None]])[0]) > 20  # with no clip at all
    assert (missing[..., 0] == missing[..., 2]).all()  # grey; the failed one is reddish
    assert (failed[..., 0].astype(int) >= failed[..., 2]).all()
    assert ((failed[..., 0].astype(int) - failed[..., 2]) > 50).sum() > 20
    assert len({tuple(pixel) for pixel in missing.reshape(-1, 3).tolist()}) > 2  # hatched


def test_labels_stand_beside_their_row_and_column() -> None:
    grid = [[flat(0), flat(1)], [flat(2), flat(3)]]
    plain = montage_frames(grid, cell_height=64)[0]
    assert ink(plain) == 0
    for words, row, column in (
        ({"row_labels": ["", "mmm"]}, 1, None),
        ({"row_labels": ["mmm", ""]}, 0, None),
        ({"column_labels": ["mmm", ""]}, None, 0),
        ({"column_labels": ["", "mmm"]}, None, 1),
    ):
        frame = montage_frames(grid, cell_height=64, **words)[0]
        ys, xs = np.nonzero((frame < 160).all(axis=2))
        top, left, tall, wide = found(frame, 2 * (row or 0) + (column or 0))
        if row is not None:
            assert top <= ys.min() <= ys.max() <= top + tall
            assert xs.max() < left
        else:
            assert left <= xs.min() <= xs.max() <= left + wide
            assert ys.max() < top


def test_groups_stand_apart_with_their_headers() -> None:
    grid = [[flat(0), flat(1), flat(2), flat(3)]]
    frame = montage_frames(grid, cell_height=64, gap=4, super_columns=["first", "second"])[0]
    lefts = [found(frame, k)[1] for k in range(4)]
    assert np.diff(lefts).tolist() == [68, 76, 68]
    tall = montage_frames([[tile] for tile in grid[0]], cell_height=64, gap=4, super_rows=["first", "second"])[0]
    tops = [found(tall, k)[0] for k in range(4)]
    assert np.diff(tops).tolist() == [68, 76, 68]
    _, xs = np.nonzero((tall < 160).all(axis=2))
    assert xs.max() < found(tall, 0)[1]  # upward, to the left
    assert ink(tall) > 20


def test_the_whole_is_kept_within_a_screen_where_the_size_is_free() -> None:
    for down, across, clip in ((1, 3, flat(0, 1, 576, 1024)), (3, 4, flat(0, 1, 64, 64)), (20, 20, flat(0, 1, 64, 64))):
        height, width = montage_frames([[clip] * across] * down).shape[1:3]
        assert max(height, width) <= 1920
        assert max(height, width) > 700


def test_too_large_a_montage_is_refused_with_a_size_that_works() -> None:
    grid = [[flat(0, 2, 64, 64)] * 30] * 30
    with pytest.raises(VideoError, match=r"30 rows and 30 columns .* allowed are 4096 px a side") as caught:
        montage_frames(grid, cell_height=512)
    offered = int(re.search(r"cell_height=(\d+) or less", str(caught.value))[1])
    assert max(montage_frames(grid, cell_height=offered).shape[1:3]) <= MAX_VIDEO_SIDE
    with pytest.raises(VideoError, match=r"No smaller cell_height helps: choose fewer rows and columns"):
        montage_frames([[flat(0)] * 300])
    assert montage_picture([[flat(0)[0]] * 300]).width > MAX_VIDEO_SIDE  # a picture may be larger


def test_memory_is_guarded_before_it_is_taken() -> None:
    long = np.broadcast_to(np.zeros((1, 16, 16, 3), np.uint8), (4000, 16, 16, 3))  # of 16 x 16 px in memory
    with pytest.raises(VideoError, match=r"4000 frames of .* 2 GiB of frames in all. Give cell_height=\d+ or less"):
        montage_frames([[long] * 10], cell_height=256)


@pytest.mark.parametrize(
    ("grid", "options", "words"),
    [
        ([], {}, r"grid: got an empty list; must be a list of rows"),
        ([[]], {}, r"grid\[0\]: got an empty list"),
        ([[None], [None, None]], {}, r"grid\[1\]: has 2 tiles, the first row has 1"),
        (flat(0), {}, r"grid: got an array of shape \[1, 16, 16, 3\] and type uint8"),
        ([flat(0)], {}, r"grid\[0\]: got an array"),
        ([[flat(0)[0]]], {}, r"grid\[0\]\[0\]: got an array of shape \[16, 16, 3\] .* uint8 \[frames, height"),
        ([[flat(0).astype(float)]], {}, r"grid\[0\]\[0\]: got an array .* float64"),
        ([[flat(0)[:0]]], {}, r"grid\[0\]\[0\]: shape \[0, 16, 16, 3\] holds nothing"),
        ([[3]], {}, r"grid\[0\]\[0\]: got int"),
        ([[None]], {"row_labels": ["a", "b"]}, r"row_labels: 2 texts are given; one for each of the 1 rows, or none"),
        ([[None]], {"column_labels": "a"}, r"column_labels = 'a': must be a list of texts"),
        ([[None]], {"column_labels": [1]}, r"column_labels = \[1\]: must be a list of texts"),
        ([[None] * 3], {"super_columns": ["a", "b"]}, r"super_columns: .* must divide the 3 columns"),
        ([[None]], {"title": 3}, r"title = 3: must be a text"),
        ([[None]], {"cell_height": 15}, r"cell_height = 15: must be a whole number from 16 to 4096"),
        ([[None]], {"cell_height": True}, r"cell_height = True: must be"),
        ([[None]], {"gap": -1}, r"gap = -1: must be a whole number from 0 to 64"),
    ],
)
def test_bad_arguments_are_named(grid, options, words) -> None:
    with pytest.raises(VideoError, match=words):
        montage_frames(grid, **options)


def test_a_picture_takes_single_frames_only() -> None:
    picture = montage_picture([[flat(0)[0], None]], column_labels=["a", "b"], cell_height=32)
    assert isinstance(picture, Image.Image)
    assert found(np.asarray(picture), 0)[2:] == (32, 32)
    with pytest.raises(VideoError, match=r"a tile of a picture is a single frame"):
        montage_picture([[flat(0)]])


def test_the_mp4_shows_the_montage(tmp_path: Path) -> None:
    square = moving_square(count=6)
    words = {"row_labels": ["speed = 2"], "column_labels": ["there", "back"], "title": "Ünder → way"}
    path = write_montage(tmp_path / "m.mp4", [[square, square[::-1]]], fps=8, metadata={"comment": "two"}, **words)
    video = read_video(path)
    assert video.fps == 8
    assert video.metadata["comment"] == "two"
    wanted = montage_frames([[square, square[::-1]]], **words)
    assert video.frames.shape == wanted.shape
    assert np.abs(video.frames.astype(int) - wanted).mean() < 2
    with pytest.raises(VideoError, match=r"ends in \.mp4"):
        write_montage(tmp_path / "m.avi", [[square]], fps=8)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("fps", [7, 10, 24])
def test_animations_last_as_long_as_the_clip(tmp_path: Path, suffix: str, fps: int) -> None:
    frames = moving_square(count=13)
    path = save_animation(tmp_path / f"a{suffix}", frames, fps)
    with Image.open(path) as animation:
        assert animation.n_frames == 13
        assert animation.info["loop"] == 0
        durations, shown = [], []
        for k in range(13):
            animation.seek(k)
            shown.append(np.asarray(animation.convert("RGB")).astype(int))  # reads the frame's duration too
            durations.append(animation.info["duration"])
    assert abs(sum(durations) - 13_000 / fps) <= 5
    assert max(durations) - min(durations) <= (10 if suffix == ".gif" else 1)
    assert np.abs(np.stack(shown) - frames).mean() < 6


def test_animations_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for path, frames, fps, words in (
        (tmp_path / "a.png", flat(0), 10, r"must end in \.gif or \.webp"),
        (tmp_path / "no" / "a.gif", flat(0), 10, r"there is no folder"),
        (tmp_path / "a.gif", flat(0), 60, r"fps = 60: must be a number from 1 to 50"),
        (tmp_path / "a.gif", flat(0)[0], 10, r"frames: got an array of shape \[16, 16, 3\]"),
    ):
        with pytest.raises(VideoError, match=words):
            save_animation(path, frames, fps)
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None, max_examples=80)
@given(st.text(max_size=300), st.integers(30, 200), st.integers(1, 5))
def test_wrapped_text_fits_and_loses_no_word_silently(text: str, width: int, most: int) -> None:
    font = font_for(text, 12)
    lines = wrap(text, font, width, most)
    assert len(lines) <= most
    assert all(font.getlength(line) <= width for line in lines)
    letters = "".join("".join(lines).split())
    assert letters.endswith("...") or letters == "".join(text.split())


def test_letters_that_the_plain_font_lacks_come_from_the_broad_one() -> None:
    plain = font_for("motion_bucket_id = 127", 14)
    assert font_for("Übung → 漢\n", 14).getname() != plain.getname()
    assert font_for("two\nlines", 14).getname() == plain.getname()
    frames = montage_frames([[None]], column_labels=["\x00\u202e\U0001f680 odd"], title="x" * 5000)
    assert frames.shape[2] < 1920

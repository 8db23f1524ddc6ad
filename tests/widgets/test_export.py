"""What is seen, written: contact sheet, montage, table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import svdlab as sl
from svdlab.errors import ViewError
from svdlab.sweep.artifacts import VIDEO, cell_path
from svdlab.video import read_video
from svdlab.widgets.arrange import arrange
from svdlab.widgets.export import free_path, picture, save, save_csv, save_mp4, save_png
from svdlab.widgets.view import View
from tests.pictures import blobs
from tests.widgets.runs import Writer


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A sweep of 2 x 3 x 2 cells: six are done, one failed, five pending."""
    pipe = sl.load("tiny-random", device="cpu")
    clip = pipe(blobs(), steps=1, seed=0, num_frames=3)
    grid = {"motion_bucket_id": [32, 224], "steps": [1, 2, 3], "seed": [0, 1]}

    def fill(writer, ledger):
        for k in range(6):
            writer.done(ledger, k)
        writer.failed(ledger, 6, "boom")

    return Writer(tmp_path_factory.mktemp("half") / "trial", pipe, clip, grid).write(fill)


def test_csv_has_the_rows_that_are_seen_in_their_order(half, tmp_path):
    view = View.of(half, x="steps", y="motion_bucket_id", seed=0, sort=("flow_mean", False))
    table = pd.read_csv(save_csv(half, view, tmp_path / "seen.csv"))
    assert table["cell"].tolist() == arrange(half.frame(), view).keys()
    assert table["flow_mean"].is_monotonic_decreasing
    everything = view.select(sort=None, seed=None)
    table = pd.read_csv(save_csv(half, everything, tmp_path / "all.csv"))
    assert sorted(table["cell"]) == sorted(half.frame()["cell"])


def test_mp4_has_every_frame_of_the_clips(half, tmp_path):
    view = View.of(half, seed=0)
    path = save_mp4(half, view, tmp_path / "seen.mp4")
    video = read_video(path)
    assert len(video.frames) == 3
    assert video.fps == 10
    assert "View(x='steps'" in video.metadata["comment"]
    assert video.frames.shape[2] > 3 * 256  # three clips beside each other, enlarged
    assert (video.frames[0] != video.frames[2]).any()  # it moves


@pytest.mark.parametrize("show", ["grid", "both", "heat"])
def test_png_is_the_picture(half, tmp_path, show):
    view = View.of(half, super_y="seed", show=show)
    path = save_png(half, view, tmp_path / f"{show}.png")
    with Image.open(path) as seen:
        np.testing.assert_array_equal(np.asarray(seen), np.asarray(picture(half, view)))


def test_numbers_bring_their_colours(half):
    colours = {"lowest": (0, 34, 78), "highest": (254, 232, 56)}  # the ends of cividis
    plain = np.asarray(picture(half, View.of(half))).reshape(-1, 3)
    heat = np.asarray(picture(half, View.of(half, show="heat"))).reshape(-1, 3)
    for colour in colours.values():
        close = np.abs(heat.astype(int) - colour).max(axis=1) <= 2
        assert close.sum() > 1000
        assert (np.abs(plain.astype(int) - colour).max(axis=1) <= 2).sum() < close.sum() / 10


def test_what_is_filtered_out_is_pale(half):
    view = View.of(half, seed=0)
    pale = picture(half, view.select(filters={"flow_mean": (100, None)}))
    assert np.asarray(pale).mean() > np.asarray(picture(half, view)).mean() + 20


def test_failed_and_pending_are_told_apart(half):
    red = np.array([253, 241, 239])  # what the montage puts behind an error

    def reddish(view):
        return (np.abs(np.asarray(picture(half, view)).astype(int) - red).max(axis=2) <= 1).mean()

    row = View.of(half, x="steps", motion_bucket_id=32, seed=1, y=None)
    assert reddish(row) > 0.15  # one of three failed
    assert reddish(row.select(motion_bucket_id=224)) < 0.01  # all three are pending


def test_a_list_is_broken_into_lines(half):
    done = half.frame().query("status == 'done'")["cell"].tolist()
    wide, tall = picture(half, View.of(half, show="shortlist", shortlist=done[:5])).size
    assert 3 * 256 <= wide < 4 * 256  # 5 clips: 3 and 2
    assert 2 * 256 <= tall < 3 * 256


def test_a_damaged_clip_is_a_tile_with_words(half, tmp_path):
    view = View.of(half, seed=0)
    cell = arrange(half.frame(), view).keys()[1]
    path = half.path / cell_path(cell) / VIDEO
    data, before = path.read_bytes(), np.asarray(picture(half, view))
    try:
        path.write_bytes(b"no video")
        after = np.asarray(picture(half, view))
    finally:
        path.write_bytes(data)
    assert after.shape == before.shape
    assert (after != before).any()


def test_nothing_seen_is_nothing_written(half, tmp_path):
    view = View.of(half, show="shortlist")
    for writer, suffix in ((save_png, ".png"), (save_mp4, ".mp4"), (save_csv, ".csv")):
        with pytest.raises(ViewError, match="shows no cell"):
            writer(half, view, tmp_path / f"none{suffix}")
    pending = View.of(half, seed=1, motion_bucket_id=224, x="steps")
    with pytest.raises(ViewError, match="nothing to play"):
        save_mp4(half, pending, tmp_path / "none.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"), [("seen.jpg", "must end in .png"), ("no/seen.png", "there is no folder"), ("is.png", "is free")]
)
def test_a_path_that_cannot_be_written_is_refused(half, tmp_path, name, words):
    (tmp_path / "is.png").write_bytes(b"mine")
    with pytest.raises(ViewError, match=words):
        save_png(half, View.of(half), tmp_path / name)
    assert (tmp_path / "is.png").read_bytes() == b"mine"


def test_overwriting_is_a_word_away(half, tmp_path):
    (tmp_path / "seen.csv").write_text("old")
    save_csv(half, View.of(half), tmp_path / "seen.csv", overwrite=True)
    assert "flow_mean" in (tmp_path / "seen.csv").read_text()


def test_a_typed_path_needs_no_suffix(half, tmp_path):
    view = View.of(half)
    assert save(half, view, f" {tmp_path}/first.run ", "csv") == tmp_path / "first.run.csv"
    assert save(half, view, f"{tmp_path}/seen.png", "csv") == tmp_path / "seen.csv"  # the button decides


def test_free_path_counts_up(tmp_path):
    assert free_path("run", ".png", folder=tmp_path) == tmp_path / "run.png"
    (tmp_path / "run.png").touch()
    (tmp_path / "run-2.csv").touch()
    assert free_path("run", ".png", folder=tmp_path) == tmp_path / "run-2.png"
    assert free_path("run", folder=tmp_path) == tmp_path / "run-3"


def test_the_title_says_what_is_locked(half):
    from svdlab.widgets.export import _title

    view = View.of(half, seed=None, show="both", metric="flow_mean")
    assert _title(half, view) == "sweep; seed all; flow_mean in px/frame"
    assert _title(half, view.select(sort=("flow_mean", True))).endswith("by flow_mean, lowest first")

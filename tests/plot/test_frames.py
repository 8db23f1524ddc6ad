from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import svdlab as sl
from svdlab.errors import ViewError
from svdlab.plot import frames
from tests.plot.conftest import moving


def ticks(figure) -> list[str]:
    return [tick.get_text() for tick in figure.axes[0].get_xticklabels()]


def rows(figure) -> list[str]:
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def test_a_clip_is_a_row_of_its_frames_with_numbers_and_seconds():
    clip = moving(25)
    figure = frames(clip)
    assert ticks(figure) == ["frame 0\n0 s", "4\n0.4 s", "8\n0.8 s", "12\n1.2 s", "16\n1.6 s", "20\n2 s", "24\n2.4 s"]
    shown = [image.get_array() for image in figure.axes[0].images]
    for picture, number in zip(shown, range(0, 25, 4), strict=True):
        np.testing.assert_array_equal(picture, clip.frames[number])


def test_rows_are_named_by_what_differs(walk):
    figure = frames(walk[:3])
    assert rows(figure) == ["steps=1", "steps=2", "steps=4"]
    assert rows(frames(walk[2:4])) == ["seed=0, steps=4", "seed=1, steps=1"]
    assert rows(frames([moving(3), moving(3)])) == ["clip 1", "clip 2"]
    assert rows(frames([moving(3), moving(3)], labels=["a", "$b"])) == ["a", "\\$b"]
    assert rows(frames({"slow": moving(3), "fast": moving(3, step=2)})) == ["slow", "fast"]


def test_every_other_frame():
    figure = frames(moving(6), every=2)
    assert [label.split("\n")[0] for label in ticks(figure)] == ["frame 0", "2", "4"]
    assert len(figure.axes[0].images) == 3


def test_rows_lie_below_each_other_and_keep_their_shape():
    figure = frames([moving(2, height=24, width=32), moving(2, height=32, width=32)])
    extents = [image.get_extent() for image in figure.axes[0].images]
    assert extents[0] == pytest.approx([0, 1, 0.75, 0])
    assert extents[2] == pytest.approx([0, 1, 1.78, 0.78])
    assert figure.axes[0].get_aspect() == 1


def test_a_shorter_clip_leaves_its_last_places_empty_and_unlike_rates_drop_the_seconds():
    figure = frames([moving(5), moving(3, fps=5)], every=1)
    assert len(figure.axes[0].images) == 8
    assert ticks(figure) == ["0", "1", "2", "3", "4"]


def test_large_frames_are_reduced_and_small_ones_keep_their_pixels():
    figure = frames(sl.Clip(frames=np.full((1, 576, 1024, 3), 7, np.uint8)))
    (image,) = figure.axes[0].images
    assert image.get_array().shape == (169, 300, 3)
    (small,) = frames(moving(1)).axes[0].images
    assert small.get_interpolation() == "nearest"


def test_it_draws_into_given_axes():
    own = Figure()
    axes = own.subplots(1, 2)
    assert frames(moving(4), ax=axes[1]) is own
    assert len(axes[1].images) == 4


@pytest.mark.parametrize(
    ("clips", "options", "words"),
    [
        ([], {}, "clips: there are none"),
        ([1], {}, "clips: int is not a Clip"),
        ([moving(2)], {"every": 0}, "every = 0: must be a whole number"),
        ([moving(2)], {"every": True}, "every = True: must be a whole number"),
        ([moving(2)], {"labels": ["a", "b"]}, r"labels = \['a', 'b'\]: give 1 different ones"),
        ([moving(2), moving(3)], {"labels": ["a", "a"]}, "give 2 different ones"),
        ({"a": moving(2)}, {"labels": ["b"]}, "labels: the clips come with names already"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_words(clips, options, words):
    with pytest.raises(ViewError, match=words):
        frames(clips, **options)


@given(st.integers(1, 200))
def test_the_first_frame_is_there_and_never_more_than_eight(count):
    still = sl.Clip(frames=np.zeros((count, 2, 2, 3), np.uint8))
    shown = len(frames(still).axes[0].images)
    assert min(count, 4) <= shown <= 8

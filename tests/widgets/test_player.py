from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from ipywidgets.widgets.widget import _remove_buffers

from svdlab.errors import SvdlabError, VideoError, WidgetError
from svdlab.video import read_video
from svdlab.widgets import FramePlayer
from tests.widgets.clips import FIRST, STEP, counting

# ---------------------------------------------------------------- what goes to the page


def test_the_videos_travel_as_binary_buffers_and_hold_every_frame() -> None:
    player = FramePlayer([counting(25, fps=8), counting(14, fps=5)])
    state, paths, buffers = _remove_buffers(player.get_state())
    assert paths == [["_clips", 0, "video"], ["_clips", 1, "video"]]
    about = [
        {"frames": 25, "fps": 8.0, "width": 64, "height": 64},
        {"frames": 14, "fps": 5.0, "width": 64, "height": 64},
    ]
    assert state["_clips"] == about
    for buffer, frames, fps in zip(buffers, (25, 14), (8, 5), strict=True):
        video = read_video(bytes(buffer))
        assert video.fps == fps
        assert np.abs(video.frames.mean((1, 2, 3)) - (FIRST + STEP * np.arange(frames))).max() < 2


def test_values_that_are_not_there_travel_as_null() -> None:
    player = FramePlayer(counting(4), metrics={"sharp": [math.nan, 1, None, math.inf]})
    state, _, _ = _remove_buffers(player.get_state())
    sent = json.loads(json.dumps(state["_curves"], allow_nan=False))
    assert sent == {"sharp": {"unit": "", "values": [[None, 1.0, None, None]]}}


def test_the_starting_state() -> None:
    player = FramePlayer({"few": counting(), "many": counting(14)}, mode="wipe", speed=0.5, loop=False, height=200)
    assert (player.frame, player.frames, player.playing, player.pair, player.wipe) == (0, 25, False, (0, 1), 0.5)
    assert (player.labels, player.mode, player.speed, player.loop, player.height) == (
        ["few", "many"],
        "wipe",
        0.5,
        False,
        200,
    )
    assert player.overlay is None
    assert player.metrics == {}
    assert FramePlayer(counting(), autoplay=True).playing is True


def test_the_first_metric_is_shown_and_another_can_be_chosen() -> None:
    clips = [counting(3), counting(2)]
    player = FramePlayer(clips, metrics={"flow_mean": [[1, 2, 3], np.array([4, 5])], "own": [[0, 0, 0], (1, 1)]})
    assert player.overlay == "flow_mean"
    assert player.metrics["flow_mean"] == [[1.0, 2.0, 3.0], [4.0, 5.0]]
    assert player._curves["flow_mean"]["unit"] == "px/frame"
    player.overlay = "own"
    player.overlay = None
    with pytest.raises(WidgetError, match=r"overlay = 'x': must be None or one .*\(flow_mean, own\)"):
        player.overlay = "x"


def test_auto_measures_every_clip() -> None:
    rng = np.random.default_rng(0)
    clips = [counting(6), counting(5)]
    noise = clips[0].frames // 2 + rng.integers(0, 99, clips[0].frames.shape, dtype=np.uint8)
    player = FramePlayer([type(clips[0])(frames=noise, fps=8), clips[1]], metrics="auto")
    assert player.overlay == next(iter(player.metrics))
    for name, curves in player.metrics.items():
        assert [len(curve) for curve in curves] == [6, 5], name
        assert any(value is not None for curve in curves for value in curve), name


# ---------------------------------------------------------------- without a browser


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.integers(-60, 60), max_size=6), start=st.integers(0, 13), loop=st.booleans())
def test_steps_walk_around_or_stop_at_the_ends(steps: list[int], start: int, loop: bool) -> None:
    player = _PLAYER
    player.loop = loop
    player.seek(start)
    expected = start
    for delta in steps:
        player.playing = True
        player.step(delta)
        expected = (expected + delta) % 14 if loop else min(max(expected + delta, 0), 13)
        assert (player.frame, player.playing) == (expected, False)


_PLAYER = FramePlayer([counting(14), counting(3)])


def test_play_and_pause() -> None:
    player = FramePlayer(counting())
    player.play()
    assert player.playing
    player.pause()
    assert not player.playing


def test_other_clips_keep_what_still_fits() -> None:
    three = [counting(25), counting(25), counting(9)]
    player = FramePlayer(
        three, mode="blend", metrics={"a": [[0] * 25, [0] * 25, [0] * 9], "b": [[1] * 25, [1] * 25, [1] * 9]}
    )
    player.pair = (2, 1)
    player.seek(20)
    player.overlay = "b"
    player.set_clips(
        {"x": counting(12), "y": counting(10), "z": counting(3)}, metrics={"b": [[1] * 12, [2] * 10, [3] * 3]}
    )
    assert (player.frame, player.frames, player.pair, player.mode, player.overlay) == (11, 12, (2, 1), "blend", "b")
    assert player.labels == ["x", "y", "z"]
    player.set_clips([counting(12), counting(12)])
    assert (player.pair, player.mode, player.overlay, player.metrics) == ((0, 1), "blend", None, {})
    player.set_clips(counting(30 - 10))
    assert (player.pair, player.mode, player.frame, len(player.clips)) == ((0, 0), "side", 11, 1)
    player.set_clips([counting(4), counting(5)])
    assert (player.pair, player.frame) == ((0, 1), 4)


def test_clips_that_are_refused_leave_the_player_as_it_was() -> None:
    first = counting(5)
    player = FramePlayer({"a": first})
    before = player.get_state()
    for bad in ([], [first, 3], [counting(5, side=33)]):
        with pytest.raises((WidgetError, VideoError)):
            player.set_clips(bad)
    with pytest.raises(WidgetError, match="wanted 2, one a clip"):
        player.set_clips([first, first], labels=["one"])
    with pytest.raises(WidgetError, match="metrics"):
        player.set_clips(first, metrics={"m": [1]})
    assert player.get_state() == before
    assert player.clips == (first,)


def test_a_frame_that_is_not_there_is_refused_and_nothing_moves() -> None:
    player = FramePlayer(counting(10))
    player.seek(3)
    for bad in (-1, 10, 2.5, "3", True, None):
        with pytest.raises(WidgetError, match="frame = "):
            player.seek(bad)  # type: ignore[arg-type]
    with pytest.raises(WidgetError, match=r"delta = 0\.5: must be a whole number"):
        player.step(0.5)  # type: ignore[arg-type]
    player.seek(np.int64(4))  # type: ignore[arg-type]
    assert player.frame == 4


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("clips", "options", "words"),
    [
        ([], {}, "clips: there are none"),
        ({}, {}, "clips: there are none"),
        ("clip.mp4", {}, "clips: got str; give a Clip, a list of them, or a dict"),
        (None, {}, "clips: got NoneType"),
        ("mixed", {}, "number 1 is of type ndarray, not a Clip.*svdlab.Clip\\(frames"),
        ("two", {"labels": ["a"]}, "labels = \\['a'\\]: got 1, wanted 2"),
        ("two", {"labels": ["a", 4]}, "labels: 4 is of type int; labels must be text, such as '4'"),
        ("two", {"labels": "ab"}, "labels = 'ab': must be a list"),
        ("dict", {"labels": ["a"]}, "the dict of clips has its labels already"),
        ({4: counting(2)}, {}, "labels: 4 is of type int"),
        ("one", {"mode": "wipe"}, "mode = 'wipe' compares two clips, and there is one"),
        ("two", {"mode": "split"}, "mode = 'split': must be one of side, wipe, blend, ab"),
        ("one", {"speed": 0.0}, "speed = 0.0: must be 0.1 to 8"),
        ("one", {"speed": math.nan}, "speed = nan"),
        ("one", {"height": 8}, "height = 8: must be 16 to 2160"),
        ("one", {"metrics": 3}, "metrics = 3: must be None, 'auto', or a dict"),
        ("one", {"metrics": "all"}, "metrics = 'all': must be None, 'auto', or a dict"),
    ],
)
def test_bad_arguments_are_refused_in_words(clips: Any, options: dict[str, Any], words: str) -> None:
    clip = counting(2)
    known = {"one": clip, "two": [clip, clip], "mixed": [clip, clip.frames], "dict": {"a": clip}}
    with pytest.raises(WidgetError, match=words):
        FramePlayer(known.get(clips, clips) if isinstance(clips, str) else clips, **options)


def test_bad_settings_are_refused_later_too() -> None:
    player = FramePlayer([counting(2), counting(2), counting(2)])
    bad = {"pair": [(1, 1), (0, 3), (-1, 0)], "wipe": [-0.1, 1.5], "labels": [["a"]], "mode": ["x"], "speed": [9.0]}
    for name, values in bad.items():
        for value in values:
            before = getattr(player, name)
            with pytest.raises(WidgetError, match=f"{name} = "):
                setattr(player, name, value)
            assert getattr(player, name) == before
    with pytest.raises(traitlets.TraitError, match=r"'speed' trait .* expected a float"):
        player.speed = "fast"
    single = FramePlayer(counting(2))
    with pytest.raises(WidgetError, match="there is one clip, so nothing to compare"):
        single.pair = (0, 1)
    assert issubclass(WidgetError, SvdlabError)


# ---------------------------------------------------------------- how it shows itself


def test_it_says_what_it_is_without_an_address() -> None:
    assert repr(FramePlayer([counting(), counting(14)], mode="ab")) == "FramePlayer(2 clips, 25 frames, mode='ab')"
    assert repr(FramePlayer(counting(1))) == "FramePlayer(1 clip, 1 frame, mode='side')"


def test_live_it_is_a_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVDLAB_DISPLAY", "live")
    player = FramePlayer(counting(2))
    bundle, _ = player._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == player.model_id
    assert bundle["text/plain"] == repr(player)


def test_the_picture_of_one_clip_is_its_contact_sheet() -> None:
    clip = counting(6)
    assert np.array_equal(np.asarray(FramePlayer(clip).static_picture()), np.asarray(clip.contact_sheet()))


def test_the_picture_of_several_holds_a_row_each() -> None:
    two, three = (FramePlayer([counting(25, fps=7)] * count).static_picture() for count in (2, 3))
    assert two.mode == "RGB"
    assert two.width == three.width
    assert three.height - two.height > 100
    greys = np.asarray(two)[two.height * 3 // 4].mean(-1)  # through the second row's frames, on white
    for frame in (0, 5, 10, 14, 19, 24):
        assert np.isclose(greys, FIRST + STEP * frame, atol=3).sum() >= 64, frame

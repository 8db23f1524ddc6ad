from __future__ import annotations

import json

import numpy as np
import pytest

from svdlab.clip import Clip, display_is_static
from svdlab.errors import VideoError
from svdlab.request import Request
from svdlab.video import read_video


def moving_square(count: int = 6, size: int = 64) -> np.ndarray:
    frames = np.zeros((count, size, size, 3), np.uint8)
    for i in range(count):
        frames[i, 20:40, 4 * i : 4 * i + 20] = (200, 60, 20)
    return frames


def test_any_frames_make_a_clip():
    clip = Clip(frames=moving_square(), fps=8)
    assert (len(clip), clip.seed, clip.latents) == (6, None, None)
    assert repr(clip) == "Clip(6 frames, 64x64, 8 fps)"


def test_repr_names_the_settings_that_people_compare():
    clip = Clip(frames=moving_square(), request=Request("a.png", seed=3), model={"name": "tiny-random"})
    assert repr(clip).endswith("motion_bucket_id=127, cond_aug=0.02, steps=4, seed=3, tiny-random)")


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((2, 8, 8, 3)), r"frames = float64 \[2, 8, 8, 3\]: must be a uint8 array"),
        (np.zeros((8, 8, 3), np.uint8), r"frames = uint8 \[8, 8, 3\]"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"frames = uint8 \[2, 8, 8, 4\]"),
        ([1, 2], "frames = list"),
        (np.zeros((0, 8, 8, 3), np.uint8), "there are none"),
    ],
)
def test_other_arrays_are_refused(frames, words):
    with pytest.raises(VideoError, match=words):
        Clip(frames=frames)


@pytest.mark.parametrize("fps", [0, -1, float("inf"), float("nan")])
def test_fps_must_be_a_positive_number(fps):
    with pytest.raises(VideoError, match="fps"):
        Clip(frames=moving_square(), fps=fps)


def test_save_and_read_back(tmp_path):
    frames = moving_square()
    clip = Clip(frames=frames, fps=8, request=Request("a.png", seed=3), model={"name": "tiny-random"})
    path = clip.save(tmp_path / "clip.mp4")
    video = read_video(path)
    assert video.fps == 8
    assert np.abs(video.frames.astype(int) - frames).mean() < 3
    assert path.read_bytes() == clip.to_mp4()
    assert json.dumps(clip.request.settings()).encode() in path.read_bytes()


def test_save_refuses_other_formats_and_missing_folders(tmp_path):
    clip = Clip(frames=moving_square())
    with pytest.raises(VideoError, match=r"must end in \.mp4"):
        clip.save(tmp_path / "clip.gif")
    with pytest.raises(VideoError, match="nowhere"):
        clip.save(tmp_path / "nowhere" / "clip.mp4")


def test_a_live_notebook_gets_a_player_and_a_static_one_a_picture(monkeypatch):
    clip = Clip(frames=moving_square(), fps=8)
    monkeypatch.setenv("SVDLAB_DISPLAY", "live")
    live = clip._repr_mimebundle_()
    assert set(live) == {"text/plain", "text/html"}
    assert "<video controls loop" in live["text/html"]
    assert "6 frames, 64x64, 8 fps</figcaption>" in live["text/html"]
    assert "pixelated" in live["text/html"]
    monkeypatch.setenv("SVDLAB_DISPLAY", "static")
    still = clip._repr_mimebundle_()
    assert set(still) == {"text/plain", "image/jpeg"}
    assert still["image/jpeg"][:2] == b"\xff\xd8"


def test_a_name_from_outside_cannot_break_out_of_the_player(monkeypatch):
    monkeypatch.setenv("SVDLAB_DISPLAY", "live")
    clip = Clip(frames=moving_square(), request=Request("a.png"), model={"name": '"><script>alert(1)</script>'})
    assert "<script>" not in clip._repr_mimebundle_()["text/html"]


def test_the_display_mode_is_checked(monkeypatch):
    monkeypatch.delenv("SVDLAB_DISPLAY", raising=False)
    assert not display_is_static()
    monkeypatch.setenv("SVDLAB_DISPLAY", "loud")
    with pytest.raises(ValueError, match="must be 'static' or 'live'"):
        display_is_static()


def test_contact_sheet_shows_every_frame():
    sheet = Clip(frames=moving_square()).contact_sheet(columns=3)
    assert sheet.width > sheet.height

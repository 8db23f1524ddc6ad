"""A folder of real mp4 files as training data: cutting, encoding once, and batches as a function of their numbers."""

from __future__ import annotations

import json
import logging
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from svdlab.conditioning import embed_pictures, encode_picture
from svdlab.errors import TrainingError, VideoError
from svdlab.images import prepare
from svdlab.models import Components, load_components
from svdlab.training import videos
from svdlab.training.clips import encode_frames, encode_pictures
from svdlab.training.videos import (
    ClipSettings,
    VideoClips,
    bucket_of,
    cut_clips,
    find_videos,
    prepare_videos,
    speed_of,
    stream_frames,
)
from svdlab.training.world import speed_px
from svdlab.video import read_video, to_jpeg, write_video
from tests.training.moving import moving_frames, write_videos

SMALL = ClipSettings(width=32, height=32, num_frames=4, strides=(1, 2))


@pytest.fixture(scope="module")
def teacher() -> Components:
    return load_components("tiny-random", device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def clips(folder: Path, teacher: Components, tmp_path_factory: pytest.TempPathFactory) -> VideoClips:
    return prepare_videos(folder, teacher, SMALL, cache=tmp_path_factory.mktemp("cache"), progress=False)


# ---------------------------------------------------------------- frames


def test_streamed_frames_are_those_of_read_video(folder: Path) -> None:
    streamed = np.stack(list(stream_frames(folder / "1.mp4")))
    assert np.array_equal(streamed, read_video(folder / "1.mp4").frames)


def test_stopping_a_stream_early_is_no_error(folder: Path) -> None:
    stream = stream_frames(folder / "0.mp4")
    assert next(stream).shape == (48, 64, 3)
    stream.close()


def test_a_cut_file_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "2.mp4").read_bytes()
    short = tmp_path / "short.mp4"
    short.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(VideoError, match=r"short\.mp4"):
        list(stream_frames(short))


def test_text_and_sound_are_not_videos(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("#EXTM3U\nhttp://example.invalid/a.ts\n")
    with pytest.raises(VideoError, match=r"text\.mp4"):
        list(stream_frames(text))
    sound = tmp_path / "sound.mp4"
    _write_sound(sound)
    with pytest.raises(VideoError, match="no video in it"):
        list(stream_frames(sound))


def test_a_video_that_changes_its_size_is_refused(tmp_path: Path) -> None:
    small, large = tmp_path / "small.mp4", tmp_path / "large.mp4"
    write_video(small, moving_frames(3, speed=1), fps=8)
    write_video(large, moving_frames(3, speed=1, height=64), fps=8)
    joined = tmp_path / "joined.mkv"
    _join(joined, small, large)
    with pytest.raises(VideoError, match="changes its frame size"):
        list(stream_frames(joined))


def _join(path: Path, *parts: Path) -> None:
    """The pictures of several files as one stream of motion JPEG, whose pictures may each have a size of its own."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        time = 0
        for part in parts:
            for image in stream_frames(part):
                packet = av.Packet(to_jpeg(Image.fromarray(image)))
                packet.stream, packet.pts, packet.dts, packet.time_base = stream, time, time, Fraction(1, 8)
                container.mux(packet)
                time += 1


def _write_sound(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


# ---------------------------------------------------------------- cutting


@given(
    total=st.integers(0, 60),
    frames=st.integers(1, 5),
    strides=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    most=st.integers(1, 6),
)
@settings(max_examples=40, deadline=None)
def test_clips_follow_one_another_without_overlap(total: int, frames: int, strides: list[int], most: int) -> None:
    source = [np.full((16, 16, 3), k, dtype=np.uint8) for k in range(total)]
    chosen = ClipSettings(width=16, height=16, num_frames=frames, strides=tuple(strides), max_clips=most)
    cuts = list(cut_clips(source, chosen))
    begin = 0
    for number, cut in enumerate(cuts):
        stride = strides[number % len(strides)]
        assert (cut.start, cut.stride) == (begin, stride)
        assert cut.frames[:, 0, 0, 0].tolist() == [begin + stride * k for k in range(frames)]
        begin += (frames - 1) * stride + 1
    assert begin <= total
    assert len(cuts) <= most
    if len(cuts) < most:  # the next one would not have fitted
        assert begin + (frames - 1) * strides[len(cuts) % len(strides)] + 1 > total


def test_frames_are_cropped_as_the_pipeline_crops_pictures() -> None:
    source = moving_frames(3, speed=2)
    (cut,) = cut_clips(source, ClipSettings(width=32, height=32, num_frames=3, strides=(1,)))
    wanted = np.asarray(prepare(Image.fromarray(source[2]), width=32, height=32))
    assert np.array_equal(cut.frames[2], wanted)


@pytest.mark.parametrize(
    "wrong", [{"width": 8}, {"num_frames": 0}, {"height": 32.0}, {"max_clips": 0}, {"strides": ()}, {"strides": (1, 0)}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(TrainingError, match=f"{next(iter(wrong))} = "):
        ClipSettings(**wrong)


def test_open_sizes_are_the_teacher_s_and_others_must_fit_its_vae(teacher: Components) -> None:
    filled = ClipSettings(num_frames=7).filled(teacher)
    assert (filled.width, filled.height, filled.num_frames) == (64, 64, 7)
    with pytest.raises(TrainingError, match="width = 36: must be a multiple of 8"):
        ClipSettings(width=36).filled(teacher)
    with pytest.raises(TrainingError, match="must be given"):
        next(cut_clips([], ClipSettings()))


# ---------------------------------------------------------------- numbers


def test_pictures_are_encoded_as_the_pipeline_does_and_noised_before_the_vae(teacher: Components) -> None:
    pictures = np.stack([moving_frames(1, speed=0, seed=k, width=48)[0] for k in range(3)])
    noise = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    strength = torch.tensor([0.0, 0.02, 0.5])
    found = encode_pictures(teacher, torch.from_numpy(pictures), noise=strength.view(-1, 1, 1, 1) * noise, chunk=2)
    for k in range(3):
        wanted = encode_picture(teacher, pictures[k], noise[k], float(strength[k]))
        assert torch.allclose(found[k], wanted, atol=1e-4)


def test_frames_are_scaled_latents(teacher: Components) -> None:
    frames = moving_frames(2, speed=3, width=48)
    plain = encode_pictures(teacher, torch.from_numpy(frames))
    assert torch.allclose(encode_frames(teacher, frames), plain * 0.18215)


@pytest.mark.parametrize("speed", [0, 1, 3])
def test_speed_of_a_shifted_picture_is_its_shift(speed: int) -> None:
    assert speed_of(moving_frames(4, speed=speed)) == pytest.approx(speed, abs=0.6)


def test_speed_of_one_frame_is_zero() -> None:
    assert speed_of(moving_frames(1, speed=3)) == 0


@given(bucket=st.integers(0, 255), fps=st.integers(2, 30))
@settings(max_examples=40, deadline=None)
def test_bucket_of_a_speed_undoes_the_world_s_speed_of_a_bucket(bucket: int, fps: int) -> None:
    speed = speed_px(bucket, fps, 64)
    assert speed_px(bucket_of(speed, fps, 64), fps, 64) == pytest.approx(speed)


def test_buckets_end_at_both_ends() -> None:
    assert bucket_of(0, 8, 64) == 0
    assert bucket_of(1e6, 8, 64) == 255


# ---------------------------------------------------------------- a folder


def test_clips_of_a_folder_are_on_disk_with_what_is_known_of_them(clips: VideoClips) -> None:
    assert len(clips) == 6  # each of 12 frames gives 4 at stride 1, then 4 at stride 2 from frame 4
    assert sorted({(e.start, e.stride, e.fps) for e in clips.entries}) == [(0, 1, 12.0), (4, 2, 6.0)]
    for slow, fast in zip(clips.entries[::2], clips.entries[1::2], strict=True):
        assert slow.path.parent == fast.path.parent
        assert fast.speed > 1.5 * slow.speed > 0


def test_a_batch_holds_the_clips_themselves(clips: VideoClips, folder: Path, teacher: Components) -> None:
    batch = clips.batch(range(6))
    assert batch.latents.shape == (6, 4, 4, 4, 4)
    assert batch.latents.dtype == torch.float32
    assert batch.pictures.shape == (6, 32, 32, 3)
    assert batch.pictures.dtype == torch.uint8
    assert batch.embeddings.shape == (6, 32)
    assert sorted(batch.fps.tolist()) == [6.0] * 3 + [12.0] * 3
    frames = np.stack(list(stream_frames(folder / "1.mp4")))
    (first, _) = cut_clips(frames, SMALL)
    row = next(k for k in range(6) if np.array_equal(batch.pictures[k].numpy(), first.frames[0]))
    assert torch.allclose(batch.latents[row], encode_frames(teacher, first.frames), atol=2e-3)
    assert torch.allclose(batch.embeddings[row], embed_pictures(teacher, first.frames[:1])[0], atol=1e-5)
    assert batch.motion_bucket_id.min() >= 0
    assert batch.motion_bucket_id.max() <= 255


def test_every_clip_once_a_round_and_each_number_always_the_same(clips: VideoClips) -> None:
    def names(numbers: range) -> list[bytes]:
        return [row.numpy().tobytes() for row in clips.batch(numbers).latents]

    first, second = names(range(6)), names(range(6, 12))
    assert len(set(first)) == 6
    assert set(first) == set(second)
    assert first != second  # drawn anew; of these six the order differs
    assert names(range(4, 8)) == first[4:] + second[:2]


def test_a_second_run_encodes_nothing_and_a_broken_one_only_what_is_missing(
    folder: Path, teacher: Components, tmp_path: Path
) -> None:
    first = prepare_videos(folder, teacher, SMALL, cache=tmp_path, progress=False)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = prepare_videos(folder, teacher, SMALL, cache=tmp_path, progress=False)
    assert again.entries == first.entries
    assert again.key == first.key
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == stamps
    broken = first.entries[0].path.parent
    (broken / videos.INDEX).unlink()
    other = first.entries[-1].path.parent
    (other / videos.INDEX).write_text("{}")
    mended = prepare_videos(folder, teacher, SMALL, cache=tmp_path, progress=False)
    assert mended.entries == first.entries
    remade = {path.parent for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert remade == {broken, other}
    assert not list(tmp_path.rglob(".tmp-*"))


def test_other_settings_are_kept_apart(folder: Path, teacher: Components, tmp_path: Path) -> None:
    prepare_videos(folder, teacher, SMALL, cache=tmp_path, progress=False)
    other = ClipSettings(width=32, height=32, num_frames=5, strides=(1,), max_clips=1)
    assert len(prepare_videos(folder, teacher, other, cache=tmp_path, progress=False)) == 3
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_used_is_left_out_with_a_warning(
    folder: Path, teacher: Components, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mixed = tmp_path / "mixed"
    (mixed / "deep").mkdir(parents=True)
    shutil.copy(folder / "0.mp4", mixed / "deep" / "good.mp4")
    shutil.copy(folder / "0.mp4", mixed / "same.MP4")
    (mixed / "bad.mp4").write_bytes(b"not a video")
    (mixed / "notes.txt").write_text("no video")
    write_video(mixed / "short.mp4", moving_frames(2, speed=1), fps=8)
    with caplog.at_level(logging.WARNING, "svdlab"):
        found = prepare_videos(mixed, teacher, SMALL, cache=tmp_path / "cache", progress=False)
    assert len(found) == 2  # the same bytes under two names count once
    assert sorted(word for word in ("bad.mp4", "short.mp4", "good.mp4") if word in caplog.text) == [
        "bad.mp4",
        "short.mp4",
    ]


def test_folders_without_a_clip_are_refused(teacher: Components, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such folder"):
        find_videos(tmp_path / "nowhere")
    with pytest.raises(VideoError, match=r"no video in it; looked for \.mp4"):
        find_videos(tmp_path)
    write_video(tmp_path / "short.mp4", moving_frames(2, speed=1), fps=8)
    with pytest.raises(VideoError, match=r"none of 1 videos gives a clip.*too short for one clip"):
        prepare_videos(tmp_path, teacher, SMALL, cache=tmp_path / "cache", progress=False)


def test_a_damaged_clip_is_named(folder: Path, teacher: Components, tmp_path: Path) -> None:
    found = prepare_videos(folder, teacher, SMALL, cache=tmp_path, progress=False)
    path = found.entries[0].path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match=path.name):
        found.batch(range(6))


def test_the_index_says_where_clips_come_from(clips: VideoClips) -> None:
    index = json.loads((clips.entries[0].path.parent / videos.INDEX).read_text())
    assert index["video"].endswith(".mp4")
    assert [row["path"] for row in index["clips"]] == ["clip-000.safetensors", "clip-001.safetensors"]

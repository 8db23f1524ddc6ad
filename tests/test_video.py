"""Frames to mp4 and back: colours, counts, times, bytes; and every refusal in words."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import svdlab.video
from svdlab.errors import VideoError
from svdlab.video import encode_video, read_video, to_jpeg, to_png, write_video
from tests.media_samples import moving_square


def boxes(data: bytes) -> list[tuple[str, int]]:
    """The top-level boxes of an mp4, as (type, start)."""
    found, position = [], 0
    while position < len(data):
        size, kind = struct.unpack(">I4s", data[position : position + 8])
        assert size >= 8
        found.append((kind.decode(), position))
        position += size
    assert position == len(data)
    return found


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encode_video(moving_square(), fps=10)


# ---------------------------------------------------------------- what a browser needs


def test_the_index_comes_before_the_data(clip: bytes) -> None:
    kinds = [kind for kind, _ in boxes(clip)]
    assert kinds[0] == "ftyp"
    assert kinds.index("moov") < kinds.index("mdat")


def test_the_stream_is_what_browsers_play(clip: bytes) -> None:
    with av.open(io.BytesIO(clip)) as container:
        (stream,) = container.streams
        codec = stream.codec_context
        assert (codec.name, codec.profile, codec.pix_fmt) == ("h264", "High", "yuv420p")
        assert (codec.width, codec.height) == (96, 64)
        assert (codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range) == (1, 1, 1, 1)
    assert b"colrnclx\x00\x01\x00\x01\x00\x01\x00" in clip  # the container says BT.709, limited range, too


@pytest.mark.parametrize("fps", [1, 6, 7, 10, 23.976, 29.97, Fraction(30000, 1001), np.float32(12.5), np.int64(8), 60])
@pytest.mark.parametrize("count", [1, 2, 25])
def test_count_rate_and_duration(fps: float, count: int) -> None:
    data = encode_video(moving_square(count), fps=fps)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert stream.frames == count
        assert float(stream.average_rate) == pytest.approx(float(fps), rel=1e-6)
        assert float(stream.duration * stream.time_base) == pytest.approx(count / float(fps), rel=1e-6)
        times = sorted(frame.time for frame in container.decode(stream))
    assert times == pytest.approx([k / float(fps) for k in range(count)], abs=1e-4)
    video = read_video(data)
    assert video.frames.shape == (count, 64, 96, 3)
    assert video.fps == pytest.approx(float(fps), rel=1e-6)


def test_another_program_reads_the_same(clip: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    capture = cv2.VideoCapture(str(path))
    try:
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 25
        assert capture.get(cv2.CAP_PROP_FPS) == 10
        frames = []
        while (answer := capture.read())[0]:
            frames.append(answer[1][..., ::-1])
    finally:
        capture.release()
    assert len(frames) == 25
    assert np.abs(np.stack(frames).astype(int) - read_video(clip).frames).mean() < 2


# ---------------------------------------------------------------- colours

PATCHES = [
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (255, 255, 0), (0, 255, 255), (255, 0, 255),
    (128, 128, 128), (200, 100, 50), (20, 30, 200), (10, 200, 90),
]  # fmt: skip


def test_colours_come_back() -> None:
    frames = np.zeros((5, 96, 128, 3), np.uint8)
    for k, colour in enumerate(PATCHES):
        row, column = divmod(k, 4)
        frames[:, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = colour
    back = read_video(encode_video(frames, fps=10)).frames
    centres = back[:, 16::32, 16::32].reshape(5, -1, 3).astype(int)
    assert np.abs(centres - PATCHES).max() <= 3


@settings(deadline=None, max_examples=25)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_any_flat_colour_comes_back(colour: tuple[int, int, int]) -> None:
    frames = np.full((1, 16, 16, 3), colour, np.uint8)
    back = read_video(encode_video(frames, fps=10, crf=1)).frames
    assert np.abs(back.astype(int) - colour).max() <= 3


def test_the_stored_numbers_are_bt709() -> None:
    """Luma of the pure colours by the standard's own weights, in 16..235; BT.601 would give 82, 145, 41."""
    frames = np.zeros((1, 16, 48, 3), np.uint8)
    for channel in range(3):
        frames[:, :, 16 * channel : 16 * channel + 16, channel] = 255
    with av.open(io.BytesIO(encode_video(frames, fps=1, crf=1))) as container:
        planes = next(container.decode(video=0)).to_ndarray()
    luma = planes[8, [8, 24, 40]].astype(int)
    assert np.abs(luma - [63, 173, 32]).max() <= 1


def test_pictures_survive() -> None:
    frames = moving_square()
    error = np.abs(read_video(encode_video(frames, fps=10)).frames.astype(int) - frames)
    assert error.mean() < 1.5
    coarse = np.abs(read_video(encode_video(frames, fps=10, crf=45)).frames.astype(int) - frames)
    assert coarse.mean() > error.mean()


@pytest.mark.parametrize(
    ("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1), ((1, 0, 0, 1), 0)]
)
def test_videos_of_a_turned_phone_come_back_upright(clip: bytes, matrix: tuple[int, ...], turns: int) -> None:
    """The track header's (a, b, c, d) maps x, y (downward) to a x + c y, b x + d y (ISO/IEC 14496-12)."""
    start = clip.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    turned = clip[:start] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + clip[start + 36 :]
    assert np.array_equal(read_video(turned).frames, np.rot90(read_video(clip).frames, turns, axes=(1, 2)))


def write_as(matrix: int, tag: int, height: int, width: int = 32) -> bytes:
    """Somebody else's video: pure green, converted by `matrix` (5: BT.601, 1: BT.709), with `tag` as its matrix."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=5, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.colorspace = tag
        green = np.zeros((height, width, 3), np.uint8)
        green[..., 1] = 200
        frame = av.VideoFrame.from_ndarray(green, format="rgb24").reformat(format="yuv420p", dst_colorspace=matrix)
        frame.colorspace = tag
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(("matrix", "tag", "height"), [(1, 1, 32), (5, 6, 32), (5, 5, 32), (5, 2, 32), (1, 2, 720)])
def test_the_matrix_that_a_video_names_is_used(matrix: int, tag: int, height: int) -> None:
    """Unnamed (2), it is BT.601, or BT.709 in high definition, as players take it."""
    frames = read_video(write_as(matrix, tag, height)).frames
    assert np.abs(frames[0, height // 2, 16].astype(int) - (0, 200, 0)).max() <= 3


# ---------------------------------------------------------------- bytes


@pytest.mark.parametrize(("height", "width"), [(64, 96), (48, 80), (64, 64), (128, 192)])
def test_the_same_frames_give_the_same_bytes_many_times(height: int, width: int) -> None:
    """Whatever lay in memory before; x264 with its macroblock tree fails this about one time in ten."""
    frames = moving_square(12, height, width)
    rng = np.random.default_rng(0)
    results = set()
    for _ in range(12):
        dirt = [np.full(rng.integers(1_000, 300_000), rng.integers(256), np.uint8) for _ in range(50)]
        del dirt
        results.add(encode_video(frames, fps=10))
    assert len(results) == 1


def test_the_same_frames_give_the_same_bytes(clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert encode_video(moving_square(), fps=10.0) == clip
    assert encode_video(np.asfortranarray(moving_square()), fps=10) == clip
    write_video(tmp_path / "Some Other Name.MP4", moving_square(), fps=10)
    assert (tmp_path / "Some Other Name.MP4").read_bytes() == clip
    assert b"threads=1 " in clip
    assert encode_video(moving_square(), fps=10, crf=30) != clip


def test_metadata_there_and_back() -> None:
    given_text = {"comment": '{"seed": 42, "image": "Grüße.png"}', "title": "x" * 5000}
    assert read_video(encode_video(moving_square(2), fps=5, metadata=given_text)).metadata == given_text
    own = {"svdlab.request": "{}", "comment": "first\nsecond"}
    data = encode_video(moving_square(2), fps=5, metadata=own)
    assert read_video(data).metadata == own
    assert [kind for kind, _ in boxes(data)][:2] == ["ftyp", "moov"]


# ---------------------------------------------------------------- files


def test_write_and_read(tmp_path: Path, clip: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    write_video(str(path), moving_square(), fps=10)
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.mp4"]
    from_path, from_bytes = read_video(str(path)), read_video(clip)
    assert np.array_equal(from_path.frames, from_bytes.frames)
    assert from_path.frames.dtype == np.uint8
    assert read_video(path, max_frames=3).frames.shape[0] == 3
    assert np.array_equal(read_video(path, max_frames=3).frames, from_path.frames[:3])
    assert read_video(path, max_frames=99).frames.shape[0] == 25


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    real = svdlab.video._to_yuv420
    calls = []

    def full_disk(rgb: np.ndarray) -> np.ndarray:
        calls.append(rgb)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(rgb)

    monkeypatch.setattr(svdlab.video, "_to_yuv420", full_disk)
    with pytest.raises(VideoError, match=r"clip\.mp4' cannot be written \(No space left on device\)"):
        write_video(path, moving_square(), fps=10)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.mp4"]


def test_no_room_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svdlab.video.tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(VideoError, match=r"folder for temporary files cannot be used \(.*missing"):
        encode_video(moving_square(2), fps=10)


def test_paths_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    for path, says in [
        (tmp_path / "clip.avi", r"ends in \.mp4 is needed"),
        (tmp_path / "clip", r"ends in \.mp4 is needed"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "missing" / "clip.mp4", r"there is no folder '.*missing'\. Create it first"),
        (tmp_path / "file" / "clip.mp4", "there is no folder"),
        (tmp_path / ("x" * 300 + ".mp4"), r"cannot be written \(File name too long\)"),
        (tmp_path / "a\0b.mp4", r"ends in \.mp4 is needed"),
    ]:
        with pytest.raises(VideoError, match=says):
            write_video(path, moving_square(2), fps=10)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.mp4"]


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (moving_square() / 255, r"type float64; uint8 \[frames, height, width, 3\]"),
        (moving_square().astype(np.int64), "type int64; uint8"),
        (moving_square()[0], r"shape \[64, 96, 3\]"),
        (moving_square()[..., :1], r"shape \[25, 64, 96, 1\]"),
        (moving_square().transpose(0, 3, 1, 2), r"shape \[25, 3, 64, 96\]"),
        (moving_square()[:0], r"\[0, 64, 96, 3\] holds nothing"),
        (moving_square()[:, :63], "height 63 is odd.* crop or pad to 62 or 64"),
        (moving_square()[:, :, :95], "width 95 is odd.* crop or pad to 94 or 96"),
        (moving_square()[:, :14], "height 14; allowed are even numbers from 16 to 8192"),
        (np.zeros((1, 16, 8194, 3), np.uint8), "width 8194; allowed"),
        (list(moving_square()), "got list; a NumPy array is needed"),
        (None, "got NoneType"),
    ],
)
def test_frames_refused(frames: object, says: str) -> None:
    with pytest.raises(VideoError, match=says):
        encode_video(frames, fps=10)


def test_tensors_get_a_hint() -> None:
    import torch

    with pytest.raises(
        VideoError, match=r"got Tensor; a NumPy array is needed \(a tensor: tensor\.cpu\(\)\.numpy\(\)\)"
    ):
        encode_video(torch.zeros(2, 16, 16, 3, dtype=torch.uint8), fps=10)


@pytest.mark.parametrize("fps", [0, 0.5, 61, -10, float("nan"), float("inf"), "10", None, True, 10j])
def test_rates_refused(fps: object, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"fps=.*: allowed are numbers from 1 to 60"):
        write_video(tmp_path / "clip.mp4", moving_square(2), fps=fps)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("crf", [0, 52, "18", None])
def test_crf_refused(crf: object) -> None:
    with pytest.raises(VideoError, match=r"crf=.*: allowed are numbers from 1 to 51"):
        encode_video(moving_square(2), fps=10, crf=crf)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"a b": "x"}, "'a b' cannot be a key"),
        ({"": "x"}, "'' cannot be a key"),
        ({"major_brand": "x"}, "'major_brand' cannot be a key"),
        ({3: "x"}, "3 cannot be a key"),
        ({"seed": 3}, r"metadata\['seed'\]: got 3; text"),
        ({"comment": "a\0b"}, "without NUL"),
    ],
)
def test_metadata_refused(metadata: dict, says: str) -> None:
    with pytest.raises(VideoError, match=says):
        encode_video(moving_square(2), fps=10, metadata=metadata)


# ---------------------------------------------------------------- reading what is no good video


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_cut_short(clip: bytes, keep: float, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip[: int(len(clip) * keep)])
    for source in (path, path.read_bytes()):
        with pytest.raises(VideoError, match=r"damaged|cannot be read|cut short"):
            read_video(source)


def test_cut_between_two_frames() -> None:
    """Every packet that is there is whole; only their number tells."""
    data = encode_video(moving_square(), fps=10)
    with av.open(io.BytesIO(data)) as container:
        ends = sorted(packet.pos + packet.size for packet in container.demux(video=0) if packet.size)
    for end in ends[5:-1:6]:
        with pytest.raises(VideoError, match=r"cut short|damaged"):
            read_video(data[:end])


def test_damaged_in_the_middle(clip: bytes) -> None:
    start = dict(boxes(clip))["mdat"] + 1200
    broken = bytearray(clip)
    broken[start : start + 200] = bytes(200)
    with pytest.raises(VideoError, match=r"damaged|cannot be read|cut short"):
        read_video(bytes(broken))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello " * 100,
        b"<!doctype html><html></html>",
        to_png(Image.new("RGB", (64, 64))),
        to_jpeg(Image.new("RGB", (64, 64))),
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
    ],
)
def test_not_a_video(data: bytes) -> None:
    with pytest.raises(VideoError, match=rf"the video \({len(data)} bytes\) cannot be read as a video"):
        read_video(data)


def test_sound_alone_is_no_video() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        for start in range(0, 8 * 1024, 1024):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 44100, start
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="has no video in it"):
        read_video(buffer.getvalue())


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for source in (tmp_path / "missing.mp4", tmp_path, "missing.mp4", "concat:a.mp4|b.mp4", "http://127.0.0.1:9/x.mp4"):
        with pytest.raises(VideoError, match="there is no such file"):
            read_video(source)


@pytest.mark.parametrize("max_frames", [0, -1, 1.5, "3", True])
def test_max_frames_refused(clip: bytes, max_frames: object) -> None:
    with pytest.raises(VideoError, match=r"max_frames=.*allowed are whole numbers from 1"):
        read_video(clip, max_frames=max_frames)


def test_a_video_too_large_to_hold(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svdlab.video, "MAX_DECODED_BYTES", 10 * 64 * 96 * 3)
    with pytest.raises(VideoError, match="Give max_frames, at most 10 here"):
        read_video(clip)
    assert read_video(clip, max_frames=10).frames.shape[0] == 10


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_damage_of_any_kind_is_a_video_error_or_a_video(data: st.DataObject) -> None:
    broken = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        shape = read_video(bytes(broken), max_frames=50).frames.shape
    except VideoError as error:
        shape = (len(str(error)) < 500, 3)
    assert shape[0]
    assert shape[-1] == 3


SMALL = encode_video(moving_square(4, 16, 64), fps=10)

"""Frames to mp4 and back, and all frames of a clip on one picture.

The mp4 plays in every current browser: H.264 High, yuv420p, BT.709, limited range, the index before the data. The same
frames and settings give the same bytes; one thread encodes, since x264's result depends on the number of threads.

Frames are uint8 arrays ``[frames, height, width, 3]``, red-green-blue, 0 to 255.
"""

from __future__ import annotations

import dataclasses
import io
import math
import numbers
import os
import re
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from svdlab.errors import VideoError
from svdlab.files import atomic_path

MIN_FPS, MAX_FPS = 1, 60
MIN_SIDE, MAX_SIDE = 16, 8192
MAX_DECODED_BYTES = 4 * 2**30

_BT709 = 1  # of primaries, transfer and matrix alike (ITU-T H.273, tables 2 to 4)
_LIMITED = 1  # FFmpeg's name for it is the "MPEG" range
# What an mp4 has a standard place for, so that other programs show it; other keys need a place of their own.
_STANDARD_KEYS = {"title", "artist", "comment", "description", "copyright", "date"}
_CONTAINER_KEYS = {"major_brand", "minor_version", "compatible_brands", "creation_time", "encoder"}
# Containers that may be opened. Playlists and the like, which name further files, are not among them.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"


@dataclasses.dataclass(frozen=True, eq=False)
class Video:
    """A decoded video.

    Attributes:
        frames: uint8 ``[frames, height, width, 3]``, red-green-blue, 0 to 255.
        fps: frames a second.
        metadata: what the file says about itself, such as ``{"comment": ...}``.

    Example:
        >>> video = read_video("clip.mp4")
        >>> video.frames.shape, video.fps
        ((25, 576, 1024, 3), 10.0)
    """

    frames: np.ndarray
    fps: float
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


def write_video(
    path: str | os.PathLike[str],
    frames: np.ndarray,
    *,
    fps: float,
    crf: float = 18,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `frames` to `path` as an mp4. The file appears when it is whole, or not at all.

    Args:
        path: ends in ``.mp4``; its folder exists.
        frames: uint8 ``[frames, height, width, 3]``, 0 to 255; height and width even, 16 to 8192.
        fps: frames a second, 1 to 60; also 29.97 and the like. The video lasts ``frames / fps`` seconds exactly.
        crf: x264's constant rate factor, 1 (large, nearly lossless) to 51 (small, poor); 18 looks like the original.
        metadata: text to keep in the file, such as ``{"comment": "..."}``.

    Raises:
        VideoError: an argument is not as described, or the file cannot be written.

    Example:
        >>> write_video("clip.mp4", frames, fps=10, metadata={"comment": "seed 42"})
    """
    path = Path(path)
    rate = _check_settings(frames, fps, crf, metadata)
    if path.suffix.lower() != ".mp4" or "\0" in str(path):
        raise VideoError(
            f"path={str(path)!r}: a file name that ends in .mp4 is needed, the one format that is written."
        )
    try:
        if path.is_dir():
            raise VideoError(f"path={str(path)!r} is a folder; name a file in it.")
        if not path.parent.is_dir():
            raise VideoError(f"path={str(path)!r}: there is no folder {str(path.parent)!r}. Create it first.")
        with atomic_path(path) as tmp:
            _encode(tmp, frames, rate, crf, metadata or {})
    except OSError as error:
        raise VideoError(f"path={str(path)!r} cannot be written ({error.strerror or error}).") from error


def encode_video(
    frames: np.ndarray, *, fps: float, crf: float = 18, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of the file that `write_video` would write; same arguments, same errors.

    Example:
        >>> encode_video(frames, fps=10)[4:8]
        b'ftyp'
    """
    rate = _check_settings(frames, fps, crf, metadata)
    # A real file, because moving the index to the front means reading back what was written.
    try:
        with tempfile.TemporaryDirectory(prefix="svdlab-") as folder:
            path = Path(folder, "clip.mp4")
            _encode(path, frames, rate, crf, metadata or {})
            return path.read_bytes()
    except OSError as error:
        raise VideoError(f"the system's folder for temporary files cannot be used ({error}).") from error


def read_video(source: str | os.PathLike[str] | bytes, *, max_frames: int | None = None) -> Video:
    """Decode the first video stream of a file (mp4, mov, webm, mkv, avi), at most 4 GiB of frames.

    Args:
        source: a path, or the bytes of a file.
        max_frames: stop after so many; all of them unless told.

    Raises:
        VideoError: no such file, not a video, cut short or damaged, or too much to hold.

    Example:
        >>> read_video("clip.mp4", max_frames=1).frames.shape
        (1, 576, 1024, 3)
    """
    if max_frames is not None and (isinstance(max_frames, bool) or not isinstance(max_frames, int) or max_frames < 1):
        raise VideoError(f"max_frames={max_frames!r}: allowed are whole numbers from 1, or None for all.")
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), f"the video ({len(source)} bytes)", max_frames)
    label = repr(str(source)[:200])
    try:
        if not Path(source).is_file():
            raise VideoError(f"source={label}: there is no such file (working directory {str(Path.cwd())!r}).")
        with Path(source).open("rb") as file:
            return _decode(file, label, max_frames)
    except OSError as error:
        raise VideoError(f"source={label} cannot be read ({error.strerror or error}).") from error


def contact_sheet(
    frames: np.ndarray, *, columns: int = 5, max_width: int = 1400, labels: bool = True, count: int | None = None
) -> Image.Image:
    """Frames side by side on one picture, in reading order, each with its index.

    Small frames are enlarged by a whole factor without smoothing, so that their pixels stay visible; large ones are
    shrunk. A frame takes one of `columns` equal places however many frames there are.

    Args:
        frames: uint8 ``[frames, height, width, 3]``, 0 to 255; any height and width.
        columns: places in a row, from 1.
        max_width: of the whole sheet, in pixels, from 64.
        labels: write each frame's index (from 0) into its corner.
        count: show only so many frames, evenly picked, the first and the last among them (one: the first alone).

    Raises:
        VideoError: an argument is not as described.

    Example:
        >>> contact_sheet(frames, count=5).save("sheet.png")
    """
    _check_frames(frames)
    for name, value, least in (("columns", columns, 1), ("max_width", max_width, 64), ("count", count, 1)):
        if value is None and name == "count":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise VideoError(f"{name}={value!r}: allowed are whole numbers from {least}.")
    chosen = _evenly(len(frames), count)
    gutter = max(2, max_width // 350)
    place = (max_width - (columns + 1) * gutter) // columns
    if place < 8:
        raise VideoError(
            f"columns={columns}: too many for max_width={max_width}; at least 8 pixels a frame are needed."
        )
    width, height = _fit(frames.shape[2], frames.shape[1], place)
    font = ImageFont.load_default(max(9, min(22, height // 8)))
    columns = min(columns, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    sheet = Image.new("RGB", (columns * (width + gutter) + gutter, rows * (height + gutter) + gutter), (255, 255, 255))
    for position, index in enumerate(chosen):
        row, column = divmod(position, columns)
        tile = _scaled(Image.fromarray(frames[index]), width, height)
        if labels:
            _draw_label(tile, str(index), font)
        sheet.paste(tile, (gutter + column * (width + gutter), gutter + row * (height + gutter)))
    return sheet


def to_jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """`image` (mode RGB or L) as JPEG; `quality` from 1 to 95.

    Raises:
        VideoError: the mode or the quality is not as described.

    Example:
        >>> to_jpeg(contact_sheet(frames))[:2]
        b'\\xff\\xd8'
    """
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 95:
        raise VideoError(f"quality={quality!r}: allowed are whole numbers from 1 to 95.")
    return _packed(image, "JPEG", quality=quality)


def to_png(image: Image.Image) -> bytes:
    """`image` (mode RGB or L) as PNG.

    Raises:
        VideoError: the mode is another.

    Example:
        >>> to_png(contact_sheet(frames))[1:4]
        b'PNG'
    """
    return _packed(image, "PNG")


def _packed(image: Image.Image, format: str, **options: Any) -> bytes:
    if not isinstance(image, Image.Image) or image.mode not in ("RGB", "L"):
        got = f"mode {image.mode}" if isinstance(image, Image.Image) else type(image).__name__
        raise VideoError(f"image: got {got}; a PIL image of mode RGB or L is needed (Image.fromarray makes one).")
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


# ---------------------------------------------------------------- checks


def _check_frames(frames: np.ndarray) -> None:
    if not isinstance(frames, np.ndarray):
        hint = " (a tensor: tensor.cpu().numpy())" if hasattr(frames, "cpu") else ""
        raise VideoError(f"frames: got {type(frames).__name__}; a NumPy array is needed{hint}.")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        got = f"an array of shape {list(frames.shape)} and type {frames.dtype}"
        raise VideoError(f"frames: got {got}; uint8 [frames, height, width, 3] with values 0 to 255 is needed.")
    if frames.size == 0:
        raise VideoError(f"frames: shape {list(frames.shape)} holds nothing; at least one frame is needed.")


def _check_settings(frames: np.ndarray, fps: float, crf: float, metadata: Mapping[str, str] | None) -> Fraction:
    """Refuse what cannot be encoded; the frame rate as a fraction."""
    _check_frames(frames)
    for name, side in (("height", frames.shape[1]), ("width", frames.shape[2])):
        if side % 2:
            raise VideoError(
                f"frames: {name} {side} is odd, and mp4 stores colour for 2 x 2 pixels; "
                f"crop or pad to {side - 1} or {side + 1}."
            )
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise VideoError(f"frames: {name} {side}; allowed are even numbers from {MIN_SIDE} to {MAX_SIDE}.")
    for name, value, low, high in (("fps", fps, MIN_FPS, MAX_FPS), ("crf", crf, 1, 51)):
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not low <= value <= high:
            raise VideoError(f"{name}={value!r}: allowed are numbers from {low} to {high}.")
    for key, text in (metadata or {}).items():
        if (
            not isinstance(key, str)
            or not re.fullmatch(r"[A-Za-z][\w.-]{0,63}", key, re.ASCII)
            or key in _CONTAINER_KEYS
        ):
            raise VideoError(f"metadata: {key!r} cannot be a key; take another name, of letters, digits and _ . -")
        if not isinstance(text, str) or "\0" in text:
            raise VideoError(f"metadata[{key!r}]: got {text!r:.80}; text without NUL characters is needed.")
    return Fraction(fps if isinstance(fps, Fraction) else float(fps)).limit_denominator(1001)


# ---------------------------------------------------------------- encoding


def _encode(path: Path, frames: np.ndarray, rate: Fraction, crf: float, metadata: Mapping[str, str]) -> None:
    flags = "+faststart" if metadata.keys() <= _STANDARD_KEYS else "+faststart+use_metadata_tags"
    ticks = str(
        rate.numerator * math.ceil(10_000 / rate.numerator)
    )  # a second: every frame lasts a whole number of them
    mp4 = {"movflags": flags, "fflags": "+bitexact", "movie_timescale": ticks, "video_track_timescale": ticks}
    # x264's macroblock tree is off: with it, the same frames can give other bytes from one run to the next.
    x264 = {"crf": f"{crf:g}", "preset": "medium", "profile": "high", "threads": "1", "x264-params": "mbtree=0"}
    try:
        with av.open(str(path), "w", format="mp4", options=mp4) as container:
            container.metadata.update(metadata)
            stream = container.add_stream("libx264", rate=rate, options=x264)
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
            codec = stream.codec_context
            codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
            codec.color_range = _LIMITED
            codec.time_base = 1 / rate
            for number, frame in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(_to_yuv420(frame), format="yuv420p")
                picture.pts, picture.time_base = number, 1 / rate
                picture.colorspace, picture.color_range = _BT709, _LIMITED
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as error:  # a PyAV built without x264 raises the latter
        raise VideoError(f"{list(frames.shape)} frames could not be encoded ({error}).") from error


def _to_yuv420(rgb: np.ndarray) -> np.ndarray:
    """One frame uint8 ``[height, width, 3]`` in BT.709, limited range, planar 4:2:0: uint8 ``[3/2 height, width]``.

    Luma Y = 0.2126 R + 0.7152 G + 0.0722 B in 16..235; chroma (B - Y) / 1.8556 and (R - Y) / 1.5748 in 16..240 (ITU-R
    BT.709-6, items 3.2 to 3.4). A chroma sample lies on its left column, between its two rows, as H.264 assumes.
    Written out here because libswscale's result may differ between processors.
    """
    red, green, blue = (rgb[..., channel].astype(np.float32) for channel in range(3))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    planes = [16 + luma * (219 / 255)]
    for difference in ((blue - luma) / 1.8556, (red - luma) / 1.5748):
        padded = np.pad(difference, ((0, 0), (1, 0)), mode="edge")
        across = (padded[:, 0:-1:2] + 2 * padded[:, 1::2] + difference[:, 1::2]) / 4
        planes.append(128 + (across[0::2] + across[1::2]) / 2 * (224 / 255))
    return np.concatenate([np.rint(plane).astype(np.uint8).ravel() for plane in planes]).reshape(-1, rgb.shape[1])


# ---------------------------------------------------------------- decoding


def _decode(file: Any, label: str, max_frames: int | None) -> Video:
    # The data comes from this open file alone: no protocol may be used, and no format that names other files.
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    frames: list[np.ndarray] = []
    try:
        with av.open(file, mode="r", options=options) as container:
            if not container.streams.video:
                raise VideoError(f"source={label} has no video in it. Is it sound alone, or cut short?")
            stream = container.streams.video[0]
            rate, announced = stream.average_rate or stream.guessed_rate, stream.frames
            metadata = {key: text for key, text in container.metadata.items() if key not in _CONTAINER_KEYS}
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise VideoError(f"source={label} is cut short or damaged after {len(frames)} frames.")
                frames += [to_rgb(frame) for frame in packet.decode()]
                if len(frames) * (frames[0].nbytes if frames else 0) > MAX_DECODED_BYTES:
                    raise VideoError(
                        f"source={label}: more than {MAX_DECODED_BYTES} bytes of frames. Give max_frames, "
                        f"at most {MAX_DECODED_BYTES // frames[0].nbytes} here."
                    )
                if max_frames is not None and len(frames) >= max_frames:
                    break
    except (av.FFmpegError, ValueError, EOFError) as error:
        if isinstance(error, VideoError):
            raise
        what = f"is damaged after {len(frames)} frames" if frames else "cannot be read as a video"
        raise VideoError(f"source={label} {what} ({error}). Allowed are mp4, mov, webm, mkv and avi.") from error
    if not frames or rate is None:
        raise VideoError(f"source={label} has no frame that can be decoded. Is it cut short?")
    if len(frames) < min(announced, max_frames or announced):
        raise VideoError(f"source={label} is cut short: {len(frames)} of {announced} frames are there.")
    if len({frame.shape for frame in frames}) > 1:
        raise VideoError(f"source={label} changes its frame size on the way; videos of one size are read.")
    return Video(np.stack(frames[:max_frames]), float(rate), metadata)


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """One decoded frame as uint8 ``[height, width, 3]``, by the colour matrix that its stream names, turned upright."""
    matrix: Any = frame.colorspace
    if matrix == 2:  # unspecified: players take BT.709 for high definition and BT.601 below
        matrix = "ITU709" if frame.height >= 720 else "ITU601"
    rgb = frame.to_ndarray(format="rgb24", src_colorspace=matrix)
    return np.rot90(rgb, round(frame.rotation / 90))  # degrees against the clock, as phones record how they were held


# ---------------------------------------------------------------- contact sheets


def _evenly(total: int, count: int | None) -> list[int]:
    """`count` indices of `total`, evenly apart, first and last included."""
    if count is None or count >= total:
        return list(range(total))
    return [int(index) for index in np.rint(np.linspace(0, total - 1, count))]


def _fit(width: int, height: int, place: int) -> tuple[int, int]:
    """The size at which a frame is shown in a place so many pixels wide."""
    if width <= place:
        return width * (place // width), height * (place // width)
    return place, max(1, round(height * place / width))


def _scaled(frame: Image.Image, width: int, height: int) -> Image.Image:
    enlarge = width >= frame.width
    return frame.resize((width, height), Image.Resampling.NEAREST if enlarge else Image.Resampling.LANCZOS)


def _draw_label(tile: Image.Image, text: str, font: Any) -> None:
    """White digits on a dark box in the upper left corner: readable on any frame."""
    draw = ImageDraw.Draw(tile)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = 1 + (bottom - top) // 4
    draw.rectangle((0, 0, right - left + 2 * pad, bottom - top + 2 * pad), fill=(0, 0, 0))
    draw.text((pad - left, pad - top), text, font=font, fill=(255, 255, 255))

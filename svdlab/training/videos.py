"""A folder of videos as a distiller's data: cut into clips, encoded once, kept on disk.

A video is cut into clips by stride, each frame is scaled and cropped as the pipeline does it, and the teacher's VAE
makes latents of it, once. The first frame is kept as pixels besides: the noise on the conditioning picture is added
before the VAE, anew each time a clip is used.

    FOLDER/<settings, 16 digits>/<video, 16 digits>/clip-000.safetensors    latents, picture, embedding
    FOLDER/<settings, 16 digits>/<video, 16 digits>/clips.json              written last: what was cut out, its speed

Both keys are hashes, of what the clips depend on (sizes, strides, the teacher's weights) and of the file's bytes, so
that a second run, or one that was killed, does only what is missing.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from svdlab import video as mp4
from svdlab.conditioning import embed_pictures
from svdlab.errors import TrainingError, VideoError
from svdlab.files import sha256_bytes, sha256_file, write_atomic
from svdlab.images import prepare
from svdlab.models.components import Components
from svdlab.training.clips import ClipBatch, encode_frames
from svdlab.training.settings import step_seed

log = logging.getLogger("svdlab")

SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi")
INDEX = "clips.json"
FORMAT = 1
FPS_RANGE = (1, 60)  # what a request may ask for


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """How clips are cut out of videos.

    Clips follow one another without overlap, and take the strides in turn: one video gives slow clips and fast ones.

    Example:
        >>> ClipSettings(width=512, height=320, strides=(2, 4))
    """

    width: int | None = None  # px; None: the teacher's own, as for height and num_frames
    height: int | None = None
    num_frames: int | None = None
    strides: tuple[int, ...] = (1, 2, 4)  # every so manieth frame is taken
    max_clips: int = 16  # at most so many of one video

    def __post_init__(self) -> None:
        sizes = (("width", self.width, 16), ("height", self.height, 16), ("num_frames", self.num_frames, 1))
        for name, value, least in (*sizes, ("max_clips", self.max_clips, 1)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise TrainingError(f"{name} = {value!r}: must be a whole number from {least}.")
        if not self.strides or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in self.strides):
            raise TrainingError(f"strides = {self.strides!r}: must be whole numbers from 1, at least one of them.")

    def filled(self, components: Components) -> ClipSettings:
        """The same with the teacher's own sizes in the open places.

        Raises:
            TrainingError: a size that the teacher's VAE does not divide.
        """
        own = components.defaults
        sizes = {name: getattr(self, name) or getattr(own, name) for name in ("width", "height", "num_frames")}
        for name in ("width", "height"):
            if sizes[name] % own.size_factor:
                raise TrainingError(f"{name} = {sizes[name]}: must be a multiple of {own.size_factor}.")
        return ClipSettings(**sizes, strides=tuple(self.strides), max_clips=self.max_clips)


# ---------------------------------------------------------------- videos into frames


def stream_frames(path: str | os.PathLike[str]) -> Iterator[np.ndarray]:
    """The frames of a video one by one, uint8 `[height, width, 3]`, however long it is.

    Opens what `svdlab.video.read_video` opens, under the same guards, but holds one frame at a time.

    Raises:
        VideoError: damaged, cut short, or of changing frame size.

    Example:
        >>> next(stream_frames("clip.mp4")).shape
        (576, 1024, 3)
    """
    label, count, shape = repr(str(path)[:200]), 0, None
    options = {"format_whitelist": mp4.CONTAINERS, "protocol_whitelist": "none"}
    try:
        with Path(path).open("rb") as file, av.open(file, mode="r", options=options) as container:
            if not container.streams.video:
                raise VideoError(f"source={label} has no video in it. Is it sound alone, or cut short?")
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise VideoError(f"source={label} is cut short or damaged after {count} frames.")
                for decoded in packet.decode():
                    frame = mp4.to_rgb(decoded)
                    shape, count = shape or frame.shape, count + 1
                    if frame.shape != shape:
                        raise VideoError(f"source={label} changes its frame size on the way.")
                    yield frame
            announced = stream.frames
    except (av.FFmpegError, OSError, EOFError, ValueError) as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"source={label} is damaged after {count} frames ({error}).") from error
    if count < announced:
        raise VideoError(f"source={label} is cut short: {count} of {announced} frames are there.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """A clip cut out of a video: every `stride`-th frame from `start`; uint8 `[frames, height, width, 3]`."""

    frames: np.ndarray
    start: int
    stride: int


def cut_clips(frames: Iterable[np.ndarray], settings: ClipSettings) -> Iterator[Cut]:
    """Cut frames into clips, one held at a time; what is left at the end and fills no clip is dropped.

    Args:
        frames: uint8 `[height, width, 3]`, in order.
        settings: with all sizes given.

    Example:
        >>> [cut.start for cut in cut_clips(frames, ClipSettings(width=64, height=64, num_frames=3, strides=(1, 2)))]
        [0, 3, 8]
    """
    width, height, count = settings.width, settings.height, settings.num_frames
    if width is None or height is None or count is None:
        raise TrainingError("settings: width, height and num_frames must be given; `filled` takes a model's.")
    remaining, start = iter(frames), 0
    for stride in itertools.islice(itertools.cycle(settings.strides), settings.max_clips):
        span = (count - 1) * stride + 1
        taken = itertools.islice(itertools.islice(remaining, span), 0, None, stride)
        kept = [_fitted(frame, width, height) for frame in taken]
        if len(kept) < count:
            return
        yield Cut(frames=np.stack(kept), start=start, stride=stride)
        start += span


def _fitted(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(prepare(Image.fromarray(np.ascontiguousarray(frame)), width=width, height=height))


# ---------------------------------------------------------------- frames into numbers


def speed_of(frames: np.ndarray) -> float:
    """How fast what moves moves, in px per frame: the mean of the fastest 5 % of optical flow (metric `flow_top5`).

    Args:
        frames: uint8 `[frames, height, width, 3]`.
    """
    from svdlab.clip import Clip
    from svdlab.metrics import score

    if len(frames) < 2:
        return 0.0
    return float(score(Clip(frames=frames, fps=1), names=["flow_top5"])["flow_top5"])


def bucket_of(speed: float, fps: float, size: float) -> int:
    """The motion bucket, 0 to 255, whose speed in the procedural world is nearest: one meaning for all data.

    SVD's own rule for computing buckets was never published.

    Args:
        speed: px per frame.
        fps: frames a second.
        size: of the picture in px; of one that is not square, the root of its area.

    Example:
        >>> bucket_of(0.0, 8, 64)
        0
    """
    return int(np.abs(_speeds(round(fps), round(size)) - speed).argmin())


@lru_cache(maxsize=256)
def _speeds(fps: int, size: int) -> np.ndarray:
    from svdlab.training.world import speed_px

    return np.array([speed_px(bucket, fps, size) for bucket in range(256)])


# ---------------------------------------------------------------- a folder of videos


def prepare_videos(
    folder: str | os.PathLike[str],
    teacher: Components,
    settings: ClipSettings | None = None,
    *,
    cache: str | os.PathLike[str],
    progress: bool = True,
) -> VideoClips:
    """Cut and encode all videos of a folder (and of its subfolders), as far as that is not done yet.

    A video that cannot be read, or is too short for one clip, is left out with a warning.

    Args:
        folder: has mp4, mov, webm, mkv or avi files.
        teacher: its VAE and image encoder.
        settings: how to cut; None: the teacher's sizes, strides 1, 2 and 4.
        cache: where latents are kept; about 2 MB for a clip of 25 frames of 1024 x 576 px.

    Raises:
        VideoError: no such folder, no video in it, or none that gives a clip.

    Example:
        >>> clips = prepare_videos("videos", load_components("svd-xt"), cache="runs/student/clips")
    """
    files = find_videos(folder)
    chosen = (settings or ClipSettings()).filled(teacher)
    made = {"format": FORMAT, "teacher": teacher.fingerprint, **asdict(chosen)}
    root = Path(cache) / sha256_bytes(json.dumps(made, sort_keys=True).encode())[:16]
    found: dict[str, list[Entry]] = {}
    refused = []
    for path in tqdm(files, desc="videos", unit="video", disable=not progress):
        digest = sha256_file(path)[:16]
        if digest in found:  # the same video twice
            continue
        try:
            found[digest] = _entries(root / digest) or _encode_video(path, root / digest, teacher, chosen)
        except VideoError as error:
            refused.append(str(error))
            log.warning("left out: %s", error)
    entries = [entry for digest in sorted(found) for entry in found[digest]]
    if not entries:
        raise VideoError(f"folder={str(folder)!r}: none of {len(files)} videos gives a clip. {' '.join(refused[:3])}")
    log.info("%s: %d clips of %d videos, %d left out", folder, len(entries), len(found), len(refused))
    return VideoClips(entries, size=(chosen.width * chosen.height) ** 0.5)  # type: ignore[operator]


def find_videos(folder: str | os.PathLike[str]) -> list[Path]:
    """The video files below `folder`, in the order of their paths.

    Raises:
        VideoError: no such folder, or no video in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise VideoError(f"folder={str(folder)!r}: there is no such folder (working directory {str(Path.cwd())!r}).")
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise VideoError(f"folder={str(folder)!r}: no video in it; looked for {', '.join(SUFFIXES)}.")
    return files


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One encoded clip on disk."""

    path: Path
    start: int  # index of its first frame in the video
    stride: int
    fps: float  # the clip's own: that of the file over the stride
    speed: float  # px per frame, see `speed_of`


def _encode_video(path: Path, home: Path, teacher: Components, settings: ClipSettings) -> list[Entry]:
    """Encode one video into its folder; the index comes last, so that a folder with one is whole."""
    from safetensors.torch import save

    rate = mp4.read_video(path, max_frames=1).fps
    home.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, cut in enumerate(cut_clips(stream_frames(path), settings)):
        tensors = {
            "latents": encode_frames(teacher, cut.frames).to("cpu", torch.float16).contiguous(),
            "picture": torch.from_numpy(cut.frames[0].copy()),
            "embedding": embed_pictures(teacher, cut.frames[:1])[0].cpu(),
        }
        entry = Entry(
            path=home / f"clip-{number:03d}.safetensors",
            start=cut.start,
            stride=cut.stride,
            fps=rate / cut.stride,
            speed=speed_of(cut.frames),
        )
        write_atomic(entry.path, save(tensors))
        entries.append(entry)
    if not entries:
        span = (settings.num_frames or 1) * settings.strides[0]
        raise VideoError(f"source={str(path)[:200]!r}: too short for one clip, which takes about {span} frames.")
    rows = [{**asdict(entry), "path": entry.path.name} for entry in entries]
    write_atomic(home / INDEX, json.dumps({"video": path.name, "clips": rows}, indent=2) + "\n")
    return entries


def _entries(home: Path) -> list[Entry]:
    """What was encoded of a video before; nothing if that was not finished."""
    index = home / INDEX
    if not index.is_file():
        return []
    try:
        clips = json.loads(index.read_text(encoding="utf-8"))["clips"]
        entries = [Entry(**{**clip, "path": home / Path(clip["path"]).name}) for clip in clips]
    except (ValueError, KeyError, TypeError):  # someone's editing: what it says can be made again
        return []
    return entries if all(entry.path.is_file() for entry in entries) else []


class VideoClips:
    """Encoded clips of videos: each is used once in every round, in an order that is drawn anew for each.

    Example:
        >>> clips.batch(range(4)).latents.shape
        torch.Size([4, 25, 4, 72, 128])
    """

    def __init__(self, entries: Sequence[Entry], *, size: float, seed: int = 0) -> None:
        self.entries = list(entries)
        self.size = size
        self.seed = seed
        self.key = sha256_bytes("\n".join(f"{e.path.parent.name}/{e.path.name}" for e in entries).encode())[:16]

    def __len__(self) -> int:
        return len(self.entries)

    def batch(self, numbers: Sequence[int]) -> ClipBatch:
        """The clips with these running numbers: number n is the (n mod clips)-th of round n // clips.

        Raises:
            TrainingError: a file cannot be read.
        """
        chosen = [self.entries[self._order(n // len(self))[n % len(self)]] for n in numbers]
        loaded = [_read_clip(entry.path) for entry in chosen]
        fps = [min(max(round(entry.fps), FPS_RANGE[0]), FPS_RANGE[1]) for entry in chosen]
        buckets = [bucket_of(entry.speed, rate, self.size) for entry, rate in zip(chosen, fps, strict=True)]
        return ClipBatch(
            latents=torch.stack([item["latents"].float() for item in loaded]),
            pictures=torch.stack([item["picture"] for item in loaded]),
            embeddings=torch.stack([item["embedding"] for item in loaded]),
            motion_bucket_id=torch.tensor(buckets, dtype=torch.float32),
            fps=torch.tensor(fps, dtype=torch.float32),
        )

    def _order(self, round_: int) -> list[int]:
        generator = torch.Generator().manual_seed(step_seed(self.seed, round_, "clips"))
        return torch.randperm(len(self), generator=generator).tolist()


def _read_clip(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise TrainingError(
            f"{path}: an encoded clip that cannot be read ({error}). Remove its folder; the next run makes it anew."
        ) from error

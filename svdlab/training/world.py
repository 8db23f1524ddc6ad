"""A procedural video world: endless seeded clips whose pictures tell what will move, with the exact truth about it.

A scene is a pure function of (world, index): what is seen, the motion bucket, the frame rate and, where a picture
allows several futures, which of them comes true. Each of the last three can be given instead; the picture, frame 0, is
the same whatever they are, so that nothing but the settings tells how fast things go, and nothing at all which way an
ambiguous scene turns. With bucket 0 nothing changes.

Stages, each wider than the one before:
    easy: one large bright object on a dark background, going wherever its nose points.
    headings: objects with an outline, of several sizes, also on light backgrounds.
    full: also textured backgrounds; two objects; a camera over landscapes, in a tunnel, over photographs; and pictures
        with several futures: a ball on a ridge or at a fork, drifting clouds, a flame, twinkling stars.

Training uses indices below `HELD_OUT`, evaluation those from there on. The four photographs are shared by both; crops,
brightness and motion differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, get_args

import numpy as np

from svdlab.errors import TrainingError
from svdlab.training.layers import Layer, Sprite, compose, motion
from svdlab.training.scenes import KINDS, TRAVEL, Shot

Stage = Literal["easy", "headings", "full"]

HELD_OUT = 10_000_000
MAX_FRAMES = 25
MAX_SPEED = TRAVEL / (MAX_FRAMES - 1)  # px per frame of a frame of 64 px, at bucket 255 and few frames a second
SLOW_FPS = 5  # frame rate at and below which a bucket's speed is greatest
OBJECTS = 2  # most objects in a scene
PICTURE, MOTION, FUTURE = range(3)  # separate streams of random numbers: none disturbs another


def speed_px(motion_bucket_id: float, fps: float, size: int) -> float:
    """Speed, px per frame, of an object in a frame of `size` px: 2/3 size/64 (bucket/255) sqrt(5 / max(fps, 5)).

    0 at bucket 0, proportional to the bucket, and falling with the frame rate: with the square root of it, half way
    between a bucket that means px per frame and one that means px per second, so that bucket and fps both matter.

    Example:
        >>> speed_px(255, 5, 64), speed_px(127, 10, 64)
        (0.6666..., 0.2347...)
    """
    return MAX_SPEED * size / 64 * motion_bucket_id / 255 * (SLOW_FPS / max(fps, SLOW_FPS)) ** 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A clip of the world and the truth about it. Places in px, x to the right, y down, (0, 0) a pixel's centre.

    Attributes:
        frames: uint8 [frames, height, width, 3], RGB.
        motion_bucket_id: 0 to 255.
        fps: frames per second.
        index: of the scene in its world.
        kind: key of `KINDS`.
        choice, choices: which of how many futures that the picture allows.
        positions: float32 [frames, objects, 2], the centre of each object: the mean place of what it covers.
        radii: for each object the largest distance along an axis from its centre to its edge.
        camera: float32 [frames, 2], how far what lies behind the objects has shifted on the screen since frame 0: a
            camera that goes right has negative x. For clouds, their drift.
        zoom: float32 [frames], how much it has grown about the middle of the frame since frame 0.
        speed: px per frame, of the objects, camera or clouds; for a growing picture the mean over the frame at first;
            0 for a flame and stars, which go nowhere.
        layers: what the frames were painted from.
    """

    frames: np.ndarray
    motion_bucket_id: int
    fps: int
    index: int
    kind: str
    choice: int
    choices: int
    positions: np.ndarray
    radii: tuple[float, ...]
    camera: np.ndarray
    zoom: np.ndarray
    speed: float
    layers: tuple[Layer, ...] = field(repr=False)

    @property
    def ambiguous(self) -> bool:
        """Whether the picture allows more than one future."""
        return self.choices > 1

    def flow(self) -> tuple[np.ndarray, np.ndarray]:
        """(flow float32 [frames - 1, H, W, 2], known bool [frames - 1, H, W]): how what is seen moves until t + 1.

        Not known at the rims of objects, where a pixel shows two things, and near a flame. A known point may be covered
        or out of the frame in t + 1.

        Example:
            >>> flow, known = World().scene(0).flow()
        """
        return motion(self.layers, num_frames=len(self.frames), size=self.frames.shape[1])

    def coverage(self) -> np.ndarray:
        """How much of each pixel each object covers, float32 [frames, objects, H, W] in [0, 1]."""
        size = self.frames.shape[1]
        each = [layer.coverage(size) for layer in self.layers if isinstance(layer, Sprite)]
        return np.stack(each, axis=1) if each else np.zeros((len(self.frames), 0, size, size), np.float32)


@dataclass(frozen=True, kw_only=True)
class World:
    """An endless set of scenes, numbered from 0.

    Args:
        size: height and width of the frames, 32 to 512 px; a scene is composed alike at every size.
        num_frames: 2 to 25; a shorter clip is the beginning of a longer one.
        stage: "easy", "headings" or "full".
        seed: another seed, another world.

    Raises:
        TrainingError: a setting is out of bounds.

    Example:
        >>> scene = World(stage="full").scene(7, motion_bucket_id=255, fps=7)
        >>> scene.kind, scene.frames.shape
    """

    size: int = 64
    num_frames: int = MAX_FRAMES
    stage: Stage = "easy"
    seed: int = 0

    def __post_init__(self) -> None:
        _whole("size", self.size, 32, 512)
        _whole("num_frames", self.num_frames, 2, MAX_FRAMES)
        _whole("seed", self.seed, 0, 2**63 - 1)
        if self.stage not in get_args(Stage):
            raise TrainingError(f"stage = {self.stage!r}: one of {', '.join(get_args(Stage))} is allowed. Choose one.")

    @property
    def kinds(self) -> dict[str, float]:
        """The kinds of scene in this stage and how often each is drawn, summing to 1."""
        weights = {name: kind.weights[self.stage] for name, kind in KINDS.items() if self.stage in kind.weights}
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}

    def kind_of(self, index: int) -> str:
        """The kind of the scene `index`, without rendering it."""
        _whole("index", index, 0, 2**63 - 1)
        return self._open(index)[0]

    def find(self, kind: str, *, start: int = 0) -> Iterator[int]:
        """The indices from `start` on of all scenes of a kind, without end.

        Raises:
            TrainingError: this stage has no such kind.

        Example:
            >>> fish = list(itertools.islice(World().find("fish", start=HELD_OUT), 8))
        """
        if kind not in self.kinds:
            raise TrainingError(
                f"kind = {kind!r}: the stage {self.stage!r} has {', '.join(self.kinds)}. Choose one of them."
            )
        return (index for index in count(start) if self.kind_of(index) == kind)

    def settings_of(self, index: int) -> tuple[int, int]:
        """(motion_bucket_id, fps) that scene `index` has unless others are given.

        The bucket is 0 in one scene of sixteen, 127 in another, else 255 sqrt(u), u uniform in 0..1; fps is uniform in
        5..12 in four scenes of five, in 5..30 in the others. So most scenes are fast: a slow one, whose last frame is
        hardly a pixel from the first, has little to teach.
        """
        rng = self._stream(MOTION, index)
        share, bucket = rng.random(), round(255 * rng.random() ** 0.5)
        fps = int(rng.integers(5, (12 if rng.random() < 0.8 else 30) + 1))
        return (0 if share < 1 / 16 else 127 if share < 1 / 8 else bucket), fps

    def scene(
        self, index: int, *, motion_bucket_id: int | None = None, fps: int | None = None, choice: int | None = None
    ) -> Scene:
        """The scene `index`, moving as its own settings say, or as the given ones do.

        Args:
            index: 0 or more; `HELD_OUT` and above is kept for evaluation.
            motion_bucket_id: 0 to 255.
            fps: 1 to 60; below 5 as at 5.
            choice: which of the futures that the picture allows, 0 to `Scene.choices` - 1.

        Raises:
            TrainingError: an argument is out of bounds.

        Example:
            >>> slow, fast = (World().scene(3, motion_bucket_id=bucket) for bucket in (32, 255))
            >>> (slow.frames[0] == fast.frames[0]).all()
            True
        """
        _whole("index", index, 0, 2**63 - 1)
        name, rng = self._open(index)
        kind = KINDS[name]
        own = self.settings_of(index)
        bucket = own[0] if motion_bucket_id is None else _whole("motion_bucket_id", motion_bucket_id, 0, 255)
        rate = own[1] if fps is None else _whole("fps", fps, 1, 60)
        which = (
            int(self._stream(FUTURE, index).integers(kind.choices)) if choice is None else self._chosen(choice, name)
        )
        speed = speed_px(bucket, rate, self.size)
        shot = Shot(
            stage=self.stage,
            size=self.size,
            distance=speed * np.arange(self.num_frames),
            choice=which,
            rng=rng,
            chance=self._stream(FUTURE, index, which + 1),
        )
        film = kind.film(shot)
        still = np.zeros((self.num_frames, 2), np.float32)
        return Scene(
            frames=compose(film.layers, num_frames=self.num_frames, size=self.size),
            motion_bucket_id=bucket,
            fps=rate,
            index=index,
            kind=name,
            choice=which,
            choices=kind.choices,
            positions=film.positions.astype(np.float32),
            radii=film.radii,
            camera=still if film.camera is None else film.camera.astype(np.float32),
            zoom=still[:, 0] + 1 if film.zoom is None else film.zoom.astype(np.float32),
            speed=speed * kind.pace_of(which),
            layers=film.layers,
        )

    def batch(self, indices: Sequence[int], *, threads: int = 1) -> dict[str, Any]:
        """The scenes of `indices`, stacked; the same whatever the order, the grouping and the number of threads.

        Returns:
            `frames` uint8 [batch, frames, height, width, 3]; `motion_bucket_id`, `fps`, `index`, `choice`, `choices`
            int64 [batch]; `speed` float32 [batch]; `ambiguous` bool [batch]; `kind` list of str; `positions` float32
            [batch, frames, 2, 2], nan for objects that a scene does not have; `camera` float32 [batch, frames, 2];
            `zoom` float32 [batch, frames].

        Raises:
            TrainingError: no indices, or one out of bounds.

        Example:
            >>> World().batch(range(8))["frames"].shape
            (8, 25, 64, 64, 3)
        """
        if not len(indices):
            raise TrainingError("indices = []: at least one index is needed. Give the numbers of the scenes to render.")
        _whole("threads", threads, 1, 256)
        numbers = [int(index) for index in indices]
        if threads == 1:
            scenes = [self.scene(index) for index in numbers]
        else:
            with ThreadPoolExecutor(threads) as pool:
                scenes = list(pool.map(self.scene, numbers))
        whole = ("motion_bucket_id", "fps", "index", "choice", "choices")
        return {
            **{name: np.array([getattr(scene, name) for scene in scenes], np.int64) for name in whole},
            **{name: np.stack([getattr(scene, name) for scene in scenes]) for name in ("frames", "camera", "zoom")},
            "speed": np.array([scene.speed for scene in scenes], np.float32),
            "ambiguous": np.array([scene.ambiguous for scene in scenes]),
            "kind": [scene.kind for scene in scenes],
            "positions": np.stack([_padded(scene.positions) for scene in scenes]),
        }

    def _open(self, index: int) -> tuple[str, np.random.Generator]:
        """The kind of a scene, and the random numbers that its picture is made from."""
        rng = self._stream(PICTURE, index)
        names, weights = zip(*self.kinds.items(), strict=True)
        return names[int(np.searchsorted(np.cumsum(weights)[:-1], rng.random(), side="right"))], rng

    def _stream(self, *keys: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *keys])

    def _chosen(self, choice: int, name: str) -> int:
        return _whole("choice", choice, 0, KINDS[name].choices - 1, note=f" for a scene of kind {name!r}")


def _padded(positions: np.ndarray) -> np.ndarray:
    out = np.full((len(positions), OBJECTS, 2), np.nan, np.float32)
    out[:, : positions.shape[1]] = positions
    return out


def _whole(name: str, value: int, low: int, high: int, note: str = "") -> int:
    """`value` as an int, if it is a whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise TrainingError(f"{name} = {value!r}: a whole number from {low} to {high} is allowed{note}. Give one.")
    return int(value)

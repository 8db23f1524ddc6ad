"""Held-out pictures of the training world as cases of the exam, each with the truth that it is measured by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from svdlab.training.evaluate import FROM_MIDDLE, Case, tells_apart
from svdlab.training.locate import background_of, target_of
from svdlab.training.objects import DIRECTED
from svdlab.training.world import HELD_OUT, Scene, World

CAMERAS = ("landscape", "tunnel")  # of both, every future goes equally far
FORKS = ("ridge", "fork", "landscape", "ridge", "fork", "clouds")  # flames and stars have futures without number
BUCKET = 255  # at which truths are rendered
TRIES = 100


@dataclass(frozen=True, kw_only=True)
class Cases:
    """The pictures of an exam: `moving` ones, whose picture tells where they go, and `ambiguous` ones."""

    moving: tuple[Case, ...]
    ambiguous: tuple[Case, ...]


def held_out(
    *, count: int = 8, size: int = 64, num_frames: int = 25, stage: str = "full", fps: int = 10, seed: int = 0
) -> Cases:
    """Scenes from index `HELD_OUT` on, which training never renders.

    Moving: `count` directed objects, the kinds in turn, and a quarter as many cameras (landscapes to be passed, tunnels
    to be entered). Ambiguous: `count` pictures, balls and cameras and clouds in turn, for which the estimators tell
    every future from the average of all (`evaluate.tells_apart`). What a stage does not have is left out.

    Example:
        >>> held_out(count=2).moving[0].name
        'rocket 10000007'
    """
    world = World(size=size, num_frames=num_frames, stage=stage, seed=seed)  # type: ignore[arg-type]
    moving = islice(_in_turn(world, tuple(DIRECTED), fps), count)
    cameras = islice(_in_turn(world, CAMERAS, fps), max(1, count // 4))
    forks = (case for case in islice(_in_turn(world, FORKS, fps), TRIES) if tells_apart(case))
    return Cases(moving=(*moving, *cameras), ambiguous=tuple(islice(forks, count)))


def case_of(world: World, index: int, *, fps: int = 10) -> Case:
    """The case of one scene, which has one object at most, with all of its futures at bucket 255.

    Example:
        >>> case = case_of(World(stage="full"), HELD_OUT)
    """
    first = world.scene(index, motion_bucket_id=BUCKET, fps=fps, choice=0)
    others = [world.scene(index, motion_bucket_id=BUCKET, fps=fps, choice=k) for k in range(1, first.choices)]
    futures = [first, *others]
    ends = np.array([_end(scene) for scene in futures], dtype=np.float64)
    picture, target, side = first.frames[0], None, 0
    longest = float(np.hypot(*ends.T).max())
    reach = min(world.size - 1, int(np.ceil(1.5 * longest + world.size / 16)))
    if first.positions.shape[1]:
        cover = first.coverage()[0, 0]
        target = target_of(picture, cover, first.positions[0, 0], background_of(picture, cover), reach=reach)
        side = 2 * int(np.ceil(first.radii[0])) + 3
    return Case(
        name=f"{first.kind} {index}",
        picture=picture,
        target=target,
        reach=reach,
        ends=ends,
        truths=np.stack([scene.frames for scene in futures]),
        size=side,
        zoom=bool(first.zoom[-1] != 1),
    )


def _end(scene: Scene) -> np.ndarray:
    """Where the object, or else the background, has gone by the last frame, px (x, y)."""
    if scene.positions.shape[1]:
        return scene.positions[-1, 0] - scene.positions[0, 0]
    grown = (scene.zoom[-1] - 1) * FROM_MIDDLE * scene.frames.shape[2]  # see `evaluate.displacement`
    return scene.camera[-1] + [grown, 0]


def _in_turn(world: World, kinds: tuple[str, ...], fps: int) -> Iterator[Case]:
    """One case of each kind in turn, over and over; none if the stage has none of them."""
    there = [kind for kind in kinds if kind in world.kinds]
    found = {kind: world.find(kind, start=HELD_OUT) for kind in there}
    return (case_of(world, next(found[kind]), fps=fps) for kind in cycle(there))

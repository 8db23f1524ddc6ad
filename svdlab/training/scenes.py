"""The kinds of scene of the training world: for each, what is in the picture and how it goes on.

Lengths in this file are in units of 1/64 of the frame's side (`Shot.unit` px), so a scene looks the same at any size.
Everything random about the picture comes from `Shot.rng`, everything random about its future from `Shot.chance` and
`Shot.choice`; so the picture is the same whatever comes after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from svdlab.training import backgrounds as bg
from svdlab.training.layers import Flame, Layer, Light, Plane, Still, smooth
from svdlab.training.objects import DIRECTED, INK, TURNS, WHITE, Colour, Drawing, ball, directed, flame

TRAVEL = 16.0  # longest way of an object in a clip
PLANE_OVER = 2  # texture px per frame px of what a camera moves over
CAMERA, FALL, ZOOM = 0.5, 0.7, 0.3  # speed of pans and clouds, balls, and dollies, as shares of an object's
OUTLINE = 0.7  # width of the line around an object
EDGE = 0.75  # least distance of an object from the frame's edge
FUTURES = 16  # how many futures of flames and stars are numbered; any two differ


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What a scene is made from.

    Attributes:
        stage: of the `World`.
        size: px.
        distance: float64 [frames], px that a thing of full speed has gone since the first frame.
        choice: which future.
        rng, chance: random generators of the picture and of the future.
    """

    stage: str
    size: int
    distance: np.ndarray
    choice: int
    rng: np.random.Generator
    chance: np.random.Generator

    @property
    def unit(self) -> float:
        """px of 1/64 of the frame's side."""
        return self.size / 64

    @property
    def still(self) -> np.ndarray:
        """No shift, for every frame: float64 [frames, 2]."""
        return np.zeros((len(self.distance), 2))


@dataclass(frozen=True, kw_only=True)
class Film:
    """A scene's layers, back to front, and the truth about them: see `svdlab.training.world.Scene`."""

    layers: tuple[Layer, ...]
    positions: np.ndarray
    radii: tuple[float, ...] = ()
    camera: np.ndarray | None = None
    zoom: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of scene.

    Attributes:
        film: makes a scene of this kind.
        weights: how often it is drawn in each stage, relative to the others.
        choices: number of futures that its picture allows.
        pace: its speed as a share of `speed_px`; 0 if nothing travels.
    """

    film: Callable[[Shot], Film]
    weights: dict[str, float]
    choices: int = 1
    pace: float = 1.0
    paces: tuple[float, ...] = field(default=())  # where it depends on the choice

    def pace_of(self, choice: int) -> float:
        """Speed of the future `choice` as a share of `speed_px`."""
        return self.paces[choice] if self.paces else self.pace


def backdrop(shot: Shot) -> np.ndarray:
    """The background of a scene whose camera rests, by stage: dark; then also light; then, rarely, textured."""
    rng, size = shot.rng, shot.size
    if shot.stage == "easy":
        return bg.dark(rng, size)
    share = rng.random()
    if share < 0.45:
        return bg.dark(rng, size)
    if share < 0.9 or shot.stage == "headings":
        return bg.light(rng, size)
    return bg.texture(rng, size)


def edge_before(behind: Still) -> Colour:
    """The colour of an object's outline: white before a dark background, dark before a light one."""
    return WHITE if behind.picture.mean() < 100 else INK


def start_range(
    shot: Shot, reach: tuple[float, float, float, float], ahead: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest start (x, y), px, from which the longest way along `ahead` stays in the frame."""
    way = TRAVEL * shot.unit * ahead
    low = np.array(reach[:2]) + EDGE * shot.unit - 0.5 - np.minimum(way, 0)
    high = shot.size - 0.5 - np.array(reach[2:]) - EDGE * shot.unit - np.maximum(way, 0)
    return low, np.maximum(high, low)


def heading_of(name: str, shot: Shot) -> float:
    """One of the ways that the object goes; radians, 0 to the right and pi / 2 down."""
    return float(np.pi / 2 * shot.rng.choice(TURNS[name]))


def unit_vector(angle: float) -> np.ndarray:
    """(cos, sin), with exact zeros for the four main directions."""
    return np.round([np.cos(angle), np.sin(angle)], 12)


def one_object(name: str) -> Callable[[Shot], Film]:
    """A film of the object `name` going where its nose points."""

    def film(shot: Shot) -> Film:
        easy = shot.stage == "easy"
        length = shot.rng.uniform(11.5, 12.5) if easy else shot.rng.uniform(10.5, 12.5)
        heading = heading_of(name, shot)
        behind = Still(picture=backdrop(shot))
        outline, edge = 0.0 if easy else OUTLINE * shot.unit, edge_before(behind)
        drawing = directed(name, length * shot.unit, heading, shot.rng, outline=outline, edge=edge)
        ahead = unit_vector(heading)
        start = shot.rng.uniform(*start_range(shot, drawing.reach, ahead))
        path = start + shot.distance[:, None] * ahead
        return Film(layers=(behind, drawing.along(path)), positions=path[:, None], radii=(drawing.radius,))

    return film


def two(shot: Shot) -> Film:
    """Two small objects, each going its own way, that never touch."""
    names = shot.rng.choice(sorted(DIRECTED), size=2, replace=False)
    behind = Still(picture=backdrop(shot))
    cast: list[Drawing] = []
    turns = [heading_of(str(name), shot) for name in names]
    for name, heading in zip(names, turns, strict=True):
        length = shot.rng.uniform(8, 9) * shot.unit
        outline, edge = OUTLINE * shot.unit, edge_before(behind)
        cast.append(directed(str(name), length, heading, shot.rng, outline=outline, edge=edge))
    ahead = np.stack([unit_vector(turn) for turn in turns])
    starts = _apart(shot, cast, ahead)
    paths = starts + shot.distance[:, None, None] * ahead
    moving = tuple(drawing.along(paths[:, n]) for n, drawing in enumerate(cast))
    return Film(layers=(behind, *moving), positions=paths, radii=tuple(drawing.radius for drawing in cast))


def _apart(shot: Shot, cast: list[Drawing], ahead: np.ndarray, tries: int = 30) -> np.ndarray:
    """Starts [2, 2] of two objects; the trial in which their ways keep the largest distance, or the first that does."""
    need = sum(float(np.hypot(*drawing.reach[:2])) for drawing in cast) * 0.8
    ranges = [start_range(shot, drawing.reach, own) for drawing, own in zip(cast, ahead, strict=True)]
    way = np.linspace(0, TRAVEL * shot.unit, 9)[:, None] * (ahead[0] - ahead[1])
    best, widest = np.zeros((2, 2)), -1.0
    for _ in range(tries):
        starts = np.stack([shot.rng.uniform(*span) for span in ranges])
        gap = float(np.hypot(*(starts[0] - starts[1] + way).T).min())
        if gap > widest:
            best, widest = starts, gap
        if gap >= need:
            break
    return best


def landscape(shot: Shot) -> Film:
    """A camera beside a wide landscape; choice 0: it goes left, so that what is seen moves right; choice 1: right."""
    texture = smooth(bg.landscape(shot.rng, shot.size * PLANE_OVER, wide(shot)), PLANE_OVER)
    shift = (1, -1)[shot.choice] * CAMERA * shot.distance[:, None] * np.array([1.0, 0.0])
    return _over_plane(shot, texture, shift)


def tunnel(shot: Shot) -> Film:
    """A camera going forward through a tunnel."""
    texture = smooth(bg.tunnel(shot.rng, shot.size * 3), 3)
    return _over_plane(shot, texture, shot.still, zoom_path(shot), over=3)


def photo(shot: Shot) -> Film:
    """A photograph under a camera; choice 0: it goes forward; 1: to the left (what is seen moves right); 2: right."""
    crop = bg.photo_crop(shot.rng, shot.size * PLANE_OVER, wide(shot), scale=(0.75, 1.0))
    texture = smooth(crop, PLANE_OVER)
    if shot.choice == 0:
        return _over_plane(shot, texture, shot.still, zoom_path(shot))
    return _over_plane(shot, texture, (0, 1, -1)[shot.choice] * CAMERA * shot.distance[:, None] * np.array([1.0, 0.0]))


def wide(shot: Shot) -> int:
    """Texture px across what a panning camera may see, to both sides of the first frame."""
    return round((shot.size + 2 * (TRAVEL * CAMERA + 2) * shot.unit) * PLANE_OVER)


def zoom_path(shot: Shot) -> np.ndarray:
    """Zoom whose flow in the first frame has a mean length of `ZOOM` times the speed of an object: float64 [frames].

    The mean distance of a square's points from its centre is 0.3826 of its side.
    """
    return np.exp(ZOOM * shot.distance / (0.3826 * shot.size))


def _over_plane(
    shot: Shot, texture: np.ndarray, shift: np.ndarray, zoom: np.ndarray | None = None, *, over: float = PLANE_OVER
) -> Film:
    own = np.ones(len(shot.distance)) if zoom is None else zoom
    margin = ((texture.shape[1] / over - shot.size) / 2, (texture.shape[0] / over - shot.size) / 2)
    plane = Plane(texture=texture, over=over, margin=margin, shift=shift, zoom=own)
    return Film(layers=(plane,), positions=_nobody(shot), camera=shift, zoom=own)


def _nobody(shot: Shot) -> np.ndarray:
    return np.zeros((len(shot.distance), 0, 2))


def ridge(shot: Shot) -> Film:
    """A ball on top of a hill; choice 0: it rolls down to the left, 1: to the right."""
    rng = shot.rng
    slope, radius = np.radians(rng.uniform(24, 38)), rng.uniform(4.5, 5.5) * shot.unit
    apex = np.array([31.5 + rng.uniform(-1.5, 1.5), rng.uniform(22, 28)]) * shot.unit
    behind = Still(picture=bg.ridge(rng, shot.size, (float(apex[0]), float(apex[1])), slope))
    # Around the top its centre goes along a circle, then beside the slope: always one radius from the ground.
    turn = np.linspace(0, slope, 12)
    arc = apex + radius * np.stack([np.sin(turn), -np.cos(turn)], axis=1)
    down = arc[-1] + TRAVEL * shot.unit * np.array([np.cos(slope), np.sin(slope)])
    return _ball_along(shot, behind, ball(radius, rng), np.concatenate([arc, down[None]]))


def fork(shot: Shot) -> Film:
    """A ball where a road parts; choice 0: it takes the left way, 1: the right."""
    rng = shot.rng
    turn, radius = np.radians(rng.uniform(45, 60)), rng.uniform(4, 5) * shot.unit
    upside = rng.random() < 0.5
    x, y = 31.5 + rng.uniform(-2, 2), rng.uniform(38, 42)
    start, joint = np.array([x, y + 1]), np.array([x, y])
    end = joint + 60 * np.array([np.sin(turn), -np.cos(turn)])
    road = np.stack([[x, 80.0], start, joint, end])
    if upside:
        road[:, 1] = 63 - road[:, 1]
    road *= shot.unit
    behind = Still(picture=bg.fork(rng, shot.size, road, 2.1 * radius))
    return _ball_along(shot, behind, ball(radius, rng), road[1:])


def _ball_along(shot: Shot, behind: Still, drawing: Drawing, way: np.ndarray) -> Film:
    """The ball's centre goes along `way` [points, 2], or along its mirror image for choice 0, at even speed."""
    if shot.choice == 0:
        way = way * [-1, 1] + [2 * way[0, 0], 0]
    gone = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(way, axis=0).T))])
    path = np.stack([np.interp(FALL * shot.distance, gone, way[:, axis]) for axis in (0, 1)], axis=1)
    return Film(layers=(behind, drawing.along(path)), positions=path[:, None], radii=(drawing.radius,))


def clouds(shot: Shot) -> Film:
    """Clouds above hills; they drift towards choice x 45 degrees (0 to the right, 2 down)."""
    size, side = shot.size, wide(shot)
    sky = Still(picture=bg.sky(shot.rng, size, size))
    texture = smooth(bg.clouds(shot.rng, side, side, shot.rng.uniform(3.5, 5.5)), PLANE_OVER)
    shift = CAMERA * shot.distance[:, None] * unit_vector(np.pi / 4 * shot.choice)
    one = np.ones(len(shot.distance))
    extra = (side / PLANE_OVER - size) / 2
    drift = Plane(texture=texture, over=PLANE_OVER, margin=(extra, extra), shift=shift, zoom=one)
    land = Plane(texture=bg.hills(shot.rng, size), over=1, margin=(0, 0), shift=shot.still, zoom=one)
    return Film(layers=(sky, drift, land), positions=_nobody(shot), camera=shift)


def wander(shot: Shot, things: int, waves: int = 3) -> np.ndarray:
    """Random smooth courses that all begin at 0: float64 [frames, things], about -1.5 to 1.5.

    A sum of sines of the distance gone, X(d) = sum a (sin(w d + p) - sin p): still where the speed is 0, and equal in
    the first frame whatever the phases p, which are the future's.
    """
    rate = shot.rng.uniform(0.25, 1.0, (things, waves)) / shot.unit
    phase = shot.chance.uniform(0, 2 * np.pi, (things, waves))
    course = np.sin(shot.distance[:, None, None] * rate + phase) - np.sin(phase)
    return course.sum(axis=-1) / np.sqrt(waves)


def candle(shot: Shot) -> Film:
    """A candle whose flame flickers, and its light on the wall."""
    rng, unit = shot.rng, shot.unit
    tall, width = rng.uniform(17, 23) * unit, rng.uniform(9, 14) * unit
    foot = ((31.5 + rng.uniform(-8, 8)) * unit, rng.uniform(38, 46) * unit)
    behind = Still(picture=bg.candle(rng, shot.size, foot, width))
    lean, high, glow = wander(shot, 3).T
    y, x = np.indices((shot.size, shot.size), dtype=np.float32)
    far = np.hypot(x - np.float32(foot[0]), y - np.float32(foot[1] - 0.4 * tall))
    halo = Light(
        shapes=np.exp(-((far / np.float32(15 * unit)) ** 2))[None],
        colours=np.array([[120, 70, 22]], np.float32),
        strength=0.85 * np.exp(0.25 * glow)[:, None],
    )
    fire = Flame(
        picture=flame(tall),
        over=4,
        foot=foot,
        bend=(rng.uniform(-1.5, 1.5) + 3.5 * lean) * unit,
        stretch=np.exp(0.16 * high),
    )
    return Film(layers=(behind, halo, fire), positions=_nobody(shot))


def stars(shot: Shot) -> Film:
    """A night sky whose stars twinkle, each for itself."""
    rng, size, unit = shot.rng, shot.size, shot.unit
    count = int(rng.integers(14, 23))
    behind = Still(picture=bg.night(rng, size))
    where = rng.uniform((2, 2), (62, 48), (count, 2)) * unit
    wide = rng.uniform(0.7, 1.25, count) * unit
    y, x = np.indices((size, size), dtype=np.float32)
    off = np.hypot(x - where[:, 0, None, None], y - where[:, 1, None, None]) / wide[:, None, None]
    cross = np.exp(
        -np.minimum(abs(x - where[:, 0, None, None]), abs(y - where[:, 1, None, None])) * 3 / unit - off * 0.8
    )
    shapes = np.minimum(np.exp(-0.5 * off**2) + 0.5 * cross, 1).astype(np.float32)
    colours = np.array([bg.tint(hue, 0.22, 1.0) for hue in rng.choice([0.1, 0.14, 0.58, 0.62], count)], np.float32)
    first = rng.uniform(0.35, 0.95, count)
    strength = np.clip(first * np.exp(0.8 * wander(shot, count)), 0.04, 1.15)
    return Film(layers=(behind, Light(shapes=shapes, colours=colours, strength=strength)), positions=_nobody(shot))


KINDS: dict[str, Kind] = {
    **{name: Kind(film=one_object(name), weights={"easy": 1, "headings": 1, "full": 12}) for name in DIRECTED},
    "two": Kind(film=two, weights={"full": 4}),
    "landscape": Kind(film=landscape, weights={"full": 8}, choices=2, pace=CAMERA),
    "tunnel": Kind(film=tunnel, weights={"full": 5}, pace=ZOOM),
    "photo": Kind(film=photo, weights={"full": 12}, choices=3, paces=(ZOOM, CAMERA, CAMERA)),
    "ridge": Kind(film=ridge, weights={"full": 7}, choices=2, pace=FALL),
    "fork": Kind(film=fork, weights={"full": 6}, choices=2, pace=FALL),
    "clouds": Kind(film=clouds, weights={"full": 5}, choices=8, pace=CAMERA),
    "flame": Kind(film=candle, weights={"full": 5}, choices=FUTURES, pace=0),
    "stars": Kind(film=stars, weights={"full": 5}, choices=FUTURES, pace=0),
}

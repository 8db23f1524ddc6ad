"""The backgrounds of the training world: shaded walls, textures, landscapes, a tunnel, skies, and real photographs.

Every function takes a random generator first and gives uint8 pictures `[height, width, 3]`, or, where it says so, four
channels with colours multiplied by coverage.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from svdlab.training.objects import Colour, tint

PHOTOS = Path(__file__).parent / "photos"
PHOTO_NAMES = ("astronaut", "chelsea", "coffee", "rocket")


def noise(rng: np.random.Generator, height: int, width: int, cells: float) -> np.ndarray:
    """Smooth noise float32 [height, width] in [0, 1], with about `cells` bumps along the shorter side."""
    step = min(height, width) / cells
    grid = rng.random((int(np.ceil(height / step)) + 3, int(np.ceil(width / step)) + 3), dtype=np.float32)
    fine = cv2.resize(grid, (round(grid.shape[1] * step), round(grid.shape[0] * step)), interpolation=cv2.INTER_CUBIC)
    top, left = int(step), int(step)
    return np.clip(fine[top : top + height, left : left + width], 0, 1)


def fractal(rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 3) -> np.ndarray:
    """Noise with detail: each octave twice as fine and half as strong; float32 [height, width], mean near 0.5."""
    total = sum(noise(rng, height, width, cells * 2**k) * np.float32(0.5**k) for k in range(octaves))
    return np.asarray(total, np.float32) / np.float32(2 - 0.5 ** (octaves - 1))


def blend(low: Colour | np.ndarray, high: Colour | np.ndarray, share: np.ndarray) -> np.ndarray:
    """From colour `low` where `share` is 0 to `high` where it is 1: float32 [..., 3]."""
    a, b = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return a + (b - a) * np.asarray(share, np.float32)[..., None]


def as_bytes(picture: np.ndarray) -> np.ndarray:
    """Rounded to uint8."""
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8)


def ramp(height: int, width: int, angle: float) -> np.ndarray:
    """0 to 1 across the picture in the direction `angle` (0 to the right, pi / 2 down): float32 [height, width]."""
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None] * np.float32(np.cos(angle))
    return (x + y) / np.float32(abs(np.sin(angle)) + abs(np.cos(angle))) + np.float32(0.5)


def dark(rng: np.random.Generator, size: int) -> np.ndarray:
    """A softly shaded dark wall: two neighbouring hues and a faint pool of light."""
    hue = rng.random()
    wall = blend(tint(hue, 0.6, 0.07), tint(hue + 0.08, 0.55, 0.22), ramp(size, size, rng.uniform(0, 2 * np.pi)))
    return as_bytes(wall + 18 * noise(rng, size, size, 1.5)[..., None])


def light(rng: np.random.Generator, size: int) -> np.ndarray:
    """A light wall with soft clouds of a second hue."""
    hue, grain = rng.random(), fractal(rng, size, size, 2)
    low, high = tint(hue, 0.35, 0.72), tint(hue + rng.uniform(-0.15, 0.15), 0.2, 0.97)
    return as_bytes(blend(low, high, 0.5 * ramp(size, size, rng.uniform(0, 2 * np.pi)) + 0.5 * grain))


def texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Stripes, checks, dots or grain in two tones of middle brightness."""
    hue, value = rng.random(), rng.uniform(0.4, 0.85)
    low, high = tint(hue, 0.4, value - 0.1), tint(hue + 0.04, 0.35, value + 0.08)
    y, x = np.indices((size, size), dtype=np.float32) * np.float32(64 / size)
    wave, turn = 2 * np.pi / rng.uniform(7, 14), rng.uniform(0, np.pi)
    u = np.sin(wave * (x * np.cos(turn) + y * np.sin(turn)))
    v = np.sin(wave * (y * np.cos(turn) - x * np.sin(turn)))
    grain = fractal(rng, size, size, 5)
    pattern = (u, np.tanh(3 * u * v), np.tanh(4 * (u + v - 0.9)), 2 * grain - 1)[int(rng.integers(4))]
    return as_bytes(blend(low, high, 0.5 + 0.4 * pattern + 0.35 * (grain - 0.5)))


@cache
def photo(name: str) -> np.ndarray:
    """The photograph `name` of `PHOTO_NAMES`, uint8 [256, 256, 3], read-only; see photos/SOURCES.md."""
    with Image.open(PHOTOS / f"{name}.jpg") as opened:
        picture = np.array(opened.convert("RGB"))
    picture.flags.writeable = False
    return picture


def photo_crop(rng: np.random.Generator, height: int, width: int, *, scale: tuple[float, float]) -> np.ndarray:
    """A random crop of a random photograph, perhaps mirrored, a little brighter or darker, reduced to size.

    Args:
        scale: range of the crop's longer side as a share of the photograph's side.
    """
    whole = photo(PHOTO_NAMES[int(rng.integers(len(PHOTO_NAMES)))])
    longest = rng.uniform(*scale) * len(whole) / max(height, width)
    h, w = round(height * longest), round(width * longest)
    top, left = int(rng.integers(len(whole) - h + 1)), int(rng.integers(len(whole) - w + 1))
    crop = whole[top : top + h, left : left + w]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    how = cv2.INTER_AREA if h >= height else cv2.INTER_CUBIC
    crop = cv2.resize(np.ascontiguousarray(crop), (width, height), interpolation=how)
    return as_bytes(crop * np.float32(rng.uniform(0.8, 1.15)))


def sky(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A sky of day, dawn or dusk: two colours from top to bottom."""
    pairs = (((70, 130, 215), (190, 220, 245)), ((95, 90, 160), (250, 180, 130)), ((30, 45, 100), (215, 120, 120)))
    top, bottom = pairs[int(rng.integers(len(pairs)))]
    shift = rng.uniform(-15, 15, 3)
    return as_bytes(blend(top + shift, bottom + shift, ramp(height, width, np.pi / 2)))


def landscape(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Three rows of hills under a sky, with a sun and trees: something to see along the whole width."""
    picture = sky(rng, height, width)
    sun = (int(rng.uniform(0.2, 0.8) * width), int(rng.uniform(0.12, 0.3) * height))
    cv2.circle(picture, sun, round(0.07 * height), (255, 240, 190), -1, cv2.LINE_AA)
    hue, columns = rng.uniform(0.2, 0.5), np.arange(width)
    for row, (level, value) in enumerate(((0.52, 0.68), (0.66, 0.52), (0.82, 0.36))):
        edge = height * (level - 0.3 * (noise(rng, 8, width, 0.35 + 0.15 * row)[4] - 0.5))
        grain = 0.75 + 0.5 * fractal(rng, height, width, 9)
        hill = np.array(tint(hue + 0.05 * row, 0.28 + 0.14 * row, value)) * grain[..., None]
        share = np.clip(np.arange(height)[:, None] - edge + 0.5, 0, 1)[..., None]
        picture = as_bytes(picture * (1 - share) + hill * share)
        for x in rng.choice(columns[6:-6], size=(0, 5, 7)[row], replace=False):
            tree(
                picture,
                float(x),
                float(edge[x]) + 0.03 * height,
                height * rng.uniform(0.1, 0.14) * (0.8 + 0.4 * row),
                hue,
            )
    return picture


def tree(picture: np.ndarray, x: float, y: float, tall: float, hue: float) -> None:
    """Draw a fir of `tall` px in place, its foot at (x, y)."""
    trunk = [(x - 0.07 * tall, y), (x + 0.07 * tall, y), (x, y - 0.5 * tall)]
    cv2.fillPoly(picture, [np.rint(np.array(trunk) * 16).astype(np.int32)], (85, 60, 45), cv2.LINE_AA, 4)
    for low, wide in ((0.2, 0.34), (0.45, 0.26)):
        shape = np.array(
            [(x - wide * tall, y - low * tall), (x + wide * tall, y - low * tall), (x, y - (low + 0.55) * tall)]
        )
        cv2.fillPoly(picture, [np.rint(shape * 16).astype(np.int32)], tint(hue, 0.6, 0.24), cv2.LINE_AA, 4)


def tunnel(rng: np.random.Generator, size: int) -> np.ndarray:
    """A tiled tunnel seen along its axis; tiles shrink in proportion to the distance from the middle, which glows."""
    y, x = (np.indices((size, size), dtype=np.float32) - (size - 1) / 2) / (size / 2)
    square = rng.random() < 0.5
    far = np.maximum(abs(x), abs(y)) if square else np.hypot(x, y)
    far = np.maximum(far, 1e-3)
    rings, sectors = rng.uniform(2.2, 3.2), int(rng.choice([8, 12]))
    ring = np.log(far) * rings + rng.random()
    sector = np.arctan2(y, x) / (2 * np.pi) * sectors + (0.5 if square else rng.random())
    checks = np.tanh(8 * np.sin(np.pi * ring) * np.sin(np.pi * sector)) * 0.5 + 0.5
    hue = rng.random()
    tiles = blend(tint(hue, 0.6, 0.35), tint(hue + rng.uniform(0.1, 0.5), 0.45, 0.9), checks)
    glow = np.clip(1 - far / 0.22, 0, 1) ** 0.7
    return as_bytes(
        blend((0, 0, 0), (1, 1, 1), np.clip(0.35 + 0.9 * far, 0, 1)) * tiles * (1 - glow[..., None])
        + glow[..., None] * np.array((255, 244, 214))
    )


def clouds(rng: np.random.Generator, height: int, width: int, cells: float) -> np.ndarray:
    """White clouds, uint8 [height, width, 4], colours multiplied by coverage."""
    body = fractal(rng, height, width, cells, octaves=4)
    level = float(np.quantile(body, rng.uniform(0.5, 0.62)))
    alpha = np.clip((body - level) / 0.07, 0, 1)
    alpha = alpha * alpha * (3 - 2 * alpha)
    shade = np.clip(0.5 + 5 * (body - np.roll(body, -max(2, height // 40), axis=0)), 0, 1)
    colour = blend((172, 182, 205), (255, 255, 255), shade) * alpha[..., None]
    return as_bytes(np.dstack([colour, 255 * alpha]))


def hills(rng: np.random.Generator, size: int) -> np.ndarray:
    """Two green hills along the lower edge, uint8 [size, size, 4], colours multiplied by coverage."""
    out = np.zeros((size, size, 4), np.float32)
    hue = rng.uniform(0.25, 0.4)
    for level, value in ((0.82, 0.55), (0.92, 0.38)):
        edge = size * (level - 0.22 * (noise(rng, 8, size, 0.3)[4] - 0.5))
        share = np.clip(np.arange(size)[:, None] - edge + 0.5, 0, 1)[..., None]
        hill = np.array((*tint(hue, 0.55, value), 255.0)) * np.ones((size, size, 1))
        out = out * (1 - share) + (hill * share).astype(np.float32)
    return as_bytes(out)


def ridge(rng: np.random.Generator, size: int, apex: tuple[float, float], slope: float) -> np.ndarray:
    """A symmetric hill under a sky, its top at `apex` (px) and its sides falling at `slope` radians."""
    fine, over = sky(rng, size * 4, size * 4), 4
    x, y = (over * (v + 0.5) for v in apex)
    run = 2.0 * over * size
    drop, hue = run * np.tan(slope), rng.uniform(0.05, 0.42)
    for lower, value in ((0.0, 0.8), (2.2, 0.5)):
        down = lower * over * size / 64
        shape = np.array([(x, y + down), (x + run, y + drop + down), (x - run, y + drop + down)])
        cv2.fillPoly(fine, [np.rint(shape).astype(np.int32)], tint(hue, 0.55, value))
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)


def fork(rng: np.random.Generator, size: int, path: np.ndarray, width: float) -> np.ndarray:
    """A road that parts in two, seen from above: `path` [points, 2] px is one way, its mirror image the other."""
    over, hue = 4, rng.uniform(0.18, 0.42)
    low, high = tint(hue, 0.5, 0.3), tint(hue, 0.45, 0.42)
    fine = as_bytes(blend(low, high, fractal(rng, size * over, size * over, 6)))
    mirrored = path * [-1, 1] + [2 * path[0, 0], 0]
    for wide, colour in ((width + 0.045 * size, (236, 232, 215)), (width, (118, 116, 122))):
        for way in (path, mirrored):
            line = np.rint((way + 0.5) * over * 16).astype(np.int32)
            cv2.polylines(fine, [line], False, colour, round(wide * over), cv2.LINE_AA, 4)
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)


def night(rng: np.random.Generator, size: int) -> np.ndarray:
    """A night sky, dark blue to violet, with the black outline of hills below."""
    hue = rng.uniform(0.6, 0.75)
    above = blend(tint(hue, 0.75, 0.1), tint(hue + 0.06, 0.6, 0.32), ramp(size, size, np.pi / 2) ** 2)
    edge = size * (0.86 - 0.2 * (noise(rng, 8, size, 0.8)[4] - 0.5))
    share = np.clip(np.arange(size)[:, None] - edge + 0.5, 0, 1)[..., None]
    return as_bytes(above * (1 - share) + np.array((6, 8, 14)) * share)


def candle(rng: np.random.Generator, size: int, foot: tuple[float, float], width: float) -> np.ndarray:
    """A candle before a dark wall, its wick's end at `foot` (px)."""
    over = 4
    fine = cv2.resize(dark(rng, size), (size * over, size * over), interpolation=cv2.INTER_LINEAR)
    x, y = (over * (v + 0.5) for v in foot)
    half, top = over * width / 2, y + over * 0.035 * size
    across = np.clip((np.arange(size * over) - (x - half)) / (2 * half), 0, 1)
    body = blend(
        tint(rng.uniform(0.0, 0.16), rng.uniform(0.1, 0.6), 0.62), (255, 240, 214), np.sin(np.pi * across) ** 0.8
    )
    columns = slice(max(round(x - half), 0), round(x + half))
    fine[round(top) :, columns] = as_bytes(body[columns])
    cv2.ellipse(
        fine, (round(x), round(top)), (round(half), round(half * 0.3)), 0, 0, 360, (255, 246, 220), -1, cv2.LINE_AA
    )
    cv2.line(fine, (round(x), round(top)), (round(x), round(y - over)), (50, 36, 30), over, cv2.LINE_AA)
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)

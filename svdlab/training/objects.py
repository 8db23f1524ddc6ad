"""The objects of the training world, drawn so that their picture shows which way they go.

Shapes are given in units of half the object's length, nose at (1, 0), tail at (-1, 0), y downwards.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from svdlab.training.layers import SMOOTH, Sprite, smooth

OVER = 4  # sprite px per frame px
Colour = tuple[float, float, float]
Points = Sequence[tuple[float, float]]

HUES = 6
LEAST_LUMA = 105  # of a bright colour, 0 to 255
WHITE, INK, GLASS = (245.0, 245.0, 240.0), (24.0, 26.0, 40.0), (150.0, 205.0, 240.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """A finished object, not yet placed: a `Sprite` without a path.

    Attributes:
        picture, over, anchor: as of `Sprite`.
        reach: (left, top, right, bottom), px of the frame that the object extends from its centre.
    """

    picture: np.ndarray
    over: float
    anchor: tuple[float, float]
    reach: tuple[float, float, float, float]

    @property
    def radius(self) -> float:
        """Largest distance, along an axis, from the centre to the object's edge, px."""
        return max(self.reach)

    def along(self, positions: np.ndarray) -> Sprite:
        """The object moving along `positions` [frames, 2], px."""
        return Sprite(picture=self.picture, over=self.over, anchor=self.anchor, positions=positions)


class Canvas:
    """A small picture on which one object is drawn in its own units, turned to its heading.

    Args:
        length: half the object's length, px of the frame.
        heading: radians; 0 is to the right, pi / 2 down. Towards the left the object is mirrored, so that its upper
            side stays up.
    """

    def __init__(self, length: float, heading: float = 0.0) -> None:
        self.scale = length * OVER
        side = 2 * int(np.ceil(self.scale * 1.15 + 3 * OVER)) + 1
        self.centre = (side - 1) / 2
        c, s = np.cos(heading), np.sin(heading)
        up = -1 if c < -1e-9 else 1
        self.turn = np.array([[c, s], [-s * up, c * up]]) * self.scale
        self.colour = np.zeros((side, side, 3), np.uint8)
        self.alpha = np.zeros((side, side), np.uint8)

    def polygon(self, points: Points, colour: Colour) -> None:
        """Fill a polygon."""
        where = np.rint((np.asarray(points) @ self.turn + self.centre) * 16).astype(np.int32)
        cv2.fillPoly(self.colour, [where], colour, shift=4)
        cv2.fillPoly(self.alpha, [where], 255, shift=4)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """Fill an ellipse around (x, y)."""
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        self.polygon(np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1).tolist(), colour)

    def finish(self, *, outline: float = 0.0, edge: Colour = INK, relief: float = 0.35) -> Drawing:
        """Light from above, an outline of `outline` px in the colour `edge`, smooth edges."""
        rows = np.flatnonzero(self.alpha.any(axis=1))
        light = 1 + relief * (0.5 - np.clip((np.arange(len(self.alpha)) - rows[0]) / np.ptp(rows), 0, 1))
        colour = np.clip(self.colour * light[:, None, None], 0, 255)
        inside = self.alpha > 0
        if outline:
            width = 2 * round(outline * OVER) + 1
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
            whole = cv2.dilate(self.alpha, disc) > 0
            colour[whole & ~inside] = edge
            inside = whole
        picture = np.dstack([colour * inside[..., None], inside]).astype(np.float32)
        return finished(smooth(picture, OVER))


def finished(picture: np.ndarray, over: float = OVER) -> Drawing:
    """A `Drawing` of a smooth picture float32 [h, w, 4], with the mean place of its coverage as its centre."""
    alpha = picture[..., 3].astype(np.float64)
    x = float((alpha.sum(axis=0) @ np.arange(alpha.shape[1])) / alpha.sum())
    y = float((alpha.sum(axis=1) @ np.arange(alpha.shape[0])) / alpha.sum())
    columns, rows = (np.flatnonzero((alpha > 0.5 / 255).any(axis=axis)) for axis in (0, 1))
    reach = (x - columns[0], y - rows[0], columns[-1] - x, rows[-1] - y)
    left, top, right, bottom = (float(r) / over for r in reach)
    return Drawing(picture=picture, over=over, anchor=(x, y), reach=(left, top, right, bottom))


def bright(rng: np.random.Generator) -> Colour:
    """A strong colour of one of six hues, RGB 0 to 255; blue and violet are mixed with white so as not to be dark."""
    own = np.array(tint(rng.integers(HUES) / HUES, 0.88, 0.97))
    luma = float(own @ (0.299, 0.587, 0.114))
    r, g, b = own + (255 - own) * max(0.0, (LEAST_LUMA - luma) / (255 - luma))
    return float(r), float(g), float(b)


def tint(hue: float, saturation: float, value: float) -> Colour:
    """An RGB colour 0 to 255 from hue, saturation and value in 0 to 1."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return 255 * r, 255 * g, 255 * b


def darker(colour: Colour, share: float = 0.55) -> Colour:
    """`colour` with its light reduced to `share`."""
    r, g, b = colour
    return r * share, g * share, b * share


def rocket(canvas: Canvas, rng: np.random.Generator) -> None:
    """A white rocket with coloured nose and fins, a window, and fire behind."""
    accent = tint(rng.choice([0.0, 0.35, 0.58]), 0.9, 0.95)
    canvas.polygon([(-0.5, -0.24), (-1.0, 0), (-0.5, 0.24)], (255, 140, 20))
    canvas.polygon([(-0.5, -0.13), (-0.8, 0), (-0.5, 0.13)], (255, 235, 120))
    for side in (-1, 1):
        canvas.polygon([(-0.05, side * 0.25), (-0.66, side * 0.74), (-0.55, side * 0.2)], accent)
    canvas.polygon([(-0.55, -0.32), (-0.2, -0.4), (0.35, -0.37), (0.35, 0.37), (-0.2, 0.4), (-0.55, 0.32)], WHITE)
    canvas.polygon([(0.35, -0.37), (0.68, -0.25), (1.0, 0), (0.68, 0.25), (0.35, 0.37)], accent)
    canvas.ellipse(0.03, 0, 0.19, 0.19, (40, 90, 160))


def arrow(canvas: Canvas, rng: np.random.Generator) -> None:
    """A bold arrow."""
    colour = bright(rng)
    canvas.polygon([(-1, -0.28), (0.0, -0.28), (0.0, 0.28), (-1, 0.28)], colour)
    canvas.polygon([(-0.06, -0.76), (1, 0), (-0.06, 0.76)], colour)


def fish(canvas: Canvas, rng: np.random.Generator) -> None:
    """A fish with a tail behind, an eye and a stripe in front."""
    colour = bright(rng)
    fin = darker(colour, 0.65)
    canvas.polygon([(-0.4, 0), (-1.0, -0.5), (-0.82, 0), (-1.0, 0.5)], fin)
    canvas.polygon([(-0.25, -0.3), (-0.05, -0.72), (0.4, -0.38)], fin)
    canvas.ellipse(0.22, 0, 0.78, 0.46, colour)
    canvas.polygon([(0.02, -0.44), (0.2, -0.46), (0.12, 0), (0.2, 0.46), (0.02, 0.44), (-0.06, 0)], WHITE)
    canvas.ellipse(0.6, -0.1, 0.17, 0.17, WHITE)
    canvas.ellipse(0.65, -0.1, 0.09, 0.09, INK)


def car(canvas: Canvas, rng: np.random.Generator) -> None:
    """A car from the side: cabin towards the rear, bonnet and headlight in front."""
    colour = bright(rng)
    canvas.polygon([(-0.82, -0.08), (-0.6, -0.55), (0.08, -0.55), (0.4, -0.08)], colour)
    canvas.polygon([(-0.66, -0.1), (-0.5, -0.44), (-0.3, -0.44), (-0.3, -0.1)], GLASS)
    canvas.polygon([(-0.18, -0.1), (-0.18, -0.44), (0.02, -0.44), (0.24, -0.1)], GLASS)
    canvas.polygon([(-1, -0.12), (0.5, -0.12), (0.96, 0.02), (1, 0.32), (-1, 0.32)], colour)
    canvas.ellipse(0.9, 0.09, 0.14, 0.1, (255, 245, 150))
    for x in (-0.56, 0.56):
        canvas.ellipse(x, 0.32, 0.25, 0.25, (105, 108, 122))
        canvas.ellipse(x, 0.32, 0.12, 0.12, (225, 225, 230))


def ball(length: float, rng: np.random.Generator) -> Drawing:
    """A ball of radius `length` px, lit from above: nothing about it points anywhere."""
    canvas = Canvas(length)
    colour = np.array(bright(rng))
    for share in np.linspace(0, 1, 8):
        light = colour * (0.55 + 0.45 * share) + 150 * max(0.0, share - 0.6)
        r, g, b = np.clip(light, 0, 255).tolist()
        canvas.ellipse(0, -0.32 * share, 1 - 0.85 * share, 1 - 0.85 * share, (r, g, b))
    return canvas.finish(outline=0.5, relief=0.0)


DIRECTED: dict[str, Callable[[Canvas, np.random.Generator], None]] = {
    "rocket": rocket,
    "arrow": arrow,
    "fish": fish,
    "car": car,
}

TURNS = {"rocket": (3,), "arrow": (0, 1, 2, 3), "fish": (0, 2), "car": (0, 2)}
"""Where each may go, in quarter turns: 0 to the right, 1 down, 2 to the left, 3 up."""


def directed(
    name: str, length: float, heading: float, rng: np.random.Generator, *, outline: float = 0.0, edge: Colour = INK
) -> Drawing:
    """The object `name` of `DIRECTED`, `length` px from middle to nose, pointing to `heading` radians."""
    canvas = Canvas(length, heading)
    DIRECTED[name](canvas, rng)
    return canvas.finish(outline=outline, edge=edge)


def flame(height: float) -> np.ndarray:
    """An upright flame of `height` px, float32 [h, w, 4] as a `Flame` layer takes it."""
    tall = round(height * OVER)
    wide = 2 * round(0.32 * tall) + 1 + 8 * OVER
    colour, alpha = np.zeros((tall, wide, 3), np.uint8), np.zeros((tall, wide), np.uint8)
    up = np.linspace(0, 1, 24)
    shapes: list[tuple[float, Colour]] = [(1, (255, 120, 20)), (0.74, (255, 190, 50)), (0.46, (255, 245, 190))]
    for share, own in shapes:
        half = 0.5 * share * 0.5 * tall * np.sin(np.pi * np.clip(up, 0, 1) ** 0.55) ** 0.9
        y = tall - 1 - up * share * (tall - 2 * OVER)
        edge = np.concatenate([np.stack([-half, y], 1), np.stack([half, y], 1)[::-1]])
        where = np.rint((edge + np.array([(wide - 1) / 2, 0])) * 16).astype(np.int32)
        cv2.fillPoly(colour, [where], own, shift=4)
        cv2.fillPoly(alpha, [where], 255, shift=4)
    picture = np.dstack([colour, alpha / 255]).astype(np.float32)
    return cv2.GaussianBlur(picture, (0, 0), 1.5 * SMOOTH * OVER)

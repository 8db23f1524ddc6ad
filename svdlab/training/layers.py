"""The layers that a scene of the training world is made of, and how they are put together, to a fraction of a pixel.

Each layer knows how to `paint` itself onto the frames, back to front, and how to `mark` what it moves. Pictures of
layers are drawn `over` times finer than the frame and made smooth to suit; a layer is moved by reading it at exact
positions, never by rounding to pixels.

Pixel (0, 0) has its centre at (0, 0): a frame of `size` px reaches from -0.5 to size - 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

SMOOTH = 0.4  # px of the frame, standard deviation of the blur that keeps moving edges from shimmering
OPAQUE, CLEAR = 0.98, 0.02  # a pixel covered less than the one and more than the other shows two things at once
READ = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


class Layer(Protocol):
    """A part of a scene."""

    def paint(self, frames: np.ndarray) -> None:
        """Draw onto `frames` uint8 [frames, height, width, 3] in place, over what is there."""

    def mark(self, flow: np.ndarray, known: np.ndarray) -> None:
        """Set `flow` float32 [frames - 1, height, width, 2] and `known` bool [frames - 1, height, width] in place."""


def smooth(picture: np.ndarray, over: float) -> np.ndarray:
    """`picture` made ready to be read at every `over`-th of its pixels."""
    return cv2.GaussianBlur(picture, (0, 0), SMOOTH * over)


@dataclass(frozen=True, kw_only=True, eq=False)
class Still:
    """A background that fills every frame and stays: `picture` uint8 [height, width, 3]."""

    picture: np.ndarray

    def paint(self, frames: np.ndarray) -> None:
        """Fill all frames."""
        frames[:] = self.picture

    def mark(self, flow: np.ndarray, known: np.ndarray) -> None:
        """Nothing moves, and that is known."""
        flow[:], known[:] = 0, True


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """A flat picture, larger than the frame, that shifts and grows: what a moving camera sees, or clouds.

    The point of the first frame at p is at centre + shift + zoom (p - centre) in a later one.

    Args:
        texture: uint8 [h, w, 3], or with a fourth channel, coverage 0 to 255, that colours are already multiplied by.
        over: texture px per frame px.
        margin: (x, y), frame px of texture to the left of the first frame and above it.
        shift: float64 [frames, 2], px (x, y).
        zoom: float64 [frames].
    """

    texture: np.ndarray
    over: float
    margin: tuple[float, float]
    shift: np.ndarray
    zoom: np.ndarray

    def paint(self, frames: np.ndarray) -> None:
        """Fill the frames, or cover them where the texture does."""
        for frame, shift, zoom in zip(frames, self.shift, self.zoom, strict=True):
            seen = self._seen(self.texture, shift, zoom, len(frame))
            if seen.shape[-1] == 3:
                frame[:] = seen
            else:
                cover(frame, seen[..., :3].astype(np.float32), seen[..., 3:].astype(np.float32) / 255)

    def mark(self, flow: np.ndarray, known: np.ndarray) -> None:
        """flow(p) = shift' - shift + (zoom' / zoom - 1) (p - centre - shift), wherever the plane is seen."""
        size = known.shape[-1]
        side = np.arange(size) - (size - 1) / 2
        place = np.stack(np.meshgrid(side, side), axis=-1)
        for t in range(len(flow)):
            growth = self.zoom[t + 1] / self.zoom[t] - 1
            own = self.shift[t + 1] - self.shift[t] + growth * (place - self.shift[t])
            if self.texture.shape[-1] == 3:
                flow[t], known[t] = own, True
            else:
                cover_ = self._seen(self.texture[..., 3], self.shift[t], self.zoom[t], size) / np.float32(255)
                _mark(flow[t], known[t], own, cover_)

    def _seen(self, texture: np.ndarray, shift: np.ndarray, zoom: float, size: int) -> np.ndarray:
        step = self.over / zoom
        centre = (size - 1) / 2
        x, y = self.over * (centre + np.array(self.margin) + 0.5) - 0.5 - step * (centre + shift)
        return cv2.warpAffine(
            texture, np.array([[step, 0, x], [0, step, y]]), (size, size), flags=READ, borderMode=cv2.BORDER_REPLICATE
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Sprite:
    """A rigid object on its way.

    Args:
        picture: float32 [h, w, 4], colour 0 to 255 multiplied by coverage, and coverage 0 to 1.
        over: picture px per frame px.
        anchor: (x, y) in the picture of the object's centre, the mean place of its coverage.
        positions: float64 [frames, 2], px, where the centre is in each frame.
    """

    picture: np.ndarray
    over: float
    anchor: tuple[float, float]
    positions: np.ndarray

    def paint(self, frames: np.ndarray) -> None:
        """Put the object into every frame at its place."""
        for frame, place in zip(frames, self.positions, strict=True):
            patch, left, top = self._patch(self.picture, place)
            rows, columns, inner = _overlap(frame, patch, left, top)
            cover(frame[rows, columns], inner[..., :3], inner[..., 3:])

    def coverage(self, size: int) -> np.ndarray:
        """How much of each pixel the object covers, float32 [frames, size, size] in [0, 1]."""
        out = np.zeros((len(self.positions), size, size), np.float32)
        for frame, place in zip(out, self.positions, strict=True):
            patch, left, top = self._patch(self.picture[..., 3], place)
            rows, columns, inner = _overlap(frame, patch, left, top)
            frame[rows, columns] = inner
        return out

    def mark(self, flow: np.ndarray, known: np.ndarray) -> None:
        """Every point of the object moves as its centre does."""
        cover_ = self.coverage(known.shape[-1])
        for t, step in enumerate(np.diff(self.positions, axis=0)):
            _mark(flow[t], known[t], step, cover_[t])

    def _patch(self, picture: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, int, int]:
        side = int(np.ceil(max(picture.shape[:2]) / self.over)) + 2
        left, top = (int(v) for v in np.floor(place) - side // 2)
        x = self.anchor[0] + self.over * (left - place[0])
        y = self.anchor[1] + self.over * (top - place[1])
        where = np.array([[self.over, 0, x], [0, self.over, y]])
        return cv2.warpAffine(picture, where, (side, side), flags=READ, borderMode=cv2.BORDER_CONSTANT), left, top


@dataclass(frozen=True, kw_only=True, eq=False)
class Flame:
    """A flame that sways, stretches and shrinks above its foot.

    Args:
        picture: float32 [h, w, 4] as of a `Sprite`, upright.
        over: picture px per frame px.
        foot: (x, y) in the frame, px; in the picture it is in the middle of the lowest row.
        bend: float64 [frames], px that the tip leans to the right.
        stretch: float64 [frames], height over the height in the picture.
    """

    picture: np.ndarray
    over: float
    foot: tuple[float, float]
    bend: np.ndarray
    stretch: np.ndarray

    def paint(self, frames: np.ndarray) -> None:
        """Draw the flame as it is in each frame; the lean grows with the square of the height."""
        h, w = self.picture.shape[:2]
        tall = h / self.over
        y, x = np.indices(frames.shape[1:3], dtype=np.float32)
        for frame, bend, stretch in zip(frames, self.bend, self.stretch, strict=True):
            above = (np.float32(self.foot[1]) - y) / np.float32(stretch)
            aside = x - np.float32(self.foot[0]) - np.float32(bend) * (above / np.float32(tall)) ** 2
            seen = cv2.remap(
                self.picture,
                np.asarray(np.float32(self.over) * aside + np.float32((w - 1) / 2)),
                np.asarray(np.float32(h - 1) - np.float32(self.over) * above),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT,
            )
            cover(frame, seen[..., :3], seen[..., 3:])

    def mark(self, flow: np.ndarray, known: np.ndarray) -> None:
        """What a flame's points do is not known: around it, neither is the flow."""
        y, x = np.indices(known.shape[1:])
        reach = self.picture.shape[0] / self.over * float(self.stretch.max()) + 1
        near = (abs(x - self.foot[0]) < reach / 2 + float(abs(self.bend).max())) & (self.foot[1] - y < reach)
        known[:, near & (y < self.foot[1] + 2)] = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Light:
    """Light added to what is there: stars, the glow of a candle. It moves nothing.

    Args:
        shapes: float32 [lights, height, width], 1 at the brightest.
        colours: float32 [lights, 3], 0 to 255.
        strength: float64 [frames, lights].
    """

    shapes: np.ndarray
    colours: np.ndarray
    strength: np.ndarray

    def paint(self, frames: np.ndarray) -> None:
        """frame + sum of strength x colour x shape, at most 255."""
        lights, height, width = self.shapes.shape
        mixed = (self.strength[:, None, :] * self.colours.T).astype(np.float32)  # [frames, 3, lights]
        added = (mixed @ self.shapes.reshape(lights, -1)).reshape(len(frames), 3, height, width)
        frames[:] = np.rint(np.clip(frames + np.moveaxis(added, 1, -1), 0, 255))

    def mark(self, flow: np.ndarray, known: np.ndarray) -> None:
        """A surface that is lit differently has not moved."""


def cover(frame: np.ndarray, colour: np.ndarray, share: np.ndarray) -> None:
    """frame (1 - share) + colour, rounded: `frame` uint8 [h, w, 3] in place, `colour` already multiplied by `share`."""
    frame[:] = np.rint(np.clip(frame * (1 - share) + colour, 0, 255))


def compose(layers: Sequence[Layer], *, num_frames: int, size: int) -> np.ndarray:
    """The layers painted back to front: uint8 [num_frames, size, size, 3]."""
    frames = np.zeros((num_frames, size, size, 3), np.uint8)
    for layer in layers:
        layer.paint(frames)
    return frames


def motion(layers: Sequence[Layer], *, num_frames: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(flow float32 [num_frames - 1, size, size, 2], known bool [num_frames - 1, size, size]) of the topmost layers."""
    flow = np.zeros((num_frames - 1, size, size, 2), np.float32)
    known = np.zeros((num_frames - 1, size, size), bool)
    for layer in layers:
        layer.mark(flow, known)
    return flow, known


def _mark(flow: np.ndarray, known: np.ndarray, own: np.ndarray, cover_: np.ndarray) -> None:
    """Where something covers wholly, its flow counts; where in part, the flow of the pixel has no one answer."""
    full = cover_ >= OPAQUE
    flow[full] = np.broadcast_to(own, flow.shape)[full]
    known[full] = True
    known[(cover_ > CLEAR) & ~full] = False


def _overlap(frame: np.ndarray, patch: np.ndarray, left: int, top: int) -> tuple[slice, slice, np.ndarray]:
    """Rows and columns of `frame` under a patch whose corner is at (left, top), and the patch cut to them."""
    high, wide = frame.shape[:2]
    rows = slice(max(top, 0), min(top + patch.shape[0], high))
    columns = slice(max(left, 0), min(left + patch.shape[1], wide))
    return rows, columns, patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

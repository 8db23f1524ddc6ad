"""What clips of known truth are made of: the photograph under a camera, and what is written down about each clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import numpy as np

from svdlab.errors import MetricError

Kind = Literal["reads", "ignores", "blind", "misled"]

WIDTH, HEIGHT = 128, 96  # of the clips, px: no metric enlarges or reduces them
SPEED = 2  # px/frame, of pan and disc
GROWTH, TURN = 0.01, 0.5  # share of size, degrees, a frame
SIGMA = 8.0  # levels of noise
FLASH = 8  # levels up and down
BRIGHTEN, SATURATE = 1, 0.01  # levels, share of chroma, a frame
BLUR, SOFT = 3.0, 1.5  # standard deviation, px: in the last frame; in all frames
QUALITY = 10  # of JPEG, 1 to 100
RADIUS = 16  # of the disc, px
FEWEST, MOST = 5, 32  # frames; more would be cut off at 255
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What one metric must read on one clip.

    Attributes:
        metric: its name.
        kind: ``reads``: the clip has what the metric measures, and this is how much.
            ``ignores``: the metric has no business with what the clip has, and does not react.
            ``blind``: the clip has a fault that the metric does not show.
            ``misled``: the metric reads a fault, or a motion, that the clip does not have.
        low, high: bounds of the value.
        why: formula or reason.
        over: name of another clip, if the bounds are those of the ratio to the reading there; else empty.
    """

    metric: str
    kind: Kind
    low: float
    high: float
    why: str
    over: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownClip:
    """A clip of which the truth is known. It can be given to `svdlab.metrics.score` as it is.

    Attributes:
        name: such as ``"pan"``.
        frames: uint8 [frames, 96, 128, 3] RGB.
        image: the input picture, uint8 [96, 128, 3]: the first frame without fault.
        reference: the same clip without its fault, or the frozen clip for one that only moves; uint8 like `frames`.
        truth: what is true of it, in words.
        facts: the same in numbers.
        expectations: which metric must read what.
    """

    name: str
    frames: np.ndarray
    image: np.ndarray
    reference: np.ndarray
    truth: str
    facts: Mapping[str, float]
    expectations: tuple[Expectation, ...]


class Stage:
    """What all clips are made from: the photograph, its levels in 32..223, and the window of it that stands still.

    Args:
        photo: uint8 [height, width, 3] RGB.
        count: frames of each clip, 5 to 32.

    Raises:
        MetricError: a photograph that is too small, or a number of frames that is not allowed.

    Example:
        >>> Stage(photo, 25).pan.shape
        (25, 96, 128, 3)
    """

    def __init__(self, photo: np.ndarray, count: int) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or not FEWEST <= count <= MOST:
            raise MetricError(f"frames = {count!r}: a whole number from {FEWEST} to {MOST} is allowed.")
        height, width = photo.shape[:2]
        wide, high = WIDTH + 2 * SPEED * (count - 1), int(np.hypot(WIDTH, HEIGHT)) + 2
        if height < high or width < wide:
            raise MetricError(
                f"photo is {width}x{height} px: at least {wide}x{high} are needed for {count} frames, since the "
                "camera moves over it. Take a larger picture, or fewer frames."
            )
        self.photo = np.rint(32 + photo.astype(np.float64) * (191 / 255)).astype(np.uint8)
        self.count = count
        self.times = np.arange(count)
        self.left, self.top = (width - WIDTH) // 2, (height - HEIGHT) // 2

    def window(self, x: int, y: int) -> np.ndarray:
        """What a camera at (x, y), px from the left and top of the photograph, sees."""
        return self.photo[y : y + HEIGHT, x : x + WIDTH]

    @cached_property
    def still(self) -> np.ndarray:
        """The middle of the photograph in every frame."""
        return np.stack([self.window(self.left, self.top)] * self.count)

    @cached_property
    def pan(self) -> np.ndarray:
        """The camera going `SPEED` px a frame to the right."""
        return np.stack([self.window(self.left + SPEED * int(t), self.top) for t in self.times])

    @cached_property
    def noise(self) -> np.ndarray:
        """Normal noise of `SIGMA` levels, float64 like the frames."""
        return np.random.default_rng(SEED).normal(0, SIGMA, self.still.shape)

    @cached_property
    def order(self) -> np.ndarray:
        """A random order of the frames."""
        return np.random.default_rng(SEED).permutation(self.count)

    @cached_property
    def disc(self) -> np.ndarray:
        """Where the disc covers the frame, bool [frames, height, width]: it goes to the right, through the middle."""
        y, x = np.indices((HEIGHT, WIDTH))
        middle = WIDTH // 2 + SPEED * (self.times - self.count // 2)
        return (x - middle[:, None, None]) ** 2 + (y - HEIGHT // 2) ** 2 <= RADIUS**2

    def with_disc(self, behind: np.ndarray) -> np.ndarray:
        """`behind` [frames, ...] and before it a disc cut out of the corner of the photograph."""
        out = behind.copy()
        for t, mask in enumerate(self.disc):
            y, x = np.nonzero(mask)
            out[t, y, x] = self.photo[y - y.min(), x - x.min()]
        return out

    def seen(self, matrix: np.ndarray) -> np.ndarray:
        """The window through which a point p, counted from its middle, shows the photograph at `matrix` p."""
        import cv2

        own = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
        whole = np.column_stack([matrix, own + np.array([self.left, self.top]) - matrix @ own])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self.photo, whole, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT)

    def clip(
        self,
        name: str,
        truth: str,
        frames: np.ndarray,
        *expectations: Expectation,
        reference: np.ndarray | None = None,
        **facts: float,
    ) -> KnownClip:
        """A clip of this stage, with what is known about it; the reference is the frozen clip unless given."""
        return KnownClip(
            name=name,
            frames=frames,
            image=self.still[0],
            reference=self.still if reference is None else reference,
            truth=truth,
            facts=MappingProxyType(facts),
            expectations=expectations,
        )

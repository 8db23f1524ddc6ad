"""FramePlayer: one clip or many, played in lockstep from one clock, compared frame by frame."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets

from svdlab.clip import Clip
from svdlab.errors import WidgetError
from svdlab.widgets.bundle import css, esm
from svdlab.widgets.curves import Curves, read_curves
from svdlab.widgets.display import StaticDisplay
from svdlab.widgets.labels import read_clips

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = ("side", "wipe", "blend", "ab")
MIN_SPEED, MAX_SPEED = 0.1, 8.0
MIN_HEIGHT, MAX_HEIGHT = 16, 2160
STATIC_FRAMES = 6  # of each clip, on the picture that stands for several
MANY_ROWS = 6  # more clips than these are shown smaller there, since the picture goes into a notebook


class FramePlayer(StaticDisplay, anywidget.AnyWidget):
    """Plays clips in lockstep, frame by frame, and shows metrics under the scrubber.

    Clips may differ in size, length and fps: all show the same frame number, and a shorter one stays on its last frame.
    The first clip's fps is the speed of the clock. Frames count from 0.

    Args:
        clips: a Clip, a list of them, or a dict label -> Clip.
        labels: one text a clip; unless given, what tells the clips' settings apart.
        metrics: curves to choose from: a dict name -> one list of per-frame values a clip (NaN or None where there is
            none; for a single clip its list alone will do), or ``"auto"`` for those of
            `svdlab.metrics.per_frame.per_frame_metrics`.
        mode: ``"side"`` (side by side), ``"wipe"`` (a divider between two), ``"blend"`` (their difference) or ``"ab"``
            (one in the other's place).
        speed: 0.1 to 8 times the clock's fps.
        loop: begin again at the end.
        autoplay: play as soon as it is shown.
        height: of every video on the page, in pixels, 16 to 2160; None chooses by size and number.

    Attributes:
        frame: the current frame; follows the page and leads it. While playing the page tells of some frames only.
        playing, speed, loop, mode, labels, height: as above, both ways.
        pair: the two clips that a comparing mode uses, (A, B), by position.
        wipe: where the divider stands, 0 (left, all B) to 1 (right, all A).
        overlay: name of the metric that is shown, or None.

    Raises:
        WidgetError: no clips, something else than clips, labels or values that do not fit them, or a setting out of
            bounds; also when it is set later.
        traitlets.TraitError: a setting of the wrong type.
        VideoError: a frame size that mp4 cannot hold (an odd one).

    Example:
        >>> player = FramePlayer({"4 steps": few, "25 steps": many}, metrics="auto", mode="wipe")
        >>> player.seek(12)
        >>> player
        FramePlayer(2 clips, 25 frames, mode='wipe')
    """

    _esm = esm("dom.js", "clock.js", "chart.js", "stage.js", "player.js")
    _css = css("controls.css", "player.css")

    _clips = traitlets.List(traitlets.Dict()).tag(sync=True)
    _curves = traitlets.Dict().tag(sync=True)
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Float(1.0).tag(sync=True)
    loop = traitlets.Bool(True).tag(sync=True)
    mode = traitlets.Unicode("side").tag(sync=True)
    pair = traitlets.Tuple(traitlets.Int(), traitlets.Int(), default_value=(0, 0)).tag(sync=True)
    wipe = traitlets.Float(0.5).tag(sync=True)
    overlay = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    height = traitlets.Int(None, allow_none=True).tag(sync=True)

    def __init__(
        self,
        clips: Clip | Sequence[Clip] | Mapping[str, Clip],
        *,
        labels: Sequence[str] | None = None,
        metrics: Mapping[str, Any] | str | None = None,
        mode: str = "side",
        speed: float = 1.0,
        loop: bool = True,
        autoplay: bool = False,
        height: int | None = None,
    ) -> None:
        state = self._prepare(clips, labels, metrics)
        super().__init__(mode=mode, speed=speed, loop=loop, playing=autoplay, height=height, **state)

    # ------------------------------------------------------------ what it holds

    @property
    def clips(self) -> tuple[Clip, ...]:
        """The clips that are shown."""
        return self._shown

    @property
    def frames(self) -> int:
        """How many frames the longest clip has."""
        return max(len(clip) for clip in self._shown)

    @property
    def metrics(self) -> Curves:
        """The curves that can be shown: name -> one list of per-frame values a clip, None where there is none."""
        return {name: curve["values"] for name, curve in self._curves.items()}

    def set_clips(
        self,
        clips: Clip | Sequence[Clip] | Mapping[str, Clip],
        *,
        labels: Sequence[str] | None = None,
        metrics: Mapping[str, Any] | str | None = None,
    ) -> None:
        """Show other clips in place of these, with their own labels and metrics; arguments as for the class.

        The frame, the pair, the mode and the overlay stay where the new clips have them; else they go back to the last
        frame, the first two clips, side by side, and the first metric.

        Raises:
            WidgetError, VideoError: as for the class; what was shown stays.

        Example:
            >>> player.set_clips([clip], metrics="auto")
        """
        shown, state = self._shown, self._prepare(clips, labels, metrics)
        many = len(self._shown) > 1
        state["frame"] = min(self.frame, self.frames - 1)
        state["mode"] = self.mode if many else "side"
        if many and len(shown) > 1 and max(self.pair) < len(self._shown):
            state["pair"] = self.pair
        if self.overlay in state["_curves"]:
            state["overlay"] = self.overlay
        with self.hold_sync(), self.hold_trait_notifications():
            for name, value in state.items():
                setattr(self, name, value)

    # ------------------------------------------------------------ what it does, with or without a browser

    def play(self) -> None:
        """Play, from the frame where it stands."""
        self.playing = True

    def pause(self) -> None:
        """Stop on the current frame."""
        self.playing = False

    def seek(self, frame: int) -> None:
        """Go to `frame`, 0 to `frames` - 1.

        Raises:
            WidgetError: there is no such frame.

        Example:
            >>> player.seek(player.frames - 1)
        """
        self.frame = _whole("frame", frame)

    def step(self, delta: int = 1) -> None:
        """Pause and move by `delta` frames: around the ends where it loops, else as far as they.

        Raises:
            WidgetError: `delta` is not a whole number.

        Example:
            >>> player.step(-1)
        """
        goal = self.frame + _whole("delta", delta)
        self.pause()
        self.frame = goal % self.frames if self.loop else min(max(goal, 0), self.frames - 1)

    def static_picture(self) -> Image:
        """The picture that stands for the player in a notebook that is kept: a contact sheet, or a row a clip."""
        from svdlab.montage import montage_picture

        if len(self._shown) == 1:
            return self._shown[0].contact_sheet()
        picked = [round(part * (self.frames - 1)) for part in np.linspace(0, 1, min(STATIC_FRAMES, self.frames))]
        rows = [[clip.frames[min(frame, len(clip) - 1)] for frame in picked] for clip in self._shown]
        height = 128 if len(rows) <= MANY_ROWS else 64
        frames = [f"frame {frame}" for frame in picked]
        return montage_picture(rows, row_labels=self.labels, column_labels=frames, cell_height=height)

    def __repr__(self) -> str:
        clips, frames = len(self._shown), self.frames
        counts = f"{clips} clip{'s' if clips > 1 else ''}, {frames} frame{'s' if frames > 1 else ''}"
        return f"FramePlayer({counts}, mode={self.mode!r})"

    # ------------------------------------------------------------ checks

    @traitlets.validate("labels")
    def _check_labels(self, proposal: Any) -> list[str]:
        labels = proposal["value"]
        if len(labels) != len(self._clips):
            raise WidgetError(f"labels = {labels!r}: got {len(labels)}, wanted {len(self._clips)}, one a clip.")
        return labels

    @traitlets.validate("frame")
    def _check_frame(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < self.frames:
            last = self.frames - 1
            raise WidgetError(f"frame = {proposal['value']}: must be 0 to {last}, the last frame of the longest clip.")
        return proposal["value"]

    @traitlets.validate("mode")
    def _check_mode(self, proposal: Any) -> str:
        mode = proposal["value"]
        if mode not in MODES:
            raise WidgetError(f"mode = {mode!r}: must be one of {', '.join(MODES)}.")
        if mode != "side" and len(self._clips) < 2:
            raise WidgetError(f"mode = {mode!r} compares two clips, and there is one; give another, or use 'side'.")
        return mode

    @traitlets.validate("pair")
    def _check_pair(self, proposal: Any) -> tuple[int, int]:
        pair, count = proposal["value"], len(self._clips)
        if count == 1 and pair != (0, 0):
            raise WidgetError(f"pair = {pair!r}: there is one clip, so nothing to compare; it stays (0, 0).")
        if count > 1 and (pair[0] == pair[1] or not all(0 <= index < count for index in pair)):
            raise WidgetError(f"pair = {pair!r}: must be two different clips, each 0 to {count - 1}.")
        return pair

    @traitlets.validate("overlay")
    def _check_overlay(self, proposal: Any) -> str | None:
        name = proposal["value"]
        if name is not None and name not in self._curves:
            known = ", ".join(self._curves) or "none: pass metrics=... or metrics='auto'"
            raise WidgetError(f"overlay = {name!r}: must be None or one of the metrics that were given ({known}).")
        return name

    @traitlets.validate("speed", "wipe", "height")
    def _check_number(self, proposal: Any) -> float | None:
        name, value = proposal["trait"].name, proposal["value"]
        bounds = {"speed": (MIN_SPEED, MAX_SPEED), "wipe": (0.0, 1.0), "height": (MIN_HEIGHT, MAX_HEIGHT)}
        low, high = bounds[name]
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise WidgetError(f"{name} = {value!r}: must be {low:g} to {high:g}.")
        return value

    def _prepare(self, clips: Any, labels: Any, metrics: Any) -> dict[str, Any]:
        """Check what is to be shown, keep the clips, and give the traits that show them."""
        shown, names = read_clips(clips, labels)
        curves = read_curves(metrics, shown)
        videos = [_packed(clip) for clip in shown]
        self._shown = shown
        return {
            "_clips": videos,
            "_curves": curves,
            "labels": names,
            "pair": (0, min(1, len(shown) - 1)),
            "overlay": next(iter(curves), None),
        }


def _packed(clip: Clip) -> dict[str, Any]:
    """A clip as the page takes it; the bytes travel as they are, not as text."""
    frames, height, width, _ = clip.frames.shape
    return {"video": clip.to_mp4(), "frames": frames, "fps": float(clip.fps), "width": width, "height": height}


def _whole(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise WidgetError(f"{name} = {value!r}: must be a whole number of frames.") from None

"""Frames strip: a clip as a row of its frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from svdlab.clip import Clip
from svdlab.errors import ViewError
from svdlab.plot.clips import named_clips
from svdlab.plot.labels import escape
from svdlab.plot.style import canvas

MOST_COLUMNS = 8
GAP = 0.03  # between frames, in widths of a frame
STRIP_WIDTH = 9.6  # inches
PIXELS = 300  # width at which large frames are kept: enough for print at this size


def frames(
    clips: Clip | Iterable[Clip] | Mapping[str, Clip],
    *,
    labels: Sequence[str] | None = None,
    every: int | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Frames of one or more clips, a row for each, with the number and the time of the frames above.

    Args:
        clips: a clip, several, or a dict of label -> clip. A shorter clip leaves its last places empty.
        labels: names of the rows; by default the settings in which the clips differ.
        every: show frames 0, `every`, 2 `every`, ...; None chooses so that at most 8 are shown, of 25 every fourth.
        ax: draw into these axes.

    Times are those of playback; if the clips have different fps, only frame numbers are written.

    Raises:
        ViewError: no clips, something else than clips, labels that do not fit, or `every` below 1.

    Example:
        >>> frames([pipe("rocket.jpg", steps=n, seed=1) for n in (1, 2, 4, 8)])
    """
    named = named_clips(clips, labels)
    longest = max(len(clip) for clip in named.values())
    if every is None:
        every = max(1, -(-(longest - 1) // (MOST_COLUMNS - 1)))
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ViewError(f"every = {every!r}: must be a whole number of frames, 1 or more, or None.")
    shown = range(0, longest, every)
    heights = [clip.frames.shape[1] / clip.frames.shape[2] for clip in named.values()]
    total = sum(heights) + GAP * (len(heights) - 1)
    across = len(shown) * (1 + GAP) - GAP
    width = min(STRIP_WIDTH, 1.9 * len(shown))
    longest_label = max(len(label) for label in named)
    with canvas(ax, (width + 0.3 + 0.08 * longest_label, width * total / across + 0.6)) as (figure, axes):
        middles = _draw(axes, list(named.values()), heights, shown)
        axes.set(xlim=(0, across), ylim=(total, 0), aspect="equal")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.xaxis.tick_top()
        axes.set_xticks([i * (1 + GAP) + 0.5 for i in range(len(shown))], _times(shown, list(named.values())))
        axes.set_yticks(middles, [escape(label) for label in named])
    return figure


def _draw(axes: Axes, clips: Sequence[Clip], heights: Sequence[float], shown: Sequence[int]) -> list[float]:
    """Put the frames in place; returns the middle of each row."""
    top, middles = 0.0, []
    for clip, height in zip(clips, heights, strict=True):
        for i, number in enumerate(shown):
            if number < len(clip):
                left = i * (1 + GAP)
                picture, how = _sized(clip.frames[number])
                axes.imshow(picture, extent=(left, left + 1, top + height, top), interpolation=how)
        middles.append(top + height / 2)
        top += height + GAP
    return middles


def _sized(frame: np.ndarray) -> tuple[np.ndarray, str]:
    """A frame no larger than it is printed, and how it is to be enlarged: small ones keep their pixels visible."""
    height, width = frame.shape[:2]
    if width <= PIXELS:
        return frame, "nearest"
    size = (PIXELS, max(1, round(height * PIXELS / width)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)), "antialiased"


def _times(shown: Sequence[int], clips: Sequence[Any]) -> list[str]:
    rates = {clip.fps for clip in clips}
    if len(rates) > 1:
        return [str(number) for number in shown]
    (fps,) = rates
    return [f"{number}\n{number / fps:.2g} s" if number else "frame 0\n0 s" for number in shown]

"""Per-frame curves: where in a clip it moves, flickers or departs from its picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from svdlab.clip import Clip
from svdlab.errors import ViewError
from svdlab.metrics.per_frame import per_frame_metrics
from svdlab.plot.clips import named_clips
from svdlab.plot.labels import axis_label, escape
from svdlab.plot.style import canvas, looks, panels

DEFAULT = ("flow_mean", "warp_error")  # motion beside consistency

Scores = Mapping[str, Any]


def per_frame(
    clips: Clip | Iterable[Clip] | Mapping[str, Clip] | Scores | Mapping[str, Scores],
    metrics: str | Sequence[str] | None = None,
    *,
    labels: Sequence[str] | None = None,
    fps: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Metrics frame by frame: a panel for each metric, a line for each clip.

    Args:
        clips: clips as for `frames`; or what `svdlab.metrics.per_frame.per_frame_metrics` returns, for one clip or by
            name, which saves measuring again.
        metrics: names of metrics that have a curve. None takes `flow_mean` and `warp_error`; of given scores, all.
        labels: names of the lines; by default the settings in which the clips differ.
        fps: frames a second, for the axis of seconds; None takes that of the clips, if it is the same for all.
        ax: draw into these axes, in their own style; for a single metric.

    A value that compares two neighbouring frames stands at the later one.

    Raises:
        ViewError: clips or labels that do not fit, or a metric that the scores do not hold.
        MetricError: a metric is unknown, has no curve, or cannot be computed for a clip.

    Example:
        >>> per_frame({"4 steps": four, "8 steps": eight}, ["flow_mean", "psnr_input"])
    """
    names = [metrics] if isinstance(metrics, str) else None if metrics is None else list(metrics)
    if names == []:
        raise ViewError("metrics = []: name at least one.")
    scores, own_fps = _scores(clips, names, labels)
    names = names or list(next(iter(scores.values())))
    _check(scores, names)
    fps = fps if fps is not None else own_fps
    named = len(scores) > 1
    if ax is not None and len(names) > 1:
        raise ViewError(f"ax: {len(names)} metrics do not fit into one panel; leave ax out, or call once for each.")
    if len(names) == 1:
        with canvas(ax, (6.4, 3.0)) as (figure, axes):
            _panel(axes, scores, names[0], last=True)
            _seconds(axes, fps)
            _legend(axes, named, None if ax is not None else figure)
        return figure
    with panels(len(names), 1, (6.6, 2.0 * len(names) + 0.7), sharex=True) as (figure, array):
        for axes, name in zip(array[:, 0], names, strict=True):
            _panel(axes, scores, name, last=name == names[-1])
        _seconds(array[0, 0], fps)
        _legend(array[0, 0], named, figure)
    return figure


def _scores(
    clips: Any, names: list[str] | None, labels: Sequence[str] | None
) -> tuple[dict[str, dict[str, np.ndarray]], float | None]:
    """Label -> metric -> curve, and the fps that all clips share."""
    if isinstance(clips, Mapping) and clips and not isinstance(next(iter(clips.values())), Clip):
        if labels is not None:
            raise ViewError("labels: scores are named by a dict of label -> scores; leave labels out.")
        nested = isinstance(next(iter(clips.values())), Mapping)
        given = clips if nested else {"": clips}
        return {
            str(label): {str(name): np.asarray(curve, dtype=float) for name, curve in of.items()}
            for label, of in given.items()
        }, None
    found = named_clips(clips, labels)
    rates = {clip.fps for clip in found.values()}
    measured = {label: per_frame_metrics(clip, names or DEFAULT) for label, clip in found.items()}
    return measured, rates.pop() if len(rates) == 1 else None


def _check(scores: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str]) -> None:
    for label, of in scores.items():
        whose = f" of {label!r}" if label else ""
        for name in names:
            if name not in of:
                raise ViewError(f"metrics: the scores{whose} hold no {name!r}; they hold {', '.join(of) or 'nothing'}.")
            if of[name].ndim != 1 or of[name].size == 0:
                raise ViewError(f"{name}{whose}: must be a list of numbers, one a frame; got {list(of[name].shape)}.")


def _panel(axes: Axes, scores: Mapping[str, Mapping[str, np.ndarray]], name: str, *, last: bool) -> None:
    for (label, of), look in zip(scores.items(), looks(list(scores)), strict=True):
        axes.plot(np.arange(len(of[name])), of[name], label=escape(label), markersize=3.5, **look)
    axes.set_ylabel(axis_label(name).replace(" (", "\n("))
    axes.set_xlim(-0.5, max(len(of[name]) for of in scores.values()) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=13, steps=[1, 2, 4, 5, 10]))
    if last:
        axes.set_xlabel("frame")


def _seconds(axes: Axes, fps: float | None) -> None:
    """A second axis above, in seconds of playback."""
    if fps is None:
        return
    rate = fps

    def second_of(frame: Any) -> Any:
        return np.asarray(frame) / rate

    def frame_of(second: Any) -> Any:
        return np.asarray(second) * rate

    above = axes.secondary_xaxis("top", functions=(second_of, frame_of))
    above.set_xlabel(f"seconds at {fps:g} fps")
    above.tick_params(length=2)
    above.grid(False)
    above.set_zorder(3)  # over the grid


def _legend(axes: Axes, named: bool, outside: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if not named:
        return
    if outside is None:
        axes.legend()
    else:
        outside.legend(handles, labels, loc="outside lower left", ncols=min(4, len(handles)))

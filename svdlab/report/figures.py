"""Figures: the plots of a report, each drawn if the sweep has what it needs, or left out with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import SvdlabError

if TYPE_CHECKING:
    import pandas as pd

DPI = 144  # sharp on fine screens and on paper
MOST_METRICS = 4
MOST_PANELS = 3  # side by side
MOST_LINES = 8  # values of an axis that are told apart as lines, or as panels
# Motion first, then consistency: each says little without the other.
TELLING = ("flow_mean", "warp_error", "lpips_input", "ssim_input", "flicker", "clip_temporal")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plot: where it lies, relative to the report, or why it does not; `wide`: it wants the width of the page."""

    caption: str
    path: str | None = None
    reason: str | None = None
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """A plot that is to be drawn, or (`draw` is None) the reason why not."""

    name: str
    caption: str
    draw: Callable[[], Any] | None = None
    reason: str | None = None
    wide: bool = False


def draw_figures(
    frame: pd.DataFrame, axes: Mapping[str, Sequence[Any]], metrics: Sequence[str], folder: Path
) -> list[Figure]:
    """Draw what can be drawn of a frame into `folder`, which is made: heat maps, responses, and the trade-off.

    Args:
        frame: as `Sweep.frame` gives it.
        axes: those of the sweep.
        metrics: names of its metrics, in its order.
        folder: where to; the figures' paths begin with its name.
    """
    folder.mkdir()
    figures = []
    for planned in _plan(frame, axes, metrics):
        if planned.draw is None:
            figures.append(Figure(caption=planned.caption, reason=planned.reason))
            continue
        path = folder / f"{planned.name}.png"
        try:
            planned.draw().savefig(path, dpi=DPI)
        except SvdlabError as error:
            figures.append(Figure(caption=planned.caption, reason=str(error)))
        else:
            figures.append(Figure(caption=planned.caption, path=f"{folder.name}/{path.name}", wide=planned.wide))
    return figures


def _plan(frame: pd.DataFrame, axes: Mapping[str, Sequence[Any]], metrics: Sequence[str]) -> Iterator[_Planned]:
    """The plots that say most about this sweep; those with most values across."""
    varied = [name for name in axes if len(axes[name]) > 1 and name not in ("image", "seed")]
    varied.sort(key=lambda name: -len(axes[name]))
    chosen = [name for name in TELLING if name in metrics] + [name for name in metrics if name not in TELLING]
    chosen = [name for name in chosen if frame[name].notna().any()][:MOST_METRICS]
    if not chosen:
        yield _Planned(name="none", caption="All plots", reason="no cell has a metric to be drawn yet.")
        return
    yield from _heatmaps(frame, axes, varied, chosen)
    yield from _responses(frame, axes, varied, chosen)
    yield _tradeoff(frame, axes, varied, chosen)


def _heatmaps(
    frame: pd.DataFrame, axes: Mapping[str, Sequence[Any]], varied: Sequence[str], chosen: Sequence[str]
) -> Iterator[_Planned]:
    from svdlab.plot.heatmap import heatmap

    if len(varied) < 2:
        had = f"only {varied[0]} does" if varied else "none does"
        yield _Planned(name="heat", caption="Heat maps", reason=f"they need two settings that vary; here {had}.")
        return
    x, y, *rest = varied
    col = next((name for name in rest if len(axes[name]) <= MOST_LINES), None)
    for value in chosen:
        yield _Planned(
            name=f"heat-{value}",
            caption=f"{value} over {x} and {y}{f', a panel for each value of {col}' if col else ''}",
            draw=partial(heatmap, frame, x, y, value, col=col),
        )


def _responses(
    frame: pd.DataFrame, axes: Mapping[str, Sequence[Any]], varied: Sequence[str], chosen: Sequence[str]
) -> Iterator[_Planned]:
    from svdlab.plot.curves import response

    if not varied:
        reason = "they need a setting that varies; here only pictures and seeds do, if anything."
        yield _Planned(name="response", caption="Responses", reason=reason)
    values = list(chosen[:MOST_PANELS])
    for x in varied:
        by = next((name for name in _lines(varied) if name != x and len(axes[name]) <= MOST_LINES), None)
        yield _Planned(
            name=f"response-{x}",
            caption=f"{', '.join(values)} against {x}{f', a line for each value of {by}' if by else ''}",
            draw=partial(response, frame, x, values, by=by),
            wide=len(values) > 1,
        )


def _tradeoff(
    frame: pd.DataFrame, axes: Mapping[str, Sequence[Any]], varied: Sequence[str], chosen: Sequence[str]
) -> _Planned:
    from svdlab.plot.tradeoff import tradeoff

    name, caption = "tradeoff", "Trade-off between motion and consistency"
    y = next((metric for metric in ("warp_error", "lpips_input") if metric in chosen), None)
    if "flow_mean" not in chosen or y is None:
        return _Planned(name=name, caption=caption, reason="it needs flow_mean, and warp_error or lpips_input.")
    if not varied:
        return _Planned(name=name, caption=caption, reason="it needs a setting that varies.")
    point = "motion_bucket_id" if "motion_bucket_id" in varied else varied[0]
    line = next((axis for axis in _lines(varied) if axis != point and len(axes[axis]) <= MOST_LINES), None)
    caption += f": {y} against flow_mean, a point for each value of {point}"
    return _Planned(
        name=name,
        caption=caption + (f", a line for each value of {line}" if line else ""),
        draw=partial(tradeoff, frame, "flow_mean", y, line=line, point=point),
    )


def _lines(varied: Sequence[str]) -> list[str]:
    """Which axis to tell apart as lines: the number of steps if it varies, since that is what is usually asked."""
    return sorted(varied, key=lambda name: name != "steps")

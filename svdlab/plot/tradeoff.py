"""Trade-off: consistency against motion, since a frozen clip is perfectly consistent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svdlab.plot.curves import legend
from svdlab.plot.labels import axis_label, escape, show, write_note
from svdlab.plot.stats import PAIR, Band, Curve, check_band, curves_of, units_of, words_band
from svdlab.plot.style import CATEGORIES, canvas, darker, looks
from svdlab.plot.table import read_table, words_left_out, words_spread
from svdlab.stats.design import levels_of

if TYPE_CHECKING:
    from svdlab.sweep import Sweep


def tradeoff(
    df: pd.DataFrame | Sweep,
    x: str = "flow_mean",
    y: str = "warp_error",
    *,
    line: str | None = "steps",
    point: str = "motion_bucket_id",
    band: Band | None = None,
    pair: Sequence[str] = PAIR,
    ax: Axes | None = None,
) -> Figure:
    """Two metrics against each other: a line for each value of `line`, along it a point for each value of `point`.

    The line runs through the values of `point` in rising order; its ends are labelled with them, and an arrow shows the
    way. By default: what asking for more motion costs in consistency, for each number of steps.

    Args:
        df: as for `heatmap`.
        x, y: numeric columns; motion belongs on one of them.
        line: column whose values get lines of their own, or None for one line.
        point: column whose values are the points of a line.
        band: ``"ci95"``, ``"sd"`` or ``"minmax"``: draws the spread of both metrics as a cross (see `response`).
        pair: columns that make a unit of repetition (see `response`).
        ax: draw into these axes, in their own style.

    Raises:
        ViewError: as for `heatmap`, or `band` is unknown.

    Example:
        >>> tradeoff(df, y="lpips_input", band="ci95")
    """
    check_band(band)
    table = read_table(df, axes={"line": line, "point": point}, values={"x": x, "y": y}).having(x, y)
    pair = units_of(table, pair, (line, point))
    options: dict[str, Any] = {"x": point, "by": line, "pair": pair, "band": band}
    across, up = curves_of(table, value=x, **options), curves_of(table, value=y, **options)
    levels = levels_of(table.everything[line]) if line else [None]
    look = looks(levels) if line else [{"color": CATEGORIES[0], "marker": "o", "linestyle": "-"}]
    with canvas(ax, (5.8 if line else 4.8, 3.9)) as (figure, axes):
        for horizontal, vertical in zip(across, up, strict=True):
            _line(axes, horizontal, vertical, look[levels.index(horizontal.level)], named=line is not None)
        axes.margins(0.12)
        for horizontal, vertical in zip(across, up, strict=True):
            _label_ends(axes, horizontal, vertical, look[levels.index(horizontal.level)]["color"])
        axes.set_xlabel(axis_label(x))
        axes.set_ylabel(axis_label(y))
        parts = [
            f"points: {escape(point)}, rising along the arrow",
            words_spread([table], [line, point], each="point"),
            words_band(band, up, table, pair).replace("band:", "crosses:"),
            words_left_out([table]),
        ]
        write_note(figure, ax, parts)
        legend(axes, line, outside=None if ax is not None else figure)
    return figure


def _line(axes: Axes, across: Curve, up: Curve, look: dict[str, Any], *, named: bool) -> None:
    spread: dict[str, Any] = {"xerr": _reach(across), "yerr": _reach(up)} if np.isfinite(up.low).any() else {}
    axes.errorbar(
        across.mean, up.mean, label=show(across.level) if named else None, elinewidth=0.8, capsize=2, **spread, **look
    )
    if len(across.mean) > 1:
        tail, tip = (np.array([across.mean[i], up.mean[i]]) for i in (-2, -1))
        head = {"arrowstyle": "-|>", "color": look["color"], "linewidth": 0, "mutation_scale": 14, "shrinkA": 0}
        axes.annotate("", xy=tuple(tail + 0.62 * (tip - tail)), xytext=tuple(tail), arrowprops=head)


def _reach(curve: Curve) -> np.ndarray:
    return np.nan_to_num(np.stack([curve.mean - curve.low, curve.high - curve.mean]))


def _label_ends(axes: Axes, across: Curve, up: Curve, colour: Any) -> None:
    """The first and the last value of a line, beyond its ends."""
    at = axes.transData.transform(np.column_stack([across.mean, up.mean]))
    ends = [(0, 1), (-1, -2)] if len(at) > 1 else [(0, 0)]
    for end, beside in ends:
        way = at[end] - at[beside]
        length = float(np.hypot(*way))
        text = show(across.x[end])
        offset = (way / length if length else np.array([0.0, 1.0])) * np.array([7 + 2.6 * len(text), 11])  # points
        axes.annotate(
            text, (across.mean[end], up.mean[end]), xytext=tuple(offset), textcoords="offset points",
            ha="center", va="center", fontsize=8, color=darker(colour),
        )  # fmt: skip

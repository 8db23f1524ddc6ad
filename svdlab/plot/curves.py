"""Response curves: what a setting does to a metric, with the spread over repeated runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from svdlab.errors import ViewError
from svdlab.plot.labels import axis_label, escape, show, write_note
from svdlab.plot.stats import PAIR, Band, Curve, check_band, curves_of, units_of, words_band
from svdlab.plot.style import CATEGORIES, canvas, looks, panels
from svdlab.plot.table import Table, read_table, words_left_out, words_spread
from svdlab.stats.design import is_number, levels_of

if TYPE_CHECKING:
    from svdlab.sweep import Sweep

MOST_TICKS = 10


def response(
    df: pd.DataFrame | Sweep,
    x: str,
    values: str | Sequence[str],
    *,
    by: str | None = None,
    band: Band | None = "ci95",
    pair: Sequence[str] = PAIR,
    individuals: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """One or more metrics against a setting: the mean over repeated runs, with a band, a line for each value of `by`.

    The unit of repetition is a combination of the `pair` columns, by default a picture with a seed. What else varies is
    averaged within a unit first, and is named above the plot. Noise depends on the seed alone, so a unit is the same
    experiment at every place of a curve: differences along it are paired, and surer than the bands suggest.

    Bands: ``ci95`` is the 95 % t-interval of the mean at that place, the same that `svdlab.stats` gives: units that
    share a picture or a seed count as related (`svdlab.stats.intervals.clustered_mean`), and the words above the plot
    say whom it speaks about, such as new pictures and new seeds. It is wide with two pictures, which say little about
    others; ``pair=("seed",)`` averages the pictures of a seed first and speaks about new seeds of these pictures.
    ``sd`` is m ± s, ``minmax`` the whole range. A place with a single unit has no band.

    Args:
        df: as for `heatmap`.
        x: the setting; a numeric axis becomes logarithmic if its values are spread more evenly that way. Names stand
            side by side, with error bars in place of bands.
        values: a metric, or several, each with a panel of its own.
        by: a column whose values are drawn as lines of their own.
        band: ``"ci95"``, ``"sd"``, ``"minmax"`` or None.
        pair: columns that make a unit of repetition.
        individuals: draw every unit as a thin line too.
        ax: draw into these axes, in their own style; for a single metric.

    Raises:
        ViewError: as for `heatmap`, or `band` is unknown.

    Example:
        >>> response(df, "motion_bucket_id", ["flow_mean", "warp_error"], by="steps")
    """
    check_band(band)
    names = [values] if isinstance(values, str) else list(values)
    if not names:
        raise ViewError("values = []: name at least one metric.")
    if ax is not None and len(names) > 1:
        raise ViewError(f"ax: {len(names)} metrics do not fit into one panel; leave ax out, or call once for each.")
    table = read_table(df, axes={"x": x, "by": by}, values={f"values[{i}]": name for i, name in enumerate(names)})
    pair = units_of(table, pair, (x, by))
    tables = [table.having(name) for name in names]
    curves = [
        curves_of(at, x=x, value=name, by=by, pair=pair, band=band) for at, name in zip(tables, names, strict=True)
    ]
    notes = [
        words_spread(tables, [x, by], each="point"),
        words_band(band, [line for lines in curves for line in lines], table, pair),
        "thin lines: single runs" if individuals else "",
        words_left_out(tables),
    ]
    if len(names) == 1:
        with canvas(ax, (5.6 if by else 4.8, 3.5)) as (figure, axes):
            _panel(axes, tables[0], x, names[0], curves[0], by=by, individuals=individuals)
            write_note(figure, ax, notes)
            legend(axes, by, outside=None if ax is not None else figure)
        return figure
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    with panels(rows, columns, (3.5 * columns + (1.1 if by else 0), 3.2 * rows)) as (figure, array):
        for axes, at, name, lines in zip(array.flat, tables, names, curves, strict=False):
            _panel(axes, at, x, name, lines, by=by, individuals=individuals)
        for axes in array.flat[len(names) :]:
            axes.set_visible(False)
        write_note(figure, None, notes)
        legend(array.flat[0], by, outside=figure)
    return figure


def _panel(
    axes: Axes, table: Table, x: str, value: str, curves: Sequence[Curve], *, by: str | None, individuals: bool
) -> None:
    draw_curves(axes, table, x, curves, by=by, individuals=individuals)
    axes.set_xlabel(axis_label(x))
    axes.set_ylabel(axis_label(value))


def draw_curves(
    axes: Axes, table: Table, x: str, curves: Sequence[Curve], *, by: str | None, individuals: bool = False
) -> None:
    """Draw lines with their bands, and set up the x axis for the values of the column `x`."""
    column = table.everything[x]
    places = levels_of(column)
    every = levels_of(table.everything[by]) if by else [None]
    look = looks(every) if by else [{"color": CATEGORIES[0], "marker": "o", "linestyle": "-"}]
    for curve in curves:
        index = every.index(curve.level)
        label = show(curve.level) if by else None
        if is_number(column):
            _line(axes, curve, look[index], label, individuals=individuals)
        else:
            shift = 0.12 * (index - (len(every) - 1) / 2)
            at = np.array([places.index(level) for level in curve.x]) + shift
            _bars(axes, curve, at, look[index], label, individuals=individuals)
    set_scale(axes, column)


def _line(axes: Axes, curve: Curve, look: dict[str, Any], label: str | None, *, individuals: bool) -> None:
    if individuals:
        axes.plot(curve.x, curve.units.to_numpy(), color=look["color"], linewidth=0.6, alpha=0.6)
    banded = np.isfinite(curve.low)
    if banded.any():
        axes.fill_between(
            curve.x, curve.low, curve.high, where=banded, color=look["color"], alpha=0.16, linewidth=0
        )  # fmt: skip
    axes.plot(curve.x, curve.mean, label=label, **look)


def _bars(
    axes: Axes, curve: Curve, at: np.ndarray, look: dict[str, Any], label: str | None, *, individuals: bool
) -> None:
    if individuals:
        axes.plot(at, curve.units.to_numpy(), color=look["color"], linewidth=0.6, alpha=0.6)
    reach = np.nan_to_num(np.stack([curve.mean - curve.low, curve.high - curve.mean]))
    axes.errorbar(
        at, curve.mean, yerr=reach, label=label, linestyle="none", capsize=3, color=look["color"], marker=look["marker"]
    )


def set_scale(axes: Axes, column: pd.Series) -> None:
    """Ticks at the values of a column; logarithmic if they are spread more evenly that way, as 1, 2, 4, 8 are."""
    places = levels_of(column)
    if not is_number(column):
        axes.set_xticks(range(len(places)), [show(level) for level in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
        axes.grid(False, axis="x")
        if max(len(show(level)) for level in places) > 12:
            axes.tick_params(axis="x", labelrotation=30)
        return
    if is_geometric(places):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if len(places) <= MOST_TICKS:
        axes.set_xticks(places, [show(level) for level in places])


def is_geometric(places: Sequence[float]) -> bool:
    """Whether at least three positive numbers in rising order are spaced more evenly by ratio than by difference.

    Example:
        >>> is_geometric([1, 2, 4, 8]), is_geometric([32, 127, 224]), is_geometric([0, 0.02, 0.3])
        (True, False, False)
    """
    if len(places) < 3 or places[0] <= 0:
        return False
    linear, ratio = np.diff(np.array(places, dtype=float)), np.diff(np.log(np.array(places, dtype=float)))
    return bool(ratio.std() / ratio.mean() < linear.std() / linear.mean())


def legend(axes: Axes, title: str | None, *, outside: Any = None) -> None:
    """The legend of `axes`: beside all panels of the figure `outside`, or within the axes for None."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles or title is None:
        return
    if outside is None:
        axes.legend(title=escape(title))
    else:
        outside.legend(handles, labels, title=escape(title), loc="outside right upper")

"""Heat map: one number for every combination of two settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from svdlab.errors import ViewError
from svdlab.metrics import registry
from svdlab.plot.labels import Numbers, axis_label, escape, numbers_for, show, write_note
from svdlab.plot.style import DIVERGING, GREY, INK, SEQUENCE, canvas, panels
from svdlab.plot.table import Table, read_table, words_left_out, words_spread
from svdlab.stats.design import is_number, levels_of

if TYPE_CHECKING:
    from svdlab.sweep import Sweep

AGGREGATES: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "mean": lambda group: group.mean(),
        "median": lambda group: group.median(),
        "sd": lambda group: group.std(ddof=1),
        "min": lambda group: group.min(),
        "max": lambda group: group.max(),
    }
)
SMALLEST_TEXT = 5.0  # points; smaller numbers in cells are not drawn


def heatmap(
    df: pd.DataFrame | Sweep,
    x: str,
    y: str,
    value: str,
    *,
    aggregate: str = "mean",
    row: str | None = None,
    col: str | None = None,
    annotate: bool = True,
    show_n: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """A metric over two settings, as colours with the numbers in them; what else varies is averaged, which is said.

    Hatched cells have no value; the word in them says why (`failed`, `pending`), if there is such a cell in the sweep.

    Args:
        df: `Sweep.frame()`, any DataFrame with one row a clip, or the sweep itself. Only rows whose `status` is `done`
            count, if there is such a column.
        x, y: columns that span the map. Numbers rise to the right and upwards; names keep their order, from the top.
        value: a numeric column.
        aggregate: how several clips become one number: ``mean``, ``median``, ``sd``, ``min`` or ``max``.
        row, col: columns whose values each get a panel; all panels share one scale of colours.
        annotate: print the numbers. Where cells are too small to be read they are left out.
        show_n: print the number of clips in each cell if it is not the same everywhere.
        ax: draw into these axes, in their own style; not with `row` or `col`.

    Returns:
        The figure. The colour bar names the metric, its unit and which direction is better.

    Raises:
        ViewError: a column is unknown, used twice or not numeric, `aggregate` is unknown, or nothing is finished.

    Example:
        >>> heatmap(df, "motion_bucket_id", "cond_aug", "flow_mean", col="steps")
    """
    if aggregate not in AGGREGATES:
        raise ViewError(f"aggregate = {aggregate!r}: must be one of {', '.join(map(repr, AGGREGATES))}.")
    if ax is not None and (row or col):
        raise ViewError("ax: row and col make several panels, which do not fit into one; leave out ax, or row and col.")
    table = read_table(df, axes={"x": x, "y": y, "row": row, "col": col}, values={"value": value}).having(value)
    grids = _Grids(table, x, y, value, row, col, aggregate)
    note = (words_spread([table], [x, y, row, col], aggregate=aggregate), words_left_out([table]))
    options: dict[str, Any] = {"annotate": annotate, "show_n": show_n and len(set(grids.counted())) > 1}
    if row is None and col is None:
        with canvas(ax, grids.size()) as (figure, axes):
            grids.draw(axes, (None, None), **options)
            grids.bar(figure, axes)
            write_note(figure, ax, note)
        return figure
    with panels(len(grids.rows), len(grids.cols), grids.size(), sharex=True, sharey=True) as (figure, array):
        for i, at_row in enumerate(grids.rows):
            for j, at_col in enumerate(grids.cols):
                grids.draw(array[i, j], (at_row, at_col), **options)
                array[i, j].set_title(grids.title(at_row, at_col))
                array[i, j].label_outer()
        grids.bar(figure, array)
        write_note(figure, None, note)
    return figure


class _Grids:
    """The numbers of all panels, and how they are drawn."""

    def __init__(
        self, table: Table, x: str, y: str, value: str, row: str | None, col: str | None, aggregate: str
    ) -> None:
        self.table, self.x, self.y, self.row, self.col, self.value = table, x, y, row, col, value
        self.aggregate = aggregate
        levels = table.everything
        self.xs, self.ys = levels_of(levels[x]), levels_of(levels[y])
        self.rows = levels_of(levels[row]) if row else [None]
        self.cols = levels_of(levels[col]) if col else [None]
        self.axes = [name for name in (row, col, y, x) if name]
        groups = table.rows.groupby(self.axes, observed=True, sort=False)[value]
        self.values: dict[Any, float] = AGGREGATES[aggregate](groups).to_dict()
        self.counts: dict[Any, int] = groups.size().to_dict()
        self.states = _states(table.everything, self.axes)
        self.numbers: Numbers = numbers_for(np.array(list(self.values.values()), dtype=float))
        self.norm, self.colours = self._colours()

    def _colours(self) -> tuple[Normalize, Colormap]:
        """One scale for all panels; symmetrical about 0 for a quantity that is best there, as the drifts are."""
        found = np.array([v for v in self.values.values() if np.isfinite(v)]) / 10**self.numbers.exponent
        low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 1.0)
        neutral = self.value not in registry.names() or registry.get(self.value).direction == "neutral"
        if low < 0 < high and neutral and self.aggregate != "sd":
            most = max(-low, high)
            return Normalize(-most, most), mpl.colormaps[DIVERGING]
        return Normalize(low, high if high > low else low + 1), mpl.colormaps[SEQUENCE]

    def counted(self) -> list[int]:
        return list(self.counts.values())

    def cell(self) -> tuple[float, float]:
        """Width and height of a cell in inches."""
        width = min(0.85, max(0.3, 9.0 / (len(self.xs) * len(self.cols))))
        height = min(0.5, max(0.22, 6.0 / (len(self.ys) * len(self.rows))))
        return width, height

    def size(self) -> tuple[float, float]:
        width, height = self.cell()
        longest = 0.0 if is_number(self.table.everything[self.y]) else max(len(show(level)) for level in self.ys)
        left = 0.7 + 0.075 * longest
        return (
            max(4.5, left + len(self.cols) * (len(self.xs) * width + 0.2) + 1.1),
            max(2.6, len(self.rows) * (len(self.ys) * height + 0.35) + 1.1),
        )

    def title(self, at_row: Any, at_col: Any) -> str:
        named = ((self.row, at_row), (self.col, at_col))
        return ", ".join(f"{escape(name)} = {show(level)}" for name, level in named if name)

    def draw(self, axes: Axes, panel: tuple[Any, Any], *, annotate: bool, show_n: bool) -> None:
        """One panel: coloured squares, numbers, hatching where there is none."""
        lead = tuple(level for level, name in zip(panel, (self.row, self.col), strict=True) if name)
        shown = np.full((len(self.ys), len(self.xs)), np.nan)
        for i, y in enumerate(self.ys):
            for j, x in enumerate(self.xs):
                shown[i, j] = self.values.get((*lead, y, x), np.nan) / 10**self.numbers.exponent
        axes.grid(False)
        axes.pcolormesh(
            np.ma.masked_invalid(shown), norm=self.norm, cmap=self.colours, edgecolors="white", linewidth=1.0
        )
        text = min(9.0, 15 * self.cell()[0], 22 * self.cell()[1])
        for i, y in enumerate(self.ys):
            for j, x in enumerate(self.xs):
                key = (*lead, y, x)
                if not np.isfinite(shown[i, j]):
                    self._blank(axes, j, i, self.states.get(key, "") if annotate else "", text)
                elif annotate and text >= SMALLEST_TEXT:
                    words = self.numbers(self.values[key]) + (f"\nn={self.counts[key]}" if show_n else "")
                    colour = _readable(self.colours(self.norm(shown[i, j])))
                    axes.text(j + 0.5, i + 0.5, words, ha="center", va="center", fontsize=text, color=colour)
        self._ticks(axes)

    @staticmethod
    def _blank(axes: Axes, j: int, i: int, state: str, text: float) -> None:
        axes.add_patch(Rectangle((j, i), 1, 1, facecolor="#f4f4f4", edgecolor="#b8b8b8", hatch="///", linewidth=0))
        if state and text >= SMALLEST_TEXT:
            axes.text(
                j + 0.5, i + 0.5, state, ha="center", va="center", fontsize=text - 1, color=GREY,
                bbox={"facecolor": "#f4f4f4", "edgecolor": "none", "pad": 0.8},
            )  # fmt: skip

    def _ticks(self, axes: Axes) -> None:
        axes.set_xticks(np.arange(len(self.xs)) + 0.5, [show(level) for level in self.xs])
        axes.set_yticks(np.arange(len(self.ys)) + 0.5, [show(level) for level in self.ys])
        if max(len(show(level)) for level in self.xs) > 8:
            axes.tick_params(axis="x", labelrotation=30)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlim(0, len(self.xs))
        up = is_number(self.table.everything[self.y])
        axes.set_ylim((0, len(self.ys)) if up else (len(self.ys), 0))
        axes.set_xlabel(axis_label(self.x))
        axes.set_ylabel(axis_label(self.y))

    def bar(self, figure: Any, axes: Any) -> None:
        """The colour bar: what the numbers are, in which unit, which direction is better."""
        label = axis_label(self.value, exponent=self.numbers.exponent, direction=self.aggregate != "sd")
        label = label if self.aggregate == "mean" else f"{self.aggregate} of {label}"
        if len(label) * 0.085 > len(self.ys) * len(self.rows) * self.cell()[1]:
            label = label.replace(" (", "\n(")
        bar = figure.colorbar(mpl.cm.ScalarMappable(norm=self.norm, cmap=self.colours), ax=axes, label=label)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=2)


def _states(everything: pd.DataFrame, axes: list[str]) -> dict[Any, str]:
    """Why a combination has no value: `failed` before anything else, as that is what needs a look."""
    if "status" not in everything:
        return {}
    found = everything.groupby(axes, observed=True, sort=False)["status"].agg(set).to_dict()
    order = ("failed", "pending", "skipped")
    return {key: next((state for state in order if state in states), "") for key, states in found.items()}


def _readable(colour: tuple[float, float, float, float]) -> str:
    """Ink or white, whichever stands out on `colour` (relative luminance of WCAG 2, gamma taken as 2.2)."""
    luminance = np.array([0.2126, 0.7152, 0.0722]) @ np.array(colour[:3]) ** 2.2
    return "white" if luminance < 0.2 else INK

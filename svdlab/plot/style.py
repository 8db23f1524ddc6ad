"""Style: one look for all figures, told apart by colour-blind people, and by markers and dashes in grey print."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, GREY, FAINT = "#222222", "#5f5f5f", "#e6e6e6"
ACCENT, QUIET = "#b5371f", "#9db4c8"
CATEGORIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")  # Okabe and Ito, no yellow
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES = ("-", "--", "-.", ":")
SEQUENCE, DIVERGING = "cividis", "PuOr_r"

STYLE: Mapping[str, Any] = MappingProxyType(
    {
        "axes.axisbelow": True,
        "axes.edgecolor": INK,
        "axes.formatter.limits": (-3, 5),
        "axes.formatter.use_mathtext": True,
        "axes.grid": True,
        "axes.labelcolor": INK,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 10,
        "figure.dpi": 100,
        "figure.facecolor": "white",
        "figure.titlesize": 9,
        "font.size": 10,
        "grid.color": FAINT,
        "grid.linewidth": 0.8,
        "hatch.color": "#b8b8b8",
        "hatch.linewidth": 0.7,
        "image.cmap": SEQUENCE,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "legend.title_fontsize": 9,
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
        "mathtext.fontset": "dejavusans",
        "pdf.fonttype": 42,  # text in a PDF stays text
        "savefig.dpi": 150,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
)


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Within it matplotlib has its defaults and `STYLE` on top, whatever the user's own settings are."""
    with matplotlib.style.context(["default", dict(STYLE)]):
        yield


class PlotFigure(Figure):
    """A figure in the style of svdlab that a notebook shows once: pyplot does not know it, and it needs no closing.

    Some of the look is only decided when a figure is drawn, so drawing happens under the style too.
    """

    def draw(self, renderer: Any) -> None:
        """Draw under the style of svdlab."""
        with styled():
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        """Write the figure; the name's suffix chooses the format (png, pdf, svg)."""
        with styled():
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        """What a notebook shows, also without ``%matplotlib inline``."""
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=100)
        return data.getvalue()


@contextlib.contextmanager
def canvas(ax: Axes | None, size: tuple[float, float]) -> Iterator[tuple[Any, Axes]]:
    """Figure and axes to draw on: those of `ax` in the user's own style, or new ones of `size` inches in ours."""
    if ax is not None:
        yield ax.figure, ax
        return
    with styled():
        figure = PlotFigure(figsize=size, layout="constrained")
        yield figure, figure.subplots()


@contextlib.contextmanager
def panels(
    rows: int, columns: int, size: tuple[float, float], **options: Any
) -> Iterator[tuple[PlotFigure, np.ndarray]]:
    """A new figure of `size` inches with an array of axes `[rows, columns]`, in our style."""
    with styled():
        figure = PlotFigure(figsize=size, layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False, **options)


def looks(levels: Sequence[Any]) -> list[dict[str, Any]]:
    """Colour, marker and dash of each level: ordered colours for numbers, unlike ones for names.

    Example:
        >>> looks(["even", "karras"])[1]
        {'color': '#D55E00', 'marker': 's', 'linestyle': '--'}
    """
    if len(levels) > 1 and all(isinstance(level, int | float | np.number) for level in levels):
        shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.8, len(levels)))  # beyond, yellow fades on paper
        return [
            {"color": tuple(shade), "marker": MARKERS[i % len(MARKERS)], "linestyle": "-"}
            for i, shade in enumerate(shades)
        ]
    return [
        {
            "color": CATEGORIES[i % len(CATEGORIES)],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": DASHES[i % len(DASHES)],
        }
        for i in range(len(levels))
    ]


def darker(colour: Any) -> tuple[float, ...]:
    """A colour at two thirds of its brightness, for text, which needs more contrast than lines do."""
    return tuple(0.66 * part for part in mpl.colors.to_rgb(colour))

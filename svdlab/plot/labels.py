"""Labels: columns and values in words, with units and the better direction; numbers at a readable scale."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from svdlab.metrics import registry
from svdlab.plot.style import GREY
from svdlab.stats.words import UNITS

PLURALS: Mapping[str, str] = MappingProxyType(
    {
        "image": "pictures",
        "seed": "seeds",
        "steps": "step counts",
        "motion_bucket_id": "motion buckets",
        "fps": "frame rates",
        "schedule": "schedules",
        "num_frames": "lengths",
        "model": "models",
    }
)
MINUS = "\N{MINUS SIGN}"  # as on the axes; a hyphen is too short
LONGEST = 28  # characters of a value; file names can be any length


def axis_label(column: str, *, exponent: int = 0, direction: bool = True) -> str:
    """A column with its unit and which way is better, as the registry of metrics knows them.

    Example:
        >>> axis_label("psnr_input"), axis_label("warp_error", exponent=-3), axis_label("flow_mean")
        ('psnr_input (dB, higher is better)', 'warp_error ($10^{-3}$, lower is better)', 'flow_mean (px/frame)')
    """
    known = registry.get(column) if column in registry.names() else None
    unit = known.unit if known else UNITS.get(column, "")
    better = known.direction if known else "lower" if column in UNITS and UNITS[column] in ("s", "MB") else "neutral"
    scaled = " ".join(part for part in (f"$10^{{{exponent}}}$" if exponent else "", escape(unit)) if part)
    about = [scaled] if scaled else []
    if direction and better != "neutral":
        about.append(f"{better} is better")
    return escape(column) + (f" ({', '.join(about)})" if about else "")


def show(value: Any) -> str:
    """A setting's value as a short text, safe for matplotlib, which takes dollars for formulas.

    Example:
        >>> show(0.020), show(4), show("a_very_long_name_of_a_picture.png")
        ('0.02', '4', 'a_very_long_n…_picture.png')
    """
    if isinstance(value, float | np.floating):
        return f"{value:g}"
    text = " ".join(str(value).split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2 - 1]}…{text[-(LONGEST // 2) :]}"
    return escape(text)


def escape(text: str) -> str:
    """`text` with its dollars taken literally."""
    return text.replace("$", r"\$")


def count_of(column: str, count: int) -> str:
    """A number of values in words.

    Example:
        >>> count_of("seed", 2), count_of("cond_aug", 3)
        ('2 seeds', '3 values of cond_aug')
    """
    return f"{count} {PLURALS[column]}" if column in PLURALS else f"{count} values of {escape(column)}"


def span(counts: Iterable[int]) -> str:
    """Numbers as one, or from the least to the most.

    Example:
        >>> span([4, 4]), span([2, 4, 3])
        ('4', '2 to 4')
    """
    found = sorted(set(counts))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """How to print a set of numbers: all divided by 10^exponent, with so many decimals."""

    exponent: int
    decimals: int

    def __call__(self, value: float) -> str:
        """`value` as text."""
        text = f"{value / 10**self.exponent:.{self.decimals}f}"
        return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)


def numbers_for(values: np.ndarray) -> Numbers:
    """About three digits for the largest of `values`; a power of 1000 is taken out of very small and very large ones.

    Example:
        >>> [numbers_for(np.array(v))(v[0]) for v in ([3.2144], [0.00041], [512.3])]
        ['3.21', '0.410', '512']
    """
    finite = np.abs(values[np.isfinite(values)])
    most = float(finite.max()) if finite.size else 0.0
    if most == 0:
        return Numbers(exponent=0, decimals=0)
    exponent = 3 * round(math.log10(most) / 3) if not 0.01 <= most < 1e5 else 0
    digits = math.floor(math.log10(most / 10**exponent))
    return Numbers(exponent=exponent, decimals=max(0, 2 - digits))


def write_note(figure: Any, ax: Axes | None, parts: Iterable[str]) -> None:
    """Put small grey words above the panels of `figure`, or above `ax` alone if it is the user's own.

    Empty parts are left out, the others are joined with semicolons and wrapped at the width there is.
    """
    width = figure.bbox.width / figure.dpi * (1.0 if ax is None else ax.get_position().width)
    words = "; ".join(part for part in parts if part).replace("n = ", "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    text = textwrap.fill(words, max(30, int(width * 14)))
    if ax is None:
        figure.suptitle(text, fontsize=8.5, color=GREY, x=0.01, ha="left")
    else:
        ax.set_title(text, fontsize=8.5, color=GREY, loc="left")

"""Statistics of curves: means over repeated runs, and what band they are known within."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from svdlab.errors import ViewError
from svdlab.plot.labels import escape, span
from svdlab.plot.table import Table
from svdlab.stats import words
from svdlab.stats.design import check_column, levels_of
from svdlab.stats.intervals import clustered_mean

Band = Literal["ci95", "sd", "minmax"]
PAIR = ("image", "seed")
BAND_WORDS = {"ci95": "95 % t-interval of the mean", "sd": "mean ± 1 sd", "minmax": "smallest to largest"}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a plot.

    Attributes:
        level: the value of `by` that it belongs to; None without `by`.
        x: its places.
        units: DataFrame [places, units]: one column a unit of repetition, NaN where it has no value.
        mean, low, high: float64 [places]; the limits are NaN where there is no band.
        n: units behind each mean.
        scopes: whom the bands speak about, such as ``"for new pictures and new seeds"``; mostly one, and empty but for
            ``ci95``.
    """

    level: Any
    x: list[Any]
    units: pd.DataFrame
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: list[int]
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A mean with the limits of its band, NaN where there is none, and whom the band speaks about, if that is known."""

    mean: float
    low: float = np.nan
    high: float = np.nan
    scope: str = ""


def interval(values: np.ndarray, band: Band | None, labels: Mapping[str, Any] | None = None) -> Limits:
    """Mean of `values`, and the limits of the band around it.

    ``ci95`` is the interval of `svdlab.stats.intervals.clustered_mean`, which counts which values share a picture or a
    seed, and speaks about new ones; so it is the interval that `svdlab.stats` gives. Without labels values are
    independent, and it is m ± t(0.975, n - 1) s / sqrt(n) (Student 1908). ``sd`` is m ± s, with n - 1 in the
    denominator of s^2. ``minmax`` is the smallest and the largest value. There are no limits for ``None``, and for a
    single value.

    Args:
        values: finite numbers, `[units]`.
        labels: column -> labels, `[units]`: the picture and the seed of each value.

    Example:
        >>> interval(np.array([1.0, 2.0, 3.0]), "sd")
        Limits(mean=2.0, low=1.0, high=3.0, scope='')
    """
    mean = float(np.mean(values))
    if band is None or len(values) < 2:
        return Limits(mean=mean)
    if band == "minmax":
        return Limits(mean=mean, low=float(np.min(values)), high=float(np.max(values)))
    if band == "ci95":
        known = dict(labels or {"clip": np.arange(len(values))})
        found = clustered_mean(values, known, over=tuple(known))
        return Limits(mean=mean, low=found.low, high=found.high, scope=found.scope if labels else "")
    reach = float(np.std(values, ddof=1))
    return Limits(mean=mean, low=mean - reach, high=mean + reach)


def curves_of(
    table: Table, *, x: str, value: str, by: str | None, pair: Sequence[str], band: Band | None
) -> list[Curve]:
    """The lines of a plot, one a level of `by`, from rows that all have a finite `value`.

    Rows of one unit (equal `pair` columns) at one place are averaged first, so that a unit counts once.
    """
    curves = []
    for level in [None] if by is None else levels_of(table.everything[by]):
        rows = table.rows if by is None else table.rows[table.rows[by] == level]
        if rows.empty:
            continue
        units = _units(rows, x, value, pair)
        limits = [_limits(row, units.columns if pair else None, band) for row in units.to_numpy()]
        mean, low, high = (np.array([getattr(at, part) for at in limits]) for part in ("mean", "low", "high"))
        n = units.notna().sum(axis=1).tolist()
        scopes = tuple(dict.fromkeys(at.scope for at in limits if at.scope))
        curves.append(
            Curve(level=level, x=units.index.tolist(), units=units, mean=mean, low=low, high=high, n=n, scopes=scopes)
        )
    return curves


def _limits(row: np.ndarray, units: pd.Index | None, band: Band | None) -> Limits:
    """The band at one place, whose values belong to the columns `units`; None if every value stands for itself."""
    there = np.isfinite(row)
    if units is None:
        return interval(row[there], band)
    kept = units[there]
    labels = {
        str(name): ["" if pd.isna(label) else label for label in kept.get_level_values(name)] for name in kept.names
    }
    return interval(row[there], band, labels)


def _units(rows: pd.DataFrame, x: str, value: str, pair: Sequence[str]) -> pd.DataFrame:
    if pair:
        keys = [rows[name] for name in pair]
    else:  # every row stands for itself
        keys = [rows.groupby(x, observed=True).cumcount().rename("row")]
    means = rows[value].groupby([rows[x], *keys], dropna=False, observed=True, sort=False).mean()
    table = means.unstack(list(range(1, 1 + len(keys))))
    return table.reindex([level for level in levels_of(rows[x]) if level in table.index])


def units_of(table: Table, pair: Sequence[str], taken: Sequence[str | None]) -> list[str]:
    """The columns that tell repetitions apart. The default ones may be absent; those that a caller names must exist.

    Raises:
        ViewError: `pair` is a single string, or names a column that is not there.
    """
    if isinstance(pair, str):
        raise ViewError(f"pair = {pair!r}: must be a sequence of columns, such as ({pair!r},).")
    if tuple(pair) != PAIR:
        for name in pair:
            check_column(table.everything, "pair", name, error=ViewError)
    return [name for name in pair if name in table.everything and name not in taken]


def check_band(band: Any) -> None:
    """Refuse an unknown kind of band."""
    if band is not None and band not in get_args(Band):
        raise ViewError(f"band = {band!r}: must be one of {', '.join(map(repr, get_args(Band)))} or None.")


def words_band(band: Band | None, curves: Sequence[Curve], table: Table, pair: Sequence[str]) -> str:
    """What the band is and over how many units, or why there is none; empty if none was asked for.

    Example:
        >>> words_band("ci95", curves, table, ["image", "seed"])
        'band: 95 % t-interval of the mean for new pictures and new seeds, n = 4 pairs of picture and seed'
    """
    if band is None:
        return ""
    counts = [count for curve in curves for count in curve.n]
    varying = [name for name in pair if table.rows[name].nunique() > 1]
    if max(counts) < 2:
        return "no band: a single run at each point"
    scopes = " or ".join(dict.fromkeys(escape(scope) for curve in curves for scope in curve.scopes))
    return f"band: {BAND_WORDS[band]}{scopes and ' '}{scopes}, n = {span(counts)} {_words_units(varying)}"


def _words_units(varying: Sequence[str]) -> str:
    return escape(words.units(dict.fromkeys(varying, 2))) if varying else "clips"

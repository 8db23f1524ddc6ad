"""Findings that several questions need: `svdlab.stats` asked in one way, and its tables put together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

import svdlab as sl
from svdlab.stats import Comparison, Effects, Result, Trend, words

EFFECT = ["metric", "axis", "value", "against", "difference", "low", "high", "n", "up", "down", "share"]
TREND = ["metric", "x", "rho", "low", "high", "method", "n", "rising", "falling", "monotone", "at_first", "at_last"]
COMPARED = ["metric", "first", "second", "mean_first", "mean_second", "difference", "low", "high", "n", "up", "down"]
ENOUGH = ["metric", "steps", "against", "best", "margin", "loss", "low", "high", "n", "verdict"]


def measured(df: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """Those of the metrics that at least one row has.

    Example:
        >>> measured(pd.DataFrame({"flicker": [0.9], "moved_x": [float("nan")]}), ["flicker", "moved_x", "jerk"])
        ['flicker']
    """
    return [name for name in names if name in df and df[name].notna().any()]


def effects(df: pd.DataFrame, metrics: Sequence[str], axis: str, *, against: Any, by: str | None = None) -> Effects:
    """The effects of one axis on each metric, and with `by` also its interactions with another axis."""
    axes = [axis] if by is None else [axis, by]
    names = measured(df, metrics)
    return sl.stats.effects(df, names, axes=axes, against={axis: against}, interactions=by is not None)


def effect_table(found: Effects, axis: str) -> pd.DataFrame:
    """The main effects of one axis: a row a metric and value."""
    return found.main.loc[found.main["axis"] == axis, EFFECT].reset_index(drop=True)


def interaction_sentences(found: Effects) -> list[str]:
    """The sentences of the interactions."""
    return list(found.sentences[len(found.main) :])


def trends(df: pd.DataFrame, metrics: Sequence[str], x: str, *, axes: Sequence[str] = ()) -> list[Trend]:
    """The rank correlation of each metric with a setting; none if it has fewer than three values."""
    if df[x].nunique() < 3:
        return []
    return [sl.stats.trend(df, x, name, axes=axes) for name in measured(df, metrics)]


def compared(df: pd.DataFrame, metrics: Sequence[str], **settings: Any) -> list[Comparison]:
    """The paired difference of each metric between two settings."""
    return [sl.stats.compare(df, name, **settings) for name in measured(df, metrics)]


def table_of(results: Sequence[Result], columns: Sequence[str]) -> pd.DataFrame:
    """The tables of results, one below the other.

    Example:
        >>> table_of(compared(df, ["flicker"], gamma=(0.0, 1.0)), COMPARED)
    """
    if not results:
        return pd.DataFrame(columns=list(columns))
    return pd.concat([result.to_frame() for result in results], ignore_index=True)[list(columns)]


def sentences_of(results: Iterable[Result]) -> list[str]:
    """The sentences of results."""
    return [result.sentence for result in results]


def words_chance(results: Sequence[Comparison]) -> str:
    """How many intervals exclude zero, and how many would by chance: for what is picked from a table by being settled.

    Example:
        >>> words_chance(compared(df, ["flicker", "jerk"], gamma=(0.0, 1.0)))
        '1 of 2 paired intervals (95 %) exclude zero; if nothing had an effect, 0.1 of them would by chance.'
    """
    known = [result.difference for result in results if result.difference.known]
    settled = sum(difference.settled for difference in known)
    return (
        f"{settled} of {words.plural(len(known), 'paired interval')} (95 %) exclude zero; if nothing had an effect,"
        f" {words.number(0.05 * len(known))} of them would by chance."
    )


def enough(
    df: pd.DataFrame, axis: str, *, margins: Mapping[str, float], against: Any, level: float = 0.95
) -> pd.DataFrame:
    """How much each value of an axis loses against the largest, and whether that is less than matters.

    The loss is the paired difference of `sl.stats.compare` with the sign of the metric's better direction, so that
    above 0 is worse. With the interval of that loss, and `margin` the least loss that matters (fixed beforehand):

        enough        the upper limit is below the margin: whatever is lost does not matter
        too few       the lower limit is at or above the margin
        loses         the lower limit is above 0: worse, by more or less than matters
        not settled   anything else

    Absence of a settled difference is not taken for "enough": a wide interval is "not settled".

    Args:
        margins: metric -> least loss that matters; metrics that have no better direction are refused.
        against: the value of the axis that all others are held against.

    Returns:
        A row a metric and value: `metric`, `steps` (the value), `against`, `best` (its mean), `margin`, `loss`, `low`,
        `high`, `n`, `verdict`.

    Example:
        >>> enough(df, "steps", margins={"psnr_gain": 0.5}, against=8).query("verdict == 'enough'")["steps"].min()
        4
    """
    rows = []
    for metric in measured(df, margins):
        direction = words.better_of(metric)
        if direction == "neutral":
            raise ValueError(f"margins: {metric!r} has no better direction, so nothing can be lost of it.")
        for value in sorted(set(df[axis]) - {against}):
            pair = sl.stats.compare(df, metric, level=level, **{axis: (value, against)})
            found = pair.difference
            loss, ends = found.value, (found.low, found.high)
            if direction == "lower":
                loss, ends = -loss, (-found.high, -found.low)
            rows.append(
                {"metric": metric, "steps": value, "against": against, "best": pair.means[1], "margin": margins[metric],
                 "loss": loss, "low": ends[0], "high": ends[1], "n": found.n,
                 "verdict": verdict(*ends, margins[metric])}
            )  # fmt: skip
    return pd.DataFrame(rows, columns=ENOUGH)


def verdict(low: float, high: float, margin: float) -> str:
    """What an interval of a loss says about a margin; see `enough`.

    Example:
        >>> verdict(-0.1, 0.3, 0.5), verdict(0.2, 0.9, 0.5), verdict(0.6, 0.9, 0.5), verdict(-0.1, 0.9, 0.5)
        ('enough', 'loses', 'too few', 'not settled')
    """
    if math.isnan(low) or math.isnan(high):
        return "not settled"
    if high < margin:
        return "enough"
    if low >= margin:
        return "too few"
    return "loses" if low > 0 else "not settled"


def words_enough(table: pd.DataFrame) -> list[str]:
    """For each metric, the fewest steps from which on all are enough, with their loss.

    Example:
        >>> words_enough(enough(df, "steps", margins={"psnr_gain": 0.5}, against=8))
        ['psnr_gain: 4 steps are enough (a loss of 0.5 dB matters); with 4 it loses 0.12 dB against 8, where it is ...']
    """
    found = []
    for metric, rows in table.groupby("metric", sort=False):
        name, against = str(metric), rows["against"].iloc[0]
        good = rows["verdict"] == "enough"
        from_here = rows[good[::-1].cummin()[::-1].astype(bool)]  # a lucky step count below a bad one does not count
        margin = f"a loss of {words.quantity(rows['margin'].iloc[0], name)} matters"
        if from_here.empty:
            last = rows.iloc[-1]
            found.append(
                f"{name}: no fewer than {against} steps are known to be enough ({margin}); {_loss(last, name)}, which"
                f" is {last['verdict']}."
            )
            continue
        first = from_here.iloc[0]
        count = words.plural(int(first["steps"]), "step is", "steps are")
        found.append(f"{name}: {count} enough ({margin}); {_loss(first, name)}.")
    return found


def _loss(row: Any, metric: str) -> str:
    limits = f"{words.number(row['low'])} to {words.number(row['high'])}"
    size = f"{'gains' if row['loss'] < 0 else 'loses'} {words.quantity(abs(row['loss']), metric)}"
    return (
        f"with {row['steps']} it {size} against {row['against']}, where it is {words.quantity(row['best'], metric)}"
        f" (95 % interval of the loss {limits}, n = {row['n']})"
    )

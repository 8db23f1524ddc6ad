"""Grid: a table as a full array over its factors, and what must be left out to make it full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from svdlab.errors import StatsError
from svdlab.stats import words

MOST_FACTORS = 12  # 2^12 effects


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Values over every combination of factors.

    Attributes:
        values: float64, an axis for each factor.
        factors: column -> its values, in the order of the axes.
        dropped: what was left out to make the grid full, in words, such as ``"seed = 3"``.
        lost: cells with a value that were left out with it.
    """

    values: np.ndarray
    factors: Mapping[str, tuple[Any, ...]]
    dropped: tuple[str, ...]
    lost: int

    @property
    def words_dropped(self) -> str:
        """What was left out, as a sentence with a leading space; empty if nothing was."""
        if not self.dropped:
            return ""
        cells = words.plural(self.lost, "finished cell")
        verb = "was" if len(self.dropped) == 1 else "were"
        return f" To make the grid full, {words.joined(self.dropped)} {verb} left out ({cells})."


def full_grid(series: pd.Series, *, give_up: Sequence[str] = ()) -> Grid:
    """A series, indexed by its factors, as a full array.

    Where combinations are missing, the value of a factor in which the largest share is missing is left out, again and
    again, until none is; among equals, one of the factors `give_up`, in that order. So few gaps cost a seed, and
    a setting that always failed costs that setting. Factors that are left with one value are kept with that one.

    Raises:
        StatsError: more than half of the cells would be lost.

    Example:
        >>> full_grid(pd.Series([1.0, 2.0, 3.0], index=pd.MultiIndex.from_tuples([(0, 1), (0, 2), (1, 1)],
        ...     names=["seed", "steps"])), give_up=["seed"]).dropped
        ('seed = 1',)
    """
    names = [str(name) for name in series.index.names if name != "_"]
    codes, levels = zip(*(pd.factorize(series.index.get_level_values(name), sort=True) for name in names), strict=True)
    values = np.full([len(level) for level in levels], np.nan)
    values[tuple(codes)] = series.to_numpy(dtype=float)
    kept = [list(range(len(level))) for level in levels]
    order = [*(name for name in give_up if name in names), *(name for name in names if name not in give_up)]
    dropped = []
    while np.isnan(part := values[np.ix_(*kept)]).any():
        axis, place = _emptiest(np.isnan(part), [names.index(name) for name in order])
        dropped.append((axis, kept[axis].pop(place)))
    lost = len(series) - part.size
    if lost > len(series) / 2:
        raise StatsError(
            f"there is no grid in the finished cells: to make one full, {lost} of {len(series)} would be left out. "
            "Finish the sweep, or narrow the table to settings that were all combined with each other."
        )
    return Grid(
        values=part,
        factors={name: tuple(levels[i][k] for k in kept[i]) for i, name in enumerate(names)},
        dropped=tuple(f"{names[axis]} = {words.show(levels[axis][k])}" for axis, k in dropped),
        lost=lost,
    )


def _emptiest(missing: np.ndarray, order: Sequence[int]) -> tuple[int, int]:
    """Axis and place of the value in which the largest share is missing; it must not be the only one of its axis."""
    best, found = -1.0, (0, 0)
    for axis in order:
        shares = missing.mean(axis=tuple(other for other in range(missing.ndim) if other != axis))
        place = int(np.argmax(shares))
        if shares[place] > best and len(shares) > 1:
            best, found = float(shares[place]), (axis, place)
    return found


def own_seeds(series: pd.Series) -> pd.Series:
    """Seeds that belong to one picture each as the first, second, ... of their picture; others as they are."""
    if not {"image", "seed"} <= set(series.index.names):
        return series
    index = series.index.to_frame(index=False)
    if index["image"].nunique() < 2 or index.groupby("seed")["image"].nunique().max() > 1:
        return series
    index["seed"] = index.groupby("image")["seed"].rank(method="dense").astype(int)
    return pd.Series(series.to_numpy(), index=pd.MultiIndex.from_frame(index))


def sums_of_squares(values: np.ndarray) -> dict[frozenset[int], tuple[float, int]]:
    """Analysis of variance of a full array, one value a cell: sum of squares and degrees of freedom of every effect.

    Effects are orthogonal on a full grid, so the sums add up to that of the values about their mean (Fisher 1925). An
    effect of factors T is what remains of the mean over all other factors when the effects of fewer factors are taken
    away.

    Returns:
        set of axes -> (sum of squares, degrees of freedom), for every set but the empty one.

    Example:
        >>> sums_of_squares(np.array([[0.0, 1.0], [2.0, 3.0]]))[frozenset({0})]
        (4.0, 1)
    """
    axes = [axis for axis in range(values.ndim) if values.shape[axis] > 1]
    if len(axes) > MOST_FACTORS:
        raise StatsError(f"{len(axes)} settings vary, and at most {MOST_FACTORS} can be told apart: narrow the table.")
    found = {}
    for size in range(1, len(axes) + 1):
        for chosen in combinations(axes, size):
            effect = values - values.mean()
            for axis in range(values.ndim):
                mean = effect.mean(axis=axis, keepdims=True)
                effect = effect - mean if axis in chosen else mean
            repeats = values.size // effect.size
            df = int(np.prod([values.shape[axis] - 1 for axis in chosen]))
            found[frozenset(chosen)] = (float(np.sum(effect**2) * repeats), df)
    return found

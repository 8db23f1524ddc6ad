"""Design: what of a table can be compared with what, checked before anything is computed.

A unit is a picture with a seed. All cells of a unit share picture and noise, so they are compared within it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from svdlab.errors import StatsError, SvdlabError
from svdlab.request import SETTINGS
from svdlab.stats.intervals import words_units

if TYPE_CHECKING:
    from svdlab.sweep import Sweep

UNIT = ("image", "seed")
SETTING_COLUMNS = ("image", *SETTINGS, "model")
BOOKKEEPING = ("cell", "status", "video", "error", "declared")
COSTS = ("seconds_denoise", "seconds_decode", "seconds_spent", "vram_peak_mb")  # `seconds` stands for them


@dataclass(frozen=True, kw_only=True)
class Design:
    """Finished cells, told apart by units and settings.

    Attributes:
        rows: finished cells.
        units: columns that make a unit of repetition, those of `image`, `seed` and `over` that are there.
        settings: the other columns that vary, and on which a comparison is paired.
        left_out: reason -> number of cells.
    """

    rows: pd.DataFrame
    units: tuple[str, ...]
    settings: tuple[str, ...]
    left_out: Mapping[str, int]

    @property
    def size(self) -> str:
        """The units in words, such as ``"n = 8: 2 pictures x 4 seeds"``."""
        units = self.rows[list(self.units)].drop_duplicates()
        return words_units(len(units) if self.units else 1, {name: units[name].nunique() for name in self.units})

    def cells(self, metric: str) -> tuple[pd.Series, dict[str, int]]:
        """The finite values of a metric, indexed by units and settings, and what is left out.

        Raises:
            StatsError: no finished cell has the metric.
        """
        values = self.rows[metric].to_numpy(dtype=float, na_value=np.nan)
        finite = np.isfinite(values)
        left_out = dict(self.left_out)
        if missing := int((~finite).sum()):
            left_out[f"without {metric}"] = missing
        if not finite.any():
            raise StatsError(
                f"metric = {metric!r}: none of the {len(self.rows)} finished cells has it. "
                f"sweep.backfill([{metric!r}], pipe=pipe) computes a metric from what is stored."
            )
        one = pd.Index(np.zeros(int(finite.sum()), dtype=int), name="_")  # an index needs a column
        keys = [one, *(self.rows.loc[finite, name] for name in (*self.units, *self.settings))]
        return pd.Series(values[finite], index=pd.MultiIndex.from_arrays(keys)), left_out

    def lines(self, metric: str, along: Sequence[str]) -> tuple[pd.DataFrame, dict[str, int]]:
        """The cells as lines along which only the columns `along` change, and what is left out.

        Returns:
            DataFrame: a row for each unit and combination of the other settings (its index), a column for each
            combination of `along`, NaN where there is no finished cell.
        """
        values, left_out = self.cells(metric)
        return values.unstack(list(along)), left_out

    def unit_means(self, values: pd.Series) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Mean of a column of `lines` over the settings of each unit: values `[units]`, and the labels of the units."""
        values = values.dropna()
        names = [name for name in self.units if name in values.index.names]
        if not names:
            return (np.array([values.mean()]), {}) if len(values) else (np.array([]), {})
        means = values.groupby(level=names, sort=True).mean()
        return means.to_numpy(), {name: means.index.get_level_values(name).to_numpy(dtype=object) for name in names}


def read_design(
    source: pd.DataFrame | Sweep,
    *,
    metrics: Sequence[str],
    axes: Sequence[str] = (),
    over: Sequence[str] = UNIT,
) -> Design:
    """Check a table, and take the finished cells.

    Args:
        source: a DataFrame such as `Sweep.frame()`, or a sweep, whose frame is taken.
        metrics: columns that must hold numbers.
        axes: further columns that are settings, beyond those of a request.
        over: columns of repetition that intervals generalise over.

    Raises:
        StatsError: a column is missing or holds no numbers, there are no finished cells, or cells cannot be told apart.
    """
    frame = frame_of(source)
    over = check_over(frame, over)
    for column in metrics:
        check_metric(frame, column)
    for column in axes:
        check_column(frame, "axes", column)
    rows, left_out = _finished(frame)
    units = tuple(dict.fromkeys(name for name in (*UNIT, *over) if name in frame))
    known = [name for name in dict.fromkeys((*SETTING_COLUMNS, *axes)) if name in frame and name not in units]
    settings = tuple(name for name in known if rows[name].nunique(dropna=True) > 1)
    keyed = rows[[*units, *settings]].notna().all(axis=1)
    if missing := int((~keyed).sum()):
        left_out[f"without {' or '.join((*units, *settings))}"] = missing
        rows = rows[keyed]
        if rows.empty:
            raise StatsError(f"no finished cell has a value of all of {', '.join((*units, *settings))}.")
    _check_told_apart(rows, (*units, *settings))
    return Design(rows=rows, units=units, settings=settings, left_out=left_out)


def frame_of(source: Any, argument: str = "df") -> pd.DataFrame:
    """The DataFrame of a table or sweep.

    Raises:
        StatsError: it is neither, or has no rows.
    """
    frame = source.frame() if callable(getattr(source, "frame", None)) else source
    if not isinstance(frame, pd.DataFrame):
        raise StatsError(
            f"{argument} = {type(source).__name__}: must be a DataFrame, such as sweep.frame(), or a sweep."
        )
    if frame.empty:
        raise StatsError(f"{argument}: the table has no rows.")
    return frame


def metric_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of measurements: numbers that are neither settings nor bookkeeping, nor missing throughout."""
    apart = {*SETTING_COLUMNS, *BOOKKEEPING, *COSTS}
    return [
        name for name in frame.columns if name not in apart and is_number(frame[name]) and frame[name].notna().any()
    ]


def check_column(frame: pd.DataFrame, argument: str, column: Any, *, error: type[SvdlabError] = StatsError) -> None:
    """Refuse a column that is not there, and name those that are."""
    if isinstance(column, str) and column in frame.columns:
        return
    names = [str(name) for name in frame.columns if name not in BOOKKEEPING]
    close = difflib.get_close_matches(str(column), names, n=1, cutoff=0.6)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise error(f"{argument} = {column!r}: no such column. {hint}There are {', '.join(names) or 'none'}.")


def check_metric(frame: pd.DataFrame, column: Any, argument: str = "metric") -> None:
    """Refuse a column that is not there or holds no numbers."""
    check_column(frame, argument, column)
    if not is_number(frame[column]):
        raise StatsError(
            f"{argument} = {column!r}: the column holds {frame[column].dtype} values and numbers are needed. "
            f"Measured are {', '.join(metric_columns(frame)) or 'none'}."
        )


def check_names(argument: str, names: Any) -> tuple[str, ...]:
    """A sequence of column names as a tuple, each once; a single string is refused."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise StatsError(f"{argument} = {names!r}: must be a sequence of columns, such as ({str(names)!r},).")
    return tuple(dict.fromkeys(names))


def check_over(frame: pd.DataFrame, over: Any) -> tuple[str, ...]:
    """Columns to generalise over. Those of the default may be absent; others must be there."""
    names = check_names("over", over)
    for name in names:
        if name not in UNIT:
            check_column(frame, "over", name)
    return tuple(name for name in names if name in frame)


def levels_of(column: pd.Series) -> list[Any]:
    """The values of an axis: numbers in rising order, categories in their own, anything else as it comes.

    Example:
        >>> levels_of(pd.Series([4, 1, 4])), levels_of(pd.Series(["karras", "even"]))
        ([1, 4], ['karras', 'even'])
    """
    found = column.dropna().unique().tolist()
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [level for level in column.dtype.categories.tolist() if level in found]
    return sorted(found) if is_number(column) else found


def is_number(column: pd.Series) -> bool:
    """Whether a column holds numbers; yes and no are none."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _finished(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    if "status" not in frame:
        return frame, {}
    counts = {str(status): int(number) for status, number in frame["status"].value_counts().items()}
    left_out = {status: number for status, number in counts.items() if status != "done"}
    if not counts.get("done"):
        found = ", ".join(f"{number} {status}" for status, number in left_out.items())
        raise StatsError(f"there are no finished cells ({found}): run the sweep first, or look at its errors.")
    return frame[frame["status"] == "done"], left_out


def _check_told_apart(rows: pd.DataFrame, keys: Sequence[str]) -> None:
    double = rows.duplicated(list(keys), keep=False) if keys else pd.Series(len(rows) > 1, index=rows.index)
    if not double.any():
        return
    same = rows[double]
    if keys:
        same = same[same[list(keys)].eq(same[list(keys)].iloc[0]).all(axis=1)]
    where = ", ".join(f"{name} = {same[name].iloc[0]!s}" for name in keys) or "no setting"
    differ = [name for name in rows if name not in (*BOOKKEEPING, *keys) and same[name].nunique() > 1]
    names = [str(name) for name in differ if not pd.api.types.is_float_dtype(rows[name])]
    hint = f"name the column in which they differ ({', '.join(names)}?) in axes" if names else "drop the doubles"
    raise StatsError(
        f"{int(double.sum())} finished cells cannot be told apart: {len(same)} have {where}. "
        f"Narrow the table to one of each, or {hint}."
    )

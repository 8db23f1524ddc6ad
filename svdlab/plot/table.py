"""Table: what of a DataFrame can be drawn, checked before anything is; and what is left out, counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from svdlab.errors import ViewError
from svdlab.plot.labels import count_of, escape, span
from svdlab.request import SETTINGS
from svdlab.stats.design import check_column, is_number

if TYPE_CHECKING:
    from svdlab.sweep import Sweep

SETTING_COLUMNS = ("image", *(name for name in SETTINGS if name != "image"), "model")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows that can be drawn.

    Attributes:
        rows: finished cells that have a value on every axis.
        everything: all cells that have one, whatever their status.
        left_out: reason -> number of cells.
    """

    rows: pd.DataFrame
    everything: pd.DataFrame
    left_out: Mapping[str, int]

    def having(self, *values: str) -> Table:
        """Only the cells in which all `values` are finite.

        Raises:
            ViewError: a value is finite in none.
        """
        rows, left_out = self.rows, dict(self.left_out)
        for value in values:
            finite = np.isfinite(rows[value].to_numpy(dtype=float, na_value=np.nan))
            if not finite.any():
                raise ViewError(
                    f"{value!r}: none of the {len(rows)} finished cells has this value. If it is a metric, "
                    f"sweep.backfill([{value!r}], pipe=pipe) computes it from what is stored."
                )
            if missing := int((~finite).sum()):
                left_out[f"without {escape(value)}"] = missing
            rows = rows[finite]
        return Table(rows=rows, everything=self.everything, left_out=left_out)


def words_spread(
    tables: Sequence[Table], axes: Sequence[str | None], *, aggregate: str = "mean", each: str = "cell"
) -> str:
    """What one number of a plot of `tables` stands for: over which settings besides `axes`, and how many clips.

    Example:
        >>> words_spread([table], ["steps"])
        'mean over 2 pictures x 2 seeds, n = 3 to 4 clips a cell'
    """
    names = [name for name in axes if name]
    counts: set[int] = set()
    varying: dict[str, int] = {}
    for rows in (table.rows for table in tables):
        counts |= set(rows.groupby(names, observed=True, sort=False).size()) if names else {len(rows)}
        for name in SETTING_COLUMNS:
            if name in rows and name not in names:
                varying[name] = max(varying.get(name, 0), int(rows[name].nunique()))
    if max(counts) == 1:
        return f"one clip a {each}"
    over = " x ".join(count_of(name, count) for name, count in varying.items() if count > 1)
    return f"{aggregate} over {over or 'equal settings'}, n = {span(counts)} clips a {each}"


def words_left_out(tables: Sequence[Table]) -> str:
    """What is not in a plot of `tables` of one frame, as a sentence; empty if everything is.

    Example:
        >>> words_left_out([table])
        'left out: 1 failed, 2 without warp_error'
    """
    left_out: dict[str, int] = {}
    for table in tables:
        left_out |= table.left_out
    counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    return f"left out: {counts}" if counts else ""


def read_table(source: pd.DataFrame | Sweep, *, axes: Mapping[str, str | None], values: Mapping[str, str]) -> Table:
    """Check what a plot asks for, and take the finished cells.

    Args:
        source: a DataFrame, or a sweep, whose frame is taken.
        axes: argument -> column, or None; they must differ.
        values: argument -> column, which must hold numbers.

    Raises:
        ViewError: no such column, one column on two axes, no numbers, or no finished cells.
    """
    frame = _frame(source)
    named = {argument: column for argument, column in axes.items() if column is not None}
    for argument, column in [*named.items(), *values.items()]:
        check_column(frame, argument, column, error=ViewError)
    _check_distinct(named)
    for argument, column in values.items():
        _check_numeric(frame, argument, column)
    if frame.empty:
        raise ViewError("the table has no rows: there is nothing to draw.")
    left_out = {}
    if "status" in frame:
        for status, count in frame["status"].value_counts().items():
            if status != "done":
                left_out[str(status)] = int(count)
        if not (frame["status"] == "done").any():
            counts = ", ".join(f"{count} {status}" for status, count in left_out.items())
            raise ViewError(f"there are no finished cells ({counts}): run the sweep first, or look at its errors.")
    present = frame[list(named.values())].notna().all(axis=1) if named else pd.Series(True, index=frame.index)
    everything = frame[present]
    rows = everything[everything["status"] == "done"] if "status" in frame else everything
    done = int((frame["status"] == "done").sum()) if "status" in frame else len(frame)
    if lacking := done - len(rows):
        left_out[f"without {' or '.join(map(escape, named.values()))}"] = lacking
    if rows.empty:
        raise ViewError(f"no finished cell has a value of {' and '.join(map(repr, named.values()))}.")
    return Table(rows=rows, everything=everything, left_out=left_out)


def _frame(source: Any) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        return source
    if callable(getattr(source, "frame", None)):
        return source.frame()
    raise ViewError(f"df = {type(source).__name__}: must be a DataFrame, such as sweep.frame(), or a sweep.")


def _check_distinct(named: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for argument, column in named.items():
        if column in seen:
            raise ViewError(f"{seen[column]} and {argument} are both {column!r}: give each its own column.")
        seen[column] = argument


def _check_numeric(frame: pd.DataFrame, argument: str, column: str) -> None:
    if is_number(frame[column]):
        return
    numeric = [name for name in frame.columns if is_number(frame[name]) and name not in SETTING_COLUMNS]
    raise ViewError(
        f"{argument} = {column!r}: the column holds {frame[column].dtype} values and numbers are needed. "
        f"Numeric columns: {', '.join(map(str, numeric)) or 'none'}."
    )

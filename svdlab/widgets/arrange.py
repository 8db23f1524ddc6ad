"""Arrange: a frame and a view -> headers and tiles. `static/arrange.js` is the same in the browser.

Example:
    >>> arrangement = arrange(sweep.frame(), View.of(sweep, x="steps", y="seed"))
    >>> [header.label for header in arrangement.columns]
    ['steps 1', 'steps 2']
    >>> [[tile.status for tile in row] for row in arrangement.tiles]
    [['done', 'done'], ['failed', 'pending']]
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svdlab.widgets.view import View, metric_columns, same

if TYPE_CHECKING:
    import pandas as pd

MISSING = "missing"  # status of a tile without a cell


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a row or a column has in common: (axis, value) pairs, the super-axis first; empty if there is one only."""

    values: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """In words: ``"cond_aug 0.3, steps 4"``."""
        return ", ".join(f"{name} {show_value(value)}" for name, value in self.values)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One place of the arrangement.

    Attributes:
        cells: keys of all cells that belong here, in the order of the grid; more than one where an axis is not locked.
        cell: the one that is shown: the first that is done and passes the filters, else that is done, else that failed.
        status: of that cell; ``"missing"`` without one.
        value: mean of the view's metric over the cells that have it; None if none has.
        dimmed: whether there is a clip, and no cell of the tile passes the filters.
    """

    cells: tuple[str, ...] = ()
    cell: str | None = None
    status: str = MISSING
    value: float | None = None
    dimmed: bool = False


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Headers and tiles, `tiles[row][column]`. A flat list has one row, no headers, and captions: what differs from
    tile to tile."""

    rows: tuple[Header, ...]
    columns: tuple[Header, ...]
    tiles: tuple[tuple[Tile, ...], ...]
    captions: tuple[Header, ...] | None = None

    @property
    def flat(self) -> bool:
        """Whether this is a list and not a grid."""
        return self.captions is not None

    def keys(self) -> list[str]:
        """Keys of the cells that are shown, row by row."""
        return [tile.cell for row in self.tiles for tile in row if tile.cell is not None]


def arrange(frame: pd.DataFrame, view: View) -> Arrangement:
    """Put the cells of a frame where a view wants them.

    A view that sorts, or shows its shortlist, gives a flat list: of the cells that the locks leave and the filters
    pass, those without a value last; or of the shortlist, in its order unless it is sorted too.

    Args:
        frame: as `Sweep.frame` gives it.
        view: of the same sweep.
    """
    cells = _cells(frame, view)
    if view.show == "shortlist":
        chosen = {cell.key: cell for cell in cells}
        return _flat([chosen[key] for key in view.shortlist if key in chosen], view)
    shown = [cell for cell in cells if cell.locked]
    if view.sort is not None:
        return _flat([cell for cell in shown if cell.passes], view)
    return _grid(shown, view)


def count_passing(frame: pd.DataFrame, view: View) -> int:
    """How many cells of the whole frame pass the filters of a view."""
    return sum(cell.passes for cell in _cells(frame, view))


def show_value(value: Any) -> str:
    """A setting as text: 700.0 is 700, everything else as Python writes it."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


@dataclass(frozen=True, kw_only=True)
class _Cell:
    key: str
    status: str
    settings: Mapping[str, Any]
    values: Mapping[str, float | None]
    passes: bool
    locked: bool  # the locks of the view let it through


def _cells(frame: pd.DataFrame, view: View) -> list[_Cell]:
    names = [name for name in view.axes if name in frame.columns]
    metrics = [name for name in metric_columns(frame) if name in view.metrics]
    columns = {name: frame[name].tolist() for name in ("cell", "status", *names, *metrics)}
    cells = []
    for k, key in enumerate(columns["cell"]):
        settings = {name: columns[name][k] for name in names}
        values = {name: None if math.isnan(columns[name][k]) else columns[name][k] for name in metrics}
        locked = all(value is None or same(settings[name], value) for name, value in view.lock.items())
        passes = all(_within(values.get(name), limits) for name, limits in view.filters.items())
        status = columns["status"][k]
        cells.append(_Cell(key=key, status=status, settings=settings, values=values, passes=passes, locked=locked))
    return cells


def _within(value: float | None, limits: tuple[float | None, float | None]) -> bool:
    low, high = limits
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


def _grid(cells: Iterable[_Cell], view: View) -> Arrangement:
    rows, columns = _headers(view, ("super_y", "y")), _headers(view, ("super_x", "x"))
    placed: dict[tuple[Any, ...], list[_Cell]] = {}
    for cell in cells:
        where = tuple(cell.settings[name] for header in (rows[0], columns[0]) for name, _ in header.values)
        placed.setdefault(where, []).append(cell)

    def tile(row: Header, column: Header) -> Tile:
        return _tile(placed.get(tuple(value for _, value in (*row.values, *column.values)), ()), view)

    tiles = tuple(tuple(tile(row, column) for column in columns) for row in rows)
    return Arrangement(rows=rows, columns=columns, tiles=tiles)


def _headers(view: View, places: Iterable[str]) -> tuple[Header, ...]:
    names = [name for place in places if (name := getattr(view, place)) is not None]
    products = itertools.product(*(view.axes[name] for name in names))
    return tuple(Header(values=tuple(zip(names, values, strict=True))) for values in products)


def _flat(cells: Sequence[_Cell], view: View) -> Arrangement:
    if view.sort is not None:
        name, ascending = view.sort
        known = [cell for cell in cells if cell.values.get(name) is not None]
        rest = [cell for cell in cells if cell.values.get(name) is None]
        cells = sorted(known, key=lambda cell: cell.values[name] * (1 if ascending else -1)) + rest  # type: ignore[operator]
    said = [] if view.show == "shortlist" else [name for name, value in view.lock.items() if value is not None]
    varied = [name for name in view.axes if len(view.axes[name]) > 1 and name not in said]
    captions = tuple(Header(values=tuple((name, cell.settings[name]) for name in varied)) for cell in cells)
    return Arrangement(
        rows=(Header(),),
        columns=tuple(Header() for _ in cells),
        tiles=(tuple(_tile([cell], view) for cell in cells),),
        captions=captions,
    )


def _tile(cells: Sequence[_Cell], view: View) -> Tile:
    if not cells:
        return Tile()
    shown = min(cells, key=_rank)
    values = [value for cell in cells if (value := cell.values.get(view.metric or "")) is not None]
    return Tile(
        cells=tuple(cell.key for cell in cells),
        cell=shown.key,
        status=shown.status,
        value=math.fsum(values) / len(values) if values else None,
        dimmed=shown.status == "done" and not any(cell.passes for cell in cells),
    )


def _rank(cell: _Cell) -> int:
    if cell.status == "done":
        return 0 if cell.passes else 1
    return 2 if cell.status == "failed" else 3

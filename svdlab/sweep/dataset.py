"""Dataset: a sweep as an `xarray.Dataset`, one dimension an axis."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.errors import ExtraError, MetricError
from svdlab.sweep.columns import Column, describe_columns
from svdlab.sweep.frame import COSTS, build_frame, metric_columns, metric_versions
from svdlab.sweep.ledger import Ledger

if TYPE_CHECKING:
    import xarray

    from svdlab.sweep.handle import Sweep


def to_xarray(sweep: Sweep, metrics: Iterable[str] | None = None) -> xarray.Dataset:
    """The declared cells of a sweep as an `xarray.Dataset`.

    Dimensions are the axes that vary: `image` first if there are several pictures, then the grid, outermost first, each
    with its values as coordinates. Metrics and costs are float64 variables with the attributes `units`, `direction`,
    `version` and `long_name`, NaN where a cell is not done or a value is not defined. `cell` (keys) and `status` are
    coordinates over all dimensions; what is fixed is a scalar coordinate; the model is in the attributes.

    Args:
        metrics: names of metrics or costs, in this order; all of them for None.

    Raises:
        ExtraError: xarray is not installed.
        MetricError: a name is no metric or cost of this sweep.

    Example:
        >>> ds = sweep.to_xarray(["flow_mean", "warp_error"])
        >>> ds.flow_mean.mean("seed").sel(steps=4)
    """
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise ExtraError('to_xarray: needs the package xarray. Install it: pip install "svdlab[xarray]"') from error
    with Ledger(sweep.path) as ledger, ledger.transaction():
        frame, declared = build_frame(ledger), ledger.declaration()
        versions = metric_versions(ledger, frame["cell"])
    axes, fixed = sweep.axes, sweep.fixed
    names = _chosen(metrics, [*metric_columns(frame), *COSTS])
    shape, place = tuple(len(values) for values in axes.values()), _places(frame, axes)
    about = describe_columns([*names, *axes, *fixed], versions)

    def spread(column: str, empty: Any) -> np.ndarray:
        grid = np.full(shape, empty, dtype=object if isinstance(empty, str) else "float64")
        for index, value in zip(place, frame[column], strict=True):
            grid[index] = value
        return grid.astype(str) if isinstance(empty, str) else grid

    dims = tuple(axes)
    single = {"image": frame["image"].iloc[0]} if "image" not in axes and len(frame) else {}
    return xarray.Dataset(
        {name: (dims, spread(name, np.nan), _attributes(about[name])) for name in names},
        coords={
            **{name: (name, np.asarray(values), _attributes(about[name])) for name, values in axes.items()},
            **{name: ((), value, _attributes(about[name])) for name, value in fixed.items()},
            **{name: ((), value) for name, value in single.items()},
            **{name: (dims, spread(name, "")) for name in ("cell", "status")},
        },
        attrs={"sweep": declared.get("name", ""), **_model(declared.get("described", {}))},
    )


def _chosen(metrics: Iterable[str] | None, known: list[str]) -> list[str]:
    if isinstance(metrics, str):
        raise MetricError(f"metrics = {metrics!r}: must be a list of names, such as [{metrics!r}].")
    chosen = known if metrics is None else list(dict.fromkeys(metrics))
    if unknown := [name for name in chosen if name not in known]:
        raise MetricError(f"metrics: this sweep has no {', '.join(map(str, unknown))}. It has {', '.join(known)}.")
    return chosen


def _places(frame: Any, axes: Mapping[str, tuple[Any, ...]]) -> list[tuple[int, ...]]:
    """Where each row belongs in the grid. Rows are in the order of the grid already, but need not all be there."""
    index = {name: {value: k for k, value in enumerate(values)} for name, values in axes.items()}
    columns = [frame[name].tolist() for name in axes]
    if not columns:
        return list(itertools.repeat((), len(frame)))
    return [
        tuple(index[name][value] for name, value in zip(axes, row, strict=True)) for row in zip(*columns, strict=True)
    ]


def _attributes(column: Column) -> dict[str, str]:
    """What is known about a column, with `units` and `long_name` as xarray's plots look for them."""
    about = column.metadata()
    names = {"unit": "units", "description": "long_name"}
    return {names.get(key, key): value for key, value in about.items() if key != "kind"}


def _model(described: Mapping[str, Any]) -> dict[str, str]:
    """xarray writes attributes to files that know no None."""
    return {f"model_{name}": str(value) for name, value in described.items() if value is not None}

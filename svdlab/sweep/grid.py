"""Grid: which values each setting takes, and in which order their combinations are visited."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from svdlab.errors import RequestError, SpecError
from svdlab.request import SETTINGS, Request, SettingWarning, allowed, bounds
from svdlab.sweep.ranges import parse_values

ORDER = (
    *("width", "height", "num_frames", "cond_aug", "seed"),  # decide the conditioning, which is kept between cells
    *("motion_bucket_id", "fps", "min_guidance", "max_guidance", "sigma_max"),  # decide the first denoiser call
    *("gamma", "schedule", "steps", "decode_chunk"),  # share that call, and equal prefixes
)
"""Settings from the outermost axis to the innermost; the picture is outside of all. What is expensive to change
changes least often, so that neighbouring cells share as much work as they can."""

Where = Callable[[str], str]  # name of a setting -> prefix of an error, such as "first.toml:7: [grid] "


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The values of the axes and the fixed settings, checked; built by `make_grid`.

    Attributes:
        axes: setting -> its values, outermost first (`ORDER`); values in the order they were given in.
        fixed: setting -> its one value.

    Example:
        >>> grid = make_grid({"steps": [1, 2, 4], "seed": range(2)}, {"fps": 8})
        >>> len(grid), next(iter(grid))
        (6, {'seed': 0, 'steps': 1, 'fps': 8})
    """

    axes: Mapping[str, tuple[Any, ...]]
    fixed: Mapping[str, Any]

    def __len__(self) -> int:
        return math.prod(len(values) for values in self.axes.values())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Settings of every point, the last axis fastest."""
        for point in itertools.product(*self.axes.values()):
            yield {**dict(zip(self.axes, point, strict=True)), **self.fixed}

    @property
    def seeded(self) -> bool:
        """Whether the seeds are given, as an axis or fixed; if not, a sweep draws one for all its cells."""
        return "seed" in self.axes or "seed" in self.fixed


def make_grid(axes: Mapping[str, Any], fixed: Mapping[str, Any], *, where: Where | None = None) -> Grid:
    """Check every name and value, and put the axes in order.

    Args:
        axes: setting -> list (or range, array, other sequence) of values, a single value, or a text for `parse_values`.
        fixed: setting -> one value.
        where: gives the beginning of an error's text for a setting; names file and line if there is a file.

    Raises:
        SpecError: a name is unknown or on both sides, a list is empty or repeats a value, a value is not allowed.
    """
    where = where or (lambda name: "")
    for name in (*axes, *fixed):
        _check_name(name, where)
    if twice := [name for name in axes if name in fixed]:
        raise SpecError(f"{where(twice[0])}{twice[0]}: is an axis and fixed at the same time; keep one of the two.")
    read = {name: _axis(name, axes[name], where) for name in ORDER if name in axes}
    return Grid(axes=read, fixed={name: _fixed(name, fixed[name], where) for name in ORDER if name in fixed})


def split_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings as given to `svdlab.sweep`: lists (and texts such as "1..4") are axes, single values are fixed.

    A single None leaves the setting to the model.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    axes = {name: value for name, value in given.items() if _is_many(name, value)}
    return axes, {name: value for name, value in given.items() if name not in axes}


def _is_many(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return name in SETTINGS and bounds(name) is not None
    return isinstance(value, Iterable)


def _check_name(name: str, where: Where) -> None:
    if name in ("image", "images"):
        raise SpecError(f"{where(name)}{name}: is not a setting; give pictures as `images` (in a file: at the top).")
    if name not in SETTINGS:
        _canonical(name, None, where)  # raises, naming the closest


def _axis(name: str, given: Any, where: Where) -> tuple[Any, ...]:
    values = _values(name, given, where)
    if not values:
        raise SpecError(f"{where(name)}{name} = []: an axis needs at least one value; leave it out for the default.")
    values = tuple(_canonical(name, value, where) for value in values)
    for k, value in enumerate(values):
        if value in values[:k]:
            raise SpecError(f"{where(name)}{name}: the value {value!r} is listed twice; each may be listed once.")
    return values


def _values(name: str, given: Any, where: Where) -> tuple[Any, ...]:
    if isinstance(given, str) and bounds(name) is not None:
        try:
            return parse_values(given)
        except SpecError as error:
            raise SpecError(f"{where(name)}{name} = {error}") from None
    if isinstance(given, Mapping | set | frozenset | bytes):
        raise SpecError(f"{where(name)}{name} = {given!r}: must be a list of values (each {allowed(name)}).")
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)


def _fixed(name: str, value: Any, where: Where) -> Any:
    if (isinstance(value, str) and bounds(name) is not None) or (
        isinstance(value, Iterable) and not isinstance(value, str)
    ):
        raise SpecError(f"{where(name)}{name} = {value!r}: a fixed setting has one value, {allowed(name)}.")
    return _canonical(name, value, where)


def _canonical(name: str, value: Any, where: Where) -> Any:
    """The value as a request holds it (whole numbers of a float setting become floats), or an error in its words."""
    if value is None and name in SETTINGS:
        raise SpecError(f"{where(name)}{name} = None: must be {allowed(name)}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SettingWarning)  # given once, when the cells are built
            return getattr(Request(image="unnamed", **{name: value}), name)
    except RequestError as error:
        raise SpecError(f"{where(name)}{error}") from None

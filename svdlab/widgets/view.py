"""View: what of a sweep is looked at, and how. Plain, frozen state; `SweepViewer` is a view of a View.

Example:
    >>> view = View.of(sweep, x="steps", y="cond_aug")
    >>> view = view.select(motion_bucket_id=127, metric="flow_mean", show="both")
    >>> arrange(sweep.frame(), view).tiles[0][0].cell          # see svdlab.widgets.arrange
    'b7a0db9b006c460c'
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from svdlab.errors import ViewError
from svdlab.request import SETTINGS
from svdlab.sweep.frame import COSTS

if TYPE_CHECKING:
    from typing import Literal

    import pandas as pd

    from svdlab.sweep import Sweep

    Show = Literal["grid", "heat", "both", "shortlist"]

PLACES = ("x", "y", "super_x", "super_y")
SHOWS = ("grid", "heat", "both", "shortlist")
_TEXT = ("cell", "image", "status", "video", "error", "declared", "model")  # columns of a frame that are no numbers
_SAFE = 2**53  # whole numbers up to here survive JavaScript


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, kw_only=True, repr=False)
class View:
    """What of a sweep is shown. Build it with `View.of`, change it with `select`; both check every name and value.

    Attributes:
        x, y: axes across and down; None: one column, one row.
        super_x, super_y: axes whose values each repeat all of x, or all of y.
        lock: every other axis -> the one value that is shown; None: all values, so that a tile holds several cells,
            shows the first that is done, and its number is their mean.
        metric: the number on the heat map; None without metrics.
        filters: metric -> (low, high), both included, None for no limit. What does not pass is dimmed.
        sort: (metric, ascending): a flat list in this order in place of the grid; None: the grid.
        shortlist: keys of the cells that were picked.
        show: ``"grid"`` (clips), ``"heat"`` (numbers), ``"both"``, or ``"shortlist"`` (the picked cells alone).
        axes: axis -> its values, of the sweep that this is a view of.
        metrics: names of its metrics and costs.

    Raises:
        ViewError: a name, value or combination that cannot be.
    """

    x: str | None = None
    y: str | None = None
    super_x: str | None = None
    super_y: str | None = None
    lock: Mapping[str, Any] = field(default_factory=_empty, hash=False)
    metric: str | None = None
    filters: Mapping[str, tuple[float | None, float | None]] = field(default_factory=_empty, hash=False)
    sort: tuple[str, bool] | None = None
    shortlist: tuple[str, ...] = ()
    show: Show = "grid"
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=_empty, hash=False, repr=False)
    metrics: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        self._check_places()
        set_field = object.__setattr__  # the way in for a frozen dataclass
        set_field(self, "lock", MappingProxyType(self._full_lock()))
        set_field(self, "filters", MappingProxyType({name: self._limits(name) for name in self.filters}))
        set_field(self, "sort", self._checked_sort())
        set_field(self, "shortlist", _keys(self.shortlist))
        if self.metric is not None:
            self._check_metric("metric", self.metric)
        if self.show not in SHOWS:
            raise ViewError(f"show = {self.show!r}: must be one of {', '.join(map(repr, SHOWS))}.")

    @classmethod
    def of(cls, source: Sweep | pd.DataFrame, **changes: Any) -> View:
        """The view of a sweep, or of its frame, that a person would begin with, changed as by `select`.

        The axis with most values goes across and the next one down, seeds last; the others are locked to their first
        value; the first metric colours the heat map.

        Args:
            source: a `Sweep`, or a frame as `Sweep.frame` gives it. A frame's axes are the settings that vary in it,
                numbers in ascending order.
            changes: as for `select`.

        Example:
            >>> View.of(sweep, x="seed", show="both")
        """
        import pandas as pd

        frame = source if isinstance(source, pd.DataFrame) else source.frame()
        axes = _frame_axes(frame) if isinstance(source, pd.DataFrame) else dict(source.axes)
        metrics = metric_columns(frame)
        x, y = (*_by_interest(axes)[:2], None, None)[:2]
        view = cls(x=x, y=y, metric=metrics[0] if metrics else None, axes=MappingProxyType(axes), metrics=metrics)
        return view.select(**changes)

    def select(self, **changes: Any) -> View:
        """A new view with some parts changed.

        Args:
            changes: names of the attributes (`x`, `y`, `super_x`, `super_y`, `lock`, `metric`, `filters`, `sort`,
                `shortlist`, `show`), or of axes, which are locked to the value given (None: all its values). An axis
                that is put in a place which another one holds trades places with it; an axis that is locked leaves
                its place empty.

        Raises:
            ViewError: an unknown name or value, or an axis that is placed and locked at once.

        Example:
            >>> view.select(x="motion_bucket_id", y="cond_aug", steps=4)
        """
        parts = {name: value for name, value in changes.items() if name in _PARTS}
        locked = {name: value for name, value in changes.items() if name not in _PARTS}
        locked = {**dict(parts.pop("lock", None) or {}), **locked}
        for name in locked:
            self._check_axis("lock", name)
        wanted = {place: parts.pop(place) for place in PLACES if place in parts}
        if both := [name for name in wanted.values() if name in locked]:
            raise ViewError(f"{both[0]}: is to be shown along an axis and locked at the same time; choose one of both.")
        places = {place: None if getattr(self, place) in locked else getattr(self, place) for place in PLACES}
        changed: dict[str, Any] = {**self._placed(places, wanted), "lock": {**self.lock, **locked}, **parts}
        return replace(self, **changed)

    def _placed(self, places: dict[str, str | None], wanted: Mapping[str, str | None]) -> dict[str, str | None]:
        """`places` with `wanted` put in; an axis that was elsewhere trades with the one it pushes out."""
        named = [name for name in wanted.values() if name is not None]
        if len(set(named)) < len(named):
            raise ViewError(f"{', '.join(f'{place}={name!r}' for place, name in wanted.items())}: each axis once.")
        for place, name in wanted.items():
            if name is not None:
                self._check_axis(place, name)
                before = next((other for other in PLACES if places[other] == name), None)
                if before is not None:
                    places[before] = places[place] if before not in wanted else None
            places[place] = name
        return places

    def others(self) -> tuple[str, ...]:
        """The axes that are in no place: those of `lock`."""
        placed = [getattr(self, place) for place in PLACES]
        return tuple(name for name in self.axes if name not in placed)

    def parts(self) -> dict[str, Any]:
        """The view without `axes` and `metrics`: what `select` takes."""
        return {name: getattr(self, name) for name in sorted(_PARTS)}

    def refit(self, own: View) -> View:
        """This view for a sweep that has changed: `own` is a view of it; what it no longer has is as in `own`.

        Example:
            >>> view.refit(View.of(sweep))                      # after values were added to the sweep
        """
        places: dict[str, Any] = {
            place: name if (name := getattr(self, place)) in own.axes else None for place in PLACES
        }
        if not any(places.values()):
            places = {place: getattr(own, place) for place in PLACES}
        others = [name for name in self.lock if name in own.axes and name not in places.values()]
        lock = {name: value for name in others if _has(own.axes[name], value := self.lock[name])}
        return replace(
            own,
            **places,
            lock=lock,
            metric=self.metric if self.metric in own.metrics else own.metric,
            filters={name: limits for name, limits in self.filters.items() if name in own.metrics},
            sort=self.sort if self.sort and self.sort[0] in own.metrics else None,
            shortlist=self.shortlist,
            show=self.show,
        )

    def to_dict(self) -> dict[str, Any]:
        """The view without `axes` and `metrics`, ready for JSON. Whole numbers beyond 2^53 become text.

        Example:
            >>> View.of(sweep).select(**view.to_dict()) == view
            True
        """
        return {
            **{name: getattr(self, name) for name in (*PLACES, "metric", "show")},
            "lock": {name: json_value(value) for name, value in self.lock.items()},
            "filters": {name: list(limits) for name, limits in self.filters.items()},
            "sort": None if self.sort is None else list(self.sort),
            "shortlist": list(self.shortlist),
        }

    def code(self, sweep: str = "sweep") -> str:
        """Python that builds this view again; `sweep`: the expression that gives the sweep."""
        given: dict[str, Any] = {place: getattr(self, place) for place in PLACES if getattr(self, place)}
        given |= {name: getattr(self, name) for name in ("x", "y")} | dict(self.lock)
        plain: dict[str, Any] = {"metric": self.metric, "filters": dict(self.filters), "sort": self.sort}
        plain |= {"shortlist": self.shortlist, "show": self.show}
        given |= {name: value for name, value in plain.items() if value}
        arguments = "".join(f"    {name}={value!r},\n" for name, value in given.items())
        return f"View.of(\n    {sweep},\n{arguments})"

    def __repr__(self) -> str:
        shown = {part.name: getattr(self, part.name) for part in fields(self) if part.repr}
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in shown.items()}
        return f"View({', '.join(f'{name}={value!r}' for name, value in plain.items() if value)})"

    # Checks.

    def _check_places(self) -> None:
        placed = [name for place in PLACES if (name := getattr(self, place)) is not None]
        for place in PLACES:
            if getattr(self, place) is not None:
                self._check_axis(place, getattr(self, place))
        if twice := [name for name in placed if placed.count(name) > 1]:
            raise ViewError(f"{twice[0]}: is in two places; each axis may be shown along one of {', '.join(PLACES)}.")

    def _check_axis(self, place: str, name: Any) -> None:
        if name in self.axes:
            return
        known = ", ".join(self.axes) or "none: nothing varies"
        text = f"{name} = ...: " if place == "lock" else f"{place} = {name!r}: "
        raise ViewError(f"{text}is no axis of this sweep.{_close(name, self.axes)} Its axes are {known}.")

    def _check_metric(self, where: str, name: Any) -> None:
        if name not in self.metrics:
            known = ", ".join(self.metrics) or "none"
            raise ViewError(
                f"{where} = {name!r}: is no metric of this sweep.{_close(name, self.metrics)} It has {known}."
            )

    def _full_lock(self) -> dict[str, Any]:
        for name in self.lock:
            self._check_axis("lock", name)
        return {name: self._locked(name) for name in self.others()}

    def _locked(self, name: str) -> Any:
        values = self.axes[name]
        value = self.lock.get(name, values[0] if values else None)
        if value is None:
            return None
        for known in values:
            if same(value, known):
                return known
        shown = ", ".join(map(repr, values[:12])) + (", ..." if len(values) > 12 else "")
        raise ViewError(f"{name} = {value!r}: the sweep has no such value. It has {shown}; None shows all of them.")

    def _limits(self, name: str) -> tuple[float | None, float | None]:
        self._check_metric("filters", name)
        limits: Any = self.filters[name]
        ok = isinstance(limits, Iterable) and not isinstance(limits, str) and len(limits := tuple(limits)) == 2
        if not ok or not all(limit is None or (_is_number(limit) and not math.isnan(limit)) for limit in limits):
            raise ViewError(
                f"filters[{name!r}] = {limits!r}: must be (low, high), numbers or None for no limit; both are included."
            )
        low = None if limits[0] is None else float(limits[0])
        high = None if limits[1] is None else float(limits[1])
        if low is not None and high is not None and low > high:
            raise ViewError(f"filters[{name!r}] = ({low:g}, {high:g}): low must not exceed high.")
        return low, high

    def _checked_sort(self) -> tuple[str, bool] | None:
        if self.sort is None:
            return None
        if isinstance(self.sort, str) or len(self.sort) != 2 or not isinstance(self.sort[1], bool):
            raise ViewError(
                f"sort = {self.sort!r}: must be (metric, ascending), such as ('flow_mean', False), or None."
            )
        self._check_metric("sort", self.sort[0])
        return str(self.sort[0]), self.sort[1]


_PARTS = {part.name for part in fields(View)} - {"axes", "metrics"}


def metric_columns(frame: pd.DataFrame) -> tuple[str, ...]:
    """Names of the metrics in a frame, then of the costs that it has values for.

    Example:
        >>> metric_columns(sweep.frame())
        ('flow_mean', 'warp_error', 'seconds', 'seconds_denoise', 'seconds_decode', 'seconds_spent')
    """
    names = [name for name in frame.columns if name not in (*_TEXT, *SETTINGS)]
    return tuple(name for name in names if name not in COSTS or frame[name].notna().any())


def same(given: Any, known: Any) -> bool:
    """Whether a value that was given means this value of an axis: equal, and a number only for a number."""
    if isinstance(known, str):
        return isinstance(given, str) and given == known
    if isinstance(given, str):  # what JavaScript cannot count comes back as text
        return isinstance(known, int) and abs(known) > _SAFE and given == str(known)
    return _is_number(given) and bool(given == known)


def _has(values: Iterable[Any], value: Any) -> bool:
    return value is None or any(same(value, known) for known in values)


def json_value(value: Any) -> Any:
    """A value of an axis as JavaScript can hold it: NumPy's numbers as Python's, very large whole ones as text."""
    value = value.item() if hasattr(value, "item") else value
    return str(value) if isinstance(value, int) and abs(value) > _SAFE else value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _frame_axes(frame: pd.DataFrame) -> dict[str, tuple[Any, ...]]:
    """What varies in a frame. Numbers ascend: rows may have been taken out, so their order says nothing."""
    names = [name for name in frame.columns if name in ("image", *SETTINGS)]
    found = {name: [getattr(value, "item", lambda v=value: v)() for value in frame[name].unique()] for name in names}
    ordered = {name: sorted(values) if all(map(_is_number, values)) else values for name, values in found.items()}
    return {name: tuple(values) for name, values in ordered.items() if len(values) > 1}


def _by_interest(axes: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """Axes that vary, those with most values first, seeds last: two seeds differ in nothing that was asked for."""
    varied = [name for name in axes if len(axes[name]) > 1]
    return sorted(varied, key=lambda name: (name == "seed", -len(axes[name])))


def _keys(shortlist: Any) -> tuple[str, ...]:
    if isinstance(shortlist, str) or not all(isinstance(key, str) for key in shortlist):
        raise ViewError(f"shortlist = {shortlist!r}: must be a list of keys from the column `cell`.")
    return tuple(dict.fromkeys(shortlist))


def _close(name: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""

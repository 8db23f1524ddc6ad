"""The registry of metrics: what each number is called, what it means, what it needs, and how to add your own.

A metric is one function of a `Scoring` (the scoring context) that returns a float, or a 1-D array with one value per
frame or per pair of neighbouring frames, whose mean is then the metric.

Example:
    >>> from svdlab import metrics
    >>> @metrics.metric("darkest", unit="levels", range=(0, 255), direction="neutral", per_frame=True)
    ... def darkest(scoring):
    ...     "The darkest value of each frame."
    ...     return scoring.frames.min(axis=(1, 2, 3))
    >>> metrics.score(clip, names=["darkest", "flow_mean"])
    {'darkest': 3.0, 'flow_mean': 1.2}
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from svdlab.errors import MetricError

if TYPE_CHECKING:
    from svdlab.metrics.context import Scoring

Direction = Literal["higher", "lower", "neutral"]
NEEDS = frozenset({"image", "reference", "encoder", "timings", "lpips"})

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_METRICS: dict[str, Metric] = {}


class NotComputableError(MetricError):
    """This clip lacks what the metric needs: a picture, an encoder, timings, frames or pixels enough.

    The default table leaves such a metric out; a metric asked for by name raises.
    """


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What is known about one metric.

    Attributes:
        name: its name in the registry, and the column it becomes.
        function: computes it from a `Scoring`.
        unit: for example ``"px/frame"``; ``""`` for a plain number.
        range: smallest and largest possible value.
        direction: ``"higher"`` or ``"lower"`` is better, or ``"neutral"``.
        version: raised whenever the numbers change; stored beside every value.
        needs: any of ``image`` (the prepared input picture), ``reference`` (frames of another run), ``encoder`` (embeds
            frames), ``timings`` (stage seconds of the run) and ``lpips`` (the LPIPS weights).
        family: the module it comes from, such as ``"flow"``.
        description: what it says, degenerate cases included.
        source: paper, equation or code that the formula is from.
        per_frame: True if `function` returns a curve, whose mean is the metric.
        min_frames: fewest frames for which it is defined.
        settings: what was held fixed, such as a working resolution; two values compare only if these are equal.
    """

    name: str
    function: Callable[[Scoring], Any] = field(repr=False)
    unit: str = ""
    range: tuple[float, float] = (-math.inf, math.inf)
    direction: Direction = "neutral"
    version: int = 1
    needs: frozenset[str] = frozenset()
    family: str = "own"
    description: str = field(default="", repr=False)
    source: str = ""
    per_frame: bool = False
    min_frames: int = 1
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise MetricError(
                f"metric name {self.name!r} cannot be a column name: use small letters, digits and underscores, "
                "beginning with a letter."
            )
        if self.direction not in get_args(Direction):
            raise MetricError(
                f"metric {self.name!r}: direction={self.direction!r} is not one of {', '.join(get_args(Direction))}."
            )
        if unknown := sorted(self.needs - NEEDS):
            raise MetricError(f"metric {self.name!r}: needs={unknown} is unknown; allowed are {sorted(NEEDS)}.")
        low, high = self.range
        if not low < high:  # also catches NaN
            raise MetricError(f"metric {self.name!r}: range={self.range!r} must be (low, high) with low < high.")
        if self.version < 1 or self.min_frames < 1:
            raise MetricError(f"metric {self.name!r}: version and min_frames count from 1.")

    def describe(self) -> dict[str, Any]:
        """All but the function, as plain values that pandas and JSON take.

        Example:
            >>> pd.DataFrame(metrics.describe())
        """
        return {
            "name": self.name,
            "family": self.family,
            "unit": self.unit,
            "low": float(self.range[0]),
            "high": float(self.range[1]),
            "direction": self.direction,
            "version": self.version,
            "needs": sorted(self.needs),
            "per_frame": self.per_frame,
            "min_frames": self.min_frames,
            "settings": dict(self.settings),
            "description": self.description,
            "source": self.source,
        }


def metric(
    name: str,
    *,
    unit: str = "",
    range: tuple[float, float] = (-math.inf, math.inf),
    direction: Direction = "neutral",
    version: int = 1,
    needs: Iterable[str] = (),
    family: str | None = None,
    source: str = "",
    per_frame: bool = False,
    min_frames: int = 1,
    settings: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> Callable[[Callable[[Scoring], Any]], Callable[[Scoring], Any]]:
    """Register the decorated function of a `Scoring` as the metric `name`; its docstring becomes the description.

    The function itself is returned unchanged. Running the same notebook cell again replaces the metric quietly; taking
    a name that another function has already is an error unless `replace` is true. The other arguments are those of
    `Metric`.

    Raises:
        MetricError: the name is taken, or a setting is not allowed.
    """

    def register(function: Callable[[Scoring], Any]) -> Callable[[Scoring], Any]:
        old = _METRICS.get(name)
        if old is not None and not replace and _home(old.function) != _home(function):
            raise MetricError(
                f"the metric name {name!r} is taken by {'.'.join(_home(old.function))}: choose another name, or pass "
                "replace=True to put yours in its place."
            )
        _METRICS[name] = Metric(
            name=name,
            function=function,
            unit=unit,
            range=range,
            direction=direction,
            version=version,
            needs=frozenset(needs),
            family=family or function.__module__.rpartition(".")[2],
            description=inspect.cleandoc(function.__doc__ or ""),
            source=source,
            per_frame=per_frame,
            min_frames=min_frames,
            settings=MappingProxyType(dict(settings or {})),
        )
        return function

    return register


def get(name: str) -> Metric:
    """The metric called `name`.

    Raises:
        MetricError: there is none; the message says how to have it if it is one that has to be asked for, or else
            lists the closest names.
    """
    if isinstance(name, str) and name in _METRICS:
        return _METRICS[name]
    from svdlab.metrics.vbench_networks import how_to_have  # which imports this module

    if how := how_to_have(str(name)):
        raise MetricError(f"metric {name!r} is not in use: {how}")
    close = difflib.get_close_matches(str(name), _METRICS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known are {', '.join(_METRICS)}."
    raise MetricError(f"unknown metric {name!r}: {hint}")


def names() -> list[str]:
    """Names of all metrics, in the order in which they were registered: those of svdlab by family, then your own."""
    return list(_METRICS)


def describe(names: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """One plain dict a metric (`Metric.describe`), for all metrics or for `names`.

    Raises:
        MetricError: a name is unknown.
    """
    return [m.describe() for m in select(names)]


def versions(names: Iterable[str] | None = None) -> dict[str, int]:
    """Name -> version, for all metrics or for `names`. Numbers of different versions are not comparable.

    Raises:
        MetricError: a name is unknown.

    Example:
        >>> versions(["flow_mean"])
        {'flow_mean': 1}
    """
    return {m.name: m.version for m in select(names)}


def select(names: Iterable[str] | None) -> list[Metric]:
    """The metrics called `names`, each once, in that order; all of them for None.

    Raises:
        MetricError: a name is unknown, or `names` is a single string.
    """
    if names is None:
        return list(_METRICS.values())
    if isinstance(names, str):
        raise MetricError(f"names={names!r} is a single string: pass a list of names, such as [{names!r}].")
    return [get(name) for name in dict.fromkeys(names)]


def evaluate(metric: Metric, scoring: Scoring) -> float | np.ndarray:
    """The value of `metric`: a float, or for a ``per_frame`` metric its curve (float64, 1-D). Finite, always.

    Raises:
        NotComputableError: `scoring` lacks what the metric needs.
        MetricError: the function returned something else than finite numbers.
    """
    for need in sorted(metric.needs - {"lpips"}):
        if words := scoring.lacks(need):
            raise NotComputableError(f"metric {metric.name!r} needs {words}")
    if len(scoring.frames) < metric.min_frames:
        raise NotComputableError(
            f"metric {metric.name!r} compares neighbouring frames and needs at least {metric.min_frames} of them; "
            f"this clip has {len(scoring.frames)}. Leave the metric out, or make a longer clip."
        )
    result = metric.function(scoring)
    try:
        value = np.asarray(result)
    except ValueError as error:  # a ragged list
        raise MetricError(f"metric {metric.name!r} must return numbers; it returned {result!r}.") from error
    if value.dtype.kind not in "biuf":
        raise MetricError(f"metric {metric.name!r} must return real numbers; it returned {result!r}.")
    wanted = "a 1-D array of numbers" if metric.per_frame else "one number"
    if value.ndim != int(metric.per_frame) or value.size == 0:
        raise MetricError(
            f"metric {metric.name!r} must return {wanted}; it returned shape {list(value.shape)}. "
            "Declare per_frame=True for a curve, False for one number."
        )
    if not np.isfinite(value).all():
        raise MetricError(f"metric {metric.name!r} must return finite numbers; it returned {result!r}.")
    return value.astype(np.float64) if metric.per_frame else float(value)


def _home(function: Callable[..., Any]) -> tuple[str, str]:
    """Where a function was written: equal for two runs of one notebook cell."""
    return function.__module__, function.__qualname__

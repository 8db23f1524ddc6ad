"""Per-frame metrics as a page takes them: plain numbers, one a frame, None where there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svdlab.clip import Clip
from svdlab.errors import WidgetError

Values = list[float | None]
Curves = dict[str, list[Values]]


def read_curves(metrics: Any, clips: Sequence[Clip]) -> dict[str, dict[str, Any]]:
    """Metrics for `clips` as ``{name: {"unit": text, "values": [one list a clip]}}``.

    Args:
        metrics: None; ``"auto"`` for all per-frame metrics that svdlab knows; or a dict name -> one sequence of
            per-frame values a clip, or for a single clip its sequence alone. NaN, infinity and None mean "no value".
        clips: the clips that they belong to.

    Raises:
        WidgetError: another kind of argument, or not one number a frame for every clip.

    Example:
        >>> read_curves({"brightness": [[0.1, 0.2, math.nan]]}, [clip_of_three_frames])
        {'brightness': {'unit': '', 'values': [[0.1, 0.2, None]]}}
    """
    if metrics is None:
        return {}
    if isinstance(metrics, str) and metrics == "auto":
        metrics = _measured(clips)
    if not isinstance(metrics, Mapping):
        raise WidgetError(f"metrics = {metrics!r:.80}: must be None, 'auto', or a dict name -> values a clip.")
    return {_name(name): {"unit": _unit(name), "values": _read(name, of, clips)} for name, of in metrics.items()}


def _measured(clips: Sequence[Clip]) -> dict[str, list[Any]]:
    """All per-frame metrics of each clip; a clip for which one is not defined has NaN throughout."""
    from svdlab.metrics.per_frame import per_frame_metrics

    found = [per_frame_metrics(clip) for clip in clips]
    names = dict.fromkeys(name for of_clip in found for name in of_clip)
    nothing = [np.full(len(clip), math.nan) for clip in clips]
    return {name: [of.get(name, none) for of, none in zip(found, nothing, strict=True)] for name in names}


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise WidgetError(f"metrics: {name!r} is no name; names are text.")
    return name


def _unit(name: str) -> str:
    from svdlab.metrics import registry

    return registry.get(name).unit if name in registry.names() else ""


def _read(name: str, values: Any, clips: Sequence[Clip]) -> list[Values]:
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str):
        raise WidgetError(f"metrics[{name!r}]: got {type(values).__name__}; give one list of values a clip.")
    curves = list(values)
    if len(clips) == 1 and curves and all(_is_number(value) for value in curves):
        curves = [curves]
    if len(curves) != len(clips):
        raise WidgetError(f"metrics[{name!r}]: got {len(curves)} lists, wanted {len(clips)}, one a clip.")
    return [_curve(f"metrics[{name!r}][{at}]", curve, len(clips[at])) for at, curve in enumerate(curves)]


def _curve(where: str, values: Any, frames: int) -> Values:
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str):
        raise WidgetError(f"{where}: got {type(values).__name__}; give a list of numbers, one a frame.")
    if len(values) != frames:
        raise WidgetError(
            f"{where}: {len(values)} values for {frames} frames; give one a frame, NaN where there is none."
        )
    for value in values:
        if not _is_number(value):
            raise WidgetError(f"{where}: {value!r} is not a number; give numbers, NaN where there is none.")
    return [None if value is None or not math.isfinite(value) else float(value) for value in values]


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float | np.number) and not isinstance(value, bool))

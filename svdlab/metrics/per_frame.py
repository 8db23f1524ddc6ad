"""Metrics frame by frame: curves of one length, so that they can be drawn under the frames that they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.errors import MetricError
from svdlab.metrics.context import Encoder, Scoring
from svdlab.metrics.registry import NotComputableError, evaluate, select
from svdlab.metrics.score import ClipLike, score_frames, scoring_of

if TYPE_CHECKING:
    import torch


def per_frame_metrics(
    clip: ClipLike | Scoring,
    names: Iterable[str] | None = None,
    *,
    image: Any = None,
    encoder: Encoder | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, np.ndarray]:
    """The curves of a clip, one value a frame: name -> float64 [frames], NaN where a frame has no value.

    What compares two neighbours (`flow_mean`, `flicker`) stands at the later of them, where the change is seen, so
    frame 0 has none; what compares three (`jerk`) stands at the middle one. The mean of what is not NaN is the value
    that `metrics.score` gives.

    Args:
        clip: a clip, or anything with ``.frames``, as for `metrics.score`.
        names: metrics with a curve, in this order. None takes those that this clip allows and that need no LPIPS
            network, so that it is quick and fetches nothing; name the ``lpips_*`` metrics to have them too.
        image, encoder, device: as for `metrics.score`.

    Raises:
        MetricError: a name is unknown or has no curve, the clip lacks what a named metric needs, or a curve cannot be
            placed on the frames.
        WeightsError: LPIPS is asked for and its weights cannot be had.

    Example:
        >>> per_frame_metrics(clip, ["flow_mean"])["flow_mean"][:3]
        array([ nan, 1.21, 1.19])
    """
    scoring = scoring_of(clip, image, encoder, device=device)
    curves = _allowed(scoring) if names is None else score_frames(scoring, names=names)
    return {name: align(curve, len(scoring.frames), name=name) for name, curve in curves.items()}


def align(curve: np.ndarray, frames: int, *, name: str = "curve") -> np.ndarray:
    """A curve over frames, pairs or triples of neighbours as float64 [frames], NaN where there is no value.

    Raises:
        MetricError: the curve has neither `frames` values, nor one or two fewer.

    Example:
        >>> align(np.array([1.0, 2.0]), 3), align(np.array([1.0, 2.0]), 4)
        (array([nan,  1.,  2.]), array([nan,  1.,  2., nan]))
    """
    missing = frames - len(curve)
    if missing not in (0, 1, 2) or len(curve) == 0:
        raise MetricError(
            f"metric {name!r}: {len(curve)} values for {frames} frames cannot be placed. A curve has one value a "
            "frame, a pair of neighbours (one fewer) or an inner frame (two fewer)."
        )
    placed = np.full(frames, np.nan)
    lead = min(missing, 1)
    placed[lead : lead + len(curve)] = curve
    return placed


def _allowed(scoring: Scoring) -> dict[str, np.ndarray]:
    """The curves that this clip allows, without those that need the LPIPS network."""
    curves = {}
    for metric in select(None):
        if not metric.per_frame or "lpips" in metric.needs:
            continue
        try:
            curves[metric.name] = np.asarray(evaluate(metric, scoring))
        except NotComputableError:
            continue
    return curves

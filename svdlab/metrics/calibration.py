"""Measuring the clips of known truth: what every metric reads on them, and whether it reads what it must.

Example:
    >>> clips = known_clips(photo)
    >>> table = calibration_table(clips)
    >>> table.loc["flow_mean", "pan"]
    1.998
    >>> checks = calibration_checks(clips, table)
    >>> checks[~checks.holds]                            # none, for a photograph with structure all over
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from svdlab.errors import MetricError
from svdlab.metrics.known_stage import KnownClip
from svdlab.metrics.registry import NotComputableError, evaluate, select
from svdlab.metrics.score import scoring_of

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from svdlab.metrics.context import Encoder

logger = logging.getLogger("svdlab")


def calibration_table(
    clips: Mapping[str, KnownClip],
    names: Iterable[str] | None = None,
    *,
    encoder: Encoder | None = None,
    device: str | torch.device = "cpu",
) -> pd.DataFrame:
    """What the metrics read on clips of known truth: one row a metric, one column a clip.

    Args:
        clips: of `svdlab.metrics.known_clips`, or some of them.
        names: metrics, in this order; your own may be among them. None takes all but the costs of a run, and those
            that need an encoder only if there is one.
        encoder: for the ``clip_*`` metrics, such as a loaded pipeline.
        device: where the LPIPS network runs.

    Returns:
        float64; NaN where a metric is not defined for a clip.

    Raises:
        MetricError: a name is unknown.
        WeightsError: LPIPS is wanted and its weights cannot be had.

    Example:
        >>> calibration_table(known_clips(photo), ["flow_mean", "warp_error"]).round(4)
    """
    import pandas as pd

    without = {"timings"} if encoder is not None else {"timings", "encoder"}
    chosen = [m for m in select(names) if names is not None or not m.needs & without]
    columns: dict[str, dict[str, float]] = {}
    for name, clip in clips.items():
        scoring = scoring_of(clip, encoder=encoder, reference=clip.reference, device=device)
        column = columns[name] = dict.fromkeys([m.name for m in chosen], np.nan)
        for metric in chosen:
            try:
                column[metric.name] = float(np.mean(evaluate(metric, scoring)))
            except NotComputableError as error:
                logger.debug("left out: %s", error)
    return pd.DataFrame(columns, dtype=np.float64).rename_axis(index="metric", columns="clip")


def calibration_checks(clips: Mapping[str, KnownClip], table: pd.DataFrame) -> pd.DataFrame:
    """Every expectation of `clips` beside what was read: one row an expectation that `table` has a value for.

    Args:
        clips: of `svdlab.metrics.known_clips`, or some of them.
        table: of `calibration_table`, for the same clips.

    Returns:
        Columns `clip`, `metric`, `kind` (see `svdlab.metrics.Expectation`), `low`, `high`, `value`, `holds`, `over`,
        `why`. Where `over` names a clip, `value` is the ratio to the reading on it.

    Raises:
        MetricError: `table` lacks one of the clips.

    Example:
        >>> calibration_checks(clips, table).query("metric == 'warp_error' and kind == 'blind'")
    """
    import pandas as pd

    if missing := [name for name in clips if name not in table]:
        raise MetricError(f"table has no column for {', '.join(missing)}: make it with calibration_table(clips).")
    rows = []
    for name, clip in clips.items():
        for about in clip.expectations:
            if about.metric not in table.index or (about.over and about.over not in table):
                continue
            value = float(table.loc[about.metric, name])  # type: ignore[arg-type]
            if about.over:
                value /= float(table.loc[about.metric, about.over])  # type: ignore[arg-type]
            if np.isnan(value):
                continue
            rows.append(
                {
                    "clip": name,
                    "metric": about.metric,
                    "kind": about.kind,
                    "low": about.low,
                    "high": about.high,
                    "value": value,
                    "holds": about.low <= value <= about.high,
                    "over": about.over,
                    "why": about.why,
                }
            )
    columns = ["clip", "metric", "kind", "low", "high", "value", "holds", "over", "why"]
    return pd.DataFrame(rows, columns=columns).astype({"holds": bool})

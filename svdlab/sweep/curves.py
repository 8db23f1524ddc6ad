"""Curves: the metrics of a whole sweep frame by frame, as one tidy table."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from svdlab.errors import MetricError, SweepError
from svdlab.sweep.artifacts import LATENTS, load_clip, read_manifest
from svdlab.sweep.decode import check_frames
from svdlab.sweep.measure import DECODED, VIDEO
from svdlab.sweep.progress import counted

if TYPE_CHECKING:
    import pandas as pd

    from svdlab.pipeline import Pipeline
    from svdlab.sweep.handle import Sweep

log = logging.getLogger("svdlab")


def per_frame(
    sweep: Sweep, metrics: Iterable[str] | None = None, *, pipe: Pipeline | None = None, progress: bool = True
) -> pd.DataFrame:
    """Metrics frame by frame of all finished cells of the declaration: one row a cell, metric and frame.

    Columns: `cell`, `frame` (from 0), `metric`, `value` (NaN where a frame has none, see
    `svdlab.metrics.per_frame.per_frame_metrics`), `source`: `latents` for frames that `pipe` decoded again, which are
    exact; `video` for those of the mp4, which are lossy.

    Args:
        metrics: names of metrics with a curve; None for those that each clip allows and that need no LPIPS network.
        pipe: the model of the sweep; decodes the latents, and embeds frames for the metrics that need it.
        progress: show a progress bar.

    Raises:
        MetricError: a name is unknown or has no curve, or a metric cannot be computed.
        SweepError: `pipe` has other weights than the sweep, or there is none and cells are not decoded yet.
        WeightsError: LPIPS is asked for and its weights cannot be had.

    Example:
        >>> curves = sweep.per_frame(["flow_mean"], pipe=pipe).merge(sweep.frame()[["cell", "steps"]], on="cell")
        >>> curves.groupby(["steps", "frame"])["value"].mean()
    """
    import pandas as pd

    from svdlab.metrics.per_frame import per_frame_metrics

    names = _checked(metrics)
    made = sweep.model.get("fingerprint")
    if pipe is not None and made != pipe.fingerprint:
        raise SweepError(
            f"pipe = {pipe.name!r}: has other weights ({pipe.fingerprint}) than this sweep ({made}). Load the sweep's"
            " model, or leave `pipe` out to take the frames of the mp4s."
        )
    frame = sweep.frame()
    check_frames(sweep, frame.loc[frame["status"] == "done", "cell"], pipe=pipe)
    parts = []
    for cell in counted(list(frame.loc[frame["status"] == "done", "cell"]), show=progress, title="frames"):
        try:
            own = pipe if LATENTS in read_manifest(sweep.path, cell)["files"] else None
            clip = load_clip(sweep.path, cell, pipe=own)
        except SweepError as error:  # someone's hand was there
            log.warning("cell %s is left out. %s", cell, error)
            continue
        curves = per_frame_metrics(clip, names, encoder=own, device="cpu" if pipe is None else pipe.device)
        source = VIDEO if own is None else DECODED
        parts += [_rows(cell, name, curve, source) for name, curve in curves.items()]
    return pd.concat([_rows("", "", np.empty(0), VIDEO), *parts], ignore_index=True)


def _checked(metrics: Iterable[str] | None) -> list[str] | None:
    """The names, each known and with a curve, before the first clip is opened."""
    from svdlab.metrics import registry

    if metrics is None:
        return None
    chosen = registry.select(metrics)
    if flat := [metric.name for metric in chosen if not metric.per_frame]:
        curves = ", ".join(metric.name for metric in registry.select(None) if metric.per_frame)
        raise MetricError(f"metrics: {', '.join(flat)} has no curve over frames. Those that have: {curves}.")
    return [metric.name for metric in chosen]


def _rows(cell: str, name: str, curve: np.ndarray, source: str) -> pd.DataFrame:
    import pandas as pd

    count = len(curve)
    rows = pd.DataFrame(
        {
            "cell": [cell] * count,
            "frame": np.arange(count, dtype="int64"),
            "metric": [name] * count,
            "value": curve.astype("float64"),
            "source": [source] * count,
        }
    )
    return rows.astype({"cell": str, "metric": str, "source": str})  # also where there are none

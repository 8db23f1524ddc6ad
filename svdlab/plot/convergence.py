"""Steps convergence: how far a clip of few steps is from the one of most steps with the same seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svdlab.clip import Clip
from svdlab.errors import ViewError
from svdlab.metrics.pixel import psnr
from svdlab.plot.curves import draw_curves, legend
from svdlab.plot.labels import axis_label, escape, write_note
from svdlab.plot.stats import PAIR, Band, check_band, curves_of, units_of, words_band
from svdlab.plot.style import GREY, canvas
from svdlab.plot.table import read_table, words_left_out, words_spread
from svdlab.stats.design import levels_of

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline
    from svdlab.sweep import Sweep

Measure = Literal["psnr", "lpips"]
COLUMNS = {"psnr": "psnr_reference", "lpips": "lpips_reference"}
LABELS = {
    "psnr_reference": "PSNR to the reference\n(dB, higher is closer)",
    "lpips_reference": "LPIPS to the reference\n(lower is closer)",
}


def convergence(
    source: pd.DataFrame | Sweep | Iterable[Clip],
    value: str = "psnr",
    *,
    by: str | None = None,
    band: Band | None = "ci95",
    pair: Sequence[str] = PAIR,
    individuals: bool = False,
    pipe: Pipeline | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Distance of clips to the clip of most steps that shares everything else with them, against the steps.

    Noise is a function of the seed, so a clip of 4 steps and one of 8 begin at the same place, and their distance says
    what the steps between have changed. It is no judgement of quality: the clip of most steps is the measure, and not
    the truth.

    Args:
        source: clips that a pipeline made; a sweep, whose finished clips are read; or a DataFrame with a column of
            distances, such as `to_reference` returns.
        value: ``"psnr"`` (mean over frames, dB) or ``"lpips"``, computed from the clips; of a DataFrame also the
            name of any numeric column.
        by: a column whose values are drawn as lines of their own, such as `schedule`; each has its own reference.
        band, pair, individuals: as for `response`.
        pipe: decodes a sweep's latents exactly; without, frames come from the mp4, which is lossy and lowers PSNR.
        ax: draw into these axes, in their own style.

    Raises:
        ViewError: clips without settings, none that differ in their steps alone, or what `response` refuses.

    Example:
        >>> convergence(sweep, by="schedule")
    """
    check_band(band)
    frame, column = _distances(source, value, pipe)
    references = levels_of(frame["reference_steps"]) if "reference_steps" in frame else []
    if references and "steps" in frame:  # a reference has no distance to itself, and is no loss
        frame = frame[frame["steps"] != frame["reference_steps"]]
    table = read_table(frame, axes={"steps": "steps", "by": by}, values={"value": column}).having(column)
    pair = units_of(table, pair, ("steps", by))
    curves = curves_of(table, x="steps", value=column, by=by, pair=pair, band=band)
    with canvas(ax, (5.8 if by else 5.0, 3.6)) as (figure, axes):
        draw_curves(axes, table, "steps", curves, by=by, individuals=individuals)
        axes.set_xlabel("steps")
        axes.set_ylabel(LABELS.get(column, axis_label(column)))
        if references:
            _mark(axes, references, levels_of(table.rows["steps"]))
        parts = [
            words_spread([table], ["steps", by], each="point"),
            words_band(band, curves, table, pair),
            f"reference: the clip of {' or '.join(f'{steps:g}' for steps in references)} steps" if references else "",
            words_left_out([table]),
        ]
        write_note(figure, ax, parts)
        legend(axes, by, outside=None if ax is not None else figure)
    return figure


def to_reference(
    clips: Iterable[Clip], measure: Measure = "psnr", *, images: Sequence[str] | None = None
) -> pd.DataFrame:
    """Distance of each clip to the clip of most steps among those that share its picture, model and other settings.

    Args:
        clips: clips that a pipeline made, in any order.
        measure: ``"psnr"``, mean over frames in dB, at most 100; or ``"lpips"``, mean over frames, which needs its
            weights.
        images: a name for the picture of each clip; by default pictures are numbered.

    Returns:
        One row a clip: `image`, the settings, `reference_steps`, and ``psnr_reference`` or ``lpips_reference``, which
        is NaN for the references themselves.

    Raises:
        ViewError: clips without settings, or none that differ in their steps alone.
        WeightsError: LPIPS weights cannot be had.

    Example:
        >>> to_reference([pipe("rocket.jpg", steps=n, seed=1) for n in (1, 2, 4, 8)])["psnr_reference"]
    """
    if measure not in COLUMNS:
        raise ViewError(f"measure = {measure!r}: must be one of {', '.join(map(repr, COLUMNS))}.")
    found = list(clips)
    for clip in found:
        if not isinstance(clip, Clip) or clip.request is None:
            raise ViewError("clips: convergence needs clips that a pipeline made, with their settings and seeds.")
    rows = _rows(found, images)
    groups: dict[Any, list[int]] = {}
    for i, (clip, row) in enumerate(zip(found, rows, strict=True)):
        others = tuple((key, value) for key, value in row.items() if key != "steps")
        groups.setdefault((others, clip.model.get("fingerprint"), clip.frames.shape), []).append(i)
    distance = _psnr if measure == "psnr" else _lpips
    for members in groups.values():
        best = max(members, key=lambda i: rows[i]["steps"])
        for i in members:
            apart = np.nan if i == best else distance(found[i].frames, found[best].frames)
            rows[i] |= {"reference_steps": rows[best]["steps"], COLUMNS[measure]: apart}
    frame = pd.DataFrame(rows)
    if not frame[COLUMNS[measure]].notna().any():
        raise ViewError(
            f"clips: no two of these {len(found)} differ in their steps alone, so none has a clip of more steps to be "
            "compared with. Give clips of one picture and seed at several step counts."
        )
    return frame


def _rows(clips: Sequence[Clip], images: Sequence[str] | None) -> list[dict[str, Any]]:
    """Picture and settings of each clip; pictures are told apart by their pixels."""
    digests = [b"" if clip.image is None else hashlib.sha256(clip.image.tobytes()).digest() for clip in clips]
    numbers = {digest: f"image {i}" for i, digest in enumerate(dict.fromkeys(digests), 1)}
    names = list(images) if images is not None else [numbers[digest] for digest in digests]
    if len(names) != len(clips):
        raise ViewError(f"images: {len(names)} names for {len(clips)} clips; give one for each.")
    return [{"image": name, **clip.request.settings()} for name, clip in zip(names, clips, strict=True) if clip.request]


def _distances(source: Any, value: str, pipe: Pipeline | None) -> tuple[pd.DataFrame, str]:
    """A frame with a column of distances, and the name of that column."""
    if isinstance(source, pd.DataFrame):
        column = COLUMNS.get(value, value) if value not in source else value
        return source, column
    if value not in COLUMNS:
        raise ViewError(
            f"value = {value!r}: from clips, {' and '.join(map(repr, COLUMNS))} are computed; "
            "a column needs a DataFrame."
        )
    measure: Any = value
    if callable(getattr(source, "frame", None)) and callable(getattr(source, "clip", None)):
        done = source.frame().query("status == 'done'")
        if done.empty:
            raise ViewError("there are no finished cells: run the sweep first.")
        clips = [source.clip(cell, pipe=pipe) for cell in done["cell"]]
        return to_reference(clips, measure, images=done["image"].tolist()), COLUMNS[measure]
    return to_reference(source, measure), COLUMNS[measure]


def _mark(axes: Axes, references: Sequence[float], steps: Sequence[float]) -> None:
    """A dotted line where the references stand, if the axis reaches or nearly reaches them."""
    for reference in references:
        axes.axvline(reference, color=GREY, linewidth=0.9, linestyle=":")
    ticks = sorted({*steps, *references})
    if len(ticks) <= 10:
        axes.set_xticks(ticks, [escape(f"{tick:g}") for tick in ticks])


def _psnr(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.mean([psnr(a, b) for a, b in zip(first, second, strict=True)]))


def _lpips(first: np.ndarray, second: np.ndarray) -> float:
    from svdlab.metrics.perceptual import lpips_curves

    curves = [lpips_curves(frame[None], picture).input for frame, picture in zip(second, first, strict=True)]
    return float(np.mean([curve for curve in curves if curve is not None]))

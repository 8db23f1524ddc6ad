"""Prepare: a spec with pictures opened, metrics known and cells built, before a run directory is touched."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import MetricError, SpecError
from svdlab.sweep.artifacts import portable
from svdlab.sweep.cells import Cell, build_cells
from svdlab.sweep.pictures import Picture, open_pictures
from svdlab.sweep.spec import Spec, place_of, placed

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A spec with its pictures opened and its cells built for one model. Touches no run directory."""

    spec: Spec
    model: Mapping[str, Any]  # Pipeline.describe(), without absolute paths
    pictures: tuple[Picture, ...] = field(repr=False)
    cells: tuple[Cell, ...] = field(repr=False)
    metrics: tuple[str, ...]
    seed: int | None  # drawn for all cells; None if the spec has seeds
    notes: tuple[str, ...] = ()  # warnings about settings
    notice: str | None = None  # what the model wants to be known
    hosted: bool = False  # whether every cell is a paid call

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """What varies: the pictures, if there are several, then the axes of the grid, outermost first."""
        several = {"image": tuple(picture.label for picture in self.pictures)} if len(self.pictures) > 1 else {}
        return {**several, **self.spec.grid.axes}

    @property
    def fixed(self) -> dict[str, Any]:
        """What does not vary by the spec: the only picture, the fixed settings, and the seed if it was drawn."""
        only = {"image": self.pictures[0].label} if len(self.pictures) == 1 else {}
        return {**only, **self.spec.grid.fixed, **({} if self.seed is None else {"seed": self.seed})}


def prepare_sweep(
    spec: Spec, pipe: Pipeline, *, folder: Path, labels: Mapping[str, str] | None = None, seed: int | None = None
) -> Prepared:
    """Open the pictures, check the metrics and build every cell.

    Args:
        folder: the run directory; it need not exist.
        labels: digest -> label of the pictures that the directory knows.
        seed: that the directory drew before, for a spec without seeds; None draws one now.

    Raises:
        SpecError, RequestError, ImageError, MetricError, WeightsError: in words, before anything is computed.
    """
    _check_fields(spec, pipe)
    with placed(spec, "images"):
        pictures = open_pictures(spec.images, labels=labels or {})
    drawn = None if spec.grid.seeded else (secrets.randbelow(2**32) if seed is None else seed)
    model: dict[str, Any] = {"defaults": pipe.defaults, "model": pipe.fingerprint}
    cells, notes = build_cells(pictures, spec.grid, **model, seed=drawn, where=lambda name: place_of(spec, name))
    with placed(spec, "metrics"):
        names = metric_names(spec.metrics, encoder=not pipe.hosted)
    return Prepared(
        spec=spec,
        model=portable(pipe.describe(), folder),
        pictures=pictures,
        cells=cells,
        metrics=names,
        seed=drawn,
        notes=notes,
        notice=pipe.notice,
        hosted=pipe.hosted,
    )


def _check_fields(spec: Spec, pipe: Pipeline) -> None:
    """Raise SpecError if the spec sets what the model cannot be told, as a hosted endpoint that lacks the field."""
    if lacking := [name for name in (*spec.grid.axes, *spec.grid.fixed) if name not in pipe.fields]:
        raise SpecError(
            f"{place_of(spec, lacking[0])}{', '.join(lacking)}: {pipe.name} has no such field. It takes"
            f" {', '.join(pipe.fields)}; leave out the rest, or sweep a model that runs here (`svdlab models`)."
        )
    if pipe.hosted and spec.decode != "full":
        raise SpecError(
            f"{place_of(spec, 'decode')}decode = {spec.decode!r}: {pipe.name} sends finished frames and no latents, so"
            " there is nothing to decode later. Use decode = 'full'."
        )


def metric_names(given: tuple[str, ...] | None, *, encoder: bool = True) -> tuple[str, ...]:
    """The metrics of a sweep, known and ready; None gives the default table.

    Args:
        encoder: whether the model's image encoder is at hand; a hosted model's is not.

    Raises:
        MetricError: a name is unknown, names a cost, which every sweep records anyway, compares with another run, or
            needs an encoder that is not there.
        WeightsError: a metric needs weights that cannot be had.
    """
    from svdlab import metrics

    costs = [name for name in metrics.names() if "timings" in metrics.get(name).needs]
    compared = [name for name in metrics.names() if "reference" in metrics.get(name).needs]
    blind = [] if encoder else [name for name in metrics.names() if "encoder" in metrics.get(name).needs]
    if given is None:
        given = tuple(name for name in metrics.names() if name not in (*costs, *compared, *blind))
    if unseen := [name for name in given if name in blind]:
        raise MetricError(
            f"metrics: {', '.join(unseen)} needs the model's image encoder, which a hosted model does not give. Leave"
            " it out here; svdlab.metrics.score(clip, encoder=...) computes it with a model that runs here."
        )
    if recorded := [name for name in given if name in costs]:
        raise MetricError(f"metrics: {', '.join(recorded)} is a column of every sweep; leave it out of the list.")
    if lonely := [name for name in given if name in compared]:
        raise MetricError(
            f"metrics: {', '.join(lonely)} compares with another run; leave it out here. Once both are there,"
            f" Sweep.against(reference, {lonely!r}) computes it for a sweep, and"
            " svdlab.metrics.score(clip, reference=other) for a clip."
        )
    metrics.require(given)
    return given

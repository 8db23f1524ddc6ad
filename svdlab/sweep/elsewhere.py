"""Elsewhere: the workers of another engine, for the length of a run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import ModelError, SweepError
from svdlab.sweep.engine import Engine
from svdlab.sweep.plan import Plan
from svdlab.sweep.prepare import metric_names
from svdlab.sweep.spec import Spec, placed

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline
    from svdlab.sweep.ray_pool import RayPool
    from svdlab.sweep.ray_worker import Description, Needs

log = logging.getLogger("svdlab")


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Workers of an engine, and the model that they hold.

    Attributes:
        described: the model, as a worker has it.
        pipe: the pipeline of this process, if it has one; it computes nothing of the cells.
    """

    engine: Engine
    pool: RayPool
    needs: Needs
    described: Description
    pipe: Pipeline | None

    @property
    def room(self) -> int:
        """Workers that there is room for now."""
        return self.pool.room

    def load_here(self, plan: Plan) -> Pipeline | None:
        """The model in this process, if finished cells lack frames or metrics; None if none do, or it is not here."""
        if not plan.backfill and not plan.to_decode:
            return None
        if self.pipe is not None:
            return self.pipe
        from svdlab.pipeline import load

        dtype, name = str(self.described.described["dtype"]), self.needs.name
        try:
            pipe = load(name, dtype=dtype, revision=self.needs.revision, low_memory=self.needs.low_memory)
            why = "" if pipe.fingerprint == self.described.fingerprint else "it has other weights here"
        except ModelError as error:
            why = str(error)
        if not why:
            return pipe
        log.warning("finished cells keep lacking frames or metrics, which this process would make: %s", why)
        return None


@contextlib.contextmanager
def workers_of(spec: Spec, pipe: Pipeline | str, *, batch: Any = 1, **how: Any) -> Iterator[Elsewhere]:
    """The workers of a spec's engine, for the length of a `with` block; at least one of them has the model loaded.

    Args:
        pipe: a pipeline, which the workers load by its name and precision, or the name of a model.
        batch: cells that are denoised together.
        how: to load a model that is given by its name: device, dtype, low_memory.

    Raises:
        ExtraError: the engine's package is not installed.
        SweepError: there is no cluster, no room on it, no node that can run the model; or what is asked for is not for
            workers.
        MetricError, WeightsError: as `svdlab.sweep.prepare.metric_names`.

    Example:
        >>> with workers_of(spec, "tiny-random") as elsewhere:
        ...     elsewhere.described.fingerprint
    """
    with placed(spec, "metrics"):
        metrics = metric_names(spec.metrics)
    needs = _needs_of(pipe, metrics=metrics, preview_weights=spec.preview_weights, **how)
    if batch == "auto":
        raise SweepError(
            "batch = 'auto': workers may differ, so none can choose for all. Give a number; `svdlab sweep --batch auto`"
            " with the engine 'local' finds a good one for one machine."
        )
    from svdlab.sweep.ray_cluster import connected
    from svdlab.sweep.ray_pool import RayPool

    with connected(spec.engine.address) as ray, contextlib.closing(RayPool(ray, spec.engine, needs)) as pool:
        yield Elsewhere(
            engine=spec.engine,
            pool=pool,
            needs=needs,
            described=pool.describe(),
            pipe=None if isinstance(pipe, str) else pipe,
        )


def _needs_of(pipe: Pipeline | str, *, metrics: tuple[str, ...], preview_weights: Path | None, **how: Any) -> Needs:
    """What the workers load, wherever they are."""
    from svdlab.models import CATALOGUE
    from svdlab.pipeline import HOSTED
    from svdlab.sweep.ray_worker import Needs

    if (isinstance(pipe, str) and pipe.startswith(HOSTED)) or getattr(pipe, "hosted", False):
        raise SweepError(
            "engine = 'ray': a hosted model computes at its host, so workers would have nothing to do. Use engine ="
            " 'local' with a batch: so many jobs are under way at once."
        )
    if isinstance(pipe, str):
        folder = Path(pipe).expanduser()
        name = str(folder.absolute()) if pipe not in CATALOGUE and folder.is_dir() else pipe  # they start elsewhere
        return Needs(name=name, metrics=metrics, preview_weights=preview_weights, **how)
    if pipe.name not in CATALOGUE and "/" not in pipe.name:
        raise SweepError(
            f"engine = 'ray': {pipe.name!r} was loaded from a folder, which a pipeline does not name. Give the path of"
            " the folder in place of the pipeline; every node must have it."
        )
    return Needs(
        name=pipe.name,
        dtype=pipe.dtype,
        low_memory="auto" if pipe.adapts else pipe.low_memory,
        revision=pipe.components.revision and pipe.components.revision.split("+")[0],  # of a student: the UNet's
        fingerprint=pipe.fingerprint,
        metrics=metrics,
        preview_weights=preview_weights,
    )

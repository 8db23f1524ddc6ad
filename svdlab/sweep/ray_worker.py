"""The worker of the Ray engine: an actor that holds one pipeline and makes cells. It writes nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import SvdlabError
from svdlab.memory import bytes_installed
from svdlab.request import Defaults
from svdlab.sharing import SharedCalls
from svdlab.sweep.groups import Batches
from svdlab.sweep.making import Maker, Recipe, Result, look_of
from svdlab.sweep.provenance import machine, versions

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline
    from svdlab.sample import Look


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a worker must have before it makes a cell: the arguments of `svdlab.load`, and what goes with a model.

    Attributes:
        fingerprint: that the model must have; None: not known yet.
        metrics: names of the metrics that are measured.
        preview_weights: folder of the small decoder for previews, on the worker's machine; None: there is none.
    """

    name: str
    device: str = "auto"
    dtype: str = "auto"
    low_memory: str | bool = "auto"
    revision: str | None = None
    fingerprint: str | None = None
    metrics: tuple[str, ...] = ()
    preview_weights: Path | None = None

    def on(self, gpus: float) -> Needs:
        """The same for a worker that has so many GPUs: "auto" is then no guess, whatever else it may see.

        Example:
            >>> Needs(name="svd-xt").on(1.0).device
            'cuda'
        """
        device = "cuda" if gpus else "cpu"
        return dataclasses.replace(self, device=device) if self.device == "auto" else self


@dataclass(frozen=True, kw_only=True)
class Description:
    """A pipeline that is somewhere else, for everything about a sweep that needs to know it and not to run it."""

    name: str
    fingerprint: str
    fields: tuple[str, ...]
    defaults: Defaults
    notice: str | None
    described: Mapping[str, Any]
    hosted: bool = False

    @property
    def device(self) -> str:
        """What it computes on, as seen from there."""
        return str(self.described["device"])

    def describe(self) -> dict[str, Any]:
        """As `Pipeline.describe`."""
        return dict(self.described)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a worker says about itself when it is ready.

    Attributes:
        trouble: why it cannot make cells, in words; None if it can.
        model: None if there is trouble.
        versions: as `svdlab.sweep.provenance.versions`.
        hardware: such as ``{"platform": ..., "gpu": ...}``.
        metrics: name -> version of the metrics that it needs.
        memory: bytes that the pipeline's device has.
    """

    trouble: str | None = None
    model: Description | None = None
    versions: Mapping[str, str]
    hardware: Mapping[str, str]
    metrics: Mapping[str, int] = dataclasses.field(default_factory=dict)
    memory: int = 0


class CellWorker:
    """Makes cells with a pipeline that stays loaded. Wrapped by Ray into an actor, see `svdlab.sweep.ray_pool`."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._pipe: Pipeline | None = None
        self._look: Look | None = None
        self._most: float = math.inf  # cells in a batch that memory holds, as far as is known
        self._halted = False

    def ready(self) -> Report:
        """Load the model. What goes wrong is said in the report: an exception would tell less."""
        try:
            return self._load()
        except Exception as error:
            trouble = str(error) if isinstance(error, SvdlabError) else f"{type(error).__name__}: {error}"
            return Report(trouble=trouble, versions=versions(), hardware=machine(None))

    def make(
        self, recipe: Recipe, batches: Batches, attempts: Mapping[str, int], digests: tuple[str, ...], *pictures: Any
    ) -> Iterator[Result]:
        """Make these batches; each cell comes out as soon as it is there.

        Args:
            digests: of the pictures, in their order.
        """
        assert self._pipe is not None
        cells = [cell for batch in batches for cell in batch]
        maker = Maker(
            recipe=recipe,
            pipe=self._pipe,
            images=dict(zip(digests, pictures, strict=True)),
            shared=None if recipe.timing == "isolated" else SharedCalls(cell.chain for cell in cells),
            most=int(min(self._most, max(len(batch) for batch in batches))),
            look=self._look,
        )
        before = maker.most
        for batch in batches:
            if self._halted:
                return
            yield from maker.run(batch, attempts)
            if maker.most < before:  # memory ran out; the next group need not find that out again
                self._most = maker.most

    def halt(self) -> None:
        """Begin no further batch, of this group and of those that wait."""
        self._halted = True

    def _load(self) -> Report:
        from svdlab import metrics
        from svdlab.pipeline import load

        needs = self._needs
        self._pipe = pipe = load(
            needs.name, device=needs.device, dtype=needs.dtype, revision=needs.revision, low_memory=needs.low_memory
        )
        self._look = look_of(needs.preview_weights, pipe)
        metrics.require(needs.metrics, progress=False)
        return Report(
            model=_describe(pipe),
            versions=versions(),
            hardware=machine(str(pipe.device)),
            metrics=metrics.versions(needs.metrics),
            memory=_memory(pipe),
        )


def _describe(pipe: Pipeline) -> Description:
    return Description(
        name=pipe.name,
        fingerprint=pipe.fingerprint,
        fields=tuple(pipe.fields),
        defaults=pipe.defaults,
        notice=pipe.notice,
        described=pipe.describe(),
    )


def _memory(pipe: Pipeline) -> int:
    """Bytes of the device's memory; for the CPU, of the machine's."""
    if pipe.device.type != "cuda":
        return bytes_installed()
    import torch

    return int(torch.cuda.get_device_properties(pipe.device).total_memory)

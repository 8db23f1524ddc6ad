"""Making: cells from their request to the bytes of their files, wherever that happens. It touches no run directory."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import EndpointError
from svdlab.memory import clear_frames, free_memory, is_out_of_memory
from svdlab.sweep import artifacts
from svdlab.sweep.cells import Cell, quiet_request
from svdlab.sweep.lock import now
from svdlab.sweep.measure import MEMORY, measure
from svdlab.sweep.strip import make_files
from svdlab.sweep.writing import FULL

if TYPE_CHECKING:
    from svdlab.clip import Clip
    from svdlab.pipeline import Pipeline
    from svdlab.sample import Look, Sample
    from svdlab.sharing import SharedCalls

log = logging.getLogger("svdlab")

Metrics = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What of a sweep says how its cells are made; it goes to whoever makes them.

    Attributes:
        model: `Pipeline.describe()` without absolute paths; goes into manifests and mp4s.
        metrics: names of the metrics.
        timing, decode: as in `svdlab.sweep.spec.Spec`.
    """

    model: Mapping[str, Any]
    metrics: tuple[str, ...]
    timing: str = "shared"
    decode: str = "full"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A cell that was made: its manifest and its other files, name -> bytes."""

    cell: Cell
    manifest: dict[str, Any]
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def metrics(self) -> Metrics:
        """Metrics as the ledger holds them."""
        return self.manifest["metrics"]


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A cell that could not be made, with what can be said about it.

    Attributes:
        error_type, error, traceback: of the exception, as text.
        memory: whether memory ran out.
    """

    cell: Cell
    error_type: str
    error: str
    traceback: str
    memory: bool = False


Result = Made | Failed


@dataclass(kw_only=True)
class Maker:
    """What making a cell needs, and what cells have in common.

    Attributes:
        images: digest -> picture.
        shared: denoiser calls of all cells that are to do; None: every cell makes its own.
        most: cells in a batch; becomes less when memory runs out.
        look: makes the frames of previews; None for the linear map.
    """

    recipe: Recipe
    pipe: Pipeline
    images: Mapping[str, Any]
    shared: SharedCalls | None
    most: int
    look: Look | None = None

    def run(self, cells: Sequence[Cell], attempts: Mapping[str, int]) -> Iterator[Result]:
        """Compute and measure cells that can be one batch; each comes out as soon as it is made, or has failed.

        They are denoised together and then decoded and measured one after the other. What goes wrong with a batch is
        tried again in halves, down to single cells. What goes wrong with a clip makes its cell fail.

        Args:
            attempts: key -> number of this attempt, for the manifest.

        Raises:
            EndpointError: a lasting one, of a hosted model: the next cell would meet it too.
            OSError: the disk is full: likewise.
        """
        if self.recipe.timing == "isolated":
            self.pipe.clear_cache()
        for result in self._run(cells, attempts):
            if self.shared is not None:
                self.shared.release(result.cell.chain)
            yield result

    def _run(self, cells: Sequence[Cell], attempts: Mapping[str, int]) -> Iterator[Result]:
        if len(cells) > self.most:
            for first in range(0, len(cells), self.most):
                yield from self._run(cells[first : first + self.most], attempts)
            return
        began = time.perf_counter()
        samples: list[Sample] = []
        with _freeing(cells) as failure:
            samples = self._denoise(cells)
        elapsed = (time.perf_counter() - began) / len(cells)
        if not failure:
            for cell in cells:
                yield self._finish(cell, samples.pop(0), elapsed=elapsed, attempt=attempts[cell.key], of=len(cells))
        elif len(cells) == 1:
            yield failure[0]
        else:
            half = len(cells) // 2
            if failure[0].memory:
                self.most = half
            for part in (cells[:half], cells[half:]):
                yield from self._run(part, attempts)

    def _denoise(self, cells: Sequence[Cell]) -> list[Sample]:
        requests = [quiet_request(self.images[cell.image], cell.settings) for cell in cells]
        if self.shared is None:
            return self.pipe.denoise(requests)
        return self.pipe.denoise(requests, shared=self.shared, chains=[cell.chain for cell in cells])

    def _finish(self, cell: Cell, sample: Sample, *, elapsed: float, attempt: int, of: int) -> Result:
        """Decode and measure one cell."""
        began = time.perf_counter()
        with _freeing([cell]) as failure:
            clip, metrics, files = self._make(sample)
        if failure:
            return failure[0]
        manifest = artifacts.make_manifest(
            key=cell.key,
            clip=clip,
            files=files,
            metrics=metrics,
            image={"label": cell.label, "digest": cell.image},
            model=self.recipe.model,
            finished=now(),
            elapsed=elapsed + time.perf_counter() - began,
            attempt=attempt,
            timing=self.recipe.timing,
            batch=of,
        )
        return Made(cell=cell, manifest=manifest, files=files)

    def _make(self, sample: Sample) -> tuple[Clip | Sample, Metrics, dict[str, bytes]]:
        """The clip with its metrics and files; or, to be decoded when somebody looks, the sample with its files."""
        if self.recipe.decode == "full":
            clip = dataclasses.replace(sample(), model=self.recipe.model)  # goes into the mp4: no absolute paths
            return clip, measure(clip, self.recipe.metrics, pipe=self.pipe, source=MEMORY), artifacts.encode(clip)
        return sample, {}, make_files(sample, preview=self.recipe.decode == "preview", look=self.look)


def look_of(preview_weights: Path | None, pipe: Pipeline) -> Look | None:
    """The small decoder of a spec, on the pipeline's device; None where there is none.

    Raises:
        ModelError: there are no such weights in the folder, or they are for other latents.
    """
    if preview_weights is None:
        return None
    from svdlab.preview import load_tiny

    channels = pipe.components.vae.config["latent_channels"]
    return load_tiny(preview_weights, channels=channels, device=pipe.device, dtype=pipe.components.dtype)


@contextlib.contextmanager
def _freeing(cells: Sequence[Cell]) -> Iterator[list[Failed]]:
    """Turn an exception of the block into a failure (of the first cell), and let go of all memory that it holds.

    A traceback keeps the frames and with them their tensors, so that after one out-of-memory every later cell would
    run out as well: the text is kept, the frames are cleared.
    """
    failure: list[Failed] = []
    try:
        yield failure
    except Exception as error:
        if isinstance(error, EndpointError) and error.lasting:  # the next cell would meet it too, and none was billed
            raise
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        kind, message = type(error).__name__, str(error) or repr(error)
        if len(cells) > 1:
            log.info("a batch of %d cells failed and is tried again in halves: %s: %s", len(cells), kind, message)
        failure.append(
            Failed(
                cell=cells[0],
                error_type=kind,
                error=message,
                traceback=_short_paths(traceback.format_exc()),
                memory=is_out_of_memory(error),
            )
        )
        clear_frames(error)
    if failure:
        free_memory()


def _short_paths(text: str) -> str:
    """A traceback with file names as seen from the import path: a run directory tells nothing of its machine."""
    for root in sorted(filter(None, sys.path), key=len, reverse=True):
        text = text.replace(f'File "{root.rstrip("/")}/', 'File "')
    return text

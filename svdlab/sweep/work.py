"""Work: cells from their request to their place in the run directory, one batch at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import EndpointError, SweepError
from svdlab.memory import clear_frames, free_memory, is_out_of_memory
from svdlab.sweep import artifacts
from svdlab.sweep.cells import Cell, quiet_request
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.lock import now
from svdlab.sweep.measure import MEMORY, measure
from svdlab.sweep.prepare import Prepared
from svdlab.sweep.strip import make_files
from svdlab.sweep.writing import FULL, disk_words

if TYPE_CHECKING:
    from svdlab.clip import Clip
    from svdlab.pipeline import Pipeline
    from svdlab.sample import Look, Sample
    from svdlab.sharing import SharedCalls

log = logging.getLogger("svdlab")

_MEMORY = "out of memory"  # of a failure, whatever the type of its error

Metrics = Mapping[str, Mapping[str, Any]]


@dataclass(kw_only=True)
class Work:
    """What computing a cell needs, and what cells have in common.

    Attributes:
        images: digest -> picture.
        shared: denoiser calls of all cells that are to do; None: every cell makes its own.
        most: cells in a batch; becomes less when memory runs out.
        look: makes the frames of previews; None for the linear map.
    """

    prepared: Prepared
    pipe: Pipeline
    folder: Path
    ledger: Ledger
    images: Mapping[str, Any]
    shared: SharedCalls | None
    most: int
    look: Look | None = None

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Metrics | None]]:
        """Compute, measure and store cells that can be one batch; each comes out with its metrics, None if it failed.

        They are denoised together and then decoded, measured and stored one after the other; a cell comes out as soon
        as it is stored. What goes wrong with a batch is tried again in halves, down to single cells. What goes wrong
        with a clip makes its cell fail. What goes wrong with the disk, the ledger or the key of a hosted model ends the
        run: the next cell would meet it too.
        """
        attempts = {cell.key: self.ledger.start(cell.key) for cell in cells}
        for cell, metrics in self._run(cells, attempts):
            if self.shared is not None:
                self.shared.release(cell.chain)
            yield cell, metrics

    def _run(self, cells: Sequence[Cell], attempts: Mapping[str, int]) -> Iterator[tuple[Cell, Metrics | None]]:
        if len(cells) > self.most:
            for first in range(0, len(cells), self.most):
                yield from self._run(cells[first : first + self.most], attempts)
            return
        began = time.perf_counter()
        samples: list[Sample] = []
        with _freeing(cells, self.ledger) as failure:
            samples = self._denoise(cells)
        elapsed = (time.perf_counter() - began) / len(cells)
        if not failure:
            for cell in cells:
                yield (
                    cell,
                    self._finish(cell, samples.pop(0), elapsed=elapsed, attempt=attempts[cell.key], of=len(cells)),
                )
        elif len(cells) == 1:
            yield cells[0], None
        else:
            half = len(cells) // 2
            if failure[0] == _MEMORY:
                self.most = half
            for part in (cells[:half], cells[half:]):
                yield from self._run(part, attempts)

    def _denoise(self, cells: Sequence[Cell]) -> list[Sample]:
        requests = [quiet_request(self.images[cell.image], cell.settings) for cell in cells]
        if self.shared is None:
            return self.pipe.denoise(requests)
        return self.pipe.denoise(requests, shared=self.shared, chains=[cell.chain for cell in cells])

    def _finish(self, cell: Cell, sample: Sample, *, elapsed: float, attempt: int, of: int) -> Metrics | None:
        """Decode, measure and store one cell; its metrics, or None if it failed."""
        began = time.perf_counter()
        with _freeing([cell], self.ledger) as failure:
            clip, metrics, files = self._make(sample)
        if failure:
            return None
        manifest = artifacts.make_manifest(
            key=cell.key,
            clip=clip,
            files=files,
            metrics=metrics,
            image={"label": cell.label, "digest": cell.image},
            model=self.prepared.model,
            finished=now(),
            elapsed=elapsed + time.perf_counter() - began,
            attempt=attempt,
            timing=self.prepared.spec.timing,
            batch=of,
        )
        try:
            artifacts.store(self.folder, manifest, files)
        except OSError as error:
            _let_go(self.ledger, [cell])
            raise _disk_error(cell, error) from error
        self.ledger.finish(manifest)
        return metrics

    def _make(self, sample: Sample) -> tuple[Clip | Sample, Metrics, dict[str, bytes]]:
        """The clip with its metrics and files; or, to be decoded when somebody looks, the sample with its files."""
        if self.prepared.spec.decode == "full":
            clip = dataclasses.replace(sample(), model=self.prepared.model)  # goes into the mp4: no absolute paths
            return clip, measure(clip, self.prepared.metrics, pipe=self.pipe, source=MEMORY), artifacts.encode(clip)
        return sample, {}, make_files(sample, preview=self.prepared.spec.decode == "preview", look=self.look)


@contextlib.contextmanager
def _freeing(cells: Sequence[Cell], ledger: Ledger) -> Iterator[list[str]]:
    """Turn an exception of the block into a failed cell, and let go of all memory that it holds.

    A traceback keeps the frames and with them their tensors, so that after one out-of-memory every later cell would
    run out as well: the text is kept, the frames are cleared. Of several cells none fails here: they are tried again.
    """
    failure: list[str] = []
    try:
        yield failure
    except Exception as error:
        if isinstance(error, EndpointError) and error.lasting:  # the next cell would meet it too, and none was billed
            _let_go(ledger, cells)
            raise
        if isinstance(error, OSError) and error.errno in FULL:
            _let_go(ledger, cells)
            raise _disk_error(cells[0], error) from error
        kind, message = type(error).__name__, str(error) or repr(error)
        if len(cells) > 1:
            log.info("a batch of %d cells failed and is tried again in halves: %s: %s", len(cells), kind, message)
        else:
            _fail(cells[0], ledger, kind, message)
        failure.append(_MEMORY if is_out_of_memory(error) else kind)
        clear_frames(error)
    if failure:
        free_memory()


def _fail(cell: Cell, ledger: Ledger, kind: str, message: str) -> None:
    """Mark a cell as failed by the exception that is being handled."""
    ledger.fail(cell.key, error_type=kind, error=message, traceback=_short_paths(traceback.format_exc()))
    log.warning("cell %s failed: %s: %s", cell.key, kind, message)


def _let_go(ledger: Ledger, cells: Sequence[Cell]) -> None:
    """Make cells pending again; if the ledger's disk does not take it either, the next opening does."""
    with contextlib.suppress(SweepError):
        ledger.release([cell.key for cell in cells])


def _disk_error(cell: Cell, error: OSError) -> SweepError:
    return SweepError(disk_words(f"cell {cell.key}", error))


def _short_paths(text: str) -> str:
    """A traceback with file names as seen from the import path: a run directory tells nothing of its machine."""
    for root in sorted(filter(None, sys.path), key=len, reverse=True):
        text = text.replace(f'File "{root.rstrip("/")}/', 'File "')
    return text

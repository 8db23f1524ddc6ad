"""Work: results of cells into the run directory, by its only writer, whoever made them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from svdlab.errors import SweepError
from svdlab.sweep import artifacts
from svdlab.sweep.cells import Cell
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.making import Failed, Maker, Metrics, Result
from svdlab.sweep.writing import FULL, disk_words

log = logging.getLogger("svdlab")


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """The writer of a run directory: its folder and its ledger, which this process holds."""

    folder: Path
    ledger: Ledger

    def start(self, cells: Sequence[Cell]) -> dict[str, int]:
        """Mark cells as running; key -> number of this attempt."""
        return {cell.key: self.ledger.start(cell.key) for cell in cells}

    def keep(self, result: Result) -> Metrics | None:
        """Store a cell, and enter it in the ledger; its metrics, or None if it failed.

        Raises:
            SweepError: the disk is full, or cannot be written; the cell is still running in the ledger.
        """
        if isinstance(result, Failed):
            self.fail(result)
            return None
        try:
            artifacts.store(self.folder, result.manifest, result.files)
        except OSError as error:
            raise _disk_error(result.cell, error) from error
        self.ledger.finish(result.manifest)
        return result.metrics

    def fail(self, result: Failed) -> None:
        """Mark a cell as failed."""
        kind, message = result.error_type, result.error
        self.ledger.fail(result.cell.key, error_type=kind, error=message, traceback=result.traceback)
        log.warning("cell %s failed: %s: %s", result.cell.key, kind, message)


def run_here(cells: Sequence[Cell], maker: Maker, keeper: Keeper) -> Iterator[tuple[Cell, Metrics | None]]:
    """Make and store cells that can be one batch, in this process; each comes out with its metrics, None if it failed.

    What goes wrong with the disk, the ledger or the key of a hosted model ends the run: the next cell would meet it
    too.
    """
    attempts: Mapping[str, int] = keeper.start(cells)
    try:
        for result in maker.run(cells, attempts):
            yield result.cell, keeper.keep(result)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise _disk_error(cells[0], error) from error


def _disk_error(cell: Cell, error: OSError) -> SweepError:
    return SweepError(disk_words(f"cell {cell.key}", error))

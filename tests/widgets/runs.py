"""Run directories for tests of the viewer: written by the real ledger and artifact functions, from few real clips."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from svdlab.clip import Clip
from svdlab.pipeline import Pipeline
from svdlab.sweep import Sweep, artifacts, make_spec, open_sweep
from svdlab.sweep.cells import quiet_request
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.lock import now
from svdlab.sweep.run import _declare, prepare_in
from svdlab.sweep.writing import writing

METRICS = ("flow_mean", "warp_error")


class Writer:
    """A sweep that is declared and then filled cell by cell, as a run would, with one clip for all."""

    def __init__(self, folder: Path, pipe: Pipeline, clip: Clip, grid: Mapping[str, Any], **changes: Any) -> None:
        images = changes.pop("images", [Image.fromarray(clip.image)])
        size = {"num_frames": len(clip.frames), "width": clip.frames.shape[2], "height": clip.frames.shape[1]}
        spec = make_spec(images=images, grid=grid, metrics=list(METRICS), fixed=size, **changes)
        self.folder, self.clip, self.files = folder, clip, artifacts.encode(dataclasses.replace(clip, latents=None))
        self.prepared, _ = prepare_in(spec, pipe, folder)
        self.count = itertools.count()

    def write(self, fill: Callable[[Writer, Ledger], None] = lambda writer, ledger: None) -> Sweep:
        """Declare, and call `fill` while the directory is open for writing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with writing(self.folder) as ledger:
            _declare(self.prepared, self.folder, ledger)
            fill(self, ledger)
        return open_sweep(self.folder)

    def done(self, ledger: Ledger, k: int) -> str:
        """Finish cell `k` of the grid; its metrics are simple functions of k. Returns its key."""
        cell = self.prepared.cells[k]
        request = quiet_request("unnamed", cell.settings)
        values = {"flow_mean": k / 7, "warp_error": 1 / (k + 1)}
        manifest = artifacts.make_manifest(
            key=cell.key,
            clip=dataclasses.replace(self.clip, request=request, model=self.prepared.model, latents=None),
            files=self.files,
            metrics={
                name: {"value": values[name], "version": 1, "source": "memory", "error": None} for name in METRICS
            },
            image={"digest": cell.image, "label": cell.label},
            model=self.prepared.model,
            finished=now(),
            elapsed=0.1,
            attempt=ledger.start(cell.key),
            timing="shared",
        )
        artifacts.store(self.folder, manifest, self.files)
        ledger.finish(manifest)
        return cell.key

    def failed(self, ledger: Ledger, k: int, error: str) -> str:
        """Let cell `k` fail. Returns its key."""
        key = self.prepared.cells[k].key
        ledger.start(key)
        ledger.fail(key, error_type="RuntimeError", error=error, traceback=f"Traceback\nRuntimeError: {error}")
        return key

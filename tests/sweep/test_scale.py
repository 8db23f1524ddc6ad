"""Scale: the ten-thousandth cell costs the driver what the first one did, and a finished run is recognised."""

from __future__ import annotations

import statistics
import time

import pytest
from PIL import Image

import svdlab as sl
from svdlab.sweep.artifacts import cell_path
from svdlab.sweep.run import Options, _declare, prepare_in, run
from svdlab.sweep.spec import make_spec
from svdlab.sweep.writing import writing

CELLS = 10_000


@pytest.mark.slow
def test_ten_thousand_cells(pipe, tmp_path):
    """What is timed is the driver's own work on the ledger; not clips, metrics and their files."""
    images = [Image.new("RGB", (64, 64), (level, 0, 0)) for level in (0, 1)]
    grid = {"motion_bucket_id": range(250), "steps": [1, 2, 4, 8], "seed": range(5)}
    spec = make_spec(images=images, grid=grid, metrics=["flow_mean", "warp_error"])
    folder = tmp_path / "run"
    prepared, _ = prepare_in(spec, pipe, folder)
    assert len(prepared.cells) == CELLS
    metrics = {name: {"value": 1.0, "version": 1, "source": "memory", "error": None} for name in prepared.metrics}
    with writing(folder) as ledger:
        _declare(prepared, folder, ledger)
        seconds = []
        for cell in prepared.cells:
            (folder / cell_path(cell.key)).mkdir(parents=True)
            began = time.process_time()
            manifest = {
                "cell": cell.key,
                "request": cell.settings,
                "image": {"digest": cell.image, "label": cell.label},
                "model": prepared.model,
                "metrics": metrics,
                "seconds": {"condition": 0.1, "denoise": 0.2, "decode": 0.3, "total": 0.6},
                **{"seconds_spent": 0.5, "elapsed": 0.7, "vram_peak_mb": None, "files": {}},
                **{"attempt": ledger.start(cell.key), "timing": "shared", "finished": ""},
            }
            ledger.finish(manifest)
            seconds.append(time.process_time() - began)
    assert statistics.median(seconds[-1000:]) < 2 * statistics.median(seconds[:1000])

    outcome = run(spec, pipe, folder, Options(progress=False))
    assert (outcome.plan.done, outcome.plan.todo) == (CELLS, 0)
    assert len(sl.open_sweep(folder).frame()) == CELLS

"""Memory: cells that run out of it fail alone, and a long run holds at its end what it held near its beginning."""

from __future__ import annotations

import gc
import math

import pandas as pd
import pytest
import torch

import svdlab as sl
from svdlab.errors import ModelError
from svdlab.sweep.frame import COSTS
from tests.faults.endurance import endure, grown, held
from tests.faults.rounds import look

HOST = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


@pytest.fixture
def before(pipe):
    """Runs a function before every call of a real network of the pipeline, until the test ends."""
    handles = []
    yield lambda network, function: handles.append(network.register_forward_pre_hook(lambda *_: function()))
    for handle in handles:
        handle.remove()


ERRORS = [(torch.OutOfMemoryError("tried to allocate 20.00 GiB."), "OutOfMemoryError"), (HOST, "MemoryError")]


@pytest.mark.parametrize("error", [error for error, _ in ERRORS])
def test_a_cell_whose_frames_do_not_fit_is_decoded_in_slices_which_is_recorded(
    pipe, before, sweep_in, finished, tmp_path, error
):
    calls = []

    def full():
        calls.append(1)
        if len(calls) == 2:
            raise error

    before(pipe.components.vae.decoder, full)
    sweep = sweep_in(tmp_path / "run")
    frame = sweep.frame()
    assert set(frame["status"]) == {"done"}
    sliced = [sweep.manifest(key)["low_memory"] for key in frame["cell"]]
    assert sliced[0] is False
    assert sliced[1] is True
    costs = list(COSTS)
    pd.testing.assert_frame_equal(frame.drop(columns=costs), sl.open_sweep(finished).frame().drop(columns=costs))
    pipe._tight = math.inf  # the pipeline is shared by these tests


@pytest.mark.parametrize(("error", "kind"), ERRORS)
def test_a_cell_that_does_not_fit_in_slices_fails_alone_and_says_which_chunk_fits(
    pipe, before, sweep_in, tmp_path, error, kind
):
    calls = []

    def full():
        calls.append(1)
        if len(calls) in (2, 3):  # the second cell, as a whole and in slices; then half of it fits
            raise error

    before(pipe.components.vae.decoder.conv_in, full)
    frame = sweep_in(tmp_path / "run").frame()
    assert list(frame["status"]) == ["done", "failed", "done", "done"]
    assert frame["error"][1].startswith(f"{kind}: ")
    assert frame["error"][1].endswith(
        "decode_chunk = 1 fits, 2 does not; set it if you accept slightly different pixels."
    )
    assert len(look(tmp_path / "run")) == 3


@pytest.fixture
def few_objects():
    """Lets the collector of garbage pass over all that was there before; it is called after each failure."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    "network", [lambda parts: parts.unet, lambda parts: parts.vae.decoder.conv_norm_out], ids=["denoiser", "decoder"]
)
def test_fifty_cells_that_run_out_of_memory_leave_none_of_it_behind(
    few_objects, pipe, before, sweep_in, tmp_path, network
):
    """Each fails while it holds 20 MB; together they would hold a gigabyte. The decoder tries three ways a cell."""
    notes = []

    def full():
        ballast = torch.ones(5_000_000)
        raise torch.OutOfMemoryError(f"tried to allocate more than {ballast.numel()} numbers")

    before(network(pipe.components), full)
    sweep = sweep_in(tmp_path / "run", steps=1, seed=range(50), on_cell=lambda row: notes.append(held()))
    assert sweep.status()["failed"] == 50
    assert notes[-1]["rss_mb"] < notes[4]["rss_mb"] + 20
    assert notes[-1]["files"] == notes[4]["files"]


def test_latents_that_stop_being_numbers_fail_their_cell_with_the_step_and_no_other(pipe, before, sweep_in, tmp_path):
    """One of the six calls of the network sees a bias that is not a number."""
    bias = pipe.components.unet.conv_out.bias
    whole, calls = bias.clone(), []

    def spoil():
        calls.append(1)
        bias[0] = math.nan if len(calls) == 4 else whole[0]

    before(pipe.components.unet, spoil)
    try:
        frame = sweep_in(tmp_path / "run").frame().sort_values(["steps", "seed"], ignore_index=True)
    finally:
        bias.copy_(whole)
    failed = frame[frame["status"] == "failed"]
    assert len(failed) == 1
    assert failed["error"].iloc[0].startswith(f"{ModelError.__name__}: step ")
    assert "the model's output is not finite in float32" in failed["error"].iloc[0]
    assert list(frame["status"]).count("done") == 3


@pytest.mark.slow
def test_a_long_run_holds_at_its_end_what_it_held_near_its_beginning(tmp_path):
    found = endure(tmp_path, 120, warm=60)
    assert found["cells"] == 120
    assert grown(found) == []


def test_what_grows_is_named():
    flat = {"early": {"rss_mb": 300, "files": 9, "threads": 2}, "early_ms": 10, "late_ms": 10}
    assert grown({**flat, "late": {"rss_mb": 340, "files": 9, "threads": 2}}) == []
    assert len(grown({**flat, "late": {"rss_mb": 360, "files": 10, "threads": 3}, "late_ms": 20})) == 4

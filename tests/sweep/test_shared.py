"""Sweeps whose cells share denoiser calls and run in batches, beside the same sweep cell by cell."""

from __future__ import annotations

import contextlib
import itertools
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import svdlab as sl
from svdlab.errors import SweepError
from svdlab.sweep import plan_spec
from svdlab.sweep.batches import choose_batch, order_batches
from svdlab.sweep.cells import Cell
from svdlab.sweep.frame import COSTS
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.run import prepare_in
from svdlab.sweep.spec import make_spec
from tests.sweep.conftest import SMALL

PICTURES = [Image.effect_noise((40, 32), 80).convert("RGB"), Image.new("RGB", (32, 32), (200, 30, 30))]
WAYS: dict[str, dict[str, Any]] = {"shared": {}, "batch": {"batch": 3}}


@contextlib.contextmanager
def refusing(pipe: sl.Pipeline, refused: set[tuple[int, int]]) -> Iterator[list[int]]:
    """The real UNet, which refuses motion buckets at a noise level; counts the clips that it takes.

    Args:
        refused: pairs of a motion bucket and 1 for the first call, at sigma 700, or -1 for all others.
    """
    taken: list[int] = []

    def look(module: Any, args: Any, kwargs: Any) -> None:
        sign = 1 if args[1] > 1.5 else -1
        for _, bucket, _ in kwargs["added_time_ids"].tolist():
            if (round(bucket), sign) in refused:
                raise torch.OutOfMemoryError("too much motion")
        taken.append(len(args[0]))

    handle = pipe.components.unet.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield taken
    finally:
        handle.remove()


def latents(sweep: sl.Sweep) -> dict[str, torch.Tensor]:
    frame = sweep.frame()
    return {cell: sweep.clip(cell).latents for cell in frame["cell"][frame["status"] == "done"]}


def assert_same(one: sl.Sweep, other: sl.Sweep, *, exact: bool) -> None:
    """Equal rows but for costs, and equal latents: to the bit, or within rounding."""
    drop = [*COSTS, *(() if exact else one.metrics)]
    pd.testing.assert_frame_equal(one.frame().drop(columns=drop), other.frame().drop(columns=drop))
    for ours, theirs in zip(latents(one).values(), latents(other).values(), strict=True):
        if exact:
            assert torch.equal(ours, theirs)
        else:
            assert torch.linalg.norm(ours - theirs) <= 1e-5 * torch.linalg.norm(ours)


def some(values: list[Any], most: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


GRIDS = st.fixed_dictionaries(
    {"steps": some([1, 2, 3, 4], 3), "motion_bucket_id": some([32, 127, 224])},
    optional={
        "seed": some([0, 1, 2]),
        "gamma": some([0.0, 0.5, 1.0]),
        "schedule": some(["animatelcm", "even", "karras"]),
        "decode_chunk": some([1, 2]),
        "max_guidance": some([1.0, 2.0]),
    },
).filter(lambda grid: 1 < len(list(itertools.product(*grid.values()))) <= 12)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=4, deadline=None, derandomize=True, database=None)
@given(
    grid=GRIDS,
    refused=st.sets(st.tuples(st.sampled_from([32, 224]), st.sampled_from([1, -1])), max_size=1),
    stops=st.lists(st.integers(1, 3), max_size=2),
)
def test_any_grid_with_failures_resumed_anywhere_equals_the_sweep_cell_by_cell(pipe, way, grid, refused, stops):
    call = {"image": PICTURES[0], "metrics": ["flow_mean"], "progress": False, "name": "s", **SMALL, **grid}
    call.setdefault("seed", 0)
    with tempfile.TemporaryDirectory() as folder, refusing(pipe, refused):
        alone = sl.sweep(pipe, out=Path(folder, "alone"), timing="isolated", **call)
        for count in stops:
            rows: list[Any] = []
            run = {**call, **WAYS[way], "out": Path(folder, way)}
            sl.sweep(pipe, on_cell=rows.append, stop=lambda rows=rows, count=count: len(rows) >= count, **run)
        shared = sl.sweep(pipe, out=Path(folder, way), **WAYS[way], **call)
        assert_same(alone, shared, exact=way == "shared")


@pytest.mark.parametrize("way", WAYS)
def test_the_calls_are_those_of_the_plan(pipe, tmp_path, way):
    axes = {"steps": [4, 1, 2], "seed": [0, 1], "motion_bucket_id": [32, 224], "decode_chunk": [1, 2]}
    with refusing(pipe, set()) as taken:
        sweep = sl.sweep(
            pipe, image=PICTURES, out=tmp_path / "run", metrics=[], progress=False, **WAYS[way], **SMALL, **axes
        )
    assert (sweep.plan.calls, sweep.plan.calls_made) == (2 * 4 * 2 * 7, 2 * 4 * 5)
    assert sum(taken) == sweep.plan.calls_made
    assert max(taken) == WAYS[way].get("batch", 1)


@pytest.mark.parametrize("way", WAYS)
def test_what_was_spent_is_less_than_what_cells_cost_alone(go, way):
    sweep = go(steps=[1, 2, 4], **WAYS[way])
    frame = sweep.frame()
    assert (frame["seconds_denoise"] > 0).all()
    assert (frame["seconds_spent"] < frame["seconds"]).sum() >= 4  # all but the first of each seed
    batches = {
        steps: {sweep.manifest(cell)["batch"] for cell in part["cell"]} for steps, part in frame.groupby("steps")
    }
    assert batches == {steps: {2 if way == "batch" else 1} for steps in (1, 2, 4)}


def test_isolated_cells_make_every_call(pipe, go):
    with refusing(pipe, set()) as taken:
        sweep = go(timing="isolated")
    assert sum(taken) == sweep.plan.calls == sweep.plan.calls_made == 6
    assert "6; timing = isolated, so nothing is shared" in sweep.plan.text()


def test_a_plan_says_where_there_is_nothing_to_share(go):
    assert "2; no two cells have one in common" in go(steps=1).plan.text()


def test_a_plan_as_json(pipe, pictures, tmp_path):
    spec = make_spec(images=pictures / "kite.png", grid={"steps": "1..8", "seed": 0}, metrics=[])
    plan = plan_spec(spec, pipe=pipe, out=tmp_path / "run", batch=4).to_dict()
    assert (plan["calls"], plan["calls_made"], plan["batch"], plan["timing"]) == (36, 23, 4, "shared")
    assert plan["axes"] == {"seed": [0], "steps": list(range(1, 9))}


# Batches.


@pytest.fixture
def cells(pipe, tmp_path):
    """The cells of a grid over two pictures."""

    def build(**grid: Any) -> tuple[Cell, ...]:
        spec = make_spec(images=PICTURES, grid={"seed": [0], **grid}, fixed=SMALL, metrics=[])
        return prepare_in(spec, pipe, tmp_path / "run")[0].cells

    return build


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_batches_hold_every_cell_once_and_what_the_pipeline_takes(pipe, cells, size):
    from svdlab.batching import check_batch
    from svdlab.sweep.cells import quiet_request

    grid = {"steps": [4, 1, 2], "seed": [0, 1, 2], "max_guidance": [1.0, 3.0], "gamma": [0.0, 1.0]}
    every = cells(**grid)
    batches = order_batches(every, size)
    assert sorted(cell.key for batch in batches for cell in batch) == sorted(cell.key for cell in every)
    assert max(map(len, batches)) == min(size, 6)  # two pictures and three seeds
    for batch in batches:
        check_batch([quiet_request("", cell.settings) for cell in batch])
    if size == 1:
        assert [batch[0] for batch in batches] == list(every)


def test_cells_with_calls_in_common_stay_near_one_another(cells):
    batches = order_batches(cells(steps=[1, 2], seed=[0, 1, 2, 3]), 2)
    told = [[(cell.label, cell.settings["seed"], cell.settings["steps"]) for cell in batch] for batch in batches]
    first = told[0][0][0]
    assert told[:4] == [
        [(first, 0, 1), (first, 1, 1)],
        [(first, 0, 2), (first, 1, 2)],
        [(first, 2, 1), (first, 3, 1)],
        [(first, 2, 2), (first, 3, 2)],
    ]


def test_when_memory_runs_out_the_batch_becomes_smaller_and_stays_so(go, pipe):
    sizes: list[int] = []

    def small_memory(module: Any, args: Any) -> None:
        sizes.append(len(args[0]))
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("tried to allocate 20.00 GiB")

    handle = pipe.components.unet.register_forward_pre_hook(small_memory)
    sweep = go(steps=[1, 2], seed=range(4), batch=4)
    handle.remove()
    assert list(sweep.frame()["status"]) == ["done"] * 8
    assert sizes == [4, 2, 2, 2, 2]  # 1 step, in halves; then the second call of 2 steps
    assert {sweep.manifest(cell)["attempt"] for cell in sweep.frame()["cell"]} == {1}


def test_one_bad_cell_of_a_batch_fails_alone(go, pipe, caplog):
    caplog.set_level(logging.INFO, logger="svdlab")
    with refusing(pipe, {(224, 1)}):
        sweep = go(steps=1, seed=0, motion_bucket_id=[1, 2, 224, 3], batch=4)
    assert list(sweep.frame()["status"]) == ["done", "done", "failed", "done"]
    assert "a batch of 4 cells failed and is tried again in halves: OutOfMemoryError" in caplog.text


def test_a_stop_lets_the_batch_finish_and_every_cell_is_stored_before_the_next(go, tmp_path):
    seen: list[int] = []

    def look(row: dict[str, Any]) -> None:
        seen.append(sl.open_sweep(tmp_path / "run").status()["done"])

    sweep = go(seed=range(4), batch=3, on_cell=look, stop=lambda: bool(seen))
    assert seen == [1, 2, 3]
    assert sweep.interrupted
    assert sweep.status() == {"pending": 5, "running": 0, "done": 3, "failed": 0, "skipped": 0}


def test_an_error_in_a_callback_leaves_the_rest_of_the_batch_to_do(go, tmp_path):
    def broken(row: dict[str, Any]) -> None:
        raise ZeroDivisionError("the notebook's callback broke")

    with pytest.raises(ZeroDivisionError):
        go(seed=range(3), steps=1, batch=3, on_cell=broken)
    assert sl.open_sweep(tmp_path / "run").status() == {
        **{"pending": 2, "running": 0, "done": 1, "failed": 0, "skipped": 0}
    }
    with Ledger(tmp_path / "run") as ledger:
        assert [row["what"] for row in ledger.events()].count("released") == 2


def test_a_size_is_chosen_by_measurement_and_said(pipe, cells, caplog):
    caplog.set_level(logging.INFO, logger="svdlab")
    grid = cells(steps=[1, 2], seed=[0, 1, 2])
    images = {cell.image: PICTURES[0] for cell in grid}
    assert choose_batch(grid, images, pipe) in (1, 2, 4)
    assert "s a clip and step in a batch of 1, " in caplog.text
    assert len(pipe._cache) == 0
    assert choose_batch(grid[:2], images, pipe) == 1  # 1 and 2 steps of one seed: nothing to put together


def test_a_model_that_cannot_run_is_the_cells_to_report(pipe, cells, go, caplog):
    caplog.set_level(logging.INFO, logger="svdlab")
    with refusing(pipe, {(127, 1)}):
        frame = go(batch="auto").frame()
    assert list(frame["status"]) == ["failed"] * 4
    assert "a batch of 1 does not run (OutOfMemoryError)" in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 0}, "batch = 0: must be a whole number from 1 to 64, or 'auto'"),
        ({"batch": True}, "batch = True: must be"),
        ({"batch": 2.0}, r"batch = 2\.0: must be"),
        ({"batch": "many"}, "batch = 'many': must be"),
        ({"batch": 4, "timing": "isolated"}, "lets each cell run alone. Leave batch out"),
    ],
)
def test_sizes_that_cannot_be_are_refused_before_anything_is_written(go, tmp_path, changes, words):
    with pytest.raises(SweepError, match=words):
        go(**changes)
    assert not (tmp_path / "run").exists()

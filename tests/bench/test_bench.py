"""Bench: both sides are real, and their times count only if their clips agree."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

import svdlab as sl
from svdlab import cli
from svdlab.bench import ROWS, Row, Settings, Timing, in_turns, run_bench
from svdlab.errors import BenchError
from svdlab.request import Request
from svdlab.sharing import call_chain, calls_to_make

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
TINY = {"num_frames": 2, "width": 32, "height": 32}
GRID = {"motion_bucket_id": (32, 224), "steps": (1, 2)}


@pytest.fixture(scope="module")
def pipe() -> sl.Pipeline:
    return sl.load("tiny-random", device="cpu")


@pytest.fixture(scope="module")
def bench(pipe):
    return run_bench(pipe, Settings(repeats=1, grid=GRID, **TINY))


def test_sides_take_turns_and_the_warm_up_does_not_count():
    seen: list[str] = []
    times = in_turns({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, repeats=3, warm_up=2)
    assert seen == ["a", "b"] * 5
    for timing in times.values():
        assert timing.count == 3
        assert 0 < timing.low <= timing.median <= timing.high


def test_the_device_is_waited_for_on_both_ends():
    seen: list[str] = []
    in_turns({"a": lambda: seen.append("work")}, repeats=1, warm_up=0, synchronize=lambda: seen.append("wait"))
    assert seen == ["wait", "work", "wait"]


def test_every_row_is_measured_on_both_sides(bench):
    assert tuple(row.name for row in bench.rows) == ROWS
    for row in bench.rows:
        assert min(row.baseline.median, row.svdlab.median) > 0
        assert row.ratio == row.baseline.median / row.svdlab.median
    assert {row.name for row in bench.rows if row.tflop} == {"unet_call", "decode_frame"}
    assert bench.peak_tflops > 0
    assert len(bench.table()) == len(ROWS)


def test_the_limit_is_the_plans_calls_at_the_best_cost(bench):
    rows = {row.name: row for row in bench.rows}
    calls, frames = 2 * 2, 4 * 2  # the first call of 1 and 2 steps is one; two frames a cell
    expected = calls * rows["unet_call"].svdlab.low + frames * rows["decode_frame"].svdlab.low
    assert rows["grid_limit"].baseline.median == pytest.approx(expected)
    assert rows["grid_limit"].svdlab == rows["grid"].svdlab
    assert rows["grid_limit"].note == "4 calls, 8 frames"


def test_the_default_grid_is_the_one_that_is_promised(pipe):
    settings = Settings()
    request = Request("", seed=0).resolve(pipe.defaults)
    points = [dict(zip(settings.grid, point, strict=True)) for point in itertools.product(*settings.grid.values())]
    chains = [call_chain(request.replace(**point).settings(), image=0) for point in points]
    assert len(points) == 72
    assert (sum(map(len, chains)), sum(calls_to_make(chains))) == (18 * 15, 18 * 12)


def test_json_has_what_a_reader_compares(bench):
    data = json.loads(json.dumps(bench.to_dict()))
    assert {"name", "baseline_s", "svdlab_s", "ratio"} <= set(data["rows"][0])
    assert data["rows"][0]["ratio"] == data["rows"][0]["baseline_s"] / data["rows"][0]["svdlab_s"]
    assert data["machine"]["model"] == "tiny-random"
    assert data["machine"]["threads"] == torch.get_num_threads()
    assert {"torch", "diffusers", "svdlab"} <= set(data["machine"]["versions"])


def test_a_ratio_above_one_says_that_svdlab_is_faster():
    slow, fast = (Timing(median=m, low=m, high=m, count=1) for m in (3.0, 2.0))
    assert Row(name="clip", what="", baseline=slow, svdlab=fast, tflop=4.0).ratio == 1.5
    assert Row(name="clip", what="", baseline=slow, svdlab=fast, tflop=4.0).tflops == 2.0


def test_sides_that_differ_are_not_timed():
    """A network that answers differently every time, by a hook on the real UNet."""
    unsteady = sl.load("tiny-random", device="cpu")
    counter = itertools.count()
    unsteady.components.unet.register_forward_hook(lambda module, args, out: (out[0] + next(counter),))
    with pytest.raises(BenchError, match=r"steps = 1, motion_bucket_id = .*: latents .* differ by"):
        run_bench(unsteady, Settings(rows=("unet_call",), grid=GRID, **TINY))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": ("clip", "speed")}, "rows = 'clip, speed': must be some of conditioning"),
        ({"rows": ()}, "rows = '': must be some of"),
        ({"rows": ("grid", "grid_limit")}, "grid_limit is computed from unet_call, decode_frame and grid"),
        ({"repeats": 0}, "repeats = 0: must be a whole number from 1"),
    ],
)
def test_what_is_not_measured_is_refused(changes, words):
    with pytest.raises(BenchError, match=words):
        Settings(**changes)


def test_the_command_prints_a_table_and_writes_json(tmp_path, monkeypatch, capsys):
    file = tmp_path / "bench.json"
    size = ["--num-frames", "2", "--width", "32", "--height", "32", "--device", "cpu"]
    call = ["svdlab", "bench", "--rows", "unet_call", "--repeats", "1", "--json", str(file), *size]
    monkeypatch.setattr("sys.argv", call)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert "one UNet call" in capsys.readouterr().out
    assert [row["name"] for row in json.loads(file.read_text(encoding="utf-8"))["rows"]] == ["unet_call"]


def test_a_file_without_a_folder_is_refused_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["svdlab", "bench", "--json", str(tmp_path / "none" / "b.json")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "its folder does not exist" in capsys.readouterr().err

"""Bench: both sides are real, and their times count only if their clips agree."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import resource
import sys

import pytest
import torch

import svdlab as sl
from svdlab import cli
from svdlab.bench import COLD, HEADER, ROWS, Row, Settings, Timing, in_turns, run_bench
from svdlab.bench.cold import cold_starts, run_process
from svdlab.bench.limits import count_gigabytes
from svdlab.bench.work import Work, metric_names
from svdlab.errors import BenchError
from svdlab.request import Request
from svdlab.sharing import call_chain, calls_to_make
from svdlab.video import read_video

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
TINY = {"num_frames": 2, "width": 32, "height": 32}
WARM = tuple(name for name in ROWS if name not in COLD)
GRID = {"motion_bucket_id": (32, 224), "steps": (1, 2)}


@pytest.fixture(scope="module")
def pipe() -> sl.Pipeline:
    return sl.load("tiny-random", device="cpu")


@pytest.fixture(scope="module")
def bench(pipe):
    return run_bench(pipe, Settings(repeats=1, grid=GRID, rows=WARM, **TINY))


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
    assert tuple(row.name for row in bench.rows) == WARM
    for row in bench.rows:
        assert min(row.baseline.median, row.svdlab.median) > 0
        assert row.ratio == row.baseline.median / row.svdlab.median
    assert {row.name for row in bench.rows if row.tflop} == {"unet_call", "decode_frame"}
    assert {row.name for row in bench.rows if row.gigabytes} == {"unet_call", "decode_frame"}
    assert min(bench.peak_tflops, bench.peak_gbytes) > 0
    assert len(bench.table()) == len(WARM)
    assert {len(texts) for texts in bench.table()} == {len(HEADER)}


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
    assert data["peak_gbytes"] == bench.peak_gbytes
    assert data["machine"]["threads"] == torch.get_num_threads()
    assert {"torch", "diffusers", "svdlab"} <= set(data["machine"]["versions"])


def test_sweeps_of_the_grid_stand_beside_one_run_of_the_loop(bench):
    rows = {row.name: row for row in bench.rows}
    assert rows["grid"].baseline == rows["grid_preview"].baseline
    assert rows["grid"].svdlab != rows["grid_preview"].svdlab
    assert rows["grid_preview"].what == "grid of 4 cells, decoded on demand"


def test_metrics_are_those_that_need_no_download_and_their_share_is_said(bench, monkeypatch, tmp_path):
    note = next(row.note for row in bench.rows if row.name == "metrics")
    assert re.fullmatch(r"\d+ metrics; stock: each by itself; together \d+% of what making the clip takes", note)
    monkeypatch.delenv("SVDLAB_LPIPS_WEIGHTS", raising=False)
    monkeypatch.setenv("SVDLAB_CACHE", str(tmp_path))
    names = metric_names()
    assert {"flow_mean", "warp_error"} <= set(names)
    assert not [name for name in names if name.startswith(("lpips", "seconds"))]


def test_traffic_counts_what_is_read_and_written_and_not_what_is_only_looked_at():
    a = torch.ones(1000)
    assert count_gigabytes(lambda: (a * 2).view(10, 100).t()) == 8000 / 1e9
    one = torch.ones(1)
    assert count_gigabytes(lambda: one.expand(1000) * 2) == (4 + 4000) / 1e9  # read as often as it is there


@pytest.mark.slow
def test_a_cold_start_is_a_fresh_process_on_both_sides(pipe, tmp_path):
    work = Work(pipe, Settings(rows=COLD, **TINY))
    cold = cold_starts(work.stock, work.request, tmp_path, repeats=1, warm_up=0)
    for side in ("baseline", "svdlab"):
        assert read_video(tmp_path / f"cold-{side}.mp4").frames.shape == (2, 32, 32, 3)
        assert cold[side].seconds.count == 1
        assert cold[side].megabytes.median > 100  # torch alone takes more
    assert cold["baseline"].megabytes != cold["svdlab"].megabytes


def test_memory_is_told_in_its_own_unit(bench):
    sides = {side: Timing(median=m, low=m, high=m, count=1) for side, m in (("baseline", 1200.0), ("svdlab", 800.0))}
    row = Row(name="peak_memory", what="peak memory of a clip", unit="MB", **sides)
    told = dataclasses.replace(bench, rows=(row,))
    assert told.table()[0][1:4] == ("1200 MB", "800 MB", "1.50")
    data = json.loads(json.dumps(told.to_dict()))["rows"][0]
    assert (data["baseline_s"], data["svdlab_s"]) == (None, None)
    assert (data["baseline_mb"], data["svdlab_mb"], data["ratio"]) == (1200.0, 800.0, 1.5)


def test_the_memory_of_a_process_is_its_own_and_not_that_of_who_started_it():
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    seconds, megabytes = run_process([sys.executable, "-c", "print('not on the screen')"])
    assert seconds > 0
    assert 1 < megabytes < held / 4  # this process has torch in it
    assert run_process([sys.executable, "-c", "held = bytearray(200_000_000)"])[1] > 200


def test_a_process_that_fails_says_why():
    with pytest.raises(BenchError, match="ended with 3: no clip today"):
        run_process([sys.executable, "-c", "import sys; print('no clip today', file=sys.stderr); sys.exit(3)"])


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
        ({"rows": ("metric",)}, "rows = 'metric': must be some of"),
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

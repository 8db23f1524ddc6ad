from __future__ import annotations

import time

import pytest
import torch

from svdlab.stopwatch import Stopwatch


def test_laps_add_up_and_leave_out_what_is_not_theirs():
    watch = Stopwatch(torch.device("cpu"))
    began = time.perf_counter()
    time.sleep(0.01)
    watch.lap("a")
    time.sleep(0.01)
    watch.restart()  # what went before belongs to nobody
    time.sleep(0.01)
    watch.lap("a")
    whole = time.perf_counter() - began
    assert list(watch.laps) == ["a"]
    assert 0.02 <= watch.laps["a"] <= whole - 0.01
    assert watch.vram_peak_mb() is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_is_waited_for_and_its_memory_measured():
    watch = Stopwatch(torch.device("cuda"))
    torch.zeros(10_000_000, device="cuda")
    assert watch.split() > 0
    assert watch.vram_peak_mb() >= 40

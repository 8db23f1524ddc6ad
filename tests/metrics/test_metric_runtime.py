from __future__ import annotations

import numpy as np
import pytest

from svdlab.errors import MetricError
from svdlab.metrics import score
from tests.metrics.conftest import clip_of

FRAMES = np.zeros((1, 8, 8, 3), np.uint8)
SECONDS = {"condition": 0.5, "denoise": 3.0, "decode": 2.0, "total": 5.5}
RUNTIME = ["seconds", "seconds_denoise", "seconds_decode", "vram_peak_mb"]


def test_the_numbers_are_read_off_the_clip():
    values = score(clip_of(FRAMES, seconds=SECONDS, vram_peak_mb=812.5), names=RUNTIME)
    assert values == {"seconds": 5.5, "seconds_denoise": 3.0, "seconds_decode": 2.0, "vram_peak_mb": 812.5}


def test_a_run_on_the_cpu_has_no_vram_and_the_default_table_leaves_it_out():
    clip = clip_of(FRAMES, seconds=SECONDS, vram_peak_mb=None)
    assert set(score(clip)) & set(RUNTIME) == {"seconds", "seconds_denoise", "seconds_decode"}
    with pytest.raises(MetricError, match="'vram_peak_mb' needs a run on a GPU"):
        score(clip, names=["vram_peak_mb"])


@pytest.mark.parametrize("seconds", [None, {}])
def test_frames_without_a_run_have_no_timings(seconds):
    clip = clip_of(FRAMES, seconds=seconds)
    assert not set(score(clip)) & set(RUNTIME)
    with pytest.raises(MetricError, match="'seconds' needs the stage timings of the run"):
        score(clip, names=["seconds"])


def test_a_missing_stage_is_named():
    with pytest.raises(MetricError, match=r"needs the stage 'decode' in clip\.seconds, which has \['total'\]"):
        score(clip_of(FRAMES, seconds={"total": 1.0}), names=["seconds_decode"])

"""Networks of full size: their published counts and arithmetic, on shapes alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from svdlab.bench.full_size import build_parts, random_pipeline
from svdlab.errors import BenchError
from svdlab.memory import bytes_free
from svdlab.models import CATALOGUE
from svdlab.models.placement import SPARE, clip_bytes


def test_networks_have_as_many_weights_as_published():
    parts = build_parts("meta", torch.float16)
    counts = {name: sum(weight.numel() for weight in part.parameters()) / 1e6 for name, part in parts.items()}
    assert counts == {"unet": pytest.approx(1524.6, abs=0.1), "vae": pytest.approx(97.7, abs=0.1)} | {
        "image_encoder": pytest.approx(632.1, abs=0.1)
    }
    assert {weight.dtype for part in parts.values() for weight in part.parameters()} == {torch.float16}


def test_one_call_is_80_tflop_at_the_size_of_a_clip():
    """As counted by hand for 25 frames of 576x1024: 79.95 TFLOP, a multiplication and an addition being two."""
    unet = build_parts("meta", torch.float16)["unet"]
    with torch.device("meta"):
        x = torch.empty(1, 25, 8, 72, 128, dtype=torch.float16)
        states, ids = torch.empty(1, 1, 1024, dtype=torch.float16), torch.empty(1, 3, dtype=torch.float16)
        with FlopCounterMode(display=False) as counter:
            out = unet(x, torch.tensor(1.6), encoder_hidden_states=states, added_time_ids=ids).sample
    assert out.shape == (1, 25, 4, 72, 128)
    assert counter.get_total_flops() / 1e12 == pytest.approx(79.95, rel=0.002)


def test_what_does_not_fit_is_refused_before_a_weight_is_drawn():
    full, half = (build_parts("meta", dtype) for dtype in (torch.float32, torch.float16))
    own = CATALOGUE["svd-xt"].defaults
    assert clip_bytes(full, own)["none"] == pytest.approx(2 * clip_bytes(half, own)["none"], abs=4)
    small = replace(own, num_frames=1, width=64, height=64)
    assert clip_bytes(half, small)["none"] / SPARE == pytest.approx(4.51e9, rel=0.01)
    free = bytes_free(torch.device("cpu"))
    assert 0 < free < 10**15
    frames = round(free / 10**8)  # of 1024x1024 px: more than a hundred megabytes each
    with pytest.raises(BenchError, match=r"needs about \d+\.\d GB on cpu, and \d+\.\d GB are free.*--num-frames"):
        random_pipeline("svd-xt", num_frames=frames, width=1024, height=1024, device="cpu", dtype="fp32")


@pytest.mark.parametrize("model", ["tiny-random", "nothing"])
def test_models_that_have_no_full_size_are_refused(model):
    with pytest.raises(BenchError, match=rf"--random-weights with model = '{model}': must be .*svd-xt"):
        random_pipeline(model)

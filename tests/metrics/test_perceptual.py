from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import MetricError, WeightsError
from svdlab.metrics import score, score_frames
from svdlab.metrics.lpips_network import load_network
from svdlab.metrics.perceptual import lpips_curves, lpips_size
from tests.metrics.conftest import clip_of, frozen, pan, with_noise

LPIPS = ["lpips_input", "lpips_input_last", "lpips_adjacent"]

pytestmark = pytest.mark.usefixtures("weights")


def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    network = load_network()
    return network.distances(network.features(first), network.features(second))


def test_known_distances_of_ten_random_pairs():
    """Pairs made by a legacy generator of fixed seed; their mean, by the authors' package and weights, is 0.1445."""
    legacy = np.random.RandomState(123)
    first, second = (legacy.rand(10, 3, 100, 100).transpose(0, 2, 3, 1).astype(np.float32) * 255 for _ in range(2))
    distances = distance(first, second)
    assert distances.mean() == pytest.approx(0.1445, abs=5e-5)
    assert distances.std() < 0.02


def test_equal_to_the_module_of_the_package(photo):
    import lpips

    first, second = pan(photo, step=4, count=3), with_noise(frozen(photo, 3), 20)
    x, y = (lpips.im2tensor(f.transpose(1, 2, 3, 0)[..., 0]) for f in (first[:1], second[:1]))
    module = load_network().module
    with torch.no_grad():
        wanted = module(x, y).item()
        assert wanted == pytest.approx(distance(first[:1], second[:1]).item(), rel=1e-5)
    curves = lpips_curves(first, second[0])
    assert curves.input is not None
    assert curves.input[0] == pytest.approx(wanted, rel=1e-5)


def test_symmetric_zero_on_itself_and_the_same_batched_or_single(photo):
    first, second = pan(photo, step=6, count=5), with_noise(frozen(photo, 5), 20)
    together = distance(first, second)
    np.testing.assert_array_equal(distance(first, first), np.zeros(5))
    np.testing.assert_array_equal(distance(second, first), together)
    single = [distance(a[None], b[None]).item() for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(single, together, rtol=1e-4)
    assert (together > 0.1).all()


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("chunk", [1, 2, 4, 100])
def test_chunks_change_nothing(photo, count, chunk):
    frames = with_noise(pan(photo, step=3, count=count))
    image = frames[count // 2]
    whole, parts = lpips_curves(frames, image, chunk=64), lpips_curves(frames, image, chunk=chunk)
    assert whole.input is not None
    assert whole.input.shape == (count,)
    assert whole.adjacent.shape == (count - 1,)
    np.testing.assert_allclose(parts.input, whole.input, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(parts.adjacent, whole.adjacent, rtol=1e-4, atol=1e-7)
    alone = lpips_curves(frames, None, chunk=chunk)
    assert alone.input is None
    np.testing.assert_allclose(alone.adjacent, whole.adjacent, rtol=1e-4, atol=1e-7)
    pairwise = distance(frames[:-1], frames[1:]) if count > 1 else np.zeros(0)
    np.testing.assert_allclose(whole.adjacent, pairwise, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(whole.input, distance(frames, image[None]), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("count", [2, 8, 11, 25])
def test_a_frozen_clip_is_at_distance_zero_exactly(photo, count):
    frames = frozen(photo, count)
    assert score(clip_of(frames, image=frames[0]), names=LPIPS) == dict.fromkeys(LPIPS, 0.0)


def test_the_scalars_are_those_of_the_curves(photo):
    frames = pan(photo, step=3, count=10)
    clip = clip_of(frames, image=frames[0])
    values, curves = score(clip, names=LPIPS), score_frames(clip, names=["lpips_input", "lpips_adjacent"])
    assert values["lpips_input"] == curves["lpips_input"].mean()
    assert values["lpips_input_last"] == curves["lpips_input"][-1]
    assert values["lpips_adjacent"] == curves["lpips_adjacent"].mean()
    assert curves["lpips_input"][0] == 0
    assert curves["lpips_input"][-1] > curves["lpips_input"][1] > 0


@given(width=st.integers(31, 4096), height=st.integers(31, 4096))
def test_the_working_size_has_a_short_side_of_256_at_most(width, height):
    w, h = lpips_size(width, height)
    assert min(w, h) == min(width, height, 256)
    assert abs(w / h - width / height) <= 0.51 * max(w, h) / min(w, h) ** 2 * 2


def test_large_frames_are_reduced_before_they_are_compared(photo):
    """The value depends on the resolution, so it is fixed: an enlarged clip reads nearly as its original."""
    small = pan(photo, step=8, count=2, height=256, width=256)
    large = small.repeat(2, axis=1).repeat(2, axis=2)
    one, two = (score(clip_of(f, image=f[0]), names=["lpips_input_last"])["lpips_input_last"] for f in (small, large))
    assert two == pytest.approx(one, rel=1e-4)
    at_full_size = distance(large[1:], large[:1]).item()
    assert abs(at_full_size - one) > 0.01


def test_the_smallest_frames(photo):
    frames = pan(photo, step=2, count=2, height=31, width=31)
    assert 0 < score(clip_of(frames), names=["lpips_adjacent"])["lpips_adjacent"] < 1
    frames = pan(photo, step=2, count=2, height=30, width=64)
    with pytest.raises(MetricError, match="LPIPS needs frames of at least 31x31 px; these are 64x30"):
        score(clip_of(frames), names=["lpips_adjacent"])


def test_autocast_around_us_changes_nothing(photo):
    frames = pan(photo, step=4, count=3)
    outside = lpips_curves(frames, frames[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = lpips_curves(frames, frames[0])
    np.testing.assert_array_equal(inside.adjacent, outside.adjacent)
    assert (inside.adjacent > 0).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_to_rounding(photo):
    frames = pan(photo, step=4, count=3)
    on_cpu, on_gpu = (lpips_curves(frames, frames[0], device=device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(on_gpu.adjacent, on_cpu.adjacent, rtol=1e-3)


def test_the_network_is_loaded_once_and_leaves_the_global_generator_alone(weights: Path, tmp_path):
    assert load_network() is load_network()
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    assert load_network(copy) is not load_network()
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_device_that_is_not_here_is_named(photo, device):
    with pytest.raises(MetricError, match=f"device='{device}' cannot run LPIPS: .* Use 'cpu'"):
        score(clip_of(frozen(photo, 2)), names=["lpips_adjacent"], device=device)


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(WeightsError, match="is no file"):
        load_network(tmp_path / "none.safetensors")

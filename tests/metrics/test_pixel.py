from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from svdlab.errors import MetricError
from svdlab.metrics import score, score_frames
from svdlab.metrics.pixel import ssim
from tests.metrics.conftest import clip_of, frozen, pan, with_noise

seeds = st.integers(0, 2**32 - 1)


def random_frames(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_flicker_is_vbench_temporal_flickering(photo):
    frames = with_noise(pan(photo, step=2))
    pairs = [np.mean(np.abs(a.astype(np.float64) - b.astype(np.float64))) for a, b in pairwise(frames)]
    vbench = (255 - np.mean(pairs)) / 255
    assert score(clip_of(frames), names=["flicker"])["flicker"] == pytest.approx(vbench, rel=1e-12)
    np.testing.assert_allclose(score_frames(clip_of(frames), names=["flicker"])["flicker"], 1 - np.array(pairs) / 255)


@given(seed=seeds)
def test_flicker_is_the_same_backwards_and_in_bounds(seed):
    frames = random_frames(seed, (4, 5, 6))
    forward, backward = (score(clip_of(f), names=["flicker", "jerk"]) for f in (frames, frames[::-1].copy()))
    assert forward == pytest.approx(backward)
    assert all(0 <= value <= 1 for value in forward.values())


def test_the_bounds_of_flicker_and_jerk_are_reached():
    flash = np.zeros((4, 8, 8, 3), np.uint8)
    flash[1::2] = 255
    assert score(clip_of(flash), names=["flicker", "jerk"]) == {"flicker": 0.0, "jerk": 1.0}
    assert score(clip_of(flash[:1].repeat(4, 0)), names=["flicker", "jerk"]) == {"flicker": 1.0, "jerk": 0.0}


def test_a_steady_fade_has_no_jerk():
    fade = np.stack([np.full((8, 8, 3), 10 * t, np.uint8) for t in range(5)])
    assert score(clip_of(fade), names=["flicker", "jerk"]) == {"flicker": pytest.approx(1 - 10 / 255), "jerk": 0.0}
    fade[2] += 6
    assert score_frames(clip_of(fade), names=["jerk"])["jerk"] == pytest.approx(np.array([6, 12, 6]) / 510)


@pytest.mark.parametrize("size", [(64, 48), (11, 11), (37, 90)])
def test_ssim_equals_that_of_scikit_image(photo, size):
    height, width = size
    first = photo[: height * 2 : 2, : width * 2 : 2]
    for second in (with_noise(first, 20), first[::-1].copy(), np.full_like(first, 128), 255 - first):
        wanted = structural_similarity(
            first,
            second,
            channel_axis=-1,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert ssim(first, second) == pytest.approx(wanted, abs=1e-9)


@settings(deadline=None)
@given(seed=seeds)
def test_ssim_is_symmetric_and_one_for_equal_pictures(seed):
    first, second = random_frames(seed, (2, 12, 13))
    assert ssim(first, second) == pytest.approx(ssim(second, first), abs=1e-12)
    assert ssim(first, first) == pytest.approx(1, abs=1e-12)
    assert -1 <= ssim(first, second) < 1


def test_ssim_of_flat_pictures_is_defined():
    grey = np.full((1, 16, 16, 3), 90, np.uint8)
    assert score(clip_of(grey, image=grey[0]), names=["ssim_input"])["ssim_input"] == pytest.approx(1)
    values = score(clip_of(grey, image=np.zeros_like(grey[0])), names=["ssim_input"])
    assert 0 < values["ssim_input"] < 0.01


def test_psnr_equals_that_of_scikit_image(photo):
    frames = with_noise(frozen(photo, 3))
    image = photo[60:156, 60:188]
    wanted = [peak_signal_noise_ratio(image, frame, data_range=255) for frame in frames]
    clip = clip_of(frames, image=image)
    np.testing.assert_allclose(score_frames(clip, names=["psnr_input"])["psnr_input"], wanted, rtol=1e-12)
    assert score(clip, names=["psnr_input"])["psnr_input"] == pytest.approx(np.mean(wanted))


def test_psnr_is_capped_at_100_db_and_0_at_the_other_end():
    black, white = np.zeros((2, 8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert score(clip_of(black, image=black[0]), names=["psnr_input"]) == {"psnr_input": 100.0}
    assert score(clip_of(black, image=white), names=["psnr_input"]) == {"psnr_input": 0.0}


def test_similarity_to_the_input_falls_along_a_pan(photo):
    frames = pan(photo, step=2)
    curves = score_frames(clip_of(frames, image=frames[0]), names=["ssim_input", "psnr_input"])
    assert curves["ssim_input"][0] == pytest.approx(1)
    assert curves["psnr_input"][0] == 100
    assert (np.diff(curves["ssim_input"][:4]) < 0).all()
    assert (np.diff(curves["psnr_input"][:4]) < 0).all()


def test_too_small_and_too_short_are_refused_with_words():
    small = np.zeros((2, 10, 64, 3), np.uint8)
    with pytest.raises(MetricError, match="at least 11x11 px; these are 64x10"):
        score(clip_of(small, image=small[0]), names=["ssim_input"])
    with pytest.raises(MetricError, match=r"'flicker' .* at least 2 of them; this clip has 1"):
        score(clip_of(small[:1]), names=["flicker"])
    with pytest.raises(MetricError, match=r"'jerk' .* at least 3"):
        score(clip_of(small), names=["jerk"])

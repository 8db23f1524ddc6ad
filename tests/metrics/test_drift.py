from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from svdlab.metrics import score
from svdlab.metrics.context import Scoring
from svdlab.metrics.drift import LAPLACIAN_FLOOR, laplacian_variance, slope
from tests.metrics.conftest import clip_of, frozen

DRIFT = ["luma_drift", "saturation_drift", "sharpness_ratio"]


def blurred(frame: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(radius)))


def test_the_slope_of_a_brightness_ramp_is_exact():
    frames = np.stack([np.full((8, 8, 3), 20 + 3 * t, np.uint8) for t in range(10)])
    values = score(clip_of(frames), names=DRIFT)
    assert values["luma_drift"] == pytest.approx(3, abs=1e-4)  # float32 luma
    assert values["saturation_drift"] == 0
    assert score(clip_of(frames[::-1].copy()), names=["luma_drift"])["luma_drift"] == pytest.approx(-3, abs=1e-4)


def test_the_slope_of_a_chroma_ramp_is_exact():
    frames = np.full((10, 8, 8, 3), 100, np.uint8)
    for t, frame in enumerate(frames):
        frame[..., 0] += 4 * t
        frame[..., 2] -= 2 * t
    values = score(clip_of(frames), names=DRIFT)
    assert values["saturation_drift"] == pytest.approx(6)
    assert values["luma_drift"] == pytest.approx(4 * 0.299 - 2 * 0.114, abs=1e-4)


def test_luma_weighs_the_channels():
    pure = np.zeros((3, 2, 2, 3), np.uint8)
    for channel in range(3):
        pure[channel, ..., channel] = 200
    np.testing.assert_allclose(Scoring(pure).luma[:, 0, 0], [59.8, 117.4, 22.8], rtol=1e-6)


@given(start=st.floats(-1e3, 1e3), step=st.floats(-1e3, 1e3), count=st.integers(2, 60))
def test_slope_of_a_line(start, step, count):
    assert slope(start + step * np.arange(count)) == pytest.approx(step, abs=1e-7)


@given(values=st.lists(st.floats(-255, 255), min_size=2, max_size=40))
def test_slope_is_that_of_least_squares(values):
    wanted = np.polyfit(np.arange(len(values)), values, 1)[0]
    assert slope(np.array(values)) == pytest.approx(wanted, abs=1e-8)
    assert slope(np.array(values[::-1])) == pytest.approx(-wanted, abs=1e-8)


def test_sharpness_falls_with_blur_and_rises_with_sharpening(photo):
    frames = frozen(photo, 3)
    assert score(clip_of(frames), names=["sharpness_ratio"])["sharpness_ratio"] == 1
    ratios = []
    for radius in (0.5, 1, 2):
        soft = frames.copy()
        soft[-1] = blurred(frames[-1], radius)
        ratios.append(score(clip_of(soft), names=["sharpness_ratio"])["sharpness_ratio"])
        back = score(clip_of(soft[::-1].copy()), names=["sharpness_ratio"])["sharpness_ratio"]
        assert back == pytest.approx(1 / ratios[-1])
    assert 1 > ratios[0] > ratios[1] > ratios[2] > 0


def test_flat_pictures_have_a_finite_sharpness_ratio(photo):
    flat = np.full((2, 96, 128, 3), 77, np.uint8)
    assert score(clip_of(flat), names=["sharpness_ratio"]) == {"sharpness_ratio": 1.0}
    mixed = np.stack([flat[0], frozen(photo, 1)[0]])
    value = score(clip_of(mixed), names=["sharpness_ratio"])["sharpness_ratio"]
    assert value == pytest.approx(laplacian_variance(Scoring(mixed).luma[1]) / LAPLACIAN_FLOOR)
    assert np.isfinite(value)


def test_the_laplacian_against_a_direct_sum():
    luma = np.random.default_rng(0).uniform(0, 255, (6, 7))
    padded = np.pad(luma, 1, mode="reflect")
    direct = [
        padded[y - 1, x] + padded[y + 1, x] + padded[y, x - 1] + padded[y, x + 1] - 4 * padded[y, x]
        for y in range(1, 7)
        for x in range(1, 8)
    ]
    assert laplacian_variance(luma) == pytest.approx(np.var(direct))
    assert laplacian_variance(np.zeros((1, 5))) == 0


def test_rounding_noise_alone_makes_the_floor():
    rng = np.random.default_rng(0)
    smooth = rng.uniform(100, 101, (400, 400))  # rounding error is uniform for real pictures; measure it directly
    error = (rng.uniform(0, 255, smooth.shape) + 0.0) % 1 - 0.5
    assert laplacian_variance(error) == pytest.approx(LAPLACIAN_FLOOR, rel=0.03)

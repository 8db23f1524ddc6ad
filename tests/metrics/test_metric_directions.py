"""What each metric sees and what it is blind to: the reason why motion is shown beside consistency."""

from __future__ import annotations

import numpy as np
import pytest

from svdlab.metrics import score
from tests.metrics.conftest import clip_of, frozen, pan, with_brightness_flicker, with_noise

NAMES = ["flow_mean", "warp_error", "occlusion_ratio", "flicker", "jerk", "lpips_input", "lpips_adjacent", "ssim_input"]


@pytest.fixture(scope="module")
def table(photo, weights) -> dict[str, dict[str, float]]:
    still, moving = frozen(photo, 10), pan(photo, step=2, count=10)
    order = np.random.default_rng(3).permutation(10)
    variants = {
        "frozen": still,
        "frozen, noise": with_noise(still),
        "frozen, brightness": with_brightness_flicker(still),
        "pan": moving,
        "pan, noise": with_noise(moving),
        "pan, brightness": with_brightness_flicker(moving),
        "pan, shuffled": moving[order],
        "pan, slow": pan(photo, step=1, count=10),
    }
    return {name: score(clip_of(frames, image=still[0]), names=NAMES) for name, frames in variants.items()}


def test_a_frozen_clip_wins_everything(table):
    perfect = {"flow_mean": 0, "warp_error": 0, "occlusion_ratio": 0, "flicker": 1, "jerk": 0,
               "lpips_input": 0, "lpips_adjacent": 0, "ssim_input": pytest.approx(1)}  # fmt: skip
    assert table["frozen"] == perfect


def test_warp_error_tells_flicker_from_motion_and_plain_differences_do_not(table):
    pan, noise = table["pan"], table["frozen, noise"]
    assert pan["flicker"] < noise["flicker"]  # a perfect pan looks worse than noise
    assert pan["jerk"] > noise["jerk"]
    assert pan["warp_error"] < noise["warp_error"] / 50


@pytest.mark.parametrize("fault", ["noise", "brightness"])
def test_warp_error_sees_faults_through_motion(table, fault):
    assert table[f"pan, {fault}"]["warp_error"] > 20 * table["pan"]["warp_error"]
    assert table[f"pan, {fault}"]["flow_mean"] == pytest.approx(table["pan"]["flow_mean"], abs=0.15)


def test_lpips_hardly_sees_flicker_of_brightness(table):
    assert table["frozen, brightness"]["lpips_adjacent"] < 0.02
    assert table["frozen, brightness"]["lpips_adjacent"] < table["frozen, noise"]["lpips_adjacent"]
    assert table["frozen, brightness"]["flicker"] < 0.98


def test_shuffled_frames_show_in_motion_and_occlusion(table):
    assert table["pan, shuffled"]["flow_mean"] > 2 * table["pan"]["flow_mean"]
    assert table["pan, shuffled"]["occlusion_ratio"] > 2 * table["pan"]["occlusion_ratio"]
    assert table["pan, shuffled"]["lpips_adjacent"] > table["pan"]["lpips_adjacent"]
    assert table["pan, shuffled"]["lpips_input"] == pytest.approx(
        table["pan"]["lpips_input"], rel=1e-5
    )  # blind to order


def test_departure_from_the_picture_grows_with_a_harmless_pan(table):
    assert 0 < table["pan, slow"]["lpips_input"] < table["pan"]["lpips_input"]
    assert 1 > table["pan, slow"]["ssim_input"] > table["pan"]["ssim_input"]

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import MetricError
from svdlab.metrics import score, score_frames
from svdlab.metrics.context import Scoring
from svdlab.metrics.flow import estimate_flow, visible_pixels, warp, warped_difference, working_size
from tests.metrics.conftest import clip_of, frozen, pan

FLOW = ["flow_mean", "flow_top5", "warp_error", "occlusion_ratio"]


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_pan_over_a_photograph_reads_its_true_speed(photo, step):
    values = score(clip_of(pan(photo, step=step)), names=FLOW)
    assert values["flow_mean"] == pytest.approx(step, abs=0.05)
    assert step < values["flow_top5"] < step + 1  # the border, where nothing is left to match
    assert values["warp_error"] < 1e-5  # nothing is left once motion is taken out
    assert values["occlusion_ratio"] == pytest.approx(step / 128, abs=0.03)  # what leaves the frame, and a little


def test_a_vertical_pan_and_a_diagonal_one(photo):
    frames = np.stack([photo[60 + 2 * t : 160 + 2 * t, 60:160] for t in range(5)])
    assert score(clip_of(frames), names=["flow_mean"])["flow_mean"] == pytest.approx(2, abs=0.05)
    frames = np.stack([photo[60 + 2 * t : 160 + 2 * t, 60 + 2 * t : 160 + 2 * t] for t in range(5)])
    assert score(clip_of(frames), names=["flow_mean"])["flow_mean"] == pytest.approx(np.hypot(2, 2), abs=0.07)


def test_a_frozen_clip_has_no_motion_and_no_error(photo):
    assert score(clip_of(frozen(photo)), names=FLOW) == dict.fromkeys(FLOW, 0.0)


def test_large_frames_are_measured_in_their_own_pixels(photo):
    large = pan(photo, step=4, count=4, height=160, width=400).repeat(2, axis=1).repeat(2, axis=2)  # 800 wide, 8 px
    scoring = Scoring(large)
    assert scoring.flow.forward.shape == (3, 205, 512, 2)
    assert score(scoring, names=["flow_mean"])["flow_mean"] == pytest.approx(8, abs=0.1)
    assert score(scoring, names=["warp_error"])["warp_error"] < 1e-4


@given(width=st.integers(1, 4096), height=st.integers(1, 4096))
def test_the_working_size_is_never_larger_and_keeps_the_aspect(width, height):
    w, h = working_size(width, height)
    assert w == min(width, 512)
    assert h <= height
    assert abs(h - max(1, height * w / width)) <= 0.5


def test_a_small_moving_object_shows_in_the_top_five_percent(photo):
    frames = frozen(photo)
    patch = photo[300:324, 300:324]
    for t, frame in enumerate(frames):
        frame[40:64, 20 + 3 * t : 44 + 3 * t] = patch
    values = score(clip_of(frames), names=FLOW)
    assert values["flow_mean"] < 0.6
    assert values["flow_top5"] > 2


def test_curves_have_one_value_per_pair_and_the_scalar_as_mean(photo):
    clip = clip_of(pan(photo, step=2))
    curves, values = score_frames(clip, names=FLOW), score(clip, names=FLOW)
    for name in FLOW:
        assert curves[name].shape == (7,)
        assert curves[name].mean() == pytest.approx(values[name], rel=1e-12)
    assert (curves["flow_top5"] >= curves["flow_mean"]).all()


def test_warping_error_by_the_formula_of_the_paper(photo):
    """Lai et al. 2018: sum(M (I_t - warp(I_t+1))^2) / sum(M) with a mask of three equal channels."""
    frames = pan(photo, step=3, count=2)
    flow = estimate_flow(frames)
    warped = warp(frames[1].astype(np.float32), flow.forward[0])
    mask = np.repeat(flow.visible[0][..., None], 3, axis=-1)
    squares = ((frames[0] / 255.0 - warped / 255.0) ** 2) * mask
    assert flow.error[0] == pytest.approx(squares.sum() / mask.sum(), rel=1e-5)


def test_warp_reads_where_the_flow_points():
    image = np.arange(20 * 30, dtype=np.float32).reshape(20, 30)
    flow = np.zeros((20, 30, 2), np.float32)
    np.testing.assert_array_equal(warp(image, flow), image)
    flow[..., 0] = 2
    np.testing.assert_array_equal(warp(image, flow)[:, :28], image[:, 2:])
    flow[..., :] = [0, -1.5]
    np.testing.assert_allclose(warp(image, flow)[2:], (image[1:-1] + image[:-2]) / 2)


def test_visibility_masks_what_leaves_the_frame_and_what_does_not_return():
    forward = np.zeros((20, 30, 2), np.float32)
    forward[..., 0] = 4
    there_and_back = visible_pixels(forward, -forward)
    assert there_and_back[:, :26].all()
    assert not there_and_back[:, 26:].any()
    assert not visible_pixels(forward, np.zeros_like(forward)).any()  # 16 > 0.01 * 16 + 0.5
    small = np.full_like(forward, 0.5)  # 0.5 px each way: 0.5 <= 0.01 * 0.5 + 0.5
    assert visible_pixels(small, np.zeros_like(small))[:19, :29].all()


def test_a_pair_without_visible_pixels_counts_with_its_plain_difference():
    first, second = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 51, np.uint8)
    nothing = np.zeros((16, 16), bool)
    assert warped_difference(first, second, np.zeros((16, 16, 2), np.float32), nothing) == pytest.approx(0.04)


def test_every_value_is_finite_for_noise_and_for_cuts(photo):
    noise = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    cut = np.concatenate([frozen(photo, 2), 255 - frozen(photo, 2)[:, ::-1]])
    for frames in (noise, cut):
        values = score(clip_of(frames), names=FLOW)
        assert np.isfinite(list(values.values())).all()
        assert 0 <= values["occlusion_ratio"] <= 1
    assert values["occlusion_ratio"] > 0.1


@pytest.mark.parametrize("shape", [(2, 15, 64), (2, 64, 15), (2, 30, 2000)])
def test_too_small_frames_are_refused_with_words(shape):
    frames = np.zeros((*shape, 3), np.uint8)
    with pytest.raises(MetricError, match=r"at least 16x16 px after reduction"):
        score(clip_of(frames), names=["flow_mean"])
    assert not set(FLOW) & set(score(clip_of(frames)))
    assert "flicker" in score(clip_of(frames))


def test_the_smallest_frames_that_work():
    frames = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    assert np.isfinite(list(score(clip_of(frames), names=FLOW).values())).all()

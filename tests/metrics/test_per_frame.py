from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab import metrics
from svdlab.errors import MetricError
from svdlab.metrics.per_frame import align, per_frame_metrics
from tests.metrics.conftest import clip_of, frozen, pan


@pytest.fixture
def panning(photo: np.ndarray) -> np.ndarray:
    return pan(photo, step=3, count=6, height=48, width=64)


def test_every_curve_has_one_value_a_frame_and_the_mean_is_the_score(panning):
    clip = clip_of(panning, image=panning[0])
    curves = per_frame_metrics(clip)
    assert {"flow_mean", "warp_error", "flicker", "jerk", "ssim_input", "psnr_input"} <= set(curves)
    scores = metrics.score(clip, names=list(curves))
    for name, curve in curves.items():
        assert curve.shape == (6,)
        assert curve.dtype == np.float64
        assert np.nanmean(curve) == pytest.approx(scores[name], rel=1e-12), name


def test_a_change_stands_at_the_frame_in_which_it_is_seen(photo):
    frames = frozen(photo, count=6)
    frames[4:] = pan(photo, step=0, count=2)[:, ::-1]  # a cut between frames 3 and 4
    curves = per_frame_metrics(clip_of(frames), ["flicker", "jerk"])
    assert np.isnan(curves["flicker"][0])
    assert np.nanargmin(curves["flicker"]) == 4
    np.testing.assert_array_equal(curves["flicker"][[1, 2, 3, 5]], 1.0)
    np.testing.assert_array_equal(np.isnan(curves["jerk"]), [True, False, False, False, False, True])
    np.testing.assert_array_equal(curves["jerk"][[1, 2]], 0)
    assert curves["jerk"][3] > 0
    assert curves["jerk"][4] > 0


def test_by_default_nothing_needs_weights_and_what_the_clip_lacks_is_left_out(panning):
    curves = per_frame_metrics(clip_of(panning))
    assert not [name for name in curves if metrics.get(name).needs]


def test_an_encoder_brings_its_curves(panning, encoder):
    curve = per_frame_metrics(clip_of(panning), ["clip_temporal"], encoder=encoder)["clip_temporal"]
    assert np.isnan(curve[0])
    assert np.isfinite(curve[1:]).all()


@pytest.mark.usefixtures("weights")
def test_lpips_comes_when_it_is_named(panning):
    curves = per_frame_metrics(clip_of(panning), ["lpips_input", "lpips_adjacent"], image=panning[0])
    assert curves["lpips_input"][0] == 0
    assert np.isnan(curves["lpips_adjacent"][0])
    assert (curves["lpips_adjacent"][1:] > 0).all()


def test_a_single_frame_has_no_pairs(panning):
    curves = per_frame_metrics(clip_of(panning[:1], image=panning[0]))
    assert set(curves) == {"ssim_input", "psnr_input"}
    with pytest.raises(MetricError, match="'flow_mean' compares neighbouring frames"):
        per_frame_metrics(clip_of(panning[:1]), ["flow_mean"])


def test_single_numbers_and_unknown_names_are_refused(panning):
    with pytest.raises(MetricError, match="no curve over frames for luma_drift"):
        per_frame_metrics(clip_of(panning), ["luma_drift"])
    with pytest.raises(MetricError, match="unknown metric 'flow_men': did you mean 'flow_mean'"):
        per_frame_metrics(clip_of(panning), ["flow_men"])


@pytest.mark.usefixtures("own_registry")
def test_a_curve_of_another_length_is_refused_by_name(panning):
    @metrics.metric("three_only", per_frame=True)
    def three_only(scoring):
        return np.ones(3)

    with pytest.raises(MetricError, match="'three_only': 3 values for 6 frames cannot be placed"):
        per_frame_metrics(clip_of(panning), ["three_only"])


@given(st.integers(3, 40), st.integers(0, 2))
def test_alignment_keeps_values_and_order(frames, missing):
    curve = np.arange(frames - missing, dtype=np.float64)
    placed = align(curve, frames)
    np.testing.assert_array_equal(placed[np.isfinite(placed)], curve)
    assert np.isnan(placed).sum() == missing
    assert np.isnan(placed[0]) == (missing > 0)
    assert np.isnan(placed[-1]) == (missing == 2)

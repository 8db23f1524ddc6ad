"""VBench's formulas with the pipeline's CLIP and DIS flow: only when asked for, and right on known clips."""

from __future__ import annotations

import numpy as np
import pytest

from svdlab import metrics
from svdlab.clip import Clip
from svdlab.errors import MetricError
from svdlab.metrics import score, score_frames, vbench
from svdlab.metrics.vbench_forms import forms
from tests.metrics.conftest import frozen, pan

pytestmark = pytest.mark.usefixtures("own_registry")


def test_they_are_not_in_the_table_until_asked_for():
    assert not set(forms()) & set(metrics.names())
    before = metrics.names()
    assert metrics.use_vbench_forms() == forms()
    assert metrics.use_vbench_forms() == forms()  # twice does no harm
    assert metrics.names() == [*before, *forms()]
    for about in metrics.describe(forms()):
        assert about["family"] == "vbench"
        assert about["source"].startswith("VBench")
        assert len(about["description"]) > 80
        assert "vbench" not in about["name"]


def test_a_frozen_clip_is_perfect_and_does_not_move(photo, encoder):
    names = metrics.use_vbench_forms()
    still = frozen(photo)
    values = score(Clip(frames=still, fps=8, image=still[0]), encoder=encoder, names=names)
    assert values == {
        "clip_consistency": pytest.approx(1, abs=1e-6),
        "clip_i2v": pytest.approx(1, abs=1e-6),
        "dis_smoothness": 1,
        "dis_dynamic": 0,
        "dis_dynamic_ratio": 0,
    }


def test_clip_metrics_are_the_formulas_on_the_encoders_vectors(photo, encoder):
    metrics.use_vbench_forms()
    frames = pan(photo, step=9)
    image = frames[2]
    vectors = encoder.embed(np.concatenate([frames, image[None]])).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    clip = Clip(frames=frames, fps=8, image=image)
    curve = score_frames(clip, encoder=encoder, names=["clip_consistency"])["clip_consistency"]
    np.testing.assert_allclose(curve, vbench.consistency(vectors[:-1]), atol=1e-6)
    i2v = score(clip, encoder=encoder, names=["clip_i2v"])["clip_i2v"]
    assert i2v == pytest.approx(vbench.i2v(vectors[-1], vectors[:-1]), abs=1e-6)
    assert i2v > 0.4 * (1 - 1e-6)  # the picture is one of the frames
    assert curve.mean() < 1 - 1e-6


def test_smoothness_sees_an_uneven_order_that_a_pan_does_not_have(photo):
    metrics.use_vbench_forms()
    moving = pan(photo, step=3, count=9)
    uneven = moving[[0, 1, 1, 2, 4, 4, 5, 7, 7]]
    even, jumpy = (score(Clip(frames=f, fps=8), names=["dis_smoothness"])["dis_smoothness"] for f in (moving, uneven))
    assert even > 0.99
    assert jumpy < even - 0.005


def test_whether_a_clip_moves_depends_on_speed_and_on_fps(photo):
    """At 96 px height the threshold is 2.25 px a frame, at 8 frames a second."""
    names = metrics.use_vbench_forms()[3:]
    read = {
        (step, fps): score(Clip(frames=pan(photo, step=step, count=13), fps=fps), names=names)
        for step, fps in [(1, 8), (3, 8), (1, 24)]
    }
    assert {key: value["dis_dynamic"] for key, value in read.items()} == {(1, 8): 0, (3, 8): 1, (1, 24): 1}
    assert 1 / 2.25 < read[1, 8]["dis_dynamic_ratio"] < 1.4 / 2.25  # the top 5 % read a little more at the border
    assert 3 / 2.25 < read[1, 24]["dis_dynamic_ratio"] < 4.5 / 2.25  # every third frame: three times as far


def test_what_a_clip_lacks_is_said(photo):
    metrics.use_vbench_forms()
    frames = pan(photo, step=1)
    for frames_given, fps, name, words in [
        (frames, None, "dis_dynamic", "carries no fps"),
        (frames[:2], 30, "dis_dynamic", "too short at its fps"),
        (frames[:2], 8, "dis_smoothness", "at least 3"),
        (frames[:, :8, :8], 8, "dis_smoothness", "16x16"),
        (frames, 8, "clip_consistency", "needs an image encoder"),
    ]:
        clip = metrics.Scoring(np.ascontiguousarray(frames_given), fps=fps)
        with pytest.raises(MetricError, match=words):
            score(clip, names=[name])


def test_a_name_that_is_taken_stops_all_of_them():
    metrics.metric("dis_dynamic")(lambda scoring: 0.0)
    with pytest.raises(MetricError, match=r"'dis_dynamic' is taken by a metric of the family 'test_vbench_forms'"):
        metrics.use_vbench_forms()
    assert "clip_consistency" not in metrics.names()

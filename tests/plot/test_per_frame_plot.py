from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from svdlab.errors import MetricError, ViewError
from svdlab.metrics.per_frame import per_frame_metrics
from svdlab.plot import per_frame
from tests.plot.conftest import lines, moving, said


def test_motion_and_consistency_of_every_clip_by_frame():
    clips = {"slow": moving(8, step=1), "fast": moving(8, step=2)}
    figure = per_frame(clips)
    flow, error = figure.axes[:2]
    assert flow.get_ylabel() == "flow_mean\n(px/frame)"
    assert error.get_ylabel() == "warp_error\n(lower is better)"
    for label, clip in clips.items():
        expected = per_frame_metrics(clip, ["flow_mean", "warp_error"])
        np.testing.assert_array_equal(lines(flow)[label][:, 1], expected["flow_mean"])
        np.testing.assert_array_equal(lines(error)[label][:, 1], expected["warp_error"])
        assert lines(flow)[label][:, 0].tolist() == list(range(8))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["slow", "fast"]


def test_seconds_stand_above_the_frames():
    figure = per_frame(moving(8, fps=5), "flicker")
    assert "seconds at 5 fps" in said(figure)
    (above,) = figure.axes[0].child_axes
    low, high = above.get_xlim()
    assert (low * 5, high * 5) == pytest.approx(figure.axes[0].get_xlim())
    assert "seconds" not in said(per_frame([moving(8, fps=5), moving(8, fps=10)], "flicker"))


def test_one_clip_needs_no_legend():
    assert not per_frame(moving(6), "flicker").legends


def test_measured_scores_are_drawn_as_they_are():
    scores = per_frame_metrics(moving(6), ["flicker", "jerk"])
    figure = per_frame({"mine": scores, "flat": {"flicker": [1.0] * 4, "jerk": [0.0] * 4}}, fps=8)
    assert [axes.get_ylabel().split("\n")[0] for axes in figure.axes[:2]] == ["flicker", "jerk"]
    np.testing.assert_array_equal(lines(figure.axes[1])["mine"][:, 1], scores["jerk"])
    assert "seconds at 8 fps" in said(figure)
    alone = per_frame(scores, "jerk")
    np.testing.assert_array_equal(alone.axes[0].get_lines()[0].get_ydata(), scores["jerk"])


def test_it_draws_into_given_axes():
    own = Figure()
    axes = own.subplots()
    assert per_frame([moving(4), moving(4, step=2)], "flicker", ax=axes) is own
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["clip 1", "clip 2"]


def test_what_cannot_be_drawn_is_refused_in_words():
    with pytest.raises(MetricError, match="no curve over frames for luma_drift"):
        per_frame(moving(4), "luma_drift")
    with pytest.raises(ViewError, match="the scores of 'a' hold no 'jerk'; they hold flicker"):
        per_frame({"a": {"flicker": [1.0]}}, "jerk")
    with pytest.raises(ViewError, match="flicker: must be a list of numbers"):
        per_frame({"flicker": []})
    with pytest.raises(ViewError, match=r"metrics = \[\]"):
        per_frame(moving(4), [])
    with pytest.raises(ViewError, match="ax: 2 metrics do not fit"):
        per_frame(moving(4), ["flicker", "jerk"], ax=Figure().subplots())
    with pytest.raises(ViewError, match="labels: scores are named by a dict"):
        per_frame({"flicker": [1.0]}, labels=["a"])
    with pytest.raises(ViewError, match="clips: there are none"):
        per_frame({})

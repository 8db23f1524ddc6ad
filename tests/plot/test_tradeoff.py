from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from svdlab.errors import ViewError
from svdlab.plot import tradeoff
from tests.plot.conftest import lines, note


def test_a_line_a_step_count_and_a_point_a_bucket(df):
    figure = tradeoff(df)
    axes = figure.axes[0]
    drawn = lines(axes)
    assert list(drawn) == ["1", "4"]
    for steps, points in drawn.items():
        means = df[df["steps"] == int(steps)].groupby("motion_bucket_id")[["flow_mean", "warp_error"]].mean()
        np.testing.assert_allclose(points, means.to_numpy())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("flow_mean (px/frame)", "warp_error (lower is better)")
    assert note(figure).startswith("points: motion_bucket_id, rising along the arrow; mean over 2 pictures x 3 seeds")


def test_the_ends_are_labelled_and_an_arrow_shows_the_way(df):
    axes = tradeoff(df).axes[0]
    ends = {text.get_text(): text.xy for text in axes.texts if text.get_text()}
    assert set(ends) == {"32", "224"}
    arrows = [text for text in axes.texts if text.arrow_patch is not None]
    assert len(arrows) == 2
    for arrow, points in zip(arrows, lines(axes).values(), strict=True):
        way, segment = np.array(arrow.xy) - np.array(arrow.xyann), points[-1] - points[-2]
        np.testing.assert_allclose(way / segment, 0.62)


def test_only_cells_with_both_values_count(broken):
    broken.loc[1, "warp_error"] = np.nan  # the same cell lacks flow_mean
    broken.loc[2, "warp_error"] = np.nan
    figure = tradeoff(broken)
    both = broken.query("steps == 1 and motion_bucket_id == 32").dropna(subset=["flow_mean", "warp_error"])
    np.testing.assert_allclose(lines(figure.axes[0])["1"][0], both[["flow_mean", "warp_error"]].mean())
    assert note(figure).endswith("left out: 3 failed, 1 pending, 1 without flow_mean, 1 without warp_error")


def test_crosses_show_the_spread_of_both(df):
    figure = tradeoff(df.query("steps == 4"), band="minmax")
    across, up = figure.axes[0].containers[0].lines[2]
    first = df.query("steps == 4 and motion_bucket_id == 32")
    np.testing.assert_allclose(across.get_segments()[0][:, 0], [first.flow_mean.min(), first.flow_mean.max()])
    np.testing.assert_allclose(up.get_segments()[0][:, 1], [first.warp_error.min(), first.warp_error.max()])
    assert "crosses: smallest to largest, n = 6 pairs of picture and seed" in note(figure)


def test_one_line_and_single_points(df):
    figure = tradeoff(df.query("motion_bucket_id == 127"), y="seconds", line=None)
    axes = figure.axes[0]
    (points,) = (container.lines[0].get_xydata() for container in axes.containers)
    assert points.shape == (1, 2)
    assert [text.get_text() for text in axes.texts] == ["127"]
    assert not figure.legends


def test_it_draws_into_given_axes(df):
    own = Figure()
    axes = own.subplots()
    assert tradeoff(df, ax=axes) is own
    assert axes.get_legend().get_title().get_text() == "steps"


def test_unknown_columns_are_refused_in_words(df):
    with pytest.raises(ViewError, match="point = 'bucket': no such column"):
        tradeoff(df, point="bucket")
    with pytest.raises(ViewError, match=r"y = 'lpips_input': no such column\. There are"):
        tradeoff(df, y="lpips_input")
    with pytest.raises(ViewError, match="line and point are both 'steps'"):
        tradeoff(df, point="steps")

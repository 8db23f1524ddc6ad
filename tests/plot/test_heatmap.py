from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from svdlab.errors import ViewError
from svdlab.plot import heatmap
from tests.plot.conftest import note, said, texts


def squares(axes) -> np.ndarray:
    """The coloured values [rows, columns], NaN where there is none."""
    (mesh,) = [child for child in axes.get_children() if isinstance(child, QuadMesh)]
    return np.ma.filled(mesh.get_array().astype(float), np.nan)


def hatched(axes) -> list[tuple[float, float]]:
    return [patch.get_xy() for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_hatch()]


def test_cells_hold_the_means_and_say_so(df):
    figure = heatmap(df, "motion_bucket_id", "steps", "flow_mean")
    axes = figure.axes[0]
    by_hand = df.groupby(["steps", "motion_bucket_id"])["flow_mean"].mean().to_numpy().reshape(2, 3)
    np.testing.assert_allclose(squares(axes), by_hand)
    numbers = [text.get_text() for text in axes.texts]
    assert numbers == [f"{value:.2f}" for row in by_hand for value in row]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["32", "127", "224"]
    assert note(figure) == "mean over 2 pictures x 3 seeds, n = 6 clips a cell"
    assert hatched(axes) == []


def test_the_colour_bar_has_unit_and_direction(df):
    assert "flow_mean (px/frame)" in texts(heatmap(df, "motion_bucket_id", "steps", "flow_mean"))
    assert "seconds (s, lower is better)" in said(heatmap(df, "motion_bucket_id", "steps", "seconds"))


def test_small_numbers_share_a_power_of_ten(df):
    figure = heatmap(df, "motion_bucket_id", "steps", "warp_error")
    assert "warp_error ($10^{-3}$, lower is better)" in said(figure)
    by_hand = df.groupby(["steps", "motion_bucket_id"])["warp_error"].mean().to_numpy() * 1e3
    assert [text.get_text() for text in figure.axes[0].texts] == [f"{value:.4f}" for value in by_hand]


def test_numbers_rise_upwards_and_names_read_from_the_top(df):
    low, high = heatmap(df, "motion_bucket_id", "steps", "flow_mean").axes[0].get_ylim()
    assert low < high
    axes = heatmap(df, "motion_bucket_id", "image", "flow_mean").axes[0]
    low, high = axes.get_ylim()
    assert low > high
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["rocket", "kite"]


def test_cells_without_a_value_are_hatched_and_counted(broken):
    figure = heatmap(
        broken.query("image == 'kite' or motion_bucket_id != 32"), "motion_bucket_id", "steps", "flow_mean", col="image"
    )
    rocket, kite = figure.axes[:2]
    assert hatched(rocket) == [(0, 0), (0, 1)]  # not in the table at all
    assert hatched(kite) == [(2, 1)]
    assert "failed" in [text.get_text() for text in kite.texts]
    assert "failed" not in [text.get_text() for text in rocket.texts]
    assert note(figure).endswith("left out: 3 failed")


def test_uneven_counts_are_printed_in_the_cells(broken):
    figure = heatmap(broken, "motion_bucket_id", "steps", "flow_mean")
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert [text.split("n=")[1] for text in numbers] == ["4", "6", "6", "6", "6", "3"]
    assert note(figure) == (
        "mean over 2 pictures x 3 seeds, n = 3 to 6 clips a cell; left out: 3 failed, 1 pending, 1 without flow_mean"
    )
    quiet = heatmap(broken, "motion_bucket_id", "steps", "flow_mean", show_n=False)
    assert not any("n=" in text.get_text() for text in quiet.axes[0].texts)
    assert len(heatmap(broken, "motion_bucket_id", "steps", "flow_mean", annotate=False).axes[0].texts) == 0


def test_panels_are_titled_and_share_one_scale(df):
    figure = heatmap(df, "motion_bucket_id", "seed", "flow_mean", row="image", col="steps")
    panels = figure.axes[:4]
    assert [axes.get_title() for axes in panels] == [
        f"image = {image}, steps = {steps}" for image in ("rocket", "kite") for steps in (1, 4)
    ]
    assert len({(mesh.norm.vmin, mesh.norm.vmax) for axes in panels for mesh in axes.collections}) == 1
    np.testing.assert_allclose(
        squares(panels[3])[2], df.query("image == 'kite' and steps == 4 and seed == 2").flow_mean
    )
    assert note(figure) == "one clip a cell"


def test_a_drift_has_its_zero_in_the_middle_of_the_colours(df):
    (mesh,) = heatmap(df, "motion_bucket_id", "steps", "luma_drift").axes[0].collections
    assert mesh.norm.vmin == -mesh.norm.vmax
    assert mesh.cmap.name == "PuOr_r"


@pytest.mark.parametrize(
    ("aggregate", "by_hand"),
    [("median", np.median), ("min", np.min), ("max", np.max), ("sd", lambda v: np.std(v, ddof=1))],
)
def test_other_aggregates(df, aggregate, by_hand):
    figure = heatmap(df, "motion_bucket_id", "steps", "flow_mean", aggregate=aggregate)
    expected = by_hand(df.query("motion_bucket_id == 224 and steps == 4").flow_mean.to_numpy())
    assert squares(figure.axes[0])[1, 2] == pytest.approx(expected)
    assert f"{aggregate} of flow_mean (px/frame)" in said(figure)
    assert note(figure).startswith(f"{aggregate} over 2 pictures x 3 seeds")


def test_one_value_everywhere_and_a_single_cell(df):
    figure = heatmap(df.query("steps == 4 and motion_bucket_id == 127"), "motion_bucket_id", "steps", "luma_drift")
    assert squares(figure.axes[0]).tolist() == [[0.0]]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0"]
    figure.draw_without_rendering()


def test_it_draws_into_given_axes_with_its_words_there(df):
    own = Figure()
    axes = own.subplots(1, 2)
    assert heatmap(df, "motion_bucket_id", "steps", "flow_mean", ax=axes[1]) is own
    assert axes[1].get_title(loc="left").startswith("mean over")
    assert not axes[0].collections


def test_hostile_names_are_drawn_as_they_are(df):
    figure = heatmap(df.replace({"image": {"rocket": "$\\frac{a", "kite": "x" * 90}}), "steps", "image", "flow_mean")
    drawn = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert drawn[0] == "\\$\\frac{a"
    assert len(drawn[1]) == 28
    figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": "motion"}, r"x = 'motion': no such column. .*There are image, motion_bucket_id"),
        ({"value": "flow_men"}, "value = 'flow_men': no such column. Did you mean 'flow_mean'"),
        (
            {"value": "image"},
            "value = 'image': the column holds .* numbers are needed. Numeric columns: flow_mean, warp_error",
        ),
        ({"y": "motion_bucket_id"}, "x and y are both 'motion_bucket_id'"),
        ({"col": "steps"}, "y and col are both 'steps'"),
        ({"aggregate": "mode"}, "aggregate = 'mode': must be one of 'mean'"),
        ({"ax": 1, "col": "seed"}, "ax: row and col make several panels"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(df, arguments, words):
    call = {"x": "motion_bucket_id", "y": "steps", "value": "flow_mean", **arguments}
    with pytest.raises(ViewError, match=words):
        heatmap(df, **call)


def test_a_table_without_anything_to_draw_is_refused_in_words(df):
    draw = {"x": "motion_bucket_id", "y": "steps", "value": "flow_mean"}
    with pytest.raises(ViewError, match="no rows"):
        heatmap(df.head(0), **draw)
    with pytest.raises(ViewError, match=r"no finished cells \(30 pending, 6 failed\)"):
        heatmap(df.assign(status=["failed"] * 6 + ["pending"] * 30), **draw)
    with pytest.raises(ViewError, match=r"'flow_mean': none of the 36 finished cells has this value.*backfill"):
        heatmap(df.assign(flow_mean=np.nan), **draw)
    with pytest.raises(ViewError, match="df = list: must be a DataFrame"):
        heatmap([1, 2], **draw)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(-1e6, 1e6)), min_size=1, max_size=30))
def test_every_square_is_the_mean_of_its_rows(rows):
    frame = pd.DataFrame(rows, columns=["a", "b", "value"])
    axes = heatmap(frame, "a", "b", "value", annotate=False).axes[0]
    shown = squares(axes)
    most = max(abs(v) for v in frame.groupby(["a", "b"])["value"].mean())
    shown = shown * (most / np.nanmax(np.abs(shown)) if most else 1.0)  # a power of ten may be taken out
    columns, counts = sorted(frame["a"].unique()), 0
    for i, b in enumerate(sorted(frame["b"].unique())):
        for j, a in enumerate(columns):
            values = [value for x, y, value in rows if (x, y) == (a, b)]
            if values:
                assert shown[i, j] == pytest.approx(np.mean(values), rel=1e-9, abs=1e-9 * (1 + most))
                counts += 1
            else:
                assert np.isnan(shown[i, j])
    assert len(hatched(axes)) == shown.size - counts

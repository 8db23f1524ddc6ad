from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from svdlab.errors import ViewError
from svdlab.plot import response
from svdlab.plot.curves import is_geometric
from svdlab.plot.stats import interval
from svdlab.stats import compare
from tests.plot.conftest import lines, note, said


def limits(axes, at: float) -> tuple[float, float]:
    """Lowest and highest point of the first band at the place `at`."""
    (path,) = axes.collections[0].get_paths()
    values = path.vertices[np.isclose(path.vertices[:, 0], at), 1]
    return float(values.min()), float(values.max())


def crossed(values: pd.Series) -> tuple[float, float]:
    """The interval over new pictures and new seeds of a full cross, written down from its definition.

    V = s^2 / G of the picture means + s^2 / G of the seed means; Satterthwaite's V^2 / sum (V_c^2 / (G_c - 1)).
    """
    parts = [values.groupby(name).mean() for name in ("image", "seed")]
    variances = [means.var(ddof=1) / len(means) for means in parts]
    df = sum(variances) ** 2 / sum(v**2 / (len(means) - 1) for v, means in zip(variances, parts, strict=True))
    low, high = scipy.stats.t.interval(0.95, df, loc=values.mean(), scale=np.sqrt(sum(variances)))
    return float(low), float(high)


def test_the_line_runs_through_the_means(df):
    figure = response(df, "motion_bucket_id", "flow_mean", by="steps")
    drawn = lines(figure.axes[0])
    assert list(drawn) == ["1", "4"]
    for steps, points in drawn.items():
        means = df[df["steps"] == int(steps)].groupby("motion_bucket_id")["flow_mean"].mean()
        np.testing.assert_allclose(points, np.column_stack([means.index, means]))
    assert figure.axes[0].get_ylabel() == "flow_mean (px/frame)"
    assert note(figure) == (
        "mean over 2 pictures x 3 seeds, n = 6 clips a point; "
        "band: 95 % t-interval of the mean for new pictures and new seeds, n = 6 pairs of picture and seed"
    )
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "steps"


def test_the_band_counts_shared_pictures_and_seeds(df):
    axes = response(df.query("steps == 4"), "motion_bucket_id", "flow_mean").axes[0]
    at = df.query("steps == 4 and motion_bucket_id == 127").set_index(["image", "seed"])
    low, high = crossed(at.flow_mean)
    assert limits(axes, 127) == pytest.approx((low, high))
    alone = scipy.stats.t.interval(0.95, 5, loc=at.flow_mean.mean(), scale=scipy.stats.sem(at.flow_mean))
    assert high - low > 2 * (alone[1] - alone[0])  # two pictures that differ say little about others


def test_the_band_of_a_difference_is_that_of_the_statistics(df):
    rng = np.random.default_rng(0)
    df = df[df["motion_bucket_id"] == 32].assign(flow_mean=rng.normal(size=12))
    found = compare(df, "flow_mean", steps=(1, 4)).difference
    wide = df.pivot(index=["image", "seed"], columns="steps", values="flow_mean")
    apart = (wide[4] - wide[1]).rename("apart").reset_index().assign(place=0)
    figure = response(apart, "place", "apart", band="ci95")
    assert limits(figure.axes[0], 0) == pytest.approx((found.low, found.high))
    assert found.scope in note(figure)


def test_what_else_varies_is_averaged_first_and_does_not_make_the_band_narrower(df):
    figure = response(df, "motion_bucket_id", "flow_mean")  # 2 step counts in every unit
    units = df.query("motion_bucket_id == 32").groupby(["image", "seed"]).flow_mean.mean()
    assert limits(figure.axes[0], 32) == pytest.approx(crossed(units))
    assert "n = 12 clips a point" in note(figure)
    assert "n = 6 pairs of picture and seed" in note(figure)


@pytest.mark.parametrize(
    ("rows", "pair", "words"),
    [
        ("steps == 4", ("image", "seed"), "for new pictures and new seeds, n = 6 pairs of picture and seed"),
        ("steps == 4", ("seed",), "for new seeds, n = 3 seeds"),
        ("image == 'kite'", ("image", "seed"), "for this picture and new seeds, n = 3 seeds"),
        ("seed == 1", ("image", "seed"), "for this seed and new pictures, n = 2 pictures"),
        ("seed == 1 or image == 'kite'", (), "of the mean, n = 8 clips"),
    ],
)
def test_the_words_say_whom_the_band_speaks_about(df, rows, pair, words):
    figure = response(df.query(rows), "motion_bucket_id", "flow_mean", pair=pair)
    assert note(figure).endswith(words)


def test_the_band_of_seeds_alone_is_the_t_interval_over_their_means(df):
    figure = response(df.query("steps == 4"), "motion_bucket_id", "flow_mean", pair=("seed",))
    means = df.query("steps == 4 and motion_bucket_id == 127").groupby("seed").flow_mean.mean()
    expected = scipy.stats.t.interval(0.95, 2, loc=means.mean(), scale=scipy.stats.sem(means))
    assert limits(figure.axes[0], 127) == pytest.approx(expected)


def test_where_cells_failed_the_band_may_speak_about_less(broken):
    """At 224 and 4 steps the kite has no clip: there the band is about one picture."""
    figure = response(broken, "motion_bucket_id", "flow_mean", by="steps")
    words = "for new pictures and new seeds or for this picture and new seeds, n = 3 to 6 pairs of picture and seed"
    assert words in note(figure)


def test_units_without_a_name_are_a_unit_too(df):
    unnamed = df.query("steps == 4").assign(image=lambda rows: rows["image"].where(rows["image"] == "kite"))
    named = df.query("steps == 4")
    drawn = [response(rows, "motion_bucket_id", "flow_mean").axes[0] for rows in (unnamed, named)]
    assert limits(drawn[0], 127) == pytest.approx(limits(drawn[1], 127))


def test_pairs_of_pictures_alone(df):
    figure = response(df, "motion_bucket_id", "flow_mean", pair=("image",), band="sd")
    pictures = df.query("motion_bucket_id == 32").groupby("image").flow_mean.mean()
    middle, reach = pictures.mean(), pictures.std(ddof=1)
    assert limits(figure.axes[0], 32) == pytest.approx((middle - reach, middle + reach))
    assert "band: mean ± 1 sd, n = 2 pictures" in note(figure)


def test_minmax_and_no_band(df):
    values = df.query("steps == 1 and motion_bucket_id == 224").flow_mean
    figure = response(df.query("steps == 1"), "motion_bucket_id", "flow_mean", band="minmax")
    assert limits(figure.axes[0], 224) == pytest.approx((values.min(), values.max()))
    bare = response(df.query("steps == 1"), "motion_bucket_id", "flow_mean", band=None)
    assert len(bare.axes[0].collections) == 0
    assert "band" not in note(bare)


def test_a_single_run_has_no_band_and_says_so(df):
    figure = response(df.query("seed == 0 and image == 'kite'"), "motion_bucket_id", "flow_mean", by="steps")
    assert len(figure.axes[0].collections) == 0
    assert note(figure) == "one clip a point; no band: a single run at each point"


def test_single_runs_as_thin_lines(df):
    figure = response(df.query("steps == 1"), "motion_bucket_id", "flow_mean", individuals=True)
    thin = [line for line in figure.axes[0].get_lines() if line.get_linewidth() < 1]
    assert len(thin) == 6
    kite = df.query("steps == 1 and image == 'kite' and seed == 2").flow_mean
    assert any(np.allclose(line.get_ydata(), kite) for line in thin)
    assert "thin lines: single runs" in note(figure)


def test_several_metrics_get_a_panel_each_and_one_note(broken):
    figure = response(broken, "motion_bucket_id", ["flow_mean", "warp_error", "luma_drift", "seconds"], by="steps")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_ylabel().split(" ")[0] for axes in shown] == ["flow_mean", "warp_error", "luma_drift", "seconds"]
    assert note(figure).endswith("left out: 3 failed, 1 pending, 1 without flow_mean")
    assert "n = 3 to 6 clips a point" in note(figure)


def test_steps_are_drawn_on_a_logarithmic_axis_and_buckets_are_not(df):
    doubling = df.assign(steps=df["motion_bucket_id"].map({32: 2, 127: 4, 224: 8}))
    axes = response(doubling, "steps", "flow_mean").axes[0]
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2", "4", "8"]
    assert response(df, "motion_bucket_id", "flow_mean").axes[0].get_xscale() == "linear"


def test_names_stand_side_by_side_with_error_bars(df):
    figure = response(df, "image", "flow_mean", by="steps")
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["rocket", "kite"]
    points = lines(axes)["4"]
    np.testing.assert_allclose(points[:, 1], df.query("steps == 4").groupby("image", sort=False).flow_mean.mean())
    assert points[0, 0] == pytest.approx(0, abs=0.2)
    (segments,) = axes.containers[1].lines[2]
    by_seed = df.query("steps == 4 and image == 'kite'").groupby("seed").flow_mean.mean()  # image is on the axis
    expected = scipy.stats.t.interval(0.95, 2, loc=by_seed.mean(), scale=scipy.stats.sem(by_seed))
    assert segments.get_segments()[1][:, 1] == pytest.approx(expected)
    assert "n = 3 seeds" in note(figure)


def test_lines_differ_in_more_than_colour(df):
    axes = response(df, "motion_bucket_id", "flow_mean", by="image").axes[0]
    looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.get_lines()]
    assert all(len(set(parts)) == 2 for parts in zip(*looks, strict=True))


def test_a_table_without_seeds_counts_rows(df):
    figure = response(df.drop(columns=["seed", "image", "status"]), "motion_bucket_id", "flow_mean", by="steps")
    assert "n = 6 clips" in note(figure).split("band:")[1]
    values = df.query("steps == 1 and motion_bucket_id == 32").flow_mean
    expected = scipy.stats.t.interval(0.95, 5, loc=values.mean(), scale=scipy.stats.sem(values))
    assert limits(figure.axes[0], 32) == pytest.approx(expected)


def test_failed_cells_leave_their_place_empty(broken):
    kite = broken.query("image == 'kite'")
    figure = response(kite, "motion_bucket_id", "flow_mean", by="steps")
    assert lines(figure.axes[0])["4"][:, 0].tolist() == [32, 127]
    assert lines(figure.axes[0])["1"][:, 0].tolist() == [32, 127, 224]


def test_it_draws_into_given_axes(df):
    own = Figure()
    axes = own.subplots()
    assert response(df, "steps", "flow_mean", by="image", ax=axes) is own
    assert axes.get_legend().get_title().get_text() == "image"
    assert "band: 95 % t-interval" in axes.get_title(loc="left").replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"band": "ci99"}, "band = 'ci99': must be one of 'ci95', 'sd', 'minmax' or None"),
        ({"values": []}, "values = "),
        ({"values": "schedule"}, r"values\[0\] = 'schedule': the column holds"),
        ({"by": "step"}, "by = 'step': no such column. Did you mean 'steps'"),
        ({"by": "motion_bucket_id"}, "x and by are both 'motion_bucket_id'"),
        ({"pair": "seed"}, "pair = 'seed': must be a sequence"),
        ({"pair": ("sed",)}, "pair = 'sed': no such column. Did you mean 'seed'"),
        ({"values": ["flow_mean", "seconds"], "ax": Figure().subplots()}, "ax: 2 metrics do not fit"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(df, arguments, words):
    with pytest.raises(ViewError, match=words):
        response(df, **{"x": "motion_bucket_id", "values": "flow_mean", **arguments})


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12))
def test_the_t_interval_is_scipys(values):
    found = interval(np.array(values), "ci95")
    error, mean = scipy.stats.sem(values), np.mean(values)
    expected = (mean, mean) if error == 0 else scipy.stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    whole = interval(np.array(values), "minmax")
    assert whole.low - 1e-9 <= found.mean <= whole.high + 1e-9


@given(
    st.lists(st.floats(-100, 100), min_size=1, max_size=8),
    st.floats(-50, 50),
    st.sampled_from(["ci95", "sd", "minmax"]),
)
def test_a_band_moves_with_its_values(values, shift, band):
    here, there = interval(np.array(values), band), interval(np.array(values) + shift, band)
    for part in ("mean", "low", "high"):
        np.testing.assert_allclose(getattr(there, part), getattr(here, part) + shift, atol=1e-9)


@given(st.floats(0.01, 100), st.floats(1.5, 10), st.integers(3, 6))
def test_geometric_and_even_spacing_are_told_apart(start, ratio, count):
    assert is_geometric([start * ratio**k for k in range(count)])
    assert not is_geometric([start * (1 + k) for k in range(count)])


def test_missing_places_are_left_out_and_counted(df):
    figure = response(df.assign(cond_aug=pd.Series([np.nan, 0.02, 0.3] * 12)), "cond_aug", "flow_mean")
    assert lines(figure.axes[0]) == {}  # no `by`, no labels
    assert figure.axes[0].get_lines()[0].get_xdata().tolist() == [0.02, 0.3]
    assert "left out: 12 without cond_aug" in note(figure)
    assert "cond_aug" in said(figure)

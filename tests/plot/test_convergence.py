from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from matplotlib.figure import Figure

import svdlab as sl
from svdlab.errors import ViewError
from svdlab.metrics.perceptual import lpips_curves
from svdlab.metrics.pixel import psnr
from svdlab.plot import convergence, to_reference
from tests.plot.conftest import lines, moving, note


def by_hand(first: sl.Clip, reference: sl.Clip) -> float:
    return np.mean([psnr(a, b) for a, b in zip(first.frames, reference.frames, strict=True)])


def test_each_clip_is_compared_with_the_one_of_most_steps_and_its_seed(walk):
    table = to_reference(reversed(walk))
    assert table["reference_steps"].tolist() == [4] * 6
    assert table["image"].unique().tolist() == ["image 1"]
    found = {(row.seed, row.steps): row.psnr_reference for row in table.itertuples()}
    for seed, (one, two, four) in enumerate((walk[:3], walk[3:])):
        assert found[seed, 1] == pytest.approx(by_hand(one, four))
        assert found[seed, 2] == pytest.approx(by_hand(two, four))
        assert np.isnan(found[seed, 4])


def test_the_plot_has_a_band_over_seeds_and_marks_the_reference(walk):
    figure = convergence(walk)
    axes = figure.axes[0]
    (line,) = [line for line in axes.get_lines() if len(line.get_xdata()) == 2 and line.get_marker() == "o"]
    values = {n: [by_hand(walk[i + at], walk[i + 2]) for i in (0, 3)] for at, n in enumerate((1, 2))}
    np.testing.assert_allclose(line.get_xydata(), [(n, np.mean(of)) for n, of in values.items()])
    vertices = axes.collections[0].get_paths()[0].vertices
    band = vertices[np.isclose(vertices[:, 0], 2), 1]
    expected = scipy.stats.t.interval(0.95, 1, loc=np.mean(values[2]), scale=scipy.stats.sem(values[2]))
    assert (band.min(), band.max()) == pytest.approx(expected)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4"]
    assert any(line.get_linestyle() == ":" and set(line.get_xdata()) == {4} for line in axes.get_lines())
    assert note(figure) == (
        "mean over 2 seeds, n = 2 clips a point; "
        "band: 95 % t-interval of the mean for this picture and new seeds, n = 2 seeds; "
        "reference: the clip of 4 steps"
    )
    assert axes.get_ylabel() == "PSNR to the reference\n(dB, higher is closer)"


def test_a_schedule_is_compared_with_its_own_reference(pipe, walk):
    picture = walk[0].image
    call = {"num_frames": 3, "width": 32, "height": 32, "seed": 0, "schedule": "even"}
    even = [pipe(picture, steps=n, **call) for n in (2, 3)]
    figure = convergence([*walk[:3], *even], by="schedule")
    drawn = lines(figure.axes[0])
    assert drawn["animatelcm"][:, 0].tolist() == [1, 2]
    np.testing.assert_allclose(drawn["even"], [(2, by_hand(even[0], even[1]))])
    assert "reference: the clip of 3 or 4 steps" in note(figure)


def test_a_sweep_gives_the_same_with_its_pipeline(pipe, tmp_path):
    picture = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    sweep = sl.sweep(
        pipe, image=[picture], steps=[1, 2], seed=[0], num_frames=3, width=32, height=32, out=tmp_path / "run",
        metrics=[], progress=False,
    )  # fmt: skip
    one, two = (pipe(picture, steps=n, seed=0, num_frames=3, width=32, height=32) for n in (1, 2))
    figure = convergence(sweep, pipe=pipe)
    np.testing.assert_allclose(figure.axes[0].get_lines()[0].get_xydata(), [(1, by_hand(one, two))], rtol=1e-6)


@pytest.mark.usefixtures("weights")
def test_lpips_is_the_mean_over_frames(walk):
    table = to_reference(walk[:3], "lpips", images=["rocket"] * 3)
    pairs = zip(walk[0].frames, walk[2].frames, strict=True)
    expected = np.mean([lpips_curves(a[None], b).input for a, b in pairs])
    assert table["lpips_reference"][0] == pytest.approx(expected)
    assert table["image"].tolist() == ["rocket"] * 3


def test_a_table_of_distances_is_drawn_without_measuring(walk, df):
    table = to_reference(walk)
    from_table, from_clips = convergence(table).axes[0], convergence(walk).axes[0]
    np.testing.assert_array_equal(from_table.get_lines()[0].get_xydata(), from_clips.get_lines()[0].get_xydata())
    own = convergence(df, "flow_mean", by="image")
    assert set(lines(own.axes[0])) == {"rocket", "kite"}
    assert own.axes[0].get_ylabel() == "flow_mean (px/frame)"


def test_it_draws_into_given_axes(walk):
    own = Figure()
    assert convergence(walk, ax=own.subplots()) is own


def test_what_cannot_be_compared_is_refused_in_words(walk, df):
    with pytest.raises(ViewError, match="clips that a pipeline made"):
        convergence([moving(3)])
    with pytest.raises(ViewError, match="no two of these 2 differ in their steps alone"):
        convergence([walk[0], walk[4]])
    with pytest.raises(ViewError, match="value = 'ssim': from clips, 'psnr' and 'lpips' are computed"):
        convergence(walk, "ssim")
    with pytest.raises(ViewError, match="measure = 'ssim': must be one of"):
        to_reference(walk, "ssim")
    with pytest.raises(ViewError, match="value = 'psnr_reference': no such column"):
        convergence(df)
    with pytest.raises(ViewError, match="images: 1 names for 6 clips"):
        to_reference(walk, images=["rocket"])
    with pytest.raises(ViewError, match="band = 'all'"):
        convergence(walk, band="all")

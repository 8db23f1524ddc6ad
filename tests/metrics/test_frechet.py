"""The Frechet distance: laws, closed forms, an independent transcription, and honesty about few clips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from svdlab.errors import MetricError
from svdlab.metrics import Frechet, clip_features, compare_sets, frechet_distance
from svdlab.metrics.frechet import MIN_CLIPS, frechet_gaussians
from tests.metrics.conftest import clip_of

law = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)
counts = st.integers(2, 30)  # fewer and more than the dimensions
dims = st.integers(1, 12)


def cloud(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    return rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)


@law
@given(seed=seeds, count=counts, size=dims)
def test_equal_sets_are_at_zero_in_any_order(seed, count, size):
    rng = np.random.default_rng(seed)
    x = cloud(rng, count, size)
    scale = x.var(0).sum() + 1
    assert 0 <= frechet_distance(x, x) <= 1e-12 * scale
    assert frechet_distance(x, rng.permutation(x)) <= 1e-12 * scale


@law
@given(seed=seeds, first=counts, second=counts, size=dims)
def test_symmetric_not_negative_and_blind_to_rotation(seed, first, second, size):
    rng = np.random.default_rng(seed)
    x, y = cloud(rng, first, size), cloud(rng, second, size)
    turn, _ = np.linalg.qr(rng.normal(size=(size, size)))
    shift = rng.normal(size=size)
    distance = frechet_distance(x, y)
    near = {"rel": 1e-9, "abs": 1e-9 * (x.var(0).sum() + y.var(0).sum() + 1)}
    assert distance >= 0
    assert frechet_distance(y, x) == pytest.approx(distance, **near)
    assert frechet_distance(x @ turn + shift, y @ turn + shift) == pytest.approx(distance, **near)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * distance, **near)


@law
@given(seed=seeds, size=st.integers(1, 8))
def test_it_is_the_formula_written_out_with_a_matrix_root(seed, size):
    rng = np.random.default_rng(seed)
    x, y = cloud(rng, 4 * size + 8, size), cloud(rng, 5 * size + 9, size)
    s1, s2 = np.cov(x.T).reshape(size, size), np.cov(y.T).reshape(size, size)
    shift = x.mean(0) - y.mean(0)
    wanted = shift @ shift + np.trace(s1 + s2) - 2 * np.trace(sqrtm(s1 @ s2)).real
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-6, abs=1e-6)
    assert frechet_gaussians(x.mean(0), s1, y.mean(0), s2) == pytest.approx(frechet_distance(x, y), rel=1e-9, abs=1e-9)


@law
@given(seed=seeds, size=dims)
def test_the_closed_form_of_gaussians_whose_axes_agree(seed, size):
    """|m1 - m2|^2 + the sum of squared differences of the standard deviations."""
    rng = np.random.default_rng(seed)
    m1, m2, a, b = rng.normal(size=(4, size))
    turn, _ = np.linalg.qr(rng.normal(size=(size, size)))
    cov1, cov2 = (turn @ np.diag(s**2) @ turn.T for s in (a, b))
    wanted = ((m1 - m2) ** 2).sum() + ((abs(a) - abs(b)) ** 2).sum()
    assert frechet_gaussians(m1, cov1, m2, cov2) == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_a_shift_and_a_scale_read_what_they_are():
    x = np.random.default_rng(0).normal(size=(50, 4))
    assert frechet_distance(x, x + 3) == pytest.approx(4 * 9)
    x -= x.mean(0)
    assert frechet_distance(x, 2 * x) == pytest.approx(x.var(0, ddof=1).sum())  # (2 - 1)^2 of every deviation


def test_fewer_clips_than_dimensions_are_no_trouble_for_the_numbers():
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(rng.normal(size=(400, 8)))
    low, high = cloud(rng, 6, 8), cloud(rng, 7, 8)
    assert frechet_distance(low @ basis.T, high @ basis.T) == pytest.approx(frechet_distance(low, high), rel=1e-9)


def normal(seed: int, count: int, size: int = 16, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size)) + shift


def test_the_bias_is_there_grows_with_fewer_clips_and_is_reported():
    equal = [compare_sets(normal(0, n), normal(1, n), network="net", min_clips=n, halves=10) for n in (64, 256, 1024)]
    distances = [result.distance for result in equal]
    assert distances[0] > 3 * distances[1] > 9 * distances[2] > 0  # as 1 / clips, though the truth is 0
    for result in equal:
        assert min(result.chance) > result.distance  # half the clips, twice the bias
        assert abs(result.extrapolated) < 0.5 * result.distance
    apart = compare_sets(normal(0, 256), normal(1, 256, shift=0.5), network="net")
    truth = 16 * 0.25
    assert abs(apart.extrapolated - truth) < abs(apart.distance - truth)
    assert apart.distance > 3 * max(apart.chance)


def test_the_standard_error_is_that_of_repeated_experiments():
    results = [
        compare_sets(normal(2 * k, 64), normal(2 * k + 1, 64, shift=0.5), network="net", min_clips=64)
        for k in range(60)
    ]
    spread = np.std([result.distance for result in results], ddof=1)
    assert np.mean([result.error for result in results]) == pytest.approx(spread, rel=0.35)
    truth = 16 * 0.25
    assert np.mean([result.extrapolated for result in results]) == pytest.approx(truth, rel=0.1)
    assert np.mean([result.distance for result in results]) > 1.5 * truth
    covered = np.mean([result.low < truth < result.high for result in results])
    assert 0.85 < covered <= 1


def test_a_result_says_what_it_is():
    result = compare_sets(normal(0, 300, size=400), normal(1, 256, size=400), network="i3d", halves=10)
    assert (result.name, result.clips, result.dims, result.level) == ("FVD", (300, 256), 400, 0.95)
    assert result.low < result.extrapolated < result.high
    assert result.extrapolated < result.distance
    assert result == compare_sets(normal(0, 300, size=400), normal(1, 256, size=400), network="i3d", halves=10)
    assert str(result) == repr(result)
    assert "FVD: " in str(result)
    assert "300 and 256 clips" in str(result)
    assert "Fewer clips than the 400 dimensions" in str(result)
    other = compare_sets(normal(0, 256), normal(1, 256), network="r3d_18", halves=10)
    assert other.name == "Frechet distance on r3d_18 features"
    assert "FVD" not in str(other)
    assert "Fewer clips" not in str(other)
    assert other.as_dict() == {"name": other.name, **{f: getattr(other, f) for f in Frechet.__dataclass_fields__}}


X = normal(0, MIN_CLIPS)


@pytest.mark.parametrize(
    ("first", "second", "options", "words"),
    [
        (X[:255], X, {}, r"first: 255 clips are too few .* at least 256 are needed\. With few clips .* reads high"),
        (X, X[:1], {}, "second must be real features"),
        (X, X[:9], {}, "second: 9 clips are too few"),
        (X, X[:, :3], {}, "first has 16 dims and second 3"),
        (X, X, {"network": "i3d"}, r"FVD stands on the 400 logits .* these features have 16"),
        (X, X, {"network": "fvd"}, "FVD if that is 'i3d', and for no other"),
        (X, X, {"network": "I3D"}, "FVD if that is 'i3d', and for no other"),
        (X, X, {"network": ""}, "must name the network"),
        (X, X, {"halves": 1}, "halves of 10 or more"),
        (X, X, {"halves": 12.5}, "whole halves"),
        ([[1.0], [2.0, 3.0]], X, {}, "first must be features .* each row of one length"),
        (X, X, {"level": 1.0}, "level inside 0..1"),
        (X, X, {"min_clips": 2}, "whole min_clips of 4 or more"),
        (X[0], X, {}, r"first must be real features \[clips, dims\] .* got float64 \[16\]"),
        (X.astype(complex), X, {}, "first must be real"),
        (np.where(X > 3, np.nan, X), X, {}, "first holds NaN"),
    ],
)
def test_what_gives_no_honest_number_is_refused(first, second, options, words):
    with pytest.raises(MetricError, match=words):
        compare_sets(first, second, **{"network": "net", **options})


def test_what_is_no_covariance_is_refused():
    mean, cov = np.zeros(2), np.eye(2)
    for matrix, words in [
        (np.eye(3), r"symmetric matrix \[2, 2\]; got \[3, 3\]"),
        (np.array([[1.0, 2.0], [0.0, 1.0]]), "symmetric"),
        (np.diag([1.0, -1.0]), "negative eigenvalue -1"),
    ]:
        with pytest.raises(MetricError, match=words):
            frechet_gaussians(mean, cov, mean, matrix)
    with pytest.raises(MetricError, match="mean1 and mean2"):
        frechet_gaussians(mean, cov, np.zeros(3), cov)


def colour(frames: np.ndarray) -> np.ndarray:
    return frames.mean(axis=(0, 1, 2))


def test_features_are_one_row_a_clip_of_any_function():
    clips = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 4, 3), dtype=np.uint8)
    features = clip_features([clip_of(clips[0]), clips[1], clips[2]], colour, progress=False)
    np.testing.assert_allclose(features, clips.mean(axis=(1, 2, 3)))
    assert features.dtype == np.float64


def test_clips_that_do_not_compare_are_refused():
    clip = np.zeros((2, 4, 4, 3), np.uint8)
    for clips, network, words in [
        ([], colour, "clips is empty"),
        ([clip, clip[:1]], colour, r"number 1 is \[1, 4, 4, 3\], those before \[2, 4, 4, 3\]"),
        ([clip.astype(float)], colour, "clips must be uint8"),
        ([clip], lambda frames: frames, "one finite vector a clip; for number 0"),
        ([clip], lambda frames: [np.nan], "one finite vector"),
    ]:
        with pytest.raises(MetricError, match=words):
            clip_features(clips, network, progress=False)

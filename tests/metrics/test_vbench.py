"""VBench's formulas: against plain transcriptions of their definitions, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.errors import MetricError
from svdlab.metrics import vbench
from tests.metrics.conftest import frozen, pan

seeds = st.integers(0, 2**32 - 1)


def unit(seed: int, count: int, size: int = 5) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return max(0.0, float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, count=st.integers(2, 9))
def test_consistency_is_its_definition(seed, count):
    frames = unit(seed, count)
    wanted = [(cosine(frames[t - 1], frames[t]) + cosine(frames[0], frames[t])) / 2 for t in range(1, count)]
    np.testing.assert_allclose(vbench.consistency(frames), wanted, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, count=st.integers(2, 9))
def test_i2v_is_its_definition(seed, count):
    image, *frames = unit(seed, count + 1)
    neighbours = [cosine(frames[t], frames[t + 1]) for t in range(count - 1)]
    best = max(cosine(image, frame) for frame in frames)
    wanted = 0.4 * best + 0.3 * sum(neighbours) / len(neighbours) + 0.3 * min(neighbours)
    assert vbench.i2v(image, np.array(frames)) == pytest.approx(wanted, abs=1e-12)


def test_opposite_frames_are_not_worse_than_unlike_ones():
    along, across = np.eye(2)
    np.testing.assert_array_equal(vbench.consistency(np.stack([along, -along])), [0])
    np.testing.assert_array_equal(vbench.consistency(np.stack([along, across, across])), [0, 0.5])
    assert vbench.i2v(along, np.stack([along, -along])) == pytest.approx(0.4)  # the best frame alone is left


def blend(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.rint((a.astype(float) + b) / 2).astype(np.uint8)


def test_smoothness_compares_every_second_frame_with_what_is_made_of_its_neighbours():
    ramp = np.stack([np.full((4, 4, 3), 10 * t, np.uint8) for t in range(6)])
    assert vbench.smoothness(ramp, blend) == 1  # an even fade is what the blend expects
    bumpy = ramp.copy()
    bumpy[3] += 51  # the second of the two that count
    assert vbench.smoothness(bumpy, blend) == pytest.approx(1 - 51 / 255 / 2)
    last = ramp.copy()
    last[5] += 51  # has no right neighbour
    assert vbench.smoothness(last, blend) == 1


def test_smoothness_refuses_what_it_cannot_use():
    frames = np.zeros((5, 4, 6, 3), np.uint8)
    with pytest.raises(MetricError, match=r"needs at least 3 frames.*there are 2"):
        vbench.smoothness(frames[:2], blend)
    with pytest.raises(MetricError, match=r"must return uint8 \[4, 6, 3\].*got float64 \[4, 6, 3\]"):
        vbench.smoothness(frames, lambda a, b: a / 2)
    with pytest.raises(MetricError, match="got NoneType"):
        vbench.smoothness(frames, lambda a, b: None)


def plain_rule(tops: list[float], frames: int, side: int) -> bool:
    """VBench's dynamic degree as it is written down: count pairs above the threshold until there are enough."""
    threshold, needed, count = 6.0 * (side / 256.0), round(4 * (frames / 16.0)), 0
    for top in tops:
        count += top > threshold
        if count >= needed:
            return True
    return False


@settings(max_examples=200, deadline=None)
@given(tops=st.lists(st.floats(0, 12), min_size=2, max_size=30), side=st.sampled_from([64, 256, 576]))
def test_the_ratio_decides_as_the_rule_of_dynamic_degree(tops, side):
    ratio = vbench.dynamic_ratio(np.array(tops), width=2 * side, height=side)
    assert (ratio > 1) == plain_rule(tops, len(tops) + 1, side)


def test_two_frames_that_stand_still_are_not_dynamic():
    assert vbench.dynamic_ratio(np.zeros(1), width=64, height=64) == 0  # as written, the rule asks for no pair at all


@pytest.mark.parametrize(("fps", "step"), [(6, 1), (8, 1), (11.9, 1), (12.1, 2), (24, 3), (30, 4)])
def test_motion_is_looked_at_eight_frames_a_second(fps, step):
    frames = np.arange(25)
    np.testing.assert_array_equal(vbench.at_motion_rate(frames, fps), frames[::step])


def test_the_largest_twentieth_is_averaged():
    lengths = np.arange(100.0).reshape(10, 10)
    assert vbench.top_lengths(lengths) == pytest.approx(np.mean([95, 96, 97, 98, 99]))
    assert vbench.top_lengths(np.array([[3.0, 1.0]])) == 3  # less than one pixel is one


def test_a_pan_is_smooth_along_its_motion_and_not_by_blending(photo):
    """The reason why the interpolator has to follow motion."""
    from svdlab.metrics.vbench_forms import along_flow

    moving, still = pan(photo, step=3), frozen(photo)
    assert vbench.smoothness(still, along_flow) == 1
    assert vbench.smoothness(moving, along_flow) > 0.99
    assert vbench.smoothness(moving, blend) < vbench.smoothness(moving, along_flow) - 0.01

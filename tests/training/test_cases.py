"""Held-out pictures of the world itself: its truths are measured as perfect, and damage shows."""

from __future__ import annotations

import numpy as np
import pytest

from svdlab.training import evaluate
from svdlab.training.cases import Cases, case_of, held_out
from svdlab.training.rows import BUCKETS
from svdlab.training.world import HELD_OUT, World
from tests.training.drawn import SPOILT, frozen, ghosts, to_uint8

WORLD = World(stage="full")


@pytest.fixture(scope="module")
def cases() -> Cases:
    return held_out(count=6)


def scene_of(case, **settings):
    return WORLD.scene(int(case.name.split()[1]), fps=10, **settings)


def background(case) -> np.ndarray:
    assert case.target is not None
    return case.target.background + 128


def objects(cases):
    return [case for case in cases.moving if case.target is not None]


def test_pictures_are_held_out_and_of_every_kind(cases):
    names = [case.name.split() for case in (*cases.moving, *cases.ambiguous)]
    assert all(int(index) >= HELD_OUT for _, index in names)
    assert [kind for kind, _ in names[:7]] == ["rocket", "arrow", "fish", "car", "rocket", "arrow", "landscape"]
    assert [case.name.split()[0] for case in cases.ambiguous] == [
        "ridge", "fork", "landscape", "ridge", "fork", "clouds"]  # fmt: skip
    assert len({case.name for case in cases.moving}) == len(cases.moving)


def test_the_same_pictures_every_time(cases):
    again = held_out(count=6)
    assert all((a.truths == b.truths).all() for a, b in zip(cases.moving, again.moving, strict=True))
    assert [case.name for case in again.ambiguous] == [case.name for case in cases.ambiguous]


def test_more_pictures_begin_with_the_same(cases):
    few = held_out(count=2)
    assert [case.name for case in few.moving[:2]] == [case.name for case in cases.moving[:2]]
    assert [case.name for case in few.ambiguous] == [case.name for case in cases.ambiguous[:2]]


@pytest.mark.parametrize("damage", ["sound", "blurred", "noisy", "uneven"])
def test_displacement_is_that_of_the_world_at_every_bucket(cases, damage):
    spoil = SPOILT.get(damage, lambda frames: frames)
    tunnel = case_of(WORLD, next(WORLD.find("tunnel", start=HELD_OUT)))
    for case in (*cases.moving, tunnel):
        moved = [evaluate.displacement(spoil(scene_of(case, motion_bucket_id=b).frames), case) for b in BUCKETS]
        assert evaluate.spearman(BUCKETS, moved) > 0.97, case.name
        true = np.array(BUCKETS) / 255 * np.hypot(*case.ends[0])
        assert moved == pytest.approx(true, abs=0.7), case.name


@pytest.mark.parametrize("damage", ["sound", *SPOILT])
def test_objects_of_the_world_are_found_where_they_are(cases, damage):
    spoil = SPOILT.get(damage, lambda frames: frames)
    for case in objects(cases):
        assert evaluate.position_error(spoil(case.truths[0]), case) < 0.6, case.name
        assert evaluate.still_error(case) > 10


def test_half_faded_objects_are_found_and_half_counted(cases):
    for case in objects(cases):
        faded = to_uint8(0.5 * case.truths[0] + 0.5 * background(case))
        assert evaluate.position_error(faded, case) < 0.8, case.name
        assert evaluate.locate(faded, case).presence == pytest.approx(0.5, abs=0.1)


def test_the_wrong_way_and_no_way_are_seen(cases):
    for case in objects(cases):
        still = frozen(case.truths[0])
        assert evaluate.displacement(still, case) < 0.1
        assert evaluate.position_error(still, case) == pytest.approx(evaluate.still_error(case), abs=0.1)
        assert evaluate.psnr_gain(case.truths[0], case) > 4 > evaluate.psnr_gain(still, case) == 0
        mirrored = evaluate.Case(**{**vars(case), "ends": -case.ends})
        assert evaluate.position_error(case.truths[0], mirrored) > 1.9 * evaluate.still_error(case)


@pytest.mark.parametrize("damage", ["sound", *SPOILT])
def test_futures_are_decided_and_their_averages_are_not(cases, damage):
    spoil = SPOILT.get(damage, lambda frames: frames)
    for case in cases.ambiguous:
        assert all(evaluate.decided(spoil(truth), case) for truth in case.truths), case.name
        assert not evaluate.decided(spoil(ghosts(case.truths)), case), case.name
        assert not evaluate.decided(spoil(frozen(case.truths[0])), case), case.name


def test_a_future_that_is_late_is_decided_too(cases):
    for case in cases.ambiguous:
        late = scene_of(case, motion_bucket_id=215, choice=1).frames
        assert evaluate.decided(late, case), case.name


def test_a_half_faded_ball_is_decided(cases):
    for case in cases.ambiguous:
        if case.target is not None:
            assert evaluate.decided(to_uint8(0.5 * case.truths[1] + 0.5 * background(case)), case), case.name


def test_the_easy_stage_has_neither_cameras_nor_several_futures():
    cases = held_out(count=3, stage="easy")
    assert [case.name.split()[0] for case in cases.moving] == ["rocket", "arrow", "fish"]
    assert cases.ambiguous == ()


def test_other_sizes_are_measured_alike():
    case = held_out(count=1, size=96, num_frames=12).moving[0]
    assert case.picture.shape == (96, 96, 3)
    assert case.truths.shape == (1, 12, 96, 96, 3)
    assert evaluate.position_error(case.truths[0], case) < 0.3
    # 11 steps instead of 24; the way is told for 64 px
    assert evaluate.still_error(case) == pytest.approx(11 * 2 / 3 * 0.5**0.5, rel=0.01)

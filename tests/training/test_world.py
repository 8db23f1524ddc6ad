from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import svdlab.training.backgrounds as backgrounds
from svdlab.errors import TrainingError
from svdlab.metrics.flow import estimate_flow, warp
from svdlab.training.layers import CLEAR
from svdlab.training.objects import DIRECTED, directed
from svdlab.training.world import HELD_OUT, KINDS, MAX_SPEED, Scene, World, speed_px

FULL = World(stage="full")
STAGES = ("easy", "headings", "full")
KIND_NAMES = tuple(KINDS)
CAMERA_KINDS = {"landscape": (0, 1), "photo": (0, 1, 2), "tunnel": (0,)}


def some(kind: str, count: int = 3, world: World = FULL, start: int = 0) -> list[int]:
    return list(itertools.islice(world.find(kind, start=start), count))


def fastest(kind: str, count: int = 3, world: World = FULL) -> list[Scene]:
    return [world.scene(index, motion_bucket_id=255, fps=5) for index in some(kind, count, world)]


# A scene is a pure function of its index.


@pytest.mark.parametrize("stage", STAGES)
def test_batch_equals_single_scenes_in_any_order_and_with_threads(stage: str) -> None:
    indices = [5, 3, HELD_OUT + 1, 8, 2, 13]
    forward = World(stage=stage, num_frames=6).batch(indices)
    for other, order in (
        (World(stage=stage, num_frames=6).batch(indices[::-1]), slice(None, None, -1)),
        (World(stage=stage, num_frames=6).batch(indices, threads=3), slice(None)),
    ):
        assert list(other) == list(forward)
        for name, value in forward.items():
            np.testing.assert_array_equal(np.asarray(other[name])[order], np.asarray(value))
    single = World(stage=stage, num_frames=6).scene(8)
    np.testing.assert_array_equal(forward["frames"][3], single.frames)
    objects = single.positions.shape[1]
    np.testing.assert_array_equal(forward["positions"][3][:, :objects], single.positions)
    assert np.isnan(forward["positions"][3][:, objects:]).all()
    assert forward["frames"].dtype == np.uint8
    assert forward["frames"].shape == (6, 6, 64, 64, 3)
    assert len({frames.tobytes() for frames in forward["frames"]}) == len(indices)


def test_another_seed_is_another_world() -> None:
    first, second = (World(seed=seed, num_frames=2).scene(0).frames for seed in (0, 1))
    assert (first != second).any()


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_picture_tells_neither_bucket_nor_fps_nor_future(kind: str) -> None:
    for index in some(kind, 2):
        own = FULL.scene(index)
        settings_ = [(b, f, c) for b, f in ((0, 30), (60, 12), (255, 5)) for c in {0, own.choices - 1}]
        for bucket, fps, choice in settings_:
            other = FULL.scene(index, motion_bucket_id=bucket, fps=fps, choice=choice)
            np.testing.assert_array_equal(other.frames[0], own.frames[0])
            np.testing.assert_array_equal(other.positions[0], own.positions[0])
            assert (other.kind, other.choice, other.motion_bucket_id, other.fps) == (kind, choice, bucket, fps)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_bucket_0_is_still_and_bucket_255_is_not(kind: str) -> None:
    index = some(kind, 1)[0]
    still = FULL.scene(index, motion_bucket_id=0)
    assert (still.frames == still.frames[0]).all()
    assert still.speed == 0
    moving = FULL.scene(index, motion_bucket_id=255, fps=7)
    assert (moving.frames[1:] != moving.frames[:-1]).any(axis=(1, 2, 3)).all()


def test_fewer_frames_are_the_beginning_of_more() -> None:
    for index in range(6):
        few, many = (World(stage="full", num_frames=n).scene(index) for n in (7, 25))
        np.testing.assert_array_equal(few.frames, many.frames[:7])


def test_a_larger_frame_shows_the_same_scene() -> None:
    for index in range(3):
        small, large = (World(size=size, num_frames=2).scene(index) for size in (64, 128))
        halved = cv2.resize(large.frames[-1], (64, 64), interpolation=cv2.INTER_AREA)
        assert np.abs(halved.astype(float) - small.frames[-1]).mean() < 3
        np.testing.assert_allclose((large.positions + 0.5) / 2 - 0.5, small.positions, atol=1)


# What is drawn how often.


@pytest.mark.parametrize("stage", STAGES)
def test_kinds_appear_as_often_as_stated(stage: str) -> None:
    world = World(stage=stage)
    counted = Counter(world.kind_of(index) for index in range(3000))
    assert set(counted) == set(world.kinds)
    assert sum(world.kinds.values()) == pytest.approx(1)
    for kind, share in world.kinds.items():
        assert counted[kind] / 3000 == pytest.approx(share, abs=4 * (share / 3000) ** 0.5)
    assert world.scene(11).kind == world.kind_of(11)
    assert set(world.kinds) == (set(KINDS) if stage == "full" else set(DIRECTED))


def test_settings_have_extra_mass_where_documented() -> None:
    drawn = np.array([FULL.settings_of(index) for index in range(4000)])
    buckets, rates = drawn.T
    assert (buckets == 0).mean() == pytest.approx(1 / 16, abs=0.02)
    assert (buckets == 127).mean() == pytest.approx(1 / 16, abs=0.02)
    assert set(np.unique(buckets // 32)) == set(range(8))
    assert np.median(buckets) == pytest.approx(255 * (3 / 7) ** 0.5, abs=8)  # 1/8 + 7/8 (b / 255)^2 = 1/2
    assert (rates.min(), rates.max()) == (5, 30)
    assert (rates <= 12).mean() == pytest.approx(0.8 + 0.2 * 8 / 26, abs=0.03)
    scene = FULL.scene(17)
    assert (scene.motion_bucket_id, scene.fps) == FULL.settings_of(17)


def test_futures_are_drawn_evenly_and_found_by_choice() -> None:
    indices = some("fork", 60)
    choices = [World(stage="full", num_frames=2).scene(index).choice for index in indices]
    assert 15 < sum(choices) < 45
    index = indices[0]
    own = FULL.scene(index)
    np.testing.assert_array_equal(FULL.scene(index, choice=own.choice).frames, own.frames)


# The speed.


@given(bucket=st.integers(0, 255), more=st.integers(1, 255), fps=st.integers(1, 60), size=st.integers(32, 512))
def test_speed_rises_with_the_bucket_and_falls_with_fps(bucket: int, more: int, fps: int, size: int) -> None:
    speed = speed_px(bucket, fps, size)
    assert speed_px(0, fps, size) == 0
    assert speed_px(bucket + more, fps, size) > speed
    assert speed_px(bucket + 1, max(fps, 5) + 1, size) < speed_px(bucket + 1, fps, size)
    assert speed <= MAX_SPEED * size / 64 + 1e-9
    assert speed_px(bucket, fps, 2 * size) == pytest.approx(2 * speed)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_speed_is_that_of_what_moves(kind: str) -> None:
    for choice in range(KINDS[kind].choices):
        scene = FULL.scene(some(kind, 1)[0], motion_bucket_id=100, fps=9, choice=choice)
        assert scene.ambiguous == (scene.choices > 1)
        if kind in ("flame", "stars"):
            assert scene.speed == 0
        elif len(scene.positions[0]):
            way = np.linalg.norm(np.diff(scene.positions, axis=0), axis=-1)
            # A ball around a corner moves by its chord, which is shorter than its way.
            assert np.median(way) == pytest.approx(scene.speed, rel=1e-3)
            assert way.max() <= scene.speed * 1.001
        elif scene.zoom[-1] > 1:
            flow, known = scene.flow()
            assert known.all()
            assert np.linalg.norm(flow[0], axis=-1).mean() == pytest.approx(scene.speed, rel=0.02)
        else:
            way = np.linalg.norm(np.diff(scene.camera, axis=0), axis=-1)
            np.testing.assert_allclose(way, scene.speed, rtol=1e-3)


# The truth against what is measured in the frames.


def seen_centres(scene: Scene) -> np.ndarray:
    """Centres (x, y) of the one object, from the frames: what differs from the background, with holes filled."""
    behind = scene.layers[0].picture.astype(float)
    centres = []
    for frame in scene.frames:
        fine = cv2.resize(np.abs(frame - behind).max(axis=-1), None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR)
        rims, _ = cv2.findContours((fine > 22).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        moments = cv2.moments(max(rims, key=cv2.contourArea))
        centre = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
        centres.append((centre + 0.5) / 8 - 0.5)
    return np.array(centres)


@pytest.mark.parametrize("kind", sorted(DIRECTED))
def test_positions_are_where_objects_are_seen(kind: str) -> None:
    for scene in fastest(kind, 4, World()):
        seen = seen_centres(scene)
        true = scene.positions[:, 0]
        offset = (seen - true).mean(axis=0)
        assert np.abs(seen - true - offset).max() < 0.1, "the way it has gone"
        assert np.abs(offset).max() < 0.25, "where it is; what is measured favours bright parts"


@pytest.mark.parametrize("kind", [*sorted(DIRECTED), "two", "ridge", "fork"])
def test_positions_are_the_centroids_of_coverage_and_objects_stay_in_the_frame(kind: str) -> None:
    y, x = np.indices((64, 64))
    for world in (World(), World(stage="headings"), FULL):
        for scene in fastest(kind, 3, world) if kind in world.kinds else []:
            cover = scene.coverage()
            mass = cover.sum(axis=(2, 3))
            centres = np.stack([(cover * x).sum(axis=(2, 3)), (cover * y).sum(axis=(2, 3))], axis=-1) / mass[..., None]
            assert np.abs(centres - scene.positions).max() < 0.05
            np.testing.assert_allclose(mass, np.broadcast_to(mass[0], mass.shape), rtol=0.01)
            assert max(cover[..., edge].max() for edge in (0, -1)) < 0.02
            assert max(cover[..., edge, :].max() for edge in (0, -1)) < 0.02
            wide = (cover[0] > CLEAR).any(axis=1).sum(axis=1) / 2  # half the width on the screen
            assert (np.array(scene.radii) > wide - 0.6).all()
            assert (np.array(scene.radii) < 16).all()


def test_two_objects_keep_apart() -> None:
    for scene in fastest("two", 12):
        assert scene.coverage().sum(axis=1).max() < 1.02


def test_objects_go_where_the_picture_points() -> None:
    for scene in fastest("arrow", 6, World(stage="headings")):
        ahead = scene.positions[-1, 0] - scene.positions[0, 0]
        ahead /= np.linalg.norm(ahead)
        cover = scene.coverage()[0, 0]
        y, x = np.indices(cover.shape)
        along = (x - scene.positions[0, 0, 0]) * ahead[0] + (y - scene.positions[0, 0, 1]) * ahead[1]
        across = (x - scene.positions[0, 0, 0]) * -ahead[1] + (y - scene.positions[0, 0, 1]) * ahead[0]
        # An arrow is wider in front of its middle than behind it, and alike on both sides.
        assert (cover * (along > 0) * abs(across)).sum() > 1.15 * (cover * (along < 0) * abs(across)).sum()
        assert abs((cover * across).sum()) < 0.05 * cover.sum()


@pytest.mark.parametrize("name", ["fish", "car"])
def test_objects_going_left_are_mirrored_not_upside_down(name: str) -> None:
    right, left = (directed(name, 10, heading, np.random.default_rng(4)) for heading in (0, np.pi))
    np.testing.assert_allclose(left.picture, right.picture[:, ::-1], atol=60)
    assert np.abs(left.picture - right.picture[:, ::-1]).mean() < 1
    assert np.abs(left.picture - right.picture[::-1, ::-1]).mean() > 3


@pytest.mark.parametrize("kind", CAMERA_KINDS)
def test_camera_flow_is_what_is_measured(kind: str) -> None:
    errors = []
    for index, choice in itertools.product(some(kind, 3), CAMERA_KINDS[kind]):
        scene = FULL.scene(index, motion_bucket_id=255, fps=7, choice=choice)
        flow, known = scene.flow()
        assert known.all()
        measured = estimate_flow(scene.frames).forward
        detail = np.stack([cv2.Laplacian(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.CV_32F) for f in scene.frames[:-1]])
        textured = cv2.blur(np.abs(detail).transpose(1, 2, 0), (5, 5)).transpose(2, 0, 1) > 12
        textured[:, :6], textured[:, -6:], textured[:, :, :6], textured[:, :, -6:] = False, False, False, False
        assert textured.sum() > 2000, "flow is measured only where there is something to be seen"
        errors.append(np.linalg.norm(measured - flow, axis=-1)[textured].mean())
        assert np.linalg.norm(flow, axis=-1).mean() > 0.12
    assert np.mean(errors) < 0.1
    assert max(errors) < 0.2


def carried_back(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`frame` read at p + flow(p), with little blur."""
    y, x = np.indices(flow.shape[:2], dtype=np.float32)
    return cv2.remap(frame.astype(np.float32), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LANCZOS4)


@pytest.mark.parametrize("kind", [kind for kind in KIND_NAMES if kind not in ("flame", "stars")])
def test_flow_leads_to_the_same_colours(kind: str) -> None:
    for scene in fastest(kind, 2):
        flow, known = scene.flow()
        assert flow.shape == (24, 64, 64, 2)
        assert known.mean() > 0.5
        for t in (0, 11, 23):
            # Known in both frames, and far from rims, where what comes next may be hidden.
            there = warp(known[min(t + 1, 23)].astype(np.float32), flow[t])
            sure = cv2.erode((known[t] & (there > 0.99)).astype(np.uint8), np.ones((5, 5))) > 0
            sure[:6], sure[-6:], sure[:, :6], sure[:, -6:] = False, False, False, False
            carried = carried_back(scene.frames[t + 1], flow[t])
            gone = np.abs(carried - scene.frames[t])[sure].mean()
            stayed = np.abs(scene.frames[t + 1].astype(float) - scene.frames[t])[sure].mean()
            assert gone < max(0.35 * stayed, 0.8)


def test_camera_moves_what_is_seen_to_the_side_it_says() -> None:
    for kind in ("landscape", "photo"):
        index = some(kind, 1)[0]
        left, right = (FULL.scene(index, motion_bucket_id=200, fps=8, choice=c).camera for c in KINDS_PAN[kind])
        assert left[-1, 0] > 3
        np.testing.assert_array_equal(left, -right)


KINDS_PAN = {"landscape": (0, 1), "photo": (1, 2)}


# Pictures with several futures.


@pytest.mark.parametrize("kind", ["ridge", "fork"])
def test_a_ball_goes_left_or_right_by_choice_and_alike(kind: str) -> None:
    index = some(kind, 1)[0]
    left, right = (FULL.scene(index, motion_bucket_id=255, fps=5, choice=choice).positions[:, 0] for choice in (0, 1))
    np.testing.assert_allclose(left[:, 0] + right[:, 0], 2 * left[0, 0], atol=1e-3)
    np.testing.assert_allclose(left[:, 1], right[:, 1], atol=1e-4)
    assert right[-1, 0] - left[-1, 0] > 11


def test_clouds_drift_to_eight_sides() -> None:
    index = some("clouds", 1)[0]
    ends = [FULL.scene(index, motion_bucket_id=255, fps=5, choice=k).camera[-1] for k in range(8)]
    angles = [round(float(np.degrees(np.arctan2(y, x)))) % 360 for x, y in ends]
    assert angles == list(range(0, 360, 45))


@pytest.mark.parametrize("kind", ["flame", "stars"])
def test_flicker_has_many_futures(kind: str) -> None:
    index = some(kind, 1)[0]
    ends = [FULL.scene(index, motion_bucket_id=200, fps=8, choice=k).frames[-1].astype(float) for k in range(6)]
    for one, other in itertools.combinations(ends, 2):
        assert np.abs(one - other).mean() > 0.2
    flow, known = FULL.scene(index).flow()
    assert (flow == 0).all()
    assert known.all() == (kind == "stars")


def test_scenes_without_objects_have_no_coverage() -> None:
    assert FULL.scene(some("photo", 1)[0]).coverage().shape == (25, 0, 64, 64)


# The photographs.


def test_photographs_are_small_and_their_origin_is_stated() -> None:
    folder = Path(backgrounds.PHOTOS)
    stated = (folder / "SOURCES.md").read_text()
    files = sorted(folder.glob("*.jpg"))
    assert [file.stem for file in files] == sorted(backgrounds.PHOTO_NAMES)
    for file in files:
        assert file.stat().st_size <= 40_000
        assert file.name in stated
        assert backgrounds.photo(file.stem).shape == (256, 256, 3)
    with pytest.raises(ValueError, match="read-only"):
        backgrounds.photo("chelsea")[0, 0] = 0


# What is refused.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: World(size=16), r"size = 16: a whole number from 32 to 512"),
        (lambda: World(num_frames=26), r"num_frames = 26"),
        (lambda: World(stage="hard"), r"stage = 'hard': one of easy, headings, full"),
        (lambda: World(seed=-1), r"seed = -1"),
        (lambda: World().scene(-1), r"index = -1"),
        (lambda: World().scene(True), r"index = True"),
        (lambda: World().scene(0, motion_bucket_id=256), r"motion_bucket_id = 256: a whole number from 0 to 255"),
        (lambda: World().scene(0, fps=0), r"fps = 0: a whole number from 1 to 60"),
        (lambda: World().scene(0, choice=1), r"choice = 1: a whole number from 0 to 0 is allowed for a scene of kind"),
        (lambda: World().batch([]), r"at least one index"),
        (lambda: World().find("flame"), r"kind = 'flame': the stage 'easy' has rocket"),
    ],
)
def test_bad_arguments_are_named(make: object, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        make()  # type: ignore[operator]


@settings(max_examples=15, deadline=None)
@given(index=st.integers(0, 2**63 - 1), stage=st.sampled_from(STAGES), size=st.sampled_from([32, 48, 96]))
def test_any_index_renders_at_any_size(index: int, stage: str, size: int) -> None:
    scene = World(stage=stage, num_frames=3, size=size).scene(index)
    assert scene.frames.shape == (3, size, size, 3)
    assert scene.frames.std() > 2

"""Camera motion told apart from object motion, on clips whose motion is known exactly."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from svdlab.metrics import get, score, score_frames
from svdlab.metrics.camera import fit_camera
from svdlab.metrics.context import Scoring
from svdlab.metrics.flow import Flow
from svdlab.training.world import HELD_OUT, World
from tests.metrics.conftest import clip_of, frozen, pan, with_noise

CAMERA = ["camera_mean", "object_mean"]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A real photograph with structure all over, uint8 [260, 391, 3] (Stefan van der Walt, CC0)."""
    return data.chelsea()[40:, 60:]


def flow_of(forward: np.ndarray, visible: np.ndarray | None = None) -> Flow:
    """A `Flow` with a given forward part."""
    seen = np.ones(forward.shape[:3], bool) if visible is None else visible
    return Flow(
        forward=forward.astype(np.float32), backward=-forward.astype(np.float32),
        magnitude=np.linalg.norm(forward, axis=-1), visible=seen, error=np.zeros(len(forward)),
    )  # fmt: skip


def affine_field(matrix: np.ndarray, shift: np.ndarray, h: int = 48, w: int = 64) -> np.ndarray:
    y, x = np.indices((h, w), dtype=np.float64)
    return np.stack([x - (w - 1) / 2, y - (h - 1) / 2], axis=-1) @ matrix.T + shift


def seen_through(photo: np.ndarray, matrix: np.ndarray, width: int = 160, height: int = 120) -> np.ndarray:
    """The photograph about its middle, through a window whose point p shows the photograph at `matrix` p."""
    own, middle = np.array([(width - 1) / 2, (height - 1) / 2]), np.array([195.0, 129.5])
    whole = np.column_stack([matrix, middle - matrix @ own])
    return cv2.warpAffine(photo, whole, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


def with_disc(frames: np.ndarray, photo: np.ndarray, *, step: int, radius: int = 14) -> tuple[np.ndarray, float]:
    """A textured disc going `step` px a frame to the right before `frames`; and the share of the frame it covers."""
    y, x = np.indices((2 * radius + 1, 2 * radius + 1)) - radius
    mask = x**2 + y**2 <= radius**2
    texture = photo[150 : 151 + 2 * radius, 200 : 201 + 2 * radius]
    out = frames.copy()
    for t, frame in enumerate(out):
        left = 30 + step * t
        frame[30 : 31 + 2 * radius, left : left + 2 * radius + 1][mask] = texture[mask]
    return out, mask.sum() / frames[0, ..., 0].size


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_pan_is_all_camera(photo, step):
    scoring = Scoring(pan(photo, step=step))
    values = score(scoring, names=CAMERA)
    assert values["camera_mean"] == pytest.approx(step, abs=0.05)
    assert values["object_mean"] < 0.04
    np.testing.assert_allclose(scoring.camera.shift, np.tile([-step, 0], (7, 1)), atol=0.05)  # what is seen goes left
    np.testing.assert_allclose(scoring.camera.zoom, 1, atol=1e-3)
    np.testing.assert_allclose(scoring.camera.rotation, 0, atol=0.05)


def test_a_moving_disc_before_a_still_background_is_all_object(photo):
    frames, share = with_disc(frozen(photo), photo, step=2)
    values = score(clip_of(frames), names=[*CAMERA, "flow_mean"])
    assert values["camera_mean"] < 0.02
    assert 2 * share < values["object_mean"] < 1.9 * 2 * share  # dense flow drags a halo along
    assert values["object_mean"] == pytest.approx(values["flow_mean"], rel=0.1)


def test_camera_and_object_at_once_are_told_apart_where_flow_mean_is_not(photo):
    """The disc goes right as fast as what lies behind goes left: every pixel moves by 2 px."""
    frames, share = with_disc(pan(photo, step=2), photo, step=2)
    scoring = Scoring(frames)
    values = score(scoring, names=[*CAMERA, "flow_mean"])
    assert values["flow_mean"] == pytest.approx(2, abs=0.2)
    assert values["camera_mean"] == pytest.approx(2, abs=0.05)
    assert 4 * share < values["object_mean"] < 1.9 * 4 * share
    np.testing.assert_allclose(scoring.camera.shift.mean(axis=0), [-2, 0], atol=0.05)


def test_zoom_and_rotation_are_read_with_their_signs(photo):
    angle = np.radians(0.5)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    steps = {"in": np.eye(2) / 1.01, "out": np.eye(2) * 1.01, "clockwise": turn, "back": turn.T}
    cameras = {}
    for name, step in steps.items():
        frames = np.stack([seen_through(photo, np.linalg.matrix_power(step, t)) for t in range(6)])
        cameras[name] = Scoring(frames).camera
    assert cameras["in"].zoom.mean() == pytest.approx(1.01, abs=0.001)
    assert cameras["out"].zoom.mean() == pytest.approx(1 / 1.01, abs=0.001)
    assert cameras["clockwise"].rotation.mean() == pytest.approx(0.5, abs=0.05)
    assert cameras["back"].rotation.mean() == pytest.approx(-0.5, abs=0.05)
    for camera in cameras.values():
        np.testing.assert_allclose(camera.shift.mean(axis=0), 0, atol=0.05)
        assert camera.residual_length.mean() < 0.1


def test_a_frozen_clip_has_exactly_none(photo):
    assert score(clip_of(frozen(photo)), names=CAMERA) == dict.fromkeys(CAMERA, 0.0)


def test_noise_hardly_moves_the_camera(photo):
    values = score(clip_of(with_noise(pan(photo, step=2), 8)), names=CAMERA)
    assert values["camera_mean"] == pytest.approx(2, abs=0.05)
    assert values["object_mean"] > 0.05  # it reads as boiling


def test_the_procedural_world_has_the_camera_that_it_says():
    world = World(size=128, num_frames=9, stage="full")
    for kind, near in (("photo", 0.08), ("tunnel", 0.12)):
        for index in itertools.islice(world.find(kind, start=HELD_OUT), 2):
            scene = world.scene(index, motion_bucket_id=255, fps=7)
            camera = Scoring(scene.frames).camera
            speed = np.linalg.norm(scene.flow()[0], axis=-1).mean()
            assert camera.global_length.mean() == pytest.approx(speed, rel=near)
            np.testing.assert_allclose(camera.shift, np.diff(scene.camera, axis=0), atol=0.12)
            np.testing.assert_allclose(camera.zoom, scene.zoom[1:] / scene.zoom[:-1], atol=0.003)
            assert camera.residual_length.mean() < 0.15


def test_an_object_of_the_procedural_world_leaves_the_camera_still():
    world = World(size=128, num_frames=9, stage="full")
    for index in itertools.islice(world.find("fish", start=HELD_OUT), 2):
        scene = world.scene(index, motion_bucket_id=255, fps=7)
        values = score(clip_of(scene.frames), names=CAMERA)
        assert values["camera_mean"] < 0.03
        assert values["object_mean"] > scene.speed * scene.coverage().mean()


def test_blind_spot_what_fills_most_of_the_frame_is_taken_for_the_camera(photo):
    frames = frozen(photo)
    for t, frame in enumerate(frames):
        frame[:, :90] = photo[160:256, 200 + 2 * t : 290 + 2 * t]  # 70 % of the frame moves by 2 px
    values = score(clip_of(frames), names=CAMERA)
    assert values["camera_mean"] == pytest.approx(2, abs=0.1)
    assert 0.4 < values["object_mean"] < 0.8  # what stands still: 30 % by 2 px


def test_blind_spot_a_flat_background_does_not_move():
    """Most of the frame is a clear sky: all moves by 2 px, and there is nothing to see it by."""
    photo = np.tile(np.linspace(80, 120, 96, dtype=np.uint8)[:, None, None], (1, 200, 3))  # brighter towards below
    photo[80:] = np.random.default_rng(0).integers(0, 256, (16, 200, 3), dtype=np.uint8)
    frames = np.stack([photo[:, 2 * t : 2 * t + 128] for t in range(8)])
    values = score(clip_of(frames), names=CAMERA)
    assert values["camera_mean"] < 1


@settings(deadline=None, max_examples=25)
@given(
    matrix=st.lists(st.floats(-0.03, 0.03), min_size=4, max_size=4),
    shift=st.lists(st.floats(-6, 6), min_size=2, max_size=2),
)
def test_any_affine_flow_is_found_to_rounding(matrix, shift):
    a, b = np.array(matrix).reshape(2, 2), np.array(shift)
    field = affine_field(a, b)
    camera = fit_camera(flow_of(field[None]), 64, 48)
    np.testing.assert_allclose(camera.matrix[0], a, atol=1e-5)
    np.testing.assert_allclose(camera.shift[0], b, atol=1e-4)
    assert camera.residual_length[0] < 1e-4
    assert camera.global_length[0] == pytest.approx(np.linalg.norm(field, axis=-1).mean(), abs=1e-4)


@settings(deadline=None, max_examples=25)
@given(share=st.floats(0.05, 0.4), away=st.floats(1.5, 20), seed=st.integers(0, 1000))
def test_another_motion_in_part_of_the_frame_does_not_bend_the_fit(share, away, seed):
    field = affine_field(np.array([[0.005, -0.01], [0.01, 0.005]]), np.array([1.5, -0.5]))
    noisy = field + np.random.default_rng(seed).normal(0, 0.03, field.shape)
    part = round(64 * share)
    noisy[:, :part] += [away, 0]
    camera = fit_camera(flow_of(noisy[None]), 64, 48)
    np.testing.assert_allclose(camera.shift[0], [1.5, -0.5], atol=0.05)
    assert camera.residual_length[0] == pytest.approx(away * part / 64, rel=0.05, abs=0.06)


def test_reduced_frames_are_given_in_their_own_pixels():
    a = np.array([[0.01, 0.002], [-0.004, 0.02]])
    camera = fit_camera(flow_of(affine_field(a, np.array([2.0, 1.0]))[None]), 128, 144)  # reduced by 2 and by 3
    np.testing.assert_allclose(camera.shift[0], [4, 3], atol=1e-4)
    own = np.array([[0.01, 0.002 * 2 / 3], [-0.004 * 3 / 2, 0.02]])  # a displacement in y doubled or tripled likewise
    np.testing.assert_allclose(camera.matrix[0], own, atol=1e-5)


def test_hidden_pixels_have_no_say_unless_hardly_any_is_seen():
    field = np.zeros((1, 48, 64, 2))
    field[:, :, 40:] = [9, 0]
    visible = np.ones((1, 48, 64), bool)
    visible[:, :, 40:] = False
    camera = fit_camera(flow_of(field, visible), 64, 48)
    assert (camera.global_length[0], camera.residual_length[0]) == (0, 0)
    nothing = fit_camera(flow_of(field, np.zeros_like(visible)), 64, 48)
    assert nothing.residual_length[0] == pytest.approx(9 * 24 / 64)


def test_flow_without_any_common_motion_gives_finite_numbers():
    wild = np.random.default_rng(0).normal(0, 30, (3, 16, 16, 2))
    camera = fit_camera(flow_of(wild), 16, 16)
    assert np.isfinite([camera.global_length, camera.residual_length, camera.zoom, camera.rotation]).all()
    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    assert np.isfinite(list(score(clip_of(noise), names=CAMERA).values())).all()


def test_one_value_a_pair_and_the_same_every_time(photo):
    frames = with_noise(pan(photo, step=3))
    first, second = (score_frames(clip_of(frames.copy()), names=CAMERA) for _ in range(2))
    for name in CAMERA:
        assert first[name].shape == (7,)
        np.testing.assert_array_equal(first[name], second[name])
    assert get("camera_mean").settings["flow_max_width"] == 512

"""Estimators of place against truths, on sound clips and on spoilt ones."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from svdlab.training.locate import background_of, camera_shift, camera_zoom, find, presence_near, target_of, vertex
from tests.training.drawn import FRAMES, SIZE, SPOILT, backdrop, case_of, cover, drive, noisy, paint, pan, to_uint8

END = (17.3, -6.4)
INTACT = {"sound": lambda frames: frames, **SPOILT}
SHIFTS = [(0, 0), (0.3, 0), (3.4, -1.2), (15, 6), (-12, 8)]


@pytest.fixture(scope="module")
def target():
    return case_of([END]).target


@pytest.mark.parametrize("damage", INTACT)
@pytest.mark.parametrize("speed", [0, 0.05, 0.25, 0.5, 1])
def test_an_object_is_found_to_a_fraction_of_a_pixel_in_poor_frames_too(target, damage, speed):
    found = find(INTACT[damage](drive(END, speed))[-1], target)
    assert found.position - target.position == pytest.approx(np.array(END) * speed, abs=0.15)
    assert found.presence > 0.4


def test_presence_is_the_share_of_the_object(target):
    for opacity in (1.0, 0.75, 0.5, 0.25):
        found = find(drive(END, opacity=opacity)[-1], target)
        assert found.presence == pytest.approx(opacity, rel=0.07)
        assert found.position - target.position == pytest.approx(END, abs=0.2)


def test_where_there_is_no_object_none_is_found(target):
    for frame in (backdrop(), noisy(backdrop()[None])[0]):
        assert find(to_uint8(frame), target).presence < 0.15


def test_half_an_object_at_each_of_two_places(target):
    frame = to_uint8((paint(backdrop(), (46, 31)) + paint(backdrop(), (14, 31))) / 2)
    for place in ((46, 31), (14, 31)):
        assert presence_near(frame, target, np.array(place), tolerance=2) == pytest.approx(0.5, abs=0.05)
    assert presence_near(frame, target, np.array([30, 55]), tolerance=2) < 0.15


@given(x=st.floats(-16, 16), y=st.floats(-16, 16))
def test_any_displacement(x, y):
    case = case_of([(x, y)], seed=2)
    found = find(case.truths[0, -1], case.target)
    assert found.position - case.target.position == pytest.approx((x, y), abs=0.2)


def target_reaching(reach):
    picture, share = to_uint8(paint(backdrop(), (30, 31))), cover((30, 31))[..., 0]
    return target_of(picture, share, np.array([30.0, 31.0]), background_of(picture, share), reach=reach)


@pytest.mark.parametrize("centre", [(SIZE - 5, 31), (SIZE - 1, 31), (30, -1), (2, 62)])
def test_an_object_that_is_partly_out_of_the_frame_is_found_by_the_rest(centre):
    found = find(to_uint8(paint(backdrop(), centre)), target_reaching(40))
    assert found.position == pytest.approx(centre, abs=0.5)
    assert found.presence > 0.8


def test_the_background_that_an_object_comes_to_makes_no_difference():
    """It goes from dark to light: its contrast turns round."""
    behind = np.repeat(np.linspace(40, 220, SIZE, dtype=np.float32)[None, :, None], SIZE, 0).repeat(3, 2)
    picture, share = to_uint8(paint(behind, (12, 31))), cover((12, 31))[..., 0]
    target = target_of(picture, share, np.array([12.0, 31.0]), background_of(picture, share), reach=44)
    found = find(to_uint8(paint(behind, (50, 31))), target)
    assert found.position == pytest.approx((50, 31), abs=0.2)
    assert found.presence == pytest.approx(1, abs=0.1)


def test_places_beyond_reach_are_empty():
    target = target_reaching(8)
    frame = to_uint8(paint(backdrop(), (55, 31)))
    assert presence_near(frame, target, np.array([55, 31]), tolerance=3) == 0
    assert np.abs(find(frame, target).position - target.position).max() <= 8


def test_a_target_needs_an_object_that_can_be_seen():
    picture = to_uint8(backdrop())
    plain = picture.astype(np.float32)
    with pytest.raises(ValueError, match="empty"):
        target_of(picture, np.zeros((SIZE, SIZE)), np.zeros(2), plain, reach=8)
    with pytest.raises(ValueError, match="colour of the background"):
        target_of(picture, cover((30, 31))[..., 0], np.zeros(2), plain, reach=8)


def test_background_is_painted_where_the_object_was():
    share = cover((30, 31))[..., 0]
    filled = background_of(to_uint8(paint(backdrop(), (30, 31))), share)
    assert np.abs(filled - backdrop())[share > 0].mean() < 6
    assert np.abs(filled - backdrop())[:10].max() <= 0.5  # only rounded elsewhere


@pytest.mark.parametrize("damage", INTACT)
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_camera_is_followed_in_poor_frames_too(damage, shift):
    frames = pan(shift)
    assert camera_shift(frames[0], INTACT[damage](frames)[-1], reach=24) == pytest.approx(shift, abs=0.12)


def test_flat_frames_have_no_shift():
    flat = np.full((SIZE, SIZE, 3), 90, np.uint8)
    assert camera_shift(flat, flat, reach=10).tolist() == [0, 0]


def test_a_shift_is_looked_for_within_reach_only():
    frames = pan((15, 0))
    assert np.abs(camera_shift(frames[0], frames[-1], reach=5)).max() <= 5.5
    assert len(frames) == FRAMES


@pytest.mark.parametrize("damage", INTACT)
@pytest.mark.parametrize("zoom", [1, 1.04, 1.25, 1.6, 0.85])
def test_a_zoom_is_followed_in_poor_frames_too(damage, zoom):
    photo = cv2.resize(data.astronaut(), (96, 96), interpolation=cv2.INTER_AREA)
    frames = []
    for z in (1, zoom):
        scaled = cv2.resize(photo, None, fx=z, fy=z, interpolation=cv2.INTER_AREA if z < 1 else cv2.INTER_CUBIC)
        middle = (scaled.shape[0] - 1) / 2
        frames.append(cv2.getRectSubPix(scaled, (SIZE, SIZE), (middle, middle)))
    still, grown = frames
    assert camera_zoom(still, INTACT[damage](np.stack([still, grown]))[1]) == pytest.approx(zoom, abs=0.02)


def test_flat_frames_have_no_zoom():
    flat = np.full((SIZE, SIZE, 3), 90, np.uint8)
    assert camera_zoom(flat, flat) == 1
    assert camera_zoom(pan((0, 0))[0], flat) == 1


@given(x=st.floats(1.5, 4.5), y=st.floats(1.5, 3.5), height=st.floats(0.5, 5))
def test_the_vertex_of_a_paraboloid_is_exact(x, y, height):
    rows, columns = np.mgrid[0:6, 0:7]
    surface = height - (columns - x) ** 2 - 0.5 * (rows - y) ** 2
    place, top = vertex(surface)
    assert place == pytest.approx((x, y), abs=1e-9)
    assert top == pytest.approx(height, abs=1e-9)


def test_the_vertex_at_a_border_is_the_sample():
    place, top = vertex(np.array([[3.0, 2.0], [1.0, 0.0]]))
    assert place.tolist() == [0, 0]
    assert top == 3

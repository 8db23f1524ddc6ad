from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import RequestError
from svdlab.request import (
    MAX_SEED,
    SETTINGS,
    Defaults,
    Request,
    SettingWarning,
    allowed,
    bounds,
    check_settings,
)

TINY = Defaults(num_frames=25, width=64, height=64)


def test_defaults_are_those_of_the_endpoint():
    request = Request("a.png")
    assert (request.motion_bucket_id, request.cond_aug, request.steps, request.fps) == (127, 0.02, 4, 10)
    assert request.seed is None


def test_the_model_fills_what_was_left_open():
    request = Request("a.png").resolve(TINY)
    assert None not in request.settings().values()
    assert (request.num_frames, request.width, request.height, request.decode_chunk) == (25, 64, 64, 25)
    assert (request.schedule, request.gamma, request.sigma_max) == ("animatelcm", 1.0, 700.0)
    assert request.resolve(TINY) == request


def test_a_missing_seed_is_drawn_once():
    first, second = Request("a.png").resolve(TINY), Request("a.png").resolve(TINY)
    assert first.seed != second.seed
    assert first.resolve(TINY).seed == first.seed


@pytest.mark.parametrize("name", [name for name in SETTINGS if bounds(name)])
def test_both_bounds_are_allowed_and_nothing_beyond(name):
    low, high = bounds(name)  # type: ignore[misc]
    whole = isinstance(low, int)
    extra = {"schedule": "karras"} if name == "steps" else {}
    beyond = (low - 1, high + 1) if whole else (math.nextafter(low, -math.inf), math.nextafter(high, math.inf))
    if name == "min_guidance":
        extra = {"max_guidance": 20}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettingWarning)
        for value in (low, high):
            assert getattr(Request("a.png", **{name: value}, **extra), name) == value
    for value in beyond:
        with pytest.raises(RequestError, match=name) as caught:
            Request("a.png", **{name: value}, **extra)
        assert repr(value) in str(caught.value)
        assert allowed(name) in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": True}, r"steps = True: must be a whole number from 1 to 40 \(to 100 with schedule='karras'\)"),
        ({"steps": 4.0}, "steps = 4.0: must be a whole number"),
        ({"steps": "4"}, "steps = '4': must be a whole number"),
        ({"steps": None}, "steps = None: must be a whole number"),
        ({"cond_aug": False}, "cond_aug = False: must be a number from 0 to 10"),
        ({"cond_aug": "0.1"}, "cond_aug = '0.1': must be a number"),
        ({"cond_aug": math.nan}, "cond_aug = nan: must be a number from 0 to 10"),
        ({"gamma": math.inf}, "gamma = inf: must be a number from 0 to 1"),
        ({"schedule": "linear"}, "schedule = 'linear': must be one of 'animatelcm', 'even', 'karras'"),
        ({"stepz": 4}, "stepz = 4: there is no such setting. Did you mean 'steps'?"),
        ({"prompt": "a cat"}, "prompt = 'a cat': there is no such setting. Known settings: motion_bucket_id"),
        ({"steps": 41, "schedule": "animatelcm"}, "schedule 'animatelcm' has 40 points"),
        ({"steps": 41, "schedule": "even"}, "use schedule='karras'"),
        ({"min_guidance": 3.0, "max_guidance": 1.5}, r"min_guidance = 3: must not exceed max_guidance \(1.5\)"),
        ({"num_frames": 14, "decode_chunk": 25}, r"decode_chunk = 25: must be 1 to num_frames \(14\)"),
    ],
)
def test_what_is_wrong_is_named(settings, words):
    with pytest.raises(RequestError, match=words):
        Request("a.png", **settings)
    with pytest.raises(RequestError, match=words):
        check_settings(settings)


def test_every_problem_is_reported_at_once():
    with pytest.raises(RequestError) as caught:
        Request("a.png", steps=0, fps=99, seed=-1)
    assert [line.split(" = ")[0] for line in str(caught.value).splitlines()] == ["seed", "steps", "fps"]


def test_a_picture_is_needed():
    with pytest.raises(RequestError, match="a picture is needed"):
        Request()


def test_steps_beyond_the_grid_of_the_models_schedule_are_refused_when_it_is_known():
    many = Request("a.png", steps=60)
    with pytest.raises(RequestError, match="40 points"):
        many.resolve(TINY)
    assert many.resolve(Defaults(num_frames=25, width=64, height=64, schedule="karras")).steps == 60


def test_sizes_must_fit_the_model():
    with pytest.raises(RequestError, match="width = 100: this model needs a multiple of 8; the nearest are 96 and 104"):
        Request("a.png", width=100).resolve(TINY)


def test_a_chunk_larger_than_the_clip_is_refused_and_the_models_own_is_cut_to_it():
    with pytest.raises(RequestError, match="decode_chunk"):
        Request("a.png", num_frames=8, decode_chunk=9).resolve(TINY)
    assert Request("a.png", num_frames=8).resolve(TINY).decode_chunk == 8


def test_one_limit_of_guidance_takes_the_other_along():
    teacher = Defaults(num_frames=25, width=64, height=64, min_guidance=1.0, max_guidance=3.0)
    assert Request("a.png", max_guidance=1.0).resolve(teacher).min_guidance == 1.0
    assert Request("a.png", min_guidance=5.0).resolve(teacher).max_guidance == 5.0


def test_a_bucket_above_255_warns_once():
    with pytest.warns(SettingWarning, match="motion_bucket_id = 300") as caught:
        request = Request("a.png", motion_bucket_id=300)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    request.resolve(TINY)  # warnings are errors here: it does not warn again


def test_requests_are_frozen_and_compare_by_value():
    request = Request("a.png", seed=1)
    with pytest.raises(ValueError, match="frozen"):
        request.steps = 8  # type: ignore[misc]
    assert request == Request("a.png", seed=1) != request.replace(seed=2)


def test_replace_checks_again():
    with pytest.raises(RequestError, match="steps = 0"):
        Request("a.png").replace(steps=0)


def test_numpy_numbers_are_numbers():
    request = Request("a.png", steps=np.int64(3), cond_aug=np.float64(0.5), seed=np.uint8(7))
    assert [type(value) for value in (request.steps, request.cond_aug, request.seed)] == [int, float, int]


def test_repr_shows_what_was_set_and_not_a_whole_picture():
    assert repr(Request("a.png", steps=2)) == (
        "Request(image='a.png', motion_bucket_id=127, cond_aug=0.02, steps=2, fps=10)"
    )
    assert "<ndarray>" in repr(Request(np.zeros((512, 512, 3), np.uint8)))


@given(
    motion_bucket_id=st.integers(0, 255),
    cond_aug=st.floats(0, 10),
    steps=st.integers(1, 40),
    fps=st.integers(1, 60),
    seed=st.integers(0, MAX_SEED),
    gamma=st.floats(0, 1),
)
def test_settings_rebuild_the_request(**settings):
    request = Request("a.png", **settings).resolve(TINY)
    assert Request("a.png", **request.settings()) == request
    assert {name: getattr(request, name) for name in settings} == settings


@given(st.dictionaries(st.sampled_from(SETTINGS), st.none() | st.booleans() | st.floats() | st.text(), min_size=1))
def test_nothing_but_a_request_or_a_request_error_comes_out(settings):
    try:
        request = Request("a.png", **settings)
    except RequestError as error:
        named = [name for name in settings if name in str(error)]
    else:
        named = [name for name, value in settings.items() if getattr(request, name) == value]
        assert len(named) == len(settings)
    assert named

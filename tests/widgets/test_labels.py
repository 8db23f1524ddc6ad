from __future__ import annotations

from svdlab.request import Request
from svdlab.widgets.labels import default_labels, read_clips
from tests.pictures import blobs
from tests.widgets.clips import counting


def _made(**settings: object) -> object:
    return counting(2, request=Request(image=blobs(), **{"seed": 1, **settings}))  # type: ignore[arg-type]


def test_labels_name_the_settings_that_differ() -> None:
    assert default_labels([_made(steps=4), _made(steps=8)]) == ["steps=4", "steps=8"]
    labels = default_labels([_made(steps=4, cond_aug=0.1), _made(steps=4, motion_bucket_id=32)])
    assert labels == ["motion_bucket_id=127, cond_aug=0.1", "motion_bucket_id=32, cond_aug=0.02"]


def test_clips_that_settings_do_not_tell_apart_are_counted() -> None:
    same = [_made(), _made()]
    assert default_labels(same) == ["clip 0", "clip 1"]
    assert default_labels([_made(), counting(2)]) == ["clip 0", "clip 1"]
    assert default_labels([_made(steps=4), _made(steps=8), _made(steps=4)]) == ["clip 0", "clip 1", "clip 2"]
    assert default_labels([_made()]) == ["clip 0"]


def test_clips_come_as_one_as_many_or_by_name() -> None:
    one, two = counting(2), counting(3)
    assert read_clips(one) == ((one,), ["clip 0"])
    assert read_clips((one, two), ["a", "b"]) == ((one, two), ["a", "b"])
    assert read_clips(clip for clip in (one, two)) == ((one, two), ["clip 0", "clip 1"])
    assert read_clips({"a": one, "b": two}) == ((one, two), ["a", "b"])

"""The hosted pipeline against a server of svdlab: both ends of the protocol are ours, the client between is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import svdlab as sl
from svdlab.errors import EndpointError, RequestError
from svdlab.server import connect_fal_client
from svdlab.video import read_video
from tests.hosted.recorded import APP
from tests.server.running import Running, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture
def connected(served: Running) -> Iterator[Running]:
    with connect_fal_client(served.url, key=served.alice):
        yield served


def test_hosted_and_local_clips_are_the_same(connected: Running, rocket: Path) -> None:
    told = []
    hosted = sl.hosted.load(APP, on_update=told.append)(rocket, steps=2, seed=42, motion_bucket_id=200)
    local = sl.load("tiny-random", device="cpu")(rocket, steps=2, seed=42, motion_bucket_id=200)
    assert np.array_equal(hosted.frames, read_video(local.to_mp4()).frames)
    assert np.array_equal(hosted.image, local.image)
    assert (told[-1].state, hosted.fps) == ("done", 10)
    assert "step 2 of 2" in [line for update in told for line in update.lines]


def test_a_sweep(connected: Running, rocket: Path, tmp_path: Path) -> None:
    swept = sl.sweep(
        sl.hosted.load(APP, concurrency=2), image=rocket, out=tmp_path / "run", steps=[1, 2], seed=[0, 1],
        metrics=["flow_mean"], batch=2, progress=False,
    )  # fmt: skip
    frame = swept.frame()
    assert list(frame["status"]) == ["done"] * 4
    assert frame["flow_mean"].nunique() == 4  # each cell has its own clip, though two were under way at once


def test_a_job_that_is_given_up_is_cancelled_there(connected: Running, rocket: Path) -> None:
    told = []
    stream = sl.hosted.load(APP, on_update=told.append).stream(rocket, steps=40, seed=1)
    next(stream)
    stream.close()
    with connected.client() as client:
        assert connected.wait(client, told[0].request_id)["error_type"] == "client_cancelled"


def test_what_it_refuses(connected: Running, rocket: Path) -> None:
    with connect_fal_client(connected.url, key="wrong:key"), pytest.raises(EndpointError, match="the key was not acc"):
        sl.load(APP)(rocket)
    with pytest.raises(RequestError, match=r"steps = 60"):  # a schedule that the model behind it does not have
        sl.load(APP)(rocket, steps=60)

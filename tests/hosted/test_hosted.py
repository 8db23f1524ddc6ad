"""A hosted endpoint as a pipeline: what is sent, what comes back, what is told on the way."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import svdlab as sl
from svdlab.errors import EndpointError, MetricError, ModelError, RequestError
from svdlab.hosted import Calls
from svdlab.images import load_image
from svdlab.widgets.session import Session
from svdlab.widgets.source import load_code
from svdlab.widgets.worker import Cancelled
from tests.hosted.conftest import KEY
from tests.hosted.recorded import APP, ID, Recorded, answer

MADE = {"steps": 2, "seed": 42}


def test_a_request_becomes_a_clip(server: Recorded, rocket: Path) -> None:
    pipe = sl.load(APP)
    clip = pipe(rocket, motion_bucket_id=180, **MADE)
    assert clip.frames.shape == (25, 64, 64, 3)
    assert (clip.fps, clip.seed, clip.latents) == (10, 42, None)
    assert clip.image is not None
    assert clip.image.shape == (64, 64, 3)  # as large as the frames, whatever was assumed
    assert clip.seconds["run"] == 3.42  # what the host says
    assert clip.seconds["total"] == pytest.approx(sum(clip.seconds[part] for part in ("upload", "run", "fetch")))
    assert clip.model["request_id"] == ID
    assert (pipe.calls, repr(pipe)) == (
        Calls(submitted=1, done=1, failed=0),
        f"HostedPipeline('{APP}', {server.url[7:]}, 1 calls)",
    )


def test_what_is_sent(server: Recorded, rocket: Path) -> None:
    sl.load(APP)(rocket, motion_bucket_id=180, **MADE)
    [sent] = server.submissions
    data = sent.pop("image_url")
    assert sent == {"motion_bucket_id": 180, "cond_aug": 0.02, "seed": 42, "steps": 2, "fps": 10}
    assert data.startswith("data:image/png;base64,")
    assert np.array_equal(np.asarray(load_image(data)), np.asarray(load_image(rocket)))
    headers = server.seen[0][2]
    assert headers["authorization"] == f"Key {KEY}"
    assert headers["x-fal-request-timeout"] == "600.0"  # the queue does not start what nobody waits for any more


def test_a_seed_that_is_left_out_is_drawn_here(server: Recorded, rocket: Path) -> None:
    clip = sl.load(APP)(rocket)
    assert server.submissions[0]["seed"] == clip.seed


def test_the_key_goes_to_the_endpoint_alone_and_into_no_text(
    server: Recorded, rocket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pipe = sl.load(APP)
    clip = pipe(rocket, **MADE)
    with_key = {path for _, path, headers, _ in server.seen if "authorization" in headers}
    assert with_key == {f"/queue/{APP}", f"/queue/{APP}/requests/{ID}", f"/queue/{APP}/requests/{ID}/status"}
    texts = [repr(pipe), repr(clip), repr(pipe.describe()), repr(clip.model), repr(clip.metadata()), caplog.text]
    assert not any(KEY in text or KEY[-16:] in text for text in texts)


def test_queue_and_logs_are_told_as_they_come(server: Recorded, rocket: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.job(
        server.queued(2), server.queued(2), server.queued(0), server.running("step 1"),
        server.running("step 1", "step 2"), server.completed("step 1", "step 2", "saved"),
    )  # fmt: skip
    told = []
    caplog.set_level(logging.INFO, "svdlab")
    sl.hosted.load(APP, on_update=told.append)(rocket, **MADE)
    assert [(update.state, update.position) for update in told][:4] == [
        ("queued", 2), ("queued", 2), ("queued", 0), ("running", None),
    ]  # fmt: skip
    assert [line for update in told for line in update.lines] == ["step 1", "step 2", "saved"]
    lines = [record.getMessage().removeprefix(f"{APP}: ") for record in caplog.records]
    assert lines[:6] == ["queued, 2 ahead", "queued, 0 ahead", "running", "| step 1", "| step 2", "| saved"]


def test_a_large_picture_is_uploaded_once(server: Recorded, rocket: Path) -> None:
    token = {"token": "t", "token_type": "Bearer", "base_url": server.url, "expires_at": "2999-01-01T00:00:00+00:00"}
    server.play("POST", "/rest/storage/auth/token", answer(200, token))
    server.play("POST", "/cdn/files/upload", answer(200, {"access_url": "https://v3.fal.media/files/a/picture.png"}))
    pipe = sl.hosted.load(APP, pictures="upload")
    pipe(rocket, **MADE)
    pipe(rocket, **MADE)
    assert {sent["image_url"] for sent in server.submissions} == {"https://v3.fal.media/files/a/picture.png"}
    [(_, _, headers, body)] = [seen for seen in server.seen if seen[1] == "/cdn/files/upload"]
    assert headers["authorization"] == "Bearer t"
    with Image.open(io.BytesIO(body)) as kept:
        assert (kept.format, kept.size) == ("PNG", (96, 64))


def test_a_failed_upload_submits_nothing(server: Recorded, rocket: Path) -> None:
    pipe = sl.hosted.load(APP, pictures="upload")
    with pytest.raises(EndpointError, match=r"uploading the picture"):
        pipe(rocket, **MADE)
    assert (server.submissions, pipe.calls) == ([], Calls())


@pytest.mark.parametrize(
    ("given", "named"),
    [({"num_frames": 14}, "num_frames = 14"), ({"schedule": "even", "gamma": 0.5}, "schedule = 'even', gamma = 0.5")],
)
def test_settings_that_the_endpoint_lacks_are_refused(server: Recorded, rocket: Path, given: dict, named: str) -> None:
    with pytest.raises(RequestError, match=f"{named}: {APP} has no such field. It takes motion_bucket_id"):
        sl.load(APP)(rocket, **given)
    assert server.seen == []


def test_a_request_that_a_model_here_filled_in_is_taken(server: Recorded, rocket: Path) -> None:
    pipe = sl.load(APP)
    pipe(sl.Request(image=rocket, **MADE).resolve(pipe.defaults))
    assert len(server.submissions) == 1


def test_stream_shows_the_queue_and_then_the_clip(server: Recorded, rocket: Path) -> None:
    server.job(server.queued(1), server.running(), server.completed())
    previews = list(sl.load(APP).stream(rocket, **MADE))
    assert [(preview.k, preview.note) for preview in previews] == [
        (-1, "queued, 1 ahead"), (-1, "running"), (-1, "done"), (1, "done"),
    ]  # fmt: skip
    assert previews[0].frames.shape == (1, 64, 96, 3)
    assert previews[-1].decode().frames is previews[-1].frames
    with pytest.raises(ModelError, match="not there yet"):
        previews[0].decode()


def test_a_stream_that_is_left_cancels_its_job(server: Recorded, rocket: Path) -> None:
    server.job(server.queued(1))
    pipe = sl.load(APP)
    stream = pipe.stream(rocket, **MADE)
    next(stream)
    stream.close()
    assert (server.cancelled, pipe.calls) == (1, Calls(submitted=1, done=0, failed=1))


def test_ctrl_c_cancels_the_jobs_under_way(server: Recorded, rocket: Path) -> None:
    server.job(server.queued(1))

    def interrupt(update: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sl.hosted.load(APP, on_update=interrupt)(rocket, **MADE)
    assert server.cancelled == 1


def test_a_result_unlike_what_was_assumed_is_kept_and_said_once(
    server: Recorded, rocket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.job(result=server.done(seed=7))
    pipe = sl.load(APP)
    for _ in range(2):
        assert len(pipe(rocket, **MADE)) == 25
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [text.count("64x64") for text in warned] == [1, 0]
    assert "seed 42 was asked for and 7 was used" in warned[1]


def test_no_more_calls_than_allowed(server: Recorded, rocket: Path) -> None:
    pipe = sl.hosted.load(APP, max_calls=1)
    pipe(rocket, **MADE)
    with pytest.raises(EndpointError, match="max_calls = 1 calls were made") as caught:
        pipe(rocket, **MADE)
    assert (caught.value.lasting, len(server.submissions)) == (True, 1)


def test_the_client_may_not_be_pointed_elsewhere_behind_the_pipeline(
    server: Recorded, rocket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = sl.load(APP)
    monkeypatch.setattr("fal_client.client.QUEUE_URL_FORMAT", "https://queue.fal.run/")
    with pytest.raises(EndpointError, match=r"now points at queue\.fal\.run"):
        pipe(rocket, **MADE)
    assert server.seen == []


def test_several_requests_are_under_way_at_once(server: Recorded, rocket: Path) -> None:
    server.job(server.queued(0), server.queued(0), server.completed())
    requests = [sl.Request(image=rocket, seed=seed, steps=1 + seed) for seed in range(3)]
    clips = sl.hosted.load(APP, concurrency=3).batch(requests)
    assert [clip.seed for clip in clips] == [0, 1, 2]  # in the order of the requests, whichever came first
    assert sorted(sent["seed"] for sent in server.submissions) == [0, 1, 2]


def test_one_that_fails_takes_no_other_with_it(server: Recorded, rocket: Path) -> None:
    server.job(submit=(server.taken(), answer(404, {"detail": "Application not found"}), server.taken()))
    pipe = sl.hosted.load(APP, concurrency=1)
    decoders = pipe.denoise([sl.Request(image=rocket, seed=seed) for seed in range(3)])
    assert len(decoders[0]()) == len(decoders[2]()) == 25
    with pytest.raises(EndpointError, match="no such endpoint"):
        decoders[1]()
    assert pipe.calls == Calls(submitted=3, done=2, failed=1)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"timeout": 0}, "timeout = 0: must be a number of seconds from 1 to"),
        ({"concurrency": 0}, "concurrency = 0: must be a whole number from 1 to 40"),
        ({"max_calls": True}, "max_calls = True: must be a whole number, or None"),
        ({"revision": ""}, "revision = '': must be a text"),
        ({"pictures": "post"}, "pictures = 'post': must be one of 'auto', 'data', 'upload'"),
    ],
)
def test_bad_arguments(server: Recorded, given: dict, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        sl.hosted.load(APP, **given)


def test_names_and_devices_that_cannot_be(server: Recorded) -> None:
    with pytest.raises(ModelError, match=r"'fal-ai/fast-sdxl': svdlab cannot drive.*It can drive fal-ai/fast-svd-lcm"):
        sl.load("fal-ai/fast-sdxl")
    with pytest.raises(ModelError, match=r"device = 'cuda', dtype = 'float16': .* runs at its host"):
        sl.load(APP, device="cuda", dtype="float16")


def test_fingerprints_tell_endpoints_apart(server: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    here, labelled = sl.load(APP).fingerprint, sl.load(APP, revision="june").fingerprint
    monkeypatch.setattr("fal_client.client.QUEUE_URL_FORMAT", "https://queue.fal.run/")
    public = sl.load(APP).fingerprint
    assert len({here, labelled, public}) == 3
    assert public == "f9711018ed428ab7-hosted"  # in the keys of cells: it must stay
    assert sl.load(APP).describe()["source"] == "hosted at queue.fal.run"


def test_what_a_hosted_model_does_not_have(server: Recorded, rocket: Path) -> None:
    pipe = sl.load(APP)
    clip = pipe(rocket, **MADE)
    with pytest.raises(ModelError, match="no latents"):
        pipe.decode(clip.latents)
    with pytest.raises(ModelError, match="its networks cannot be had here"):
        _ = pipe.components
    with pytest.raises(MetricError, match="image encoder is not here"):
        sl.metrics.score(clip, encoder=pipe, names=["clip_temporal"])
    assert sl.metrics.score(clip, names=["flow_mean"])["flow_mean"] > 0


def test_the_explorer_uses_it_and_can_stop_it(server: Recorded, rocket: Path) -> None:
    pipe = sl.load(APP, revision="june")
    session = Session(pipe, image=str(rocket), **MADE)
    assert len(session.generate()) == 25
    assert session.decode_seconds() is None
    assert load_code(pipe) == f'sl.load("{APP}", revision="june")'
    server.job(server.queued(3))
    looks = iter([False, False, True])
    with pytest.raises(Cancelled):
        session.generate(stop=lambda: next(looks))
    assert server.cancelled == 1

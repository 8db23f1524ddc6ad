"""The official Python client against the server, through `connect_fal_client`: nothing of the client is replaced."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Iterator
from typing import Any

import fal_client
import httpx
import numpy as np
import pytest

from svdlab.errors import ServerError
from svdlab.images import load_image
from svdlab.pipeline import load
from svdlab.server import connect_fal_client
from svdlab.video import read_video
from tests.server.running import APP, ENDLESS, LONG, QUICK, Running, run_async


@pytest.fixture
def fal(server: Running) -> Iterator[Any]:
    with connect_fal_client(server.url, key=server.alice) as client:
        yield client


def test_subscribe_gives_the_video_and_the_seed_that_was_used(fal: Any, data_uri: str) -> None:
    updates: list[Any] = []
    result = fal.subscribe(
        APP, {"image_url": data_uri, **QUICK, "seed": 42}, with_logs=True, on_queue_update=updates.append
    )
    assert result["seed"] == 42
    video = result["video"]
    assert video["content_type"] == "video/mp4"
    data = httpx.get(video["url"]).content
    assert len(data) == video["file_size"]
    assert read_video(data).frames.shape == (2, 64, 64, 3)
    assert isinstance(updates[-1], fal_client.Completed)
    assert [line["message"] for line in updates[-1].logs][-2:] == ["step 1 of 1", "decoding"]
    assert updates[-1].metrics["inference_time"] > 0


def test_the_video_is_the_one_that_svdlab_makes(fal: Any, data_uri: str) -> None:
    settings = {**QUICK, "seed": 7, "motion_bucket_id": 200, "cond_aug": 0.1, "fps": 6}
    result = fal.subscribe(APP, {"image_url": data_uri, **settings})
    clip = load("tiny-random")(load_image(data_uri), **settings)
    served = read_video(httpx.get(result["video"]["url"]).content)
    assert served.fps == 6
    assert np.array_equal(served.frames, read_video(clip.to_mp4()).frames)


def test_a_seed_is_drawn_and_told_and_repeats_the_clip(fal: Any, data_uri: str) -> None:
    first = fal.subscribe(APP, {"image_url": data_uri, **QUICK, "seed": None})
    again = fal.subscribe(APP, {"image_url": data_uri, **QUICK, "seed": first["seed"]})
    assert httpx.get(first["video"]["url"]).content == httpx.get(again["video"]["url"]).content


def test_submit_status_and_result_apart(fal: Any, data_uri: str) -> None:
    handle = fal.submit(APP, {"image_url": data_uri, **QUICK}, priority="low", hint="h1", start_timeout=60)
    states = list(handle.iter_events(with_logs=True, interval=0.05))
    assert isinstance(states[-1], fal_client.Completed)
    assert fal.result(APP, handle.request_id)["video"]["url"].startswith("http://127.0.0.1:")
    assert isinstance(fal.status(APP, handle.request_id), fal_client.Completed)
    assert fal.status(APP, handle.request_id, with_logs=True).logs


def test_what_is_wrong_with_the_input_is_told_at_the_result(fal: Any, data_uri: str) -> None:
    handle = fal.submit(APP, {"image_url": data_uri, "steps": 1000, "fps": "fast", "motion_buckets": 3})
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        handle.get()
    assert caught.value.status_code == 422
    detail = caught.value.response.json()["detail"]
    assert [(entry["loc"], entry["type"]) for entry in detail] == [
        (["body", "steps"], "less_than_equal"),
        (["body", "fps"], "value_error"),
    ]
    assert "must be a whole number from 1 to 60" in detail[1]["msg"]


def test_a_wrong_key_and_a_wrong_endpoint(server: Running, data_uri: str) -> None:
    with (
        connect_fal_client(server.url, key="someone:else") as fal,
        pytest.raises(fal_client.FalClientHTTPError) as caught,
    ):
        fal.submit(APP, {"image_url": data_uri})
    assert caught.value.status_code == 401
    assert "svdlab keys add" in str(caught.value)
    with connect_fal_client(server.url, key=server.alice) as fal:
        with pytest.raises(fal_client.FalClientHTTPError) as caught:
            fal.submit(f"{APP}/text-to-video", {"prompt": "a rocket"})
        assert caught.value.status_code == 404
        assert str(caught.value).startswith("Path /text-to-video not found")
        with pytest.raises(fal_client.FalClientHTTPError) as caught:
            fal.result(APP, "00000000-0000-0000-0000-000000000000")
        assert caught.value.status_code == 404


def test_async_subscribe_and_submit(fal: Any, data_uri: str) -> None:
    updates: list[Any] = []

    async def note(update: Any) -> None:
        updates.append(update)

    async def both() -> tuple[Any, Any]:
        first = await fal.subscribe_async(
            APP, {"image_url": data_uri, **QUICK, "seed": 1}, with_logs=True, on_queue_update=note
        )
        handle = await fal.submit_async(APP, {"image_url": data_uri, **QUICK, "seed": 2})
        second = await handle.get()
        assert isinstance(await fal.status_async(APP, handle.request_id), fal_client.Completed)
        assert await fal.result_async(APP, handle.request_id) == second
        return first, second

    first, second = run_async(fal, both)
    assert (first["seed"], second["seed"]) == (1, 2)
    assert isinstance(updates[-1], fal_client.Completed)
    assert updates[-1].logs[-1]["message"] == "decoding"


def test_async_cancel_of_a_waiting_a_running_and_a_finished_request(fal: Any, data_uri: str) -> None:
    async def cancelled() -> list[tuple[int, str | None]]:
        running = await fal.submit_async(APP, {"image_url": data_uri, **ENDLESS})
        async for state in running.iter_events(interval=0.02):
            if isinstance(state, fal_client.InProgress):
                break
        waiting = await fal.submit_async(APP, {"image_url": data_uri, **QUICK})
        assert (await waiting.status()).position == 0
        seen = []
        for handle in (waiting, running):
            await handle.cancel()
            for ask in (handle.get, handle.cancel):  # the result of a cancelled one, and to cancel it once more
                with pytest.raises(fal_client.FalClientHTTPError) as caught:
                    await ask()
                seen.append((caught.value.status_code, caught.value.error_type))
        return seen

    assert run_async(fal, cancelled) == [(499, "client_cancelled"), (400, "bad_request")] * 2


def test_async_errors(fal: Any, server: Running, data_uri: str) -> None:
    async def refused(call: Awaitable[Any]) -> fal_client.FalClientHTTPError:
        with pytest.raises(fal_client.FalClientHTTPError) as caught:
            await call
        return caught.value

    async def all_of_them() -> list[fal_client.FalClientHTTPError]:
        return [
            await refused(fal.subscribe_async(APP, {"image_url": data_uri, "steps": 1000})),
            await refused(fal.submit_async(f"{APP}/text-to-video", {"prompt": "a rocket"})),
            await refused(fal.result_async(APP, "00000000-0000-0000-0000-000000000000")),
        ]

    invalid, *absent = run_async(fal, all_of_them)
    assert (invalid.status_code, invalid.message[0]["loc"]) == (422, ["body", "steps"])
    assert [error.status_code for error in absent] == [404, 404]
    with connect_fal_client(server.url, key="someone:else") as other:
        assert run_async(other, lambda: refused(other.submit_async(APP, {"image_url": data_uri}))).status_code == 401


def test_the_async_clients_own_timeout_cancels(fal: Any, data_uri: str, server: Running) -> None:
    async def wait_too_short() -> str:
        with pytest.raises(fal_client.FalClientTimeoutError) as caught:
            await fal.subscribe_async(APP, {"image_url": data_uri, **ENDLESS}, client_timeout=1.5)
        return caught.value.request_id

    id = run_async(fal, wait_too_short)
    with server.client() as client:
        assert server.wait(client, id)["error_type"] in ("client_cancelled", "request_timeout")


def test_cancel_of_a_waiting_a_running_and_a_finished_request(fal: Any, data_uri: str) -> None:
    running = fal.submit(APP, {"image_url": data_uri, **LONG})
    for state in running.iter_events(interval=0.02):
        if isinstance(state, fal_client.InProgress):
            break
    waiting = fal.submit(APP, {"image_url": data_uri, **QUICK})
    assert isinstance(waiting.status(), fal_client.Queued)
    assert waiting.status().position == 0
    waiting.cancel()
    running.cancel()
    for handle in (waiting, running):
        with pytest.raises(fal_client.FalClientHTTPError) as caught:
            handle.get()
        assert (caught.value.status_code, caught.value.error_type) == (499, "client_cancelled")
        with pytest.raises(fal_client.FalClientHTTPError) as caught:
            handle.cancel()
        assert caught.value.status_code == 400


def test_a_request_that_is_not_started_in_time_ends_and_low_priority_waits(fal: Any, data_uri: str) -> None:
    busy = fal.submit(APP, {"image_url": data_uri, **ENDLESS})
    try:
        for state in busy.iter_events(interval=0.02):
            if isinstance(state, fal_client.InProgress):
                break
        low = fal.submit(APP, {"image_url": data_uri, **QUICK}, priority="low")
        late = fal.submit(APP, {"image_url": data_uri, **QUICK}, start_timeout=1.1)
        assert isinstance(low.status(), fal_client.Queued)
        with pytest.raises(fal_client.FalClientHTTPError) as caught:
            late.get()
    finally:
        busy.cancel()
    assert (caught.value.status_code, caught.value.error_type) == (504, "request_timeout")
    assert caught.value.response_headers["x-fal-request-timeout-type"] == "user"
    assert low.get()["video"]["file_size"] > 0


def test_the_clients_own_timeout_cancels_and_leaves_nobody_polling(fal: Any, data_uri: str, server: Running) -> None:
    with pytest.raises(fal_client.FalClientTimeoutError) as caught:
        fal.subscribe(APP, {"image_url": data_uri, **LONG}, client_timeout=1.5)
    with server.client() as client:
        assert server.wait(client, caught.value.request_id)["error_type"] in ("client_cancelled", "request_timeout")


def test_the_client_is_as_before_afterwards(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    import fal_client.client as module

    monkeypatch.setenv("FAL_KEY", "mine:own")
    names = ("QUEUE_URL_FORMAT", "RUN_URL_FORMAT", "REST_URL", "CDN_URL")
    before = [getattr(module, name) for name in names]

    def use_it_and_fail() -> None:
        with connect_fal_client(server.url, key=server.alice):
            assert [getattr(module, name).startswith(server.url) for name in names] == [True] * 4
            assert os.environ["FAL_KEY"] == server.alice
            raise KeyError

    with pytest.raises(KeyError):
        use_it_and_fail()
    assert [getattr(module, name) for name in names] == before
    assert os.environ["FAL_KEY"] == "mine:own"
    assert "_auth" not in fal_client.sync_client.__dict__
    for url in ("127.0.0.1:8000", "ftp://127.0.0.1", "http://127.0.0.1/queue"):
        with pytest.raises(ServerError, match="url = "), connect_fal_client(url):
            pass

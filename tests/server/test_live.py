"""Answers that stay open: the stream of statuses, and the synchronous run."""

from __future__ import annotations

import json
from typing import Any

import fal_client
import httpx
import pytest

from svdlab.server import connect_fal_client, live_routes
from tests.server.running import APP, ENDLESS, LONG, QUICK, Running, run_async, until


def events(client: httpx.Client, id: str, **params: str) -> list[dict[str, Any]]:
    with client.stream("GET", f"/queue/{APP}/requests/{id}/status/stream", params=params) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]


def test_a_stream_sends_each_line_of_the_log_once_and_ends(server: Running, alice: httpx.Client, data_uri: str) -> None:
    id = server.submit(alice, {"image_url": data_uri, "num_frames": 2, "steps": 4, "seed": 5})
    seen = events(alice, id, logs="1")
    assert [event["status"] for event in seen][-1] == "COMPLETED"
    assert "COMPLETED" not in [event["status"] for event in seen][:-1]
    streamed = [line["message"] for event in seen for line in event.get("logs", [])]
    polled = server.wait(alice, id)["logs"]
    assert streamed == [line["message"] for line in polled]
    assert streamed[0] == "tiny-random: 2 frames of 64x64, seed 5"
    assert streamed[1:] == ["step 1 of 4", "step 2 of 4", "step 3 of 4", "step 4 of 4", "decoding"]
    again = events(alice, id)
    assert [(event["status"], event["logs"]) for event in again] == [("COMPLETED", None)]


def test_a_stream_that_has_nothing_to_say_shows_that_it_is_open(
    server: Running, alice: httpx.Client, data_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_routes, "_KEEP_ALIVE_SECONDS", 0.2)
    busy, waiting = (server.submit(alice, {"image_url": data_uri, **ENDLESS}) for _ in range(2))
    try:
        with alice.stream("GET", f"/queue/{APP}/requests/{waiting}/status/stream") as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines)[6:])["status"] == "IN_QUEUE"
            until(lambda: next(lines) == ": still here")
    finally:
        for id in (waiting, busy):
            alice.put(f"/queue/{APP}/requests/{id}/cancel")
            server.wait(alice, id)


def test_run_answers_with_the_result_itself(server: Running, data_uri: str) -> None:
    arguments = {"image_url": data_uri, **QUICK, "seed": 3}
    with connect_fal_client(server.url, key=server.alice) as fal:
        assert fal.run(APP, arguments)["seed"] == 3
        assert run_async(fal, lambda: fal.run_async(APP, arguments))["seed"] == 3
        with pytest.raises(fal_client.FalClientHTTPError) as caught:
            fal.run(APP, {})
    assert caught.value.status_code == 422
    assert caught.value.response_headers["x-fal-request-id"]


def test_who_hangs_up_on_a_run_cancels_it(server: Running, alice: httpx.Client, data_uri: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        alice.post(f"/run/{APP}", json={"image_url": data_uri, **LONG}, timeout=0.5)
    store = server.endpoint.store
    last = "SELECT id, status, error_type FROM job ORDER BY seq DESC LIMIT 1"
    row = until(lambda: (row := store.row(last)) is not None and row["status"] == "COMPLETED" and row)
    assert row["error_type"] == "client_cancelled"


def test_streams_and_runs_are_limited_in_number(server: Running, alice: httpx.Client, data_uri: str) -> None:
    id = server.submit(alice, {"image_url": data_uri, **LONG})
    server.server.config.app.state.open_answers += server.settings.max_streams
    try:
        answer = alice.get(f"/queue/{APP}/requests/{id}/status/stream")
        assert answer.status_code == 429
        assert "Submit and poll instead" in answer.json()["detail"]
    finally:
        server.server.config.app.state.open_answers -= server.settings.max_streams
        alice.put(f"/queue/{APP}/requests/{id}/cancel")
    server.wait(alice, id)
    assert until(lambda: server.server.config.app.state.open_answers == 0)

"""The queue over HTTP: codes, headers and bodies on which the clients rely without saying so."""

from __future__ import annotations

from typing import Any

import httpx

from tests.server.running import APP, ENDLESS, QUICK, Running


def asked(server: Running, client: httpx.Client, **headers: str) -> Any:
    """The row of a request that was submitted with some headers."""
    id = server.submit(client, {}, headers={name.replace("_", "-"): text for name, text in headers.items()})
    return server.endpoint.store.row("SELECT * FROM job WHERE id = ?", (id,))


def test_202_until_it_has_ended_and_logs_only_for_who_asks(server: Running, alice: httpx.Client, data_uri: str) -> None:
    first, second = (server.submit(alice, {"image_url": data_uri, **ENDLESS}) for _ in range(2))
    try:
        server.wait(alice, first, "IN_PROGRESS")
        for id, status, extra in ((first, "IN_PROGRESS", "logs"), (second, "IN_QUEUE", "queue_position")):
            answer = alice.get(f"/queue/{APP}/requests/{id}/status")
            assert (answer.status_code, answer.json()["status"]) == (202, status)
            assert answer.headers["x-fal-request-id"] == answer.json()["request_id"] == id
            assert answer.json()[extra] in (None, 0)
            early = alice.get(f"/queue/{APP}/requests/{id}")
            assert (early.status_code, early.json()["detail"]) == (400, "Request is still in progress")
            assert early.headers["x-fal-request-id"] == id
        assert alice.put(f"/queue/{APP}/requests/{second}/cancel").json() == {"status": "OK"}
    finally:
        answer = alice.put(f"/queue/{APP}/requests/{first}/cancel")
    assert (answer.status_code, answer.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    server.wait(alice, first)
    for wanted, kind in (("", type(None)), ("?logs=0", type(None)), ("?logs=true", list), ("/?logs=1", list)):
        answer = alice.get(f"/queue/{APP}/requests/{first}/status{wanted}")
        assert (answer.status_code, type(answer.json()["logs"])) == (200, kind), wanted
    assert (answer.json()["error_type"], answer.json()["metrics"]) == ("client_cancelled", {})
    ended = alice.get(f"/queue/{APP}/requests/{first}")
    assert (ended.status_code, ended.headers["x-fal-error-type"]) == (499, "client_cancelled")
    assert ended.json()["detail"] == ended.json()["message"] == "The request was cancelled."


def test_priorities_and_start_deadlines_are_taken_from_headers(server: Running, alice: httpx.Client) -> None:
    assert asked(server, alice)["deadline"] is None
    assert asked(server, alice, x_fal_queue_priority="low")["priority"] == 1
    assert asked(server, alice, x_fal_queue_priority="urgent")["priority"] == 0  # unknown ones are ignored
    row = asked(server, alice, x_fal_request_timeout="30", x_fal_request_start_timeout="500.5")
    assert row["deadline"] - row["created"] == 500.5  # the newer name wins
    for text in ("soon", "0", "-1", "nan", "inf"):
        answer = alice.post(f"/queue/{APP}", json={}, headers={"x-fal-request-timeout": text})
        assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request"), text


def test_a_request_may_want_a_short_queue_or_to_be_the_same_as_before(
    server: Running, alice: httpx.Client, data_uri: str
) -> None:
    busy, _ = (server.submit(alice, {"image_url": data_uri, **ENDLESS}) for _ in range(2))
    try:
        server.wait(alice, busy, "IN_PROGRESS")
        full = alice.post(f"/queue/{APP}", params={"fal_max_queue_length": 0}, json={})
        assert (full.status_code, full.json()["error_type"]) == (429, "queue_full")
        assert alice.post(f"/queue/{APP}", params={"fal_max_queue_length": 1}, json={}).status_code == 200
    finally:
        for row in server.endpoint.store.rows("SELECT id FROM job WHERE status != 'COMPLETED'"):
            alice.put(f"/queue/{APP}/requests/{row['id']}/cancel")
    same = [server.submit(alice, QUICK, headers={"X-Idempotency-Key": "once"}) for _ in range(2)]
    assert same[0] == same[1]
    other = alice.post(f"/queue/{APP}", json={}, headers={"X-Idempotency-Key": "once"})
    assert (other.status_code, "another input" in other.json()["message"]) == (422, True)

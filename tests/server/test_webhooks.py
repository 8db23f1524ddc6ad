"""Webhooks: what is sent, how it is signed, when it is tried again. A real receiver on the loopback address."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from svdlab.errors import ServerError
from svdlab.server import connect_fal_client
from svdlab.server.deliveries import Deliverer
from svdlab.server.jobs import CANCELLED, Ending, Queue, Submission
from svdlab.server.outbox import Outbox
from svdlab.server.signing import Signer
from svdlab.server.store import Store
from tests.server.running import APP, QUICK, Running, run_async, running, until
from tests.serving import answering


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((dict(self.headers), body))
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.seen, server.answers = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/hook"
    with answering(server):
        yield server


@contextlib.contextmanager
def office(folder: Path, *, allow_private: bool = True, tries: int = 3) -> Iterator[tuple[Queue, Outbox, Deliverer]]:
    with Store(folder / "server.sqlite") as store:
        outbox = Outbox(store, tries=tries, wait=0.01)
        deliverer = Deliverer(outbox, Signer(folder / "webhook.pem"), allow_private=allow_private)
        yield Queue(store, keep_results=60), outbox, deliverer


def finished(queue: Queue, url: str, ending: Ending) -> str:
    id = queue.submit(Submission(owner="alice", body="{}", webhook=url, keep_files=60), max_waiting=9)
    queue.claim(0)
    queue.end(id, ending)
    return id


def deliver_all(outbox: Outbox, deliverer: Deliverer) -> None:
    for row in outbox.due():
        deliverer.deliver(row)


def deliveries(queue: Queue) -> list[tuple[str, int, str]]:
    return [(row["state"], row["tries"], row["said"]) for row in queue.store.rows("SELECT * FROM delivery")]


def check(jwks: dict[str, Any], headers: dict[str, str], body: bytes) -> None:
    """As the hosted service's documentation tells receivers to."""
    key = jwks["keys"][0]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "=="))
    names = ("Request-Id", "User-Id", "Timestamp")
    lines = [headers[f"X-Fal-Webhook-{name}"] for name in names] + [hashlib.sha256(body).hexdigest()]
    public.verify(bytes.fromhex(headers["X-Fal-Webhook-Signature"]), "\n".join(lines).encode())


def test_a_delivery_is_signed_and_says_how_it_ended(tmp_path: Path, receiver: Any) -> None:
    with office(tmp_path) as (queue, outbox, deliverer):
        done = finished(queue, receiver.url, Ending(http_status=200, body={"seed": 3}))
        failed = finished(queue, receiver.url, CANCELLED)
        deliver_all(outbox, deliverer)
        assert outbox.due() == []
        assert deliveries(queue) == [("delivered", 1, "200")] * 2
    (headers, body), (_, other) = receiver.seen
    assert json.loads(body) == {
        "request_id": done,
        "gateway_request_id": done,
        "status": "OK",
        "payload": {"seed": 3},
        "error": None,
    }
    assert json.loads(other)["request_id"] == failed
    assert (json.loads(other)["status"], json.loads(other)["error"]) == ("ERROR", "Invalid status code: 499")
    jwks = Signer(tmp_path / "webhook.pem").jwks()  # read again: the key stays the same
    check(jwks, headers, body)
    with pytest.raises(InvalidSignature):
        check(jwks, headers, body + b" ")
    assert abs(int(headers["X-Fal-Webhook-Timestamp"]) - time.time()) < 300
    assert (tmp_path / "webhook.pem").stat().st_mode & 0o077 == 0


def test_a_receiver_that_fails_is_asked_again_also_after_a_restart(tmp_path: Path, receiver: Any) -> None:
    receiver.answers += [500, 429]
    with office(tmp_path) as (queue, outbox, deliverer):
        finished(queue, receiver.url, Ending(http_status=200, body={}))
        deliver_all(outbox, deliverer)
        assert deliveries(queue) == [("waiting", 1, "500")]
    time.sleep(0.02)
    with office(tmp_path) as (queue, outbox, deliverer):
        deliver_all(outbox, deliverer)
        assert deliveries(queue) == [("waiting", 2, "429")]
        until(outbox.due)
        deliver_all(outbox, deliverer)
        assert deliveries(queue) == [("delivered", 3, "200")]


def test_it_is_given_up_after_the_last_try(tmp_path: Path, receiver: Any) -> None:
    receiver.server_close()  # nobody listens
    with office(tmp_path, tries=2) as (queue, outbox, deliverer):
        finished(queue, receiver.url, Ending(http_status=200, body={}))
        deliver_all(outbox, deliverer)
        until(outbox.due)
        deliver_all(outbox, deliverer)
        ((state, tries, said),) = deliveries(queue)
        assert (state, tries) == ("given up", 2)
        assert "could not be reached" in said


def test_redirects_and_private_places_are_refused_for_good(tmp_path: Path, receiver: Any) -> None:
    receiver.answers += [302]
    with office(tmp_path) as (queue, outbox, deliverer):
        finished(queue, receiver.url, Ending(http_status=200, body={}))
        deliver_all(outbox, deliverer)
        assert deliveries(queue)[0][0] == "refused"
    with office(tmp_path / "strict", allow_private=False) as (queue, outbox, deliverer):
        targets = (
            receiver.url,
            "http://[::1]:9/",
            "http://169.254.169.254/",
            "http://2130706433/",
            "ftp://example.org/",
        )
        for url in targets:
            finished(queue, url, Ending(http_status=200, body={}))
        deliver_all(outbox, deliverer)
        assert [row[0] for row in deliveries(queue)] == ["refused"] * len(targets)
    assert len(receiver.seen) == 1


def test_the_thread_delivers_by_itself(tmp_path: Path, receiver: Any) -> None:
    with office(tmp_path) as (queue, _, deliverer):
        deliverer.start()
        try:
            finished(queue, receiver.url, Ending(http_status=200, body={}))
            until(lambda: receiver.seen)
        finally:
            deliverer.stop()


def test_the_python_clients_webhooks_come_and_are_signed(tmp_path: Path, receiver: Any, data_uri: str) -> None:
    with running(tmp_path, allow_private=True) as server, connect_fal_client(server.url, key=server.alice) as fal:
        arguments = {"image_url": data_uri, **QUICK}
        first = fal.submit(APP, {**arguments, "seed": 5}, webhook_url=receiver.url)
        second = run_async(fal, lambda: fal.submit_async(APP, {**arguments, "seed": 6}, webhook_url=receiver.url))
        until(lambda: len(receiver.seen) == 2)
        told = {json.loads(body)["request_id"]: json.loads(body)["payload"]["seed"] for _, body in receiver.seen}
        assert told == {first.request_id: 5, second.request_id: 6}
        jwks = httpx.get(f"{server.url}/.well-known/jwks.json").json()
        for headers, body in receiver.seen:
            check(jwks, headers, body)
            assert "Authorization" not in headers
            assert server.alice.partition(":")[2] not in str(headers) + body.decode()


def test_the_server_takes_the_address_publishes_its_key_and_refuses_private_targets(
    server: Running, receiver: Any, data_uri: str
) -> None:
    with connect_fal_client(server.url, key=server.alice) as fal:
        handle = fal.submit(APP, {"image_url": data_uri, "steps": 0}, webhook_url=receiver.url)
    store = server.endpoint.store
    find = "SELECT state, said FROM delivery WHERE job = ?"
    row = until(lambda: (row := store.row(find, (handle.request_id,))) and row["state"] != "waiting" and row)
    assert row["state"] == "refused"
    assert "not an address on the public internet" in row["said"]
    assert receiver.seen == []
    jwks = httpx.get(f"{server.url}/.well-known/jwks.json").json()
    assert jwks == httpx.get(f"{server.url}/rest/.well-known/jwks.json").json()
    assert set(jwks["keys"][0]) == {"kty", "crv", "alg", "use", "kid", "x"}
    with server.client() as client:
        for url in ("javascript:alert(1)", "http://", "x", "http:// a"):
            answer = client.post(f"/queue/{APP}", params={"fal_webhook": url}, json={})
            assert (answer.status_code, answer.json()["error_type"]) == (422, "bad_request")


def test_a_damaged_key_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "webhook.pem"
    path.write_text("nothing")
    with pytest.raises(ServerError, match="Move it away"):
        Signer(path)

"""What a hostile client, web page, name server or picture gets: a refusal in words, and nothing else."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.server.running import APP, QUICK, Running

INSIDE = [
    *(
        "http://127.0.0.1:{port}/x.png",
        "http://localhost:{port}/x.png",
        "http://2130706433:{port}/",
        "http://127.1:{port}/",
    ),
    *(
        "http://0x7f000001:{port}/",
        "http://0.0.0.0:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
    ),
    *("http://[64:ff9b::7f00:1]:{port}/", "http://[2002:7f00:1::]:{port}/", "http://169.254.169.254/latest/meta-data"),
    *("http://10.0.0.1/", "http://192.168.1.1/", "http://172.16.0.1/", "http://100.64.0.1/", "http://198.18.0.1/"),
    *("http://[fe80::1]/", "http://[fd00::1]/", "http://224.0.0.1/", "http://255.255.255.255/"),
    *("http://①②⑦.0.0.1:{port}/", "http://127。0。0。1:{port}/", "http://user@127.0.0.1:{port}/"),
    *(
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "/etc/passwd",
        "~/.ssh/id_rsa",
        "ftp://127.0.0.1/",
        "gopher://127.0.0.1/",
    ),
    *("http://8.8.8.8:22/", "http://127.0.0.1:{port}\\@example.org/", "jar:file:///x", " http://127.0.0.1:{port}/"),
]


@pytest.fixture
def listener() -> Iterator[Any]:
    """A port that counts who connects."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(0.05)
        counted: list[Any] = []
        stop = threading.Event()

        def count() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, who = sock.accept()
                    counted.append(who)
                    connection.close()

        thread = threading.Thread(target=count)
        thread.start()
        yield sock.getsockname()[1], counted
        stop.set()
        thread.join()


def refused(server: Running, client: httpx.Client, **arguments: Any) -> dict[str, Any]:
    """Run, and return the one problem that the result names."""
    answer = client.post(f"/run/{APP}", json={**QUICK, **arguments})
    assert answer.status_code == 422, answer.text
    (problem,) = answer.json()["detail"]
    return problem


def test_no_picture_is_fetched_from_inside(server: Running, alice: httpx.Client, listener: Any) -> None:
    port, counted = listener
    for url in INSIDE:
        problem = refused(server, alice, image_url=url.format(port=port))
        assert problem["loc"] == ["body", "image_url"], url
        assert problem["type"] in ("file_download_error", "image_load_error"), url
    assert counted == []


def test_only_names_of_the_server_are_answered(server: Running) -> None:
    port = server.settings.port
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        f"127.0.0.1:{port + 1}",
        "",
        f"localhost.:{port}",
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.putrequest("GET", "/health", skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 421, host
        assert b"is not a name of this server" in answer.read()
        connection.close()
    with server.client() as client:
        assert client.get("/health", headers={"Host": f"localhost:{port}"}).status_code == 200


def test_other_peoples_web_pages_may_not_speak_to_it(server: Running, alice: httpx.Client) -> None:
    path = f"/queue/{APP}"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origin in (
        "https://evil.example",
        "null",
        "http://127.0.0.1",
        f"{server.url}.evil.example",
        "http://localhost:1",
    ):
        for method, extra in (("POST", {}), ("GET", {}), ("OPTIONS", asked)):
            answer = alice.request(method, path, headers={"Origin": origin, **extra})
            assert answer.status_code == 403, origin
            assert "access-control-allow-origin" not in answer.headers
    own = alice.options(path, headers={"Origin": server.url, **asked})
    assert own.status_code == 204
    assert own.headers["access-control-allow-origin"] == server.url
    assert "authorization" in own.headers["access-control-allow-headers"]
    assert "*" not in own.headers["access-control-allow-headers"]
    seen = alice.get("/health", headers={"Origin": server.url})
    assert "x-fal-request-id" in seen.headers["access-control-expose-headers"]


def test_only_json_is_taken_as_json(alice: httpx.Client) -> None:
    for declared in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        headers = {"Content-Type": declared}
        assert alice.post(f"/queue/{APP}", content=b'{"seed": 1}', headers=headers).status_code == 415
    headers = {"Content-Type": "application/json"}
    for body in (b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": '):
        answer = alice.post(f"/queue/{APP}", content=body, headers=headers)
        assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")
    empty = alice.post(f"/run/{APP}", content=b"", headers=headers)
    assert (empty.status_code, empty.json()["detail"][0]["type"]) == (422, "missing")
    for body in (b"[]", b"3", b"null", b'"x"'):
        answer = alice.post(f"/run/{APP}", content=body, headers=headers)
        assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "dict_type")


def png(width: int, height: int) -> bytes:
    """A picture of zeros, packed as small as can be."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    rows = zlib.compress(bytes(width + 1) * min(height, 64), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_bombs_and_what_is_no_picture(server: Running, alice: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "ICO")
    hostile = {
        "bomb": uri(png(30_000, 30_000)),
        "cut": uri(png(64, 64)[:60]),
        "html": uri(b"<html><script>alert(1)</script>"),
        "svg": uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        "icon": uri(buffer.getvalue()),
        "not base64": "data:image/png;base64,!!!!",
        "no base64": "data:image/png,abc",
        "empty": "data:image/png;base64,",
        "nothing": "",
    }
    for name, url in hostile.items():
        problem = refused(server, alice, image_url=url)
        assert problem["type"] in ("image_load_error", "file_too_large"), name
        assert len(json.dumps(problem)) < 1500, name


def test_a_data_uri_is_never_sent_back(server: Running, alice: httpx.Client) -> None:
    secret = base64.b64encode(b"<html>" + b"secret" * 500).decode()
    answer = alice.post(f"/run/{APP}", json={"image_url": f"data:image/png;base64,{secret}", "steps": secret})
    assert answer.status_code == 422
    assert secret[200:400] not in answer.text
    assert len(answer.text) < 2000
    assert server.endpoint.store.row("SELECT * FROM input WHERE body LIKE '%' || ? || '%'", (secret[200:260],)) is None


def test_a_body_that_is_too_large_is_refused_announced_or_not(server: Running, alice: httpx.Client) -> None:
    limit = server.settings.max_body
    connection = http.client.HTTPConnection("127.0.0.1", server.settings.port, timeout=30)
    connection.putrequest("POST", f"/queue/{APP}")
    connection.putheader("Authorization", f"Key {server.alice}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(limit + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()

    def pieces() -> Iterator[bytes]:
        piece = b" " * 2**20
        for _ in range(limit // 2**20 + 2):
            yield piece

    try:
        status = alice.post(f"/queue/{APP}", content=pieces(), headers={"Content-Type": "application/json"}).status_code
    except httpx.WriteError:  # the server hung up in the middle, which is as good
        status = 413
    assert status == 413


def test_sizes_are_bounded(server: Running, alice: httpx.Client, data_uri: str) -> None:
    big = alice.post(f"/run/{APP}", json={"image_url": data_uri, "num_frames": 200, "width": 4096, "height": 4096})
    assert big.status_code == 422
    assert "this server makes clips of up to 409600 pixels" in big.json()["message"]
    odd = alice.post(f"/run/{APP}", json={"image_url": data_uri, "width": 65})
    assert odd.status_code == 422
    assert "multiple of 8" in odd.json()["message"]


def test_jobs_of_one_key_are_invisible_to_another(
    server: Running, alice: httpx.Client, bob: httpx.Client, data_uri: str
) -> None:
    id = server.submit(alice, {"image_url": data_uri, **QUICK})
    server.wait(alice, id)
    base = f"/queue/{APP}/requests/{id}"
    never = f"/queue/{APP}/requests/00000000-0000-4000-8000-000000000000"
    for method, end in (
        ("GET", ""),
        ("GET", "/response"),
        ("GET", "/status"),
        ("GET", "/status/stream"),
        ("PUT", "/cancel"),
    ):
        theirs, nobodys = bob.request(method, base + end), bob.request(method, never + end)
        assert theirs.status_code == nobodys.status_code == 404
        assert theirs.content == nobodys.content
        with server.client("") as nobody:
            assert nobody.request(method, base + end).status_code == 401


def test_keys(server: Running) -> None:
    id, _, secret = server.alice.partition(":")
    wrong = [
        "",
        "Key",
        f"Key {id}",
        f"Key {id}:",
        f"Key :{secret}",
        f"Bearer {server.alice}",
        f"Key {id}:{secret[:-1]}",
    ]
    wrong += [f"Key {server.alice}x", "Key ' OR 1=1 --:x", f"Key {id}:{server.bob.partition(':')[2]}"]
    for header in wrong:
        with server.client("") as client:
            answer = client.post(f"/queue/{APP}", json={}, headers={"Authorization": header})
            assert (answer.status_code, answer.json()["error_type"]) == (401, "unauthorized"), header
    with_secret = [
        path for path in server.settings.data.iterdir() if path.is_file() and secret.encode() in path.read_bytes()
    ]
    assert with_secret == []


def test_files_cannot_be_guessed_run_or_walked_out_of(server: Running, alice: httpx.Client, data_uri: str) -> None:
    place = alice.post(
        "/rest/storage/upload/initiate", json={"content_type": "text/html", "file_name": "../x.html"}
    ).json()
    httpx.put(place["upload_url"], content=b"<script>alert(1)</script>", headers={"Content-Type": "text/html"})
    answer = httpx.get(place["file_url"])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    file_id, name = place["file_url"].split("/")[-2:]
    assert len(base64.urlsafe_b64decode(file_id)) * 8 >= 128
    for path in (f"/files/{file_id}/other", f"/files/{file_id}/%2e%2e%2fserver.sqlite", "/files/%2e%2e/server.sqlite"):
        assert alice.get(path).status_code == 404
    for path in (
        "/files/../server.sqlite",
        f"/files/{file_id}/../../server.sqlite",
        "/page/..%2fapp.py",
        "/page/app.py",
    ):
        connection = http.client.HTTPConnection("127.0.0.1", server.settings.port, timeout=10)
        connection.request("GET", path)
        assert connection.getresponse().status == 404
        connection.close()
    assert name == "x.html"


def test_a_video_is_served_in_ranges(server: Running, alice: httpx.Client, data_uri: str) -> None:
    video = alice.post(f"/run/{APP}", json={"image_url": data_uri, **QUICK}).json()["video"]
    whole = httpx.get(video["url"])
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["content-disposition"].startswith("inline")
    head = httpx.head(video["url"])
    assert (head.status_code, head.content, head.headers["accept-ranges"]) == (200, b"", "bytes")
    assert head.headers["content-length"] == str(len(whole.content)) == str(video["file_size"])
    part = httpx.get(video["url"], headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["content-range"] == f"bytes 4-7/{len(whole.content)}"
    assert httpx.get(video["url"], headers={"Range": "bytes=99999999-"}).status_code == 416


def test_the_proxy_opens_no_connection(server: Running, alice: httpx.Client, data_uri: str, listener: Any) -> None:
    port, counted = listener
    trap = f"https://queue.fal.run@127.0.0.1:{port}/"
    targets = [f"http://127.0.0.1:{port}/", f"https://127.0.0.1:{port}/", trap, "https://queue.fal.run.evil.example/"]
    targets += [
        "http://queue.fal.run/x",
        "https://queue.fal.run:444/x",
        "https://QUEUE.fal.run./x",
        "",
        "x",
        "https://[",
    ]
    for target in targets:
        answer = alice.post("/api/fal/proxy", headers={"x-fal-target-url": target}, json={})
        assert answer.status_code == 400, target
        assert "nothing is fetched for you" in answer.json()["message"]
    assert counted == []
    to = {"x-fal-target-url": f"https://fal.run/{APP}"}
    assert (
        alice.post("/api/fal/proxy", headers=to, json={"image_url": data_uri, **QUICK, "seed": 9}).json()["seed"] == 9
    )
    with server.client("") as nobody:
        assert nobody.post("/api/fal/proxy", headers=to, json={}).status_code == 401
    aside = alice.get("/api/fal/proxy", headers={"x-fal-target-url": "https://queue.fal.run/../files/x/y"})
    assert aside.status_code == 404


def test_errors_show_nothing_of_the_inside(server: Running, alice: httpx.Client) -> None:
    for path in ("/nothing", "/queue/other/app", f"/queue/{APP}/text-to-video", "/docs", "/redoc"):
        body = alice.post(path, json={}).json()
        assert body["message"] == body["detail"]
        assert "not found" in body["message"] or "not offered" in body["message"]
    answer = alice.delete(f"/queue/{APP}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert "server" not in answer.headers

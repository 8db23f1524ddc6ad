"""Uploads as both official clients make them, and what is refused."""

from __future__ import annotations

import asyncio
import gc
import http.client
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from svdlab.server import connect_fal_client
from svdlab.server.files import display_name
from tests.server.running import APP, QUICK, Running, until

INITIATE = "/rest/storage/upload/initiate?storage_type=fal-cdn-v3"


# The official client does not close the connections of its uploads; here they must go with the test that made them.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture
def fal(server: Running) -> Iterator[Any]:
    with connect_fal_client(server.url, key=server.alice) as client:
        yield client
    gc.collect()


def fetched(url: str) -> bytes:
    answer = httpx.get(url)
    assert answer.status_code == 200, answer.text
    return answer.content


def test_the_python_client_uploads_bytes_files_and_pictures(fal: Any, tmp_path: Path, picture: Image.Image) -> None:
    path = tmp_path / "rocket.png"
    picture.save(path)
    by_file = fal.upload_file(path)
    assert fetched(by_file) == path.read_bytes()
    assert by_file.endswith("/rocket.png")
    assert fetched(fal.upload(b"anything", "application/x-thing", file_name="../../etc/x y.txt")) == b"anything"
    result = fal.subscribe(APP, {"image_url": fal.upload_image(picture, "png"), **QUICK})
    assert fetched(result["video"]["url"])[4:8] == b"ftyp"


def test_the_python_client_uploads_by_its_second_way(fal: Any) -> None:
    assert fetched(fal.upload(b"second", "text/plain", repository="fal")) == b"second"


def test_the_async_python_client_uploads_bytes_files_and_pictures(
    fal: Any, tmp_path: Path, picture: Image.Image
) -> None:
    path = tmp_path / "rocket.png"
    picture.save(path)

    async def upload() -> tuple[str, ...]:
        return (
            await fal.upload_async(path.read_bytes(), "image/png"),
            await fal.upload_file_async(path),
            await fal.upload_async(path.read_bytes(), "image/png", repository="fal"),
            await fal.upload_image_async(picture, "png"),
        )

    *same, drawn = (fetched(url) for url in asyncio.run(upload()))
    assert same == [path.read_bytes()] * 3
    assert Image.open(io.BytesIO(drawn)).tobytes() == picture.tobytes()


@pytest.mark.parametrize("way", ["sync", "async"])
def test_the_python_client_uploads_in_pieces(
    fal: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    import fal_client.client as module

    monkeypatch.setattr(module, "MULTIPART_THRESHOLD", 1000, raising=True)
    monkeypatch.setattr(module, "MULTIPART_CHUNK_SIZE", 1000, raising=True)
    data = bytes(range(256)) * 50
    path = tmp_path / "large.bin"
    path.write_bytes(data)

    async def upload() -> str:
        return await fal.upload_file_async(path)

    assert fetched(fal.upload_file(path) if way == "sync" else asyncio.run(upload())) == data


def announce(client: httpx.Client, **body: str) -> dict[str, str]:
    answer = client.post(INITIATE, json={"content_type": "image/png", "file_name": "a.png", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_javascript_clients_way_needs_no_key_for_the_put_and_holds_once(alice: httpx.Client) -> None:
    place = announce(alice)
    headers = {"Content-Type": "image/png"}
    assert httpx.get(place["file_url"]).status_code == 404
    assert httpx.put(place["upload_url"], content=b"png", headers=headers).status_code == 200
    assert fetched(place["file_url"]) == b"png"
    again = httpx.put(place["upload_url"], content=b"other", headers=headers)
    assert (again.status_code, again.json()["error_type"]) == (403, "forbidden")
    assert fetched(place["file_url"]) == b"png"


def test_pieces_in_any_order_become_one_file(alice: httpx.Client) -> None:
    place = alice.post(
        "/rest/storage/upload/initiate-multipart?storage_type=fal-cdn-v3",
        json={"content_type": "video/mp4", "file_name": "v.mp4"},
    ).json()
    parts = []
    for number in (2, 1, 3):
        answer = httpx.put(f"{place['upload_url']}/{number}", content=str(number) * 3)
        assert answer.headers["etag"] == answer.json()["etag"]
        parts.append(answer.json())
    missing = httpx.post(f"{place['upload_url']}/complete", json={"parts": [*parts, {"partNumber": 9}]})
    assert missing.status_code == 422
    assert httpx.post(f"{place['upload_url']}/complete", json={"parts": parts}).status_code == 200
    assert fetched(place["file_url"]) == b"111222333"
    assert httpx.post(f"{place['upload_url']}/complete", json={"parts": parts}).status_code == 403
    for number in ("0", "1001", "-1", "x", "1" * 9):
        assert httpx.put(f"{place['upload_url']}/{number}", content=b"x").status_code in (403, 422)


def test_another_type_than_announced_is_refused(alice: httpx.Client) -> None:
    place = announce(alice)
    answer = httpx.put(place["upload_url"], content=b"<script>", headers={"Content-Type": "text/html"})
    assert answer.status_code == 415
    assert "announced as 'image/png'" in answer.json()["message"]


def test_what_ends_early_or_is_too_large_leaves_nothing(server: Running, alice: httpx.Client) -> None:
    def begin(place: dict[str, str], length: int) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", server.settings.port, timeout=30)
        connection.putrequest("PUT", place["upload_url"].removeprefix(server.url))
        connection.putheader("Content-Type", "image/png")
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        return connection

    connection = begin(announce(alice), server.settings.max_upload + 1)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error_type"]) == (413, "file_too_large")
    connection.close()
    place = announce(alice)
    connection = begin(place, 100)
    connection.send(b"only a little")
    connection.close()
    until(lambda: alice.get("/health").status_code == 200 and not list((server.settings.data / "files").glob("*.part")))
    assert httpx.get(place["file_url"]).status_code == 404


def test_uploads_belong_to_their_key(
    server: Running, alice: httpx.Client, bob: httpx.Client, picture: Image.Image
) -> None:
    with connect_fal_client(server.url, key=server.alice) as fal:
        url = fal.upload_image(picture, "png")
    gc.collect()
    mine = server.submit(alice, {"image_url": url, **QUICK})
    theirs = server.submit(bob, {"image_url": url, **QUICK})
    assert "error" not in server.wait(alice, mine)
    assert "has no such file of yours" in server.wait(bob, theirs)["error"]


def test_uploading_needs_a_key(server: Running) -> None:
    with server.client("") as nobody:
        assert nobody.post(INITIATE, json={}).status_code == 401
        assert nobody.post("/rest/storage/auth/token", json={}).status_code == 401
        assert nobody.post("/cdn/files/upload", content=b"x").status_code == 403
        assert nobody.put("/upload/nothing", content=b"x").status_code == 403


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\win.ini", "win.ini"),
        ("a\x00b\n.png", "a_b_.png"),
        ("....", "file"),
        ("", "file"),
        ("été 1.jpg", "ete_1.jpg"),
        ("x" * 300 + ".png", "x" * 80 + ".png"),
        ('"><script>.png', "___script_.png"),
    ],
)
def test_names_are_only_shown_and_harmless(given: str, shown: str) -> None:
    assert display_name(given) == shown

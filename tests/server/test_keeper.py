"""The house is kept: several workers, requests that take too long, what is no longer kept, a missing model."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import httpx
import pytest

from svdlab.errors import ServerError
from svdlab.memory import bytes_held, bytes_installed
from svdlab.server import ServerSettings, serve
from svdlab.server.files import FileShelf
from svdlab.server.jobs import Ending, Queue, Submission
from svdlab.server.keeper import Keeper
from svdlab.server.store import Store
from svdlab.server.uploads import PARTS, Uploads
from tests.server.running import APP, ENDLESS, QUICK, running, until


def test_two_workers_run_two_requests_at_once_and_an_overlong_one_ends(tmp_path: Path, data_uri: str) -> None:
    with running(tmp_path, device="cpu,cpu", max_job_seconds=4) as server, server.client() as client:
        until(lambda: len(server.endpoint.store.rows("SELECT 1 FROM worker WHERE state = 'READY'")) == 2)
        ids = [server.submit(client, {"image_url": data_uri, **ENDLESS}) for _ in range(2)]
        until(lambda: {row["slot"] for row in server.endpoint.store.rows("SELECT slot FROM job")} == {0, 1})
        for id in ids:
            assert server.wait(client, id)["error_type"] == "generation_timeout"
            answer = client.get(f"/queue/{APP}/requests/{id}")
            assert (answer.status_code, answer.json()["message"]) == (
                500,
                "The request took longer than the 4 s that this server allows.",
            )


def test_a_request_that_takes_too_much_memory_fails_and_the_next_worker_goes_on(tmp_path: Path, data_uri: str) -> None:
    with running(tmp_path) as server, server.client() as client:
        until(lambda: client.get("/health").json()["state"] == "READY")
        worker = server.endpoint.keeper.workers[0]
        pid = worker.pid
        assert pid is not None
        server.endpoint.keeper._memory = bytes_held(pid) + 100 * 10**6
        server.wait(client, server.submit(client, {"image_url": data_uri, **QUICK}))  # fits
        large = server.submit(client, {"image_url": data_uri, "num_frames": 100, "steps": 1})
        assert server.wait(client, large)["error_type"] == "out_of_memory"
        answer = client.get(f"/queue/{APP}/requests/{large}")
        assert answer.status_code == 500
        assert "took more memory than this server allows" in answer.json()["message"]
        again = server.submit(client, {"image_url": data_uri, **QUICK})
        assert server.wait(client, again)["metrics"]["inference_time"] > 0
        assert worker.pid != pid


def test_memory_is_told_for_processes_and_for_the_machine() -> None:
    before = bytes_held(os.getpid())
    ballast = b"x" * (64 * 2**20)
    assert bytes_held(os.getpid()) - before > len(ballast) / 2
    assert bytes_held(2**22 + 1) == 0  # above every process id
    assert bytes_held(os.getpid()) < bytes_installed()


def test_what_an_earlier_server_left_running_is_not_overlong(tmp_path: Path) -> None:
    with Store(tmp_path / "server.sqlite") as store:
        queue = Queue(store, keep_results=60)
        id = queue.submit(Submission(owner="a", body="{}", keep_files=60), max_waiting=1)
        queue.claim(0)
        with store.write() as db:
            db.execute("UPDATE job SET started = started - 100000")
        keeper = Keeper(ServerSettings(data=tmp_path), queue)
        keeper.workers[0].started_at = time.time()
        keeper._tick()
        assert queue.status(id, "a")["status"] == "IN_PROGRESS"  # type: ignore[index]


def test_what_is_no_longer_kept_is_deleted(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path)
    with Store(tmp_path / "server.sqlite") as store:
        queue = Queue(store, keep_results=0.01)
        shelf = FileShelf(store, tmp_path / "files", settings.base_url)
        uploads = Uploads(settings, store, shelf)
        short = shelf.put(b"x", owner="a", name="a.png", content_type="image/png", keep=0.01)
        long = shelf.put(b"yy", owner="a", name="b.png", content_type="image/png", keep=60)
        uploads.permit(PARTS, "a")
        with store.write() as db:
            db.execute("UPDATE upload SET expires = 0")
        id = queue.submit(Submission(owner="a", body="{}", keep_files=60), max_waiting=1)
        queue.claim(0)
        queue.end(id, Ending(http_status=200, body={}))
        time.sleep(0.02)
        assert shelf.find(short["id"]) is None
        Keeper(settings, queue, (shelf.sweep, uploads.sweep))._tick()
        assert queue.status(id, "a") is None
        assert {path.name for path in (tmp_path / "files").iterdir()} == {long["id"]}
        assert shelf.used("a") == 2
        assert store.row("SELECT * FROM upload") is None


def test_the_quota_refuses_uploads_and_submits(tmp_path: Path) -> None:
    def begin(client: httpx.Client, kind: str) -> dict[str, str]:
        return client.post(f"/rest/storage/upload/{kind}", json={"content_type": "image/png"}).json()

    with running(tmp_path, quota=10, max_upload=9) as server, server.client() as client:
        for code in (200, 403):
            place = client.post("/rest/storage/upload/initiate", json={"content_type": "image/png"}).json()
            answer = httpx.put(place["upload_url"], content=b"12345678", headers={"Content-Type": "image/png"})
            assert answer.status_code == code
        place = client.post("/rest/storage/upload/initiate", json={"content_type": "image/png"}).json()
        assert httpx.put(place["upload_url"], content=b"12", headers={"Content-Type": "image/png"}).status_code == 200
        refused = client.post(f"/queue/{APP}", json={})
        assert (refused.status_code, json.loads(refused.text)["error_type"]) == (403, "quota_exceeded")
        with server.client(server.bob) as bob:
            assert bob.post(f"/queue/{APP}", json={}).status_code == 200
            # Pieces that wait for the others take room too, else they would be a way around the quota.
            one, other = (begin(bob, "initiate-multipart")["upload_url"] for _ in range(2))
            sent = [(one, "123456"), (other, "12345"), (one, "abcdef"), (other, "1234")]
            codes = [httpx.put(f"{url}/1", content=text).status_code for url, text in sent]
            assert codes == [200, 403, 200, 200]
            # A body that does not say how long it is.
            place = begin(bob, "initiate")
            headers = {"Content-Type": "image/png"}
            refused = httpx.put(place["upload_url"], content=iter([b"12345"] * 2), headers=headers)
            assert (refused.status_code, refused.json()["error_type"]) == (413, "file_too_large")
        assert len(list((tmp_path / "files").iterdir())) == 2
        place = begin(client, "initiate")
        with server.endpoint.store.write() as db:
            db.execute("UPDATE upload SET expires = ?", (time.time(),))
            db.execute("UPDATE file SET expires = ?", (time.time(),))
            urls = [server.endpoint.shelf.url(row) for row in db.execute("SELECT * FROM file").fetchall()]
        assert httpx.put(place["upload_url"], content=b"1", headers={"Content-Type": "image/png"}).status_code == 403
        assert [httpx.get(url).status_code for url in urls] == [404, 404]


def test_a_model_that_is_not_there_ends_the_server_in_words(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="cannot be loaded; the lines above say why"):
        serve(ServerSettings(data=tmp_path, model=str(tmp_path / "nothing"), port=0))

"""The worker's loop in this process: what it does with a queue, and how it ends when it is told to."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from svdlab.errors import ModelError, ServerError
from svdlab.server.jobs import Queue, Submission
from svdlab.server.locks import held
from svdlab.server.settings import ServerSettings
from svdlab.server.store import Store
from svdlab.server.worker import Worker, settings_from_json, settings_to_json
from tests.server.running import LONG, QUICK, until
from tests.serving import answering


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with Store(tmp_path / "server.sqlite") as store:
        yield Queue(store, keep_results=60)


def submit(queue: Queue, **arguments: object) -> str:
    job = Submission(owner="a", body=json.dumps(arguments), keep_files=60)
    return queue.submit(job, max_waiting=9)


def test_it_works_off_the_queue_and_puts_the_job_in_hand_back(
    tmp_path: Path, queue: Queue, data_uri: str, picture: Image.Image
) -> None:
    (tmp_path / "page").mkdir()
    picture.save(tmp_path / "page" / "rocket.png")
    page = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "page"))
    with answering(http.server.ThreadingHTTPServer(("127.0.0.1", 0), page)) as web:
        worker = Worker(ServerSettings(data=tmp_path, allow_private=True), 0, queue.store)  # the web is this machine
        done = submit(queue, image_url=data_uri, **QUICK, seed=4, colour="red", motion_bucket_id=300)
        fetched = submit(queue, image_url=f"http://127.0.0.1:{web.server_port}/rocket.png", **QUICK, seed=4)
        wrong = submit(queue, image_url="/etc/passwd")
        last = submit(queue, image_url=data_uri, **LONG)
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            until(lambda: any(line["message"][:6] == "step 1" for line in queue.logs(last)) or not thread.is_alive())
        finally:
            worker.stop()
            thread.join()
    assert json.loads(queue.output(fetched))["seed"] == 4
    row = queue.status(done, "a")
    assert row is not None
    assert (row["status"], row["http_status"]) == ("COMPLETED", 200)
    output = json.loads(queue.output(done))
    assert output["seed"] == 4
    assert (tmp_path / "files" / output["video"]["url"].split("/")[-2]).stat().st_size == output["video"]["file_size"]
    lines = [(line["level"], line["message"]) for line in queue.logs(done)]
    assert ("WARN", "colour: there is no such field; it is ignored") in lines
    assert any(level == "WARN" and "motion_bucket_id = 300" in text for level, text in lines)
    assert json.loads(queue.output(wrong))["detail"][0]["type"] == "image_load_error"
    assert queue.status(last, "a")["status"] == "IN_QUEUE"  # type: ignore[index]
    assert queue.logs(last)[-1]["message"] == "the server stops; the request waits for the next one"


def test_what_goes_wrong_inside_fails_the_request_and_not_the_worker(
    tmp_path: Path, queue: Queue, data_uri: str
) -> None:
    worker = Worker(ServerSettings(data=tmp_path), 0, queue.store)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until(lambda: (tmp_path / "files").is_dir())
        shutil.rmtree(tmp_path / "files")
        lost = submit(queue, image_url=data_uri, **QUICK)
        until(lambda: queue.status(lost, "a")["status"] == "COMPLETED")  # type: ignore[index]
        (tmp_path / "files").mkdir()
        next = submit(queue, image_url=data_uri, **QUICK)
        until(lambda: queue.status(next, "a")["status"] == "COMPLETED")  # type: ignore[index]
    finally:
        worker.stop()
        thread.join()
    body = json.loads(queue.output(lost))
    assert body == {
        "detail": "FileNotFoundError: the server's log says more.",
        "message": "FileNotFoundError: the server's log says more.",
        "error_type": "internal_server_error",
    }
    assert queue.status(next, "a")["http_status"] == 200  # type: ignore[index]


def test_a_model_that_cannot_be_loaded_is_said(tmp_path: Path, queue: Queue) -> None:
    worker = Worker(ServerSettings(data=tmp_path, model=str(tmp_path / "nothing")), 0, queue.store)
    with pytest.raises(ModelError):
        worker.run()
    row = queue.store.row("SELECT state, said FROM worker")
    assert row is not None
    assert row["state"] == "SETUP_FAILED"
    assert "nothing" in row["said"]


def test_settings_reach_the_worker_as_they_are(tmp_path: Path) -> None:
    settings = ServerSettings(
        data=tmp_path, allowed_origins=("http://127.0.0.1:1",), keep_files=3.5, allow_private=True
    )
    assert settings_from_json(settings_to_json(settings)) == settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"app": "fast-svd-lcm"},
        {"device": "cuda:0,"},
        {"port": 70000},
        {"public_url": "example.org"},
        {"allowed_origins": ("https://example.org/page",)},
        {"keep_results": 0},
        {"quota": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ServerError, match=next(iter(wrong))):
        ServerSettings(data=tmp_path, **wrong)  # type: ignore[arg-type]


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    with held(tmp_path / "lock"), pytest.raises(ServerError, match="is taken"), held(tmp_path / "lock"):
        pass
    with held(tmp_path / "lock"):
        pass

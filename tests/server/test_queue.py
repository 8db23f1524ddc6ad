"""The queue by itself: order, deadlines, cancelling, workers that die. A real store, no model."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.errors import ServerError
from svdlab.server.jobs import LOW, Ending, KeyReusedError, Queue, QueueFullError, Submission
from svdlab.server.store import Store

DONE = Ending(http_status=200, body={"seed": 1}, seconds=0.1)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with Store(tmp_path / "server.sqlite") as store:
        yield Queue(store, keep_results=3600, max_log_lines=3)


def submit(queue: Queue, body: str = "{}", owner: str = "a", max_waiting: int = 100, **options: object) -> str:
    job = Submission(owner=owner, body=body, keep_files=60, **options)  # type: ignore[arg-type]
    return queue.submit(job, max_waiting=max_waiting)


def state(queue: Queue, id: str, owner: str = "a") -> tuple[str, int | None, str | None]:
    row = queue.status(id, owner)
    assert row is not None
    return row["status"], row["http_status"], row["error_type"]


def test_low_priority_waits_behind_all_of_normal(queue: Queue) -> None:
    low, first, second = submit(queue, priority=LOW), submit(queue), submit(queue)
    places = [queue.position(queue.status(id, "a")) for id in (first, second, low)]  # type: ignore[arg-type]
    assert places == [0, 1, 2]
    assert [queue.claim(0)["id"] for _ in range(3)] == [first, second, low]  # type: ignore[index]
    assert queue.claim(0) is None


def test_what_has_not_started_by_its_deadline_ends(queue: Queue) -> None:
    late, other = submit(queue, start_within=0.01), submit(queue)
    time.sleep(0.02)
    assert queue.claim(0)["id"] == other  # type: ignore[index]
    assert state(queue, late) == ("COMPLETED", 504, "request_timeout")
    assert '"detail": "The request was not started by its start deadline."' in queue.output(late)


def test_a_job_whose_worker_dies_runs_once_more_and_then_fails(queue: Queue) -> None:
    first, second = submit(queue), submit(queue)
    assert queue.claim(0)["id"] == first  # type: ignore[index]
    assert queue.recover(slot=1) == []
    assert queue.recover(slot=0) == [first]
    assert queue.claim(0)["id"] == first  # type: ignore[index]
    assert queue.recover(0) == [first]
    assert state(queue, first) == ("COMPLETED", 500, "runner_disconnected")
    assert queue.claim(0)["id"] == second  # type: ignore[index]


def test_a_job_that_was_put_back_has_lost_no_attempt(queue: Queue) -> None:
    id = submit(queue)
    for _ in range(5):
        assert queue.claim(0)["id"] == id  # type: ignore[index]
        queue.put_back(id)
    assert state(queue, id)[0] == "IN_QUEUE"


def test_a_cancelled_job_ends_so_even_if_the_worker_had_finished(queue: Queue) -> None:
    id = submit(queue)
    queue.claim(0)
    assert queue.cancel(id, "b") is None
    assert queue.cancel(id, "a") == "CANCELLATION_REQUESTED"
    assert queue.is_cancelled(id)
    assert queue.end(id, DONE) is False
    assert state(queue, id) == ("COMPLETED", 499, "client_cancelled")
    assert queue.end(id, DONE) is False
    assert queue.cancel(id, "a") == "ALREADY_COMPLETED"
    dead = submit(queue)
    queue.claim(0)
    queue.cancel(dead, "a")
    queue.recover(0)
    assert state(queue, dead)[1] == 499


def test_an_idempotency_key_submits_once(queue: Queue) -> None:
    first = submit(queue, '{"seed": 1}', idempotency="k")
    assert submit(queue, '{"seed": 1}', idempotency="k") == first
    assert submit(queue, '{"seed": 1}', owner="b", idempotency="k") != first
    with pytest.raises(KeyReusedError, match="another input"):
        submit(queue, '{"seed": 2}', idempotency="k")


def test_the_queue_is_limited(queue: Queue) -> None:
    submit(queue, max_waiting=1)
    with pytest.raises(QueueFullError, match="1 requests of this key wait already"):
        submit(queue, max_waiting=1)
    submit(queue, owner="b", max_waiting=1)
    with pytest.raises(QueueFullError, match="fal_max_queue_length = 1"):
        queue.submit(Submission(owner="c", body="{}", keep_files=60), max_waiting=9, max_queue_length=1)


def test_a_log_is_cut_in_words(queue: Queue) -> None:
    id = submit(queue)
    for k in range(9):
        queue.log(id, f"line {k}")
    assert [row["message"] for row in queue.logs(id)] == [
        *("line 0", "line 1", "line 2"),
        "more than 3 lines; the rest is not kept",
    ]
    assert [row["n"] for row in queue.logs(id, after=1)] == [2, 3]


def test_a_log_takes_any_text(queue: Queue) -> None:
    id = submit(queue)
    queue.log(id, "colour\ud800: there is no such field")  # JSON can name a field so
    assert [row["message"] for row in queue.logs(id)] == ["colour?: there is no such field"]


def test_input_goes_with_the_end_and_everything_with_its_time(tmp_path: Path) -> None:
    with Store(tmp_path / "server.sqlite") as store:
        queue = Queue(store, keep_results=0.01)
        id = submit(queue, '{"image_url": "data:image/png;base64,SECRETPICTURE"}')
        queue.log(id, "hello")
        queue.claim(0)
        queue.end(id, DONE)
        assert store.row("SELECT * FROM input") is None
        time.sleep(0.02)
        assert queue.forget_expired() == 1
        assert [store.row(f"SELECT * FROM {table}") for table in ("job", "output", "log")] == [None] * 3


def test_the_store_is_private_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "inner" / "server.sqlite"
    Store(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.write_bytes(b"this is not a database, and long enough to be seen as something else")
    with pytest.raises(ServerError, match="Choose another --data folder"):
        Store(path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ServerError, match="the folder cannot be made"):
        Store(file / "server.sqlite")
    assert path.read_bytes().startswith(b"this is not")


ACTIONS = st.lists(st.sampled_from(["submit", "claim", "end", "cancel", "die", "put back"]), max_size=30)


@settings(max_examples=25, deadline=None)
@given(ACTIONS)
def test_every_job_ends_exactly_once_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, actions: list[str]
) -> None:
    with Store(tmp_path_factory.mktemp("law") / "server.sqlite") as store:
        queue, ids, running = Queue(store, keep_results=60), [], None
        for action in actions:
            if action == "submit":
                ids.append(submit(queue))
            elif action == "claim" and running is None:
                job = queue.claim(0)
                running = job["id"] if job else None
            elif action == "end" and running:
                queue.end(running, DONE)
                running = None
            elif action == "cancel" and ids:
                queue.cancel(ids[len(ids) // 2], "a")
            elif action == "die":
                queue.recover(0)
                running = None
            elif action == "put back" and running:
                queue.put_back(running)
                running = None
            outputs = {row["job"] for row in store.rows("SELECT job FROM output")}
            for id in ids:
                status, http_status, _ = state(queue, id)
                assert (status == "COMPLETED") == (id in outputs) == (http_status is not None)
                assert (status == "IN_PROGRESS") == (id == running)
        queue.recover(0)
        while job := queue.claim(0):
            queue.end(job["id"], DONE)
        assert {state(queue, id)[0] for id in ids} <= {"COMPLETED"}

"""What goes wrong at an endpoint, as it was recorded: words, what to do, and never a second submission on purpose."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import pytest

import svdlab as sl
from svdlab.errors import EndpointError, ExtraError, RequestError, SvdlabError
from svdlab.hosted.client import is_own
from svdlab.hosted.words import explain, text_of
from tests.hosted.recorded import APP, BREAK, HANG, ID, NGINX, Recorded, answer

MADE = {"steps": 2, "seed": 42}
INVALID = answer(401, {"detail": "invalid key credentials"}, x_fal_error_type="unauthorized")
TOO_BIG = {
    "loc": ["body", "motion_bucket_id"],
    "msg": "Input should be less than or equal to 255",
    "type": "less_than_equal",
    "ctx": {"le": 255},
    "input": 400,
    "url": "https://errors.pydantic.dev/2/v/less_than_equal",
}
NO_PICTURE = {
    "loc": ["body", "image_url"],
    "msg": "Failed to load the image: data:image/png;base64," + "iVBORw0KGgo" * 500,
    "type": "image_load_error",
    "input": "data:image/png;base64," + "iVBORw0KGgo" * 500,
}


def error_of(server: Recorded, rocket: Path, **options: object) -> SvdlabError:
    with pytest.raises(SvdlabError) as caught:
        sl.hosted.load(APP, **options)(rocket, **MADE)
    error = caught.value
    assert error.__cause__ is None  # the client's own error holds the key in its headers
    assert error.__context__ is None or error.__suppress_context__
    return error


def test_without_a_key(server: Recorded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FAL_HOME_DIR", str(tmp_path))
    with pytest.raises(EndpointError, match=r"FAL_KEY is not set.*export FAL_KEY=") as caught:
        sl.load(APP)
    assert (caught.value.lasting, server.seen) == (True, [])


@pytest.mark.parametrize("key", ["a b", "a\nb", "schlüssel"])
def test_a_key_that_is_none(server: Recorded, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("FAL_KEY", key)
    with pytest.raises(EndpointError, match="its value is not shown") as caught:
        sl.load(APP)
    assert key not in str(caught.value)


def test_without_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fal_client.client", None)
    spec = importlib.util.find_spec("svdlab.hosted.client")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ExtraError, match=r"pip install 'svdlab\[hosted\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize(
    ("status", "detail", "words"),
    [
        (401, "invalid key credentials", "the key was not accepted. Check FAL_KEY"),
        (402, "Payment required", "no credit left"),
        (403, "User is locked. Reason: Exhausted balance.", "the account is locked"),
    ],
)
def test_a_refused_key_is_not_tried_again(server: Recorded, rocket: Path, status: int, detail: str, words: str) -> None:
    server.job(submit=(answer(status, {"detail": detail}),))
    pipe = sl.load(APP)
    for _ in range(2):
        with pytest.raises(EndpointError, match=words) as caught:
            pipe(rocket, **MADE)
        assert caught.value.lasting
        assert detail in str(caught.value)
    assert len(server.submissions) == 1


def test_settings_that_the_endpoint_refuses(server: Recorded, rocket: Path) -> None:
    server.job(
        server.completed(error="Invalid status code: 422"), result=answer(422, {"detail": [TOO_BIG, NO_PICTURE]})
    )
    error = error_of(server, rocket)
    assert isinstance(error, RequestError)
    assert "motion_bucket_id: Input should be less than or equal to 255; image_url: Failed to load" in str(error)
    assert "iVBOR" not in str(error)
    assert len(server.submissions) == 1


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            answer(500, {"detail": "CUDA out of memory", "error_type": "runner_server_error"}),
            "failed at the host.*CUDA",
        ),
        (answer(499, {"detail": "Request cancelled"}, X_Fal_Error_Type="client_cancelled"), "499, client_cancelled"),
        (
            answer(504, {"detail": "Timed out", "error_type": "request_timeout"}, X_Fal_Request_Timeout_Type="user"),
            "did not start or end in time.*request_timeout",
        ),
        (answer(404, {"detail": "Request not found"}), "results are kept for a limited time"),
    ],
)
def test_a_job_that_fails(server: Recorded, rocket: Path, result: bytes, words: str) -> None:
    server.job(server.completed(error="failed"), result=result)
    error = error_of(server, rocket)
    assert isinstance(error, EndpointError)
    assert (error.request_id, error.lasting, len(server.submissions)) == (ID, False, 1)
    assert explain("x", 200, "").status == 200
    with pytest.raises(EndpointError, match=words):
        raise error


def test_too_many_requests_are_sent_again_because_none_was_taken(server: Recorded, rocket: Path) -> None:
    full = answer(429, {"detail": "Too many requests", "error_type": "concurrent_requests_limit"})
    server.job(submit=(full, full, server.taken()))
    assert len(sl.load(APP)(rocket, **MADE)) == 25
    assert len(server.submissions) == 3


def test_too_many_requests_for_ever(server: Recorded, rocket: Path) -> None:
    server.job(submit=(answer(429, {"detail": "Too many requests"}),))
    assert "Lower concurrency" in str(error_of(server, rocket))
    assert len(server.submissions) == 10  # bounded


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (BREAK, "the connection broke"),
        (answer(502, NGINX), "it answered 502 ( 502 Bad Gateway"),
        (answer(503, NGINX), "it answered 503"),
        (answer(504, {"detail": "gateway timeout"}), "it answered 504 (gateway timeout)"),
        (answer(500, {"detail": "Internal Server Error"}), "it answered 500"),
        (answer(408, {"detail": "Request Timeout"}), "it answered 408"),
    ],
)
def test_a_submission_that_may_have_been_taken_is_not_repeated(
    server: Recorded, rocket: Path, said: bytes, words: str
) -> None:
    server.job(submit=(said, server.taken()))
    pipe = sl.load(APP)
    with pytest.raises(EndpointError) as caught:
        pipe(rocket, **MADE)
    assert words.replace("( ", "(") in str(caught.value)
    assert "is not known, so it is not sent again" in str(caught.value)
    assert (len(server.submissions), pipe.calls.failed) == (1, 1)


def test_a_submission_that_is_never_answered_is_not_repeated(
    server: Recorded, rocket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svdlab.hosted.client.SUBMIT_SECONDS", 0.5)
    server.job(submit=(HANG, server.taken()))
    assert "the connection broke (ReadTimeout). Whether a job was made" in str(error_of(server, rocket))
    assert len(server.submissions) == 1


def test_nobody_there(server: Recorded, rocket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fal_client.client.QUEUE_URL_FORMAT", "http://127.0.0.1:9/queue/")
    assert "127.0.0.1:9 was not reached (ConnectError" in str(error_of(server, rocket))


def test_looks_that_fail_are_made_again(server: Recorded, rocket: Path) -> None:
    broken = answer(500, {"detail": "Internal Server Error"})
    server.job(server.queued(1), broken, broken, BREAK, server.completed())
    assert len(sl.load(APP)(rocket, **MADE)) == 25
    assert len(server.submissions) == 1


def test_looks_that_fail_for_ever(server: Recorded, rocket: Path) -> None:
    server.job(answer(500, {"detail": "Internal Server Error"}))
    assert "asking for the status: it failed at the host" in str(error_of(server, rocket))
    assert (len(server.submissions), server.cancelled) == (1, 1)


def test_a_gateway_before_the_result_is_asked_again(server: Recorded, rocket: Path) -> None:
    base = f"/queue/{APP}/requests/{ID}"
    server.play("GET", base, answer(503, {"detail": "upstream"}), server.done())
    assert len(sl.load(APP)(rocket, **MADE)) == 25
    assert server.count("GET", base) == 2


def test_a_job_that_takes_too_long_is_cancelled(server: Recorded, rocket: Path) -> None:
    server.job(server.running())
    error = error_of(server, rocket, timeout=1)
    assert f"job {ID} was not done within 1 s (last seen: running), and was cancelled" in str(error)
    assert server.cancelled == 1


def test_a_host_that_falls_silent_does_not_keep_anybody_beyond_the_time(
    server: Recorded, rocket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svdlab.hosted.jobs.CANCEL_SECONDS", 0.5)
    server.job(server.queued(1), HANG)
    server.play("PUT", f"/queue/{APP}/requests/{ID}/cancel", HANG)
    began = time.monotonic()
    error = error_of(server, rocket, timeout=1)
    assert time.monotonic() - began < 20  # the official client alone waits for minutes
    assert f"job {ID} was not done within 1 s (last seen: queued, 1 ahead)" in str(error)
    assert (len(server.submissions), server.cancelled > 0) == (1, True)


def test_a_result_that_is_never_sent(server: Recorded, rocket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svdlab.hosted.jobs.LAST_SECONDS", 0.5)
    server.job(result=HANG)
    error = error_of(server, rocket)
    assert f"job {ID} is done, but the host did not send its result within 0.5 s" in str(error)
    assert (error.request_id, len(server.submissions), server.cancelled) == (ID, 1, 0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[]", "the answer is not understood"),
        (b"no json", "the answer is not understood"),
        (b'{"status": "FAILED"}', "the answer is not understood .ValueError: Unknown status: FAILED"),
        (b'{"status": "IN_PROGRESS"}', "the answer is not understood .KeyError"),
    ],
)
def test_answers_that_are_not_of_the_protocol(server: Recorded, rocket: Path, body: bytes, words: str) -> None:
    server.job(answer(200, body))
    with pytest.raises(EndpointError, match=words):
        sl.load(APP)(rocket, **MADE)
    assert server.cancelled == 1


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({"images": []}, "has no video.url; it has ['images']"),
        ({"video": {"url": "http://127.0.0.1:50009/x.mp4"}}, "is not an address on the public internet"),
        ({"video": {"url": "file:///etc/hostname"}}, "only http and https"),
        ({"video": {"url": "HERE/files/missing.mp4"}}, "answered 404"),
        ({"video": {"url": "HERE/files/away.mp4"}}, "more than 0 redirects"),
        ({"video": {"url": "HERE/files/page.html"}}, "cannot be had"),
        ([1, 2], "the result is no JSON object but list"),
    ],
)
def test_results_that_are_no_clip(server: Recorded, rocket: Path, output: object, words: str) -> None:
    if isinstance(output, dict) and "video" in output:
        output["video"]["url"] = output["video"]["url"].replace("HERE", server.url)
    server.play("GET", "/files/away.mp4", answer(302, b"", Location=f"{server.url}/files/video.mp4"))
    server.play("GET", "/files/page.html", answer(200, b"<html>Sorry</html>"))
    server.job(result=answer(200, output))
    error = error_of(server, rocket)
    assert words in str(error)
    assert isinstance(error, EndpointError)
    assert error.request_id == ID


def test_texts_are_short_and_without_data() -> None:
    assert text_of({"a": 1}) == '{"a": 1}'
    assert text_of([]) == "[]"
    assert len(text_of("x" * 5000)) == 400
    assert text_of("see data:image/png;base64," + "A" * 100 + " there") == "see data:... there"


@pytest.mark.parametrize(
    ("queue", "url", "own"),
    [
        ("http://127.0.0.1:8000/queue/", "http://127.0.0.1:8000/files/a.mp4", True),
        ("http://localhost:8000/queue/", "http://127.0.0.1:8000/files/a.mp4", True),
        ("http://[::1]:8000/queue/", "http://localhost:8000/files/a.mp4", True),
        ("http://10.0.0.7:8000/queue/", "http://10.0.0.7:8000/files/a.mp4", True),
        ("http://127.0.0.1:8000/queue/", "http://127.0.0.1:22/", False),
        ("http://10.0.0.7:8000/queue/", "http://10.0.0.8:8000/files/a.mp4", False),
        ("https://queue.fal.run/", "http://127.0.0.1/files/a.mp4", False),
        ("https://queue.fal.run/", "https://queue.fal.run/a.mp4", False),  # public: the usual rules allow it
        ("http://gpu-box:8000/queue/", "http://gpu-box:8000/files/a.mp4", True),
        ("http://gpu-box:8000/queue/", "http://gpu-box:8001/files/a.mp4", False),
        ("http://127.0.0.1:8000/queue/", "http://127.0.0.1:99999/a.mp4", False),
        ("http://127.0.0.1:8000/queue/", "file:///etc/hostname", False),
    ],
)
def test_private_files_are_taken_from_the_endpoint_alone(
    monkeypatch: pytest.MonkeyPatch, queue: str, url: str, own: bool
) -> None:
    monkeypatch.setattr("fal_client.client.QUEUE_URL_FORMAT", queue)
    assert is_own(url) is own

"""The queue over HTTP: submit, status, result, cancel. Bodies and codes are those that the official clients expect."""

from __future__ import annotations

import json
import re
import sqlite3
from datetime import UTC, datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from svdlab.server.answers import ApiError, Endpoint, keep_seconds, read_json, seconds_header
from svdlab.server.jobs import LOW, NORMAL, KeyReusedError, QueueFullError, Submission

REQUEST_ID = "x-fal-request-id"


async def submit(request: Request) -> Response:
    """Put a request into the queue."""
    endpoint = Endpoint.of(request)
    id = await enqueue(request, endpoint, webhook=request.query_params.get("fal_webhook"))
    row = endpoint.queue.status(id, endpoint.owner(request))
    place = endpoint.queue.position(row) if row is not None else 0
    body = {"status": "IN_QUEUE", "gateway_request_id": id, "queue_position": place, **urls(endpoint, id)}
    return JSONResponse(body, headers={REQUEST_ID: id})


async def status(request: Request) -> Response:
    """Where a request stands, and with `logs=1` its whole log: 202 until it has ended, then 200."""
    endpoint = Endpoint.of(request)
    row = find(request, endpoint)
    with_logs = wants_logs(request)
    body = describe(endpoint, row, logs(endpoint, row["id"]) if with_logs else None)
    done = row["status"] == "COMPLETED"
    return JSONResponse(body, 200 if done else 202, headers={REQUEST_ID: row["id"]})


async def result(request: Request) -> Response:
    """What the model answered, with its own status code; 400 while it has not."""
    endpoint = Endpoint.of(request)
    row = find(request, endpoint)
    if row["status"] != "COMPLETED":
        raise ApiError(400, "bad_request", "Request is still in progress", X_Fal_Request_Id=row["id"])
    return await run_in_threadpool(outcome, endpoint, row)


async def cancel(request: Request) -> Response:
    """Take a request out of the queue (200), or ask for a running one to be ended (202)."""
    endpoint = Endpoint.of(request)
    owner, id = endpoint.owner(request), request.path_params["request_id"]
    said = await run_in_threadpool(endpoint.queue.cancel, id, owner)
    if said is None:
        raise unknown_request()
    code = {"OK": 200, "CANCELLATION_REQUESTED": 202, "ALREADY_COMPLETED": 400}[said]
    body = {"status": said}
    if code == 400:
        text = "The request has already been completed."
        body |= {"detail": text, "message": text, "error_type": "bad_request"}
    return JSONResponse(body, code, headers={REQUEST_ID: id})


async def enqueue(request: Request, endpoint: Endpoint, webhook: str | None = None) -> str:
    """Read a submission and put it into the queue; the job's id."""
    owner, settings = endpoint.owner(request), endpoint.settings
    if await run_in_threadpool(endpoint.shelf.used, owner) >= settings.quota:
        raise ApiError(
            403,
            "quota_exceeded",
            f"the files of this key fill the {settings.quota} bytes that it may hold. They are deleted"
            f" {settings.keep_files / 3600:g} hours after they were made.",
        )
    job = Submission(
        owner=owner,
        body=await read_json(request, settings.max_body),
        priority=LOW if request.headers.get("x-fal-queue-priority", "").lower() == "low" else NORMAL,
        start_within=seconds_header(request, "x-fal-request-start-timeout", "x-fal-request-timeout"),
        webhook=_webhook(webhook),
        idempotency=_idempotency(request),
        keep_files=keep_seconds(request, settings.keep_files),
    )
    most = _max_queue_length(request)
    try:
        id = await run_in_threadpool(endpoint.queue.submit, job, max_waiting=settings.max_queue, max_queue_length=most)
    except QueueFullError as error:
        raise ApiError(429, "queue_full", str(error)) from None
    except KeyReusedError as error:
        raise ApiError(422, "bad_request", str(error)) from None
    endpoint.keeper.wake()
    return id


def find(request: Request, endpoint: Endpoint) -> sqlite3.Row:
    """The job that a request names, if it belongs to the one who asks."""
    row = endpoint.queue.status(request.path_params["request_id"], endpoint.owner(request))
    if row is None:
        raise unknown_request()
    return row


def unknown_request() -> ApiError:
    """The same for a request that never was, that is no longer kept, and that belongs to someone else."""
    return ApiError(404, "not_found", "Request not found")


def describe(endpoint: Endpoint, row: sqlite3.Row, lines: list[dict[str, Any]] | None) -> dict[str, Any]:
    """A job's status as the clients read it."""
    body = {"status": row["status"], **urls(endpoint, row["id"])}
    if row["status"] == "IN_QUEUE":
        return {**body, "queue_position": endpoint.queue.position(row)}
    body["logs"] = lines
    if row["status"] == "COMPLETED":
        body["metrics"] = {} if row["seconds"] is None else {"inference_time": row["seconds"]}
        if row["error"] is not None:
            body |= {"error": row["error"], "error_type": row["error_type"]}
    return body


def urls(endpoint: Endpoint, id: str) -> dict[str, str]:
    """The id of a job and the addresses at which it is followed."""
    base = f"{endpoint.settings.base_url}/queue/{endpoint.settings.app}/requests/{id}"
    return {
        "request_id": id,
        "response_url": base,
        "status_url": f"{base}/status",
        "cancel_url": f"{base}/cancel",
    }


def logs(endpoint: Endpoint, id: str, after: int = -1) -> list[dict[str, Any]]:
    """Lines of a job's log, as the clients read them."""
    return [
        {
            "message": line["message"],
            "level": line["level"],
            "source": "USER",
            "timestamp": datetime.fromtimestamp(line["at"], UTC).isoformat(timespec="milliseconds"),
        }
        for line in endpoint.queue.logs(id, after)
    ]


def outcome(endpoint: Endpoint, row: sqlite3.Row) -> Response:
    """The result of a job that has ended."""
    headers = {REQUEST_ID: row["id"]}
    if row["error_type"]:
        headers["X-Fal-Error-Type"] = row["error_type"]
    if row["http_status"] == 504:  # tells the clients not to ask again
        headers["X-Fal-Request-Timeout-Type"] = "user"
    body = endpoint.queue.output(row["id"])
    return Response(body, row["http_status"], media_type="application/json", headers=headers)


def wants_logs(request: Request) -> bool:
    """Whether the log was asked for: the clients write 1 or true."""
    return request.query_params.get("logs", "").lower() in ("1", "true")


def _webhook(url: str | None) -> str | None:
    if url is None or url == "":
        return None
    if not re.match(r"https?://[^/\s]", url, re.IGNORECASE) or len(url) > 2000 or not url.isprintable():
        raise ApiError(422, "bad_request", f"fal_webhook: {url[:80]!r} is no http(s) address.")
    return url


def _idempotency(request: Request) -> str | None:
    key = request.headers.get("x-idempotency-key")
    if key is not None and not (0 < len(key) <= 200):
        raise ApiError(422, "bad_request", "X-Idempotency-Key: must be 1 to 200 characters.")
    return key


def _max_queue_length(request: Request) -> int | None:
    text = request.query_params.get("fal_max_queue_length")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ApiError(422, "bad_request", f"fal_max_queue_length: {text[:40]!r} must be a whole number from 0.")
    return int(text)


def to_event(body: dict[str, Any]) -> bytes:
    """One event of a status stream."""
    return f"data: {json.dumps(body)}\n\n".encode()

"""Answers that stay open: the status as a stream of events, and the synchronous run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from svdlab.server.answers import ApiError, Endpoint
from svdlab.server.queue_routes import REQUEST_ID, describe, enqueue, find, logs, outcome, to_event, wants_logs

_KEEP_ALIVE_SECONDS = 15.0


async def status_stream(request: Request) -> Response:
    """The status each time it changes, each with the new lines of the log; ends with COMPLETED."""
    endpoint = Endpoint.of(request)
    row = find(request, endpoint)
    _check_open(request)
    headers = {REQUEST_ID: row["id"], "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(request, row["id"]), media_type="text/event-stream", headers=headers)


async def run(request: Request) -> Response:
    """Run a request and answer with its result; it is cancelled when the one who asked is gone."""
    endpoint = Endpoint.of(request)
    owner = endpoint.owner(request)
    _check_open(request)
    id = await enqueue(request, endpoint)
    gone = asyncio.create_task(_gone(request))
    try:
        with _counted(request):
            while (row := endpoint.queue.status(id, owner)) is not None:
                if row["status"] == "COMPLETED":
                    return await run_in_threadpool(outcome, endpoint, row)
                if gone.done():
                    break
                await endpoint.changes.wait(0.5)
        await run_in_threadpool(endpoint.queue.cancel, id, owner)
        raise ApiError(499, "client_disconnected", "The client closed the connection.")
    except asyncio.CancelledError:  # the server stops
        endpoint.queue.cancel(id, owner)
        raise
    finally:
        gone.cancel()


async def _events(request: Request, id: str) -> AsyncIterator[bytes]:
    endpoint = Endpoint.of(request)
    owner, with_logs = endpoint.owner(request), wants_logs(request)
    seen, last, spoke = -1, None, time.monotonic()
    with _counted(request):
        while (row := endpoint.queue.status(id, owner)) is not None:
            lines = logs(endpoint, id, seen) if with_logs else None
            body = describe(endpoint, row, lines)
            now = (row["status"], body.get("queue_position"))
            if now != last or lines:
                last, seen, spoke = now, seen + len(lines or ()), time.monotonic()
                yield to_event(body)
            if row["status"] == "COMPLETED":
                return
            await endpoint.changes.wait(1.0)
            if time.monotonic() - spoke > _KEEP_ALIVE_SECONDS:
                spoke = time.monotonic()
                yield b": still here\n\n"


async def _gone(request: Request) -> None:
    """Return when the client has closed its connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _check_open(request: Request) -> None:
    limit = Endpoint.of(request).settings.max_streams
    if request.app.state.open_answers >= limit:
        raise ApiError(429, "too_many_streams", f"{limit} streams and runs are open already. Submit and poll instead.")


@contextlib.contextmanager
def _counted(request: Request) -> Iterator[None]:
    state = request.app.state
    state.open_answers += 1
    try:
        yield
    finally:
        state.open_answers -= 1

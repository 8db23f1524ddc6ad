"""One job at the endpoint: submitted once, followed to its end, its result brought back; cancelled if nobody waits."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from svdlab.errors import EndpointError
from svdlab.hosted.client import Client, LateError, explained, submit

if TYPE_CHECKING:
    from fal_client.client import Completed, Status, SyncRequestHandle

log = logging.getLogger("svdlab")

FASTEST, SLOWEST = 0.1, 1.0  # seconds between two looks at the queue: short at first, since such jobs are short
FAILURES = 5  # looks in a row that may fail at the host before the job is given up
LAST_SECONDS = 60.0  # for the result of a job that is done, whatever is left of its time
CANCEL_SECONDS = 5.0
RETRIES = 3  # times that a result is asked for, when a gateway answers in its place


@dataclass(frozen=True, kw_only=True)
class Update:
    """What is known of a job that is under way.

    Attributes:
        request_id: the host's name for it; "" while it waits here for a place (`concurrency`).
        state: ``"waiting"`` (here), ``"queued"``, ``"running"`` or ``"done"``.
        position: requests ahead of it in the queue; None when not queued.
        lines: lines of its log that are new since the last update.
    """

    request_id: str
    state: Literal["waiting", "queued", "running", "done"]
    position: int | None = None
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.state == "queued":
            return f"queued, {self.position} ahead"
        return "waiting for a place" if self.state == "waiting" else self.state


@dataclass
class Calls:
    """What was asked of the endpoint by one pipeline: the unit in which a hosted model costs.

    Attributes:
        submitted: jobs that were sent, whatever became of them.
        done: clips that came back.
        failed: jobs that were refused, failed, were cancelled, or whose fate is not known.
    """

    submitted: int = 0
    done: int = 0
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The end of a job.

    Attributes:
        request_id: the host's name for it.
        output: what the endpoint returned.
        queue: seconds that it waited in the queue.
        run: seconds that it ran, as the host counted them; where it does not say, as seen from here.
    """

    request_id: str
    output: dict[str, Any]
    queue: float
    run: float


def run_job(client: Client, name: str, arguments: dict[str, Any], *, timeout: float) -> Generator[Update, None, Answer]:
    """Submit a job and follow it; yields at every look, returns the answer.

    Whatever ends it early (an error, the time, a generator that is closed, Ctrl-C) cancels the job at the host.

    Args:
        timeout: seconds from the submission to the end, waiting in the queue included.

    Raises:
        EndpointError: not reached, refused, failed, or not done in time.
        RequestError: the endpoint refuses the settings.
    """
    began = time.monotonic()
    handle = submit(client, name, arguments, start_timeout=max(timeout, 1.1))  # the client wants more than 1 s
    try:
        client.wait_until(handle.request_id, began + timeout)
        try:
            completed, started = yield from _follow(handle, name, began + timeout, timeout)
        except BaseException:
            client.wait_until(handle.request_id, time.monotonic() + CANCEL_SECONDS)
            _cancel(handle)
            raise
        ended = time.monotonic()
        client.wait_until(handle.request_id, ended + LAST_SECONDS)
        output = _result(handle, name, completed)
    finally:
        client.wait_until(handle.request_id, None)
    run = completed.metrics.get("inference_time") if isinstance(completed.metrics, dict) else None
    seen = ended - (started or ended)
    return Answer(
        request_id=handle.request_id,
        output=output,
        queue=(started or ended) - began,
        run=float(run) if isinstance(run, int | float) else seen,
    )


def _follow(
    handle: SyncRequestHandle, name: str, end: float, timeout: float
) -> Generator[Update, None, tuple[Completed, float | None]]:
    """Look until the job is done; also when it was first seen to run."""
    seen, started, pause, last = 0, None, FASTEST, "submitted"
    with contextlib.suppress(LateError):
        for status in _looks(handle, name):
            update, seen = _update(handle.request_id, status, seen)
            last = str(update)
            if update.state == "running" and started is None:
                started = time.monotonic()
            yield update
            if update.state == "done":
                return status, started  # type: ignore[return-value]
            time.sleep(min(pause, max(0.0, end - time.monotonic())))
            pause = min(pause * 1.3, SLOWEST)
    raise EndpointError(
        f"{name}: job {handle.request_id} was not done within {timeout:g} s (last seen: {last}), and was cancelled."
        " Raise timeout (sl.hosted.load(..., timeout=...)), or run it when the queue is shorter.",
        request_id=handle.request_id,
    )


def _looks(handle: SyncRequestHandle, name: str) -> Iterator[Status]:
    """The status, over and over. A look changes nothing, so one that fails at the host is made again."""
    failed = 0
    while True:
        try:
            with explained(f"{name}: asking for the status", handle.request_id):
                status = handle.status(with_logs=True)
        except EndpointError as error:
            failed += 1
            if error.lasting or 400 <= error.status < 500 or failed >= FAILURES:
                raise
            log.debug("%s", error)
            time.sleep(FASTEST * 2**failed)
            continue
        failed = 0
        yield status


def _update(request_id: str, status: Status, seen: int) -> tuple[Update, int]:
    """A status as an update, and how many lines of the log are known with it."""
    from fal_client.client import Completed, Queued

    if isinstance(status, Queued):
        return Update(request_id=request_id, state="queued", position=status.position), seen
    logs = getattr(status, "logs", None) or []
    lines = tuple(str(line.get("message", "")) for line in logs[seen:] if isinstance(line, dict))
    state: Literal["running", "done"] = "done" if isinstance(status, Completed) else "running"
    return Update(request_id=request_id, state=state, lines=lines), max(seen, len(logs))


def _result(handle: SyncRequestHandle, name: str, completed: Completed) -> dict[str, Any]:
    """The output of a job that is done; its failure is reported here too, with a status that is no success.

    A failure of the job itself comes with `error`; without, a gateway may have answered, and it is asked again.
    """
    for attempt in range(1, RETRIES + 1):
        try:
            with explained(f"{name}: the job failed", handle.request_id):
                output = handle.get()
            break
        except LateError:
            raise EndpointError(
                f"{name}: job {handle.request_id} is done, but the host did not send its result within"
                f" {LAST_SECONDS:g} s. Look for it at the host before you run this again.",
                request_id=handle.request_id,
            ) from None
        except EndpointError as error:
            if completed.error is not None or error.lasting or error.status < 500 or attempt == RETRIES:
                raise
            log.debug("%s", error)
            time.sleep(FASTEST * 2**attempt)
    if not isinstance(output, dict):
        raise EndpointError(
            f"{name}: the result is no JSON object but {type(output).__name__}.", request_id=handle.request_id
        )
    return output


def _cancel(handle: SyncRequestHandle) -> None:
    with contextlib.suppress(Exception):  # it is given up either way, and the error under way says why
        handle.cancel()
        log.debug("job %s was cancelled", handle.request_id)

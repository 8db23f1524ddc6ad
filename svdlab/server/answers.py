"""What all routes share: errors as the clients read them, bodies read within their limit, whose request it is."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from svdlab.server.changes import Changes
from svdlab.server.files import FileShelf
from svdlab.server.jobs import Queue
from svdlab.server.keeper import Keeper
from svdlab.server.keys import Doorkeeper
from svdlab.server.settings import ServerSettings
from svdlab.server.store import Store


class ApiError(Exception):
    """An answer that refuses; `text` says what is allowed and what to do.

    No status that clients take for a passing one (408, 409, 429, 502, 503, 504) may be used for a lasting reason:
    they would ask again and again.
    """

    def __init__(self, status: int, error_type: str, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status, self.error_type, self.headers = status, error_type, headers

    def response(self) -> Response:
        """As it goes out: `detail` for the Python client, `message` for the JavaScript one."""
        body: dict[str, Any] = {"detail": str(self), "message": str(self), "error_type": self.error_type}
        if self.status == 404:
            body["status"] = "NOT_FOUND"
        headers = {"X-Fal-Error-Type": self.error_type, **self.headers}
        return JSONResponse(body, self.status, headers={name.replace("_", "-"): text for name, text in headers.items()})


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Everything that the routes work with; `of(request)` finds it."""

    settings: ServerSettings
    store: Store
    queue: Queue
    shelf: FileShelf
    door: Doorkeeper
    changes: Changes
    keeper: Keeper

    @staticmethod
    def of(request: Request) -> Endpoint:
        """The endpoint that a request has reached."""
        return request.app.state.endpoint

    def owner(self, request: Request) -> str:
        """Whose key the request carries.

        Raises:
            ApiError: 401, none or not a valid one.
        """
        owner = self.door.owner(request.headers.get("authorization"))
        if owner is None:
            raise ApiError(
                401,
                "unauthorized",
                "invalid key credentials: send `Authorization: Key ID:SECRET` (FAL_KEY) with a key of this server,"
                " made by `svdlab keys add` or printed at its start.",
            )
        return owner


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        ApiError: 413, it is larger than `limit` bytes, whether announced or not; 400, the client left early.
    """
    check_length(request, limit)
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                raise too_large(limit)
    except ClientDisconnect:
        raise ApiError(400, "bad_request", "the body ended early.") from None
    return bytes(body)


async def read_json(request: Request, limit: int) -> str:
    """The body as JSON text; an empty one is `{}`, as the JavaScript client sends it.

    Raises:
        ApiError: too large, not declared as JSON, or no JSON.
    """
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read_body(request, limit)
    # A web page may send other types to any server without being asked first; JSON it may not.
    if declared != "application/json" and (declared or body):
        raise ApiError(415, "bad_request", "the body must be declared as `Content-Type: application/json`.")
    try:
        text = body.decode() or "{}"
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "bad_request", f"the body is not JSON ({error})"[:200]) from None
    return text


def check_length(request: Request, limit: int) -> None:
    """Refuse a body by the length that it announces, before it is read."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise too_large(limit)


def too_large(limit: int) -> ApiError:
    """The refusal of a body; the connection ends, since the rest of the body is not read."""
    return ApiError(
        413, "file_too_large", f"the body is larger than the {limit} bytes allowed here.", Connection="close"
    )


def seconds_header(request: Request, *names: str) -> float | None:
    """The first of some headers that is there, as a number of seconds.

    Raises:
        ApiError: it is no number above 0.1.
    """
    for name in names:
        text = request.headers.get(name)
        if text is None:
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0.1 < value < 1e9:
            raise ApiError(400, "bad_request", f"{name}: {text[:40]!r} must be a number of seconds above 0.1.")
        return value
    return None


def keep_seconds(request: Request, most: float) -> float:
    """How long files of a request are to be kept: what its lifecycle header asks for, at most `most`."""
    for name in ("x-fal-object-lifecycle-preference", "x-fal-object-lifecycle"):
        try:
            asked = json.loads(request.headers.get(name, "{}"))["expiration_duration_seconds"]
            return min(most, max(60.0, float(asked)))
        except (KeyError, TypeError, ValueError, RecursionError):
            continue
    return most

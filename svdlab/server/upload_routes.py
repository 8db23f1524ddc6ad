"""Uploads over HTTP, in the forms that the two official clients use."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from svdlab.server.answers import ApiError, Endpoint, keep_seconds, read_json
from svdlab.server.files import new_row
from svdlab.server.uploads import PARTS, PUT, SESSION, Uploads, check_type, file_of

_JSON_BYTES = 2**20


async def initiate(request: Request) -> Response:
    """Announce a file: the address to PUT it to, once, and the address that it will have."""
    return await _announce(request, PUT)


async def initiate_parts(request: Request) -> Response:
    """Announce a file that comes in pieces: PUT them to `upload_url/1` and so on, then POST `upload_url/complete`."""
    return await _announce(request, PARTS)


async def put_file(request: Request) -> Response:
    """Take in an announced file. The address is the permission; it holds once."""
    uploads = Uploads.of(request)
    check_type(request, uploads.look(request.path_params["token"], PUT))
    permission = await run_in_threadpool(uploads.use_up, request.path_params["token"], PUT)
    await uploads.receive(request, permission["owner"], file_of(permission))
    return JSONResponse({})


async def put_part(request: Request) -> Response:
    """Take in one piece of an announced file."""
    uploads = Uploads.of(request)
    permission = uploads.look(request.path_params["token"], PARTS)
    number = _number(request.path_params["number"])
    etag = await uploads.receive_part(request, permission, number)
    return JSONResponse({"partNumber": number, "etag": etag}, headers={"ETag": etag})


async def complete(request: Request) -> Response:
    """Put the pieces together."""
    uploads = Uploads.of(request)
    permission = uploads.look(request.path_params["token"], PARTS)
    body = json.loads(await read_json(request, _JSON_BYTES))
    parts = body.get("parts") if isinstance(body, dict) else None
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise ApiError(422, "bad_request", "parts: must be a list of objects with partNumber.")
    numbers = [_number(part.get("partNumber", part.get("part_number"))) for part in parts]
    row = await run_in_threadpool(uploads.put_together, permission, numbers)
    await run_in_threadpool(uploads.use_up, request.path_params["token"], PARTS)
    return JSONResponse({"access_url": Endpoint.of(request).shelf.url(row)})


async def session(request: Request) -> Response:
    """A token with which the Python client uploads for an hour."""
    endpoint, uploads = Endpoint.of(request), Uploads.of(request)
    token, _, expires = await run_in_threadpool(uploads.permit, SESSION, endpoint.owner(request))
    return JSONResponse(
        {
            "token": token,
            "token_type": "Bearer",
            "base_url": f"{endpoint.settings.base_url}/cdn",
            "expires_at": datetime.fromtimestamp(expires, UTC).isoformat(),
        }
    )


async def upload(request: Request) -> Response:
    """Take in a file whole, with a session's token."""
    endpoint, uploads = Endpoint.of(request), Uploads.of(request)
    permission = uploads.look(_bearer(request), SESSION)
    row = _sent(request, permission["owner"], endpoint.settings.keep_files)
    row = await uploads.receive(request, permission["owner"], row)
    return JSONResponse({"access_url": endpoint.shelf.url(row)})


async def session_parts(request: Request) -> Response:
    """Begin a file that comes in pieces, with a session's token."""
    endpoint, uploads = Endpoint.of(request), Uploads.of(request)
    permission = uploads.look(_bearer(request), SESSION)
    sent = _sent(request, permission["owner"], endpoint.settings.keep_files)
    keep = sent["expires"] - sent["created"]
    token, row, _ = await run_in_threadpool(
        lambda: uploads.permit(
            PARTS, permission["owner"], name=sent["name"], content_type=sent["content_type"], keep=keep
        )
    )
    return JSONResponse({"access_url": endpoint.shelf.url(row), "uploadId": token})


async def _announce(request: Request, kind: str) -> Response:
    endpoint, uploads = Endpoint.of(request), Uploads.of(request)
    owner = endpoint.owner(request)
    body: Any = json.loads(await read_json(request, _JSON_BYTES))
    if not isinstance(body, dict):
        raise ApiError(422, "bad_request", "the body must be a JSON object with content_type and file_name.")
    keep = keep_seconds(request, endpoint.settings.keep_files)
    name, content_type = str(body.get("file_name") or "file"), str(body.get("content_type") or "")
    token, row, _ = await run_in_threadpool(
        lambda: uploads.permit(kind, owner, name=name, content_type=content_type, keep=keep)
    )
    return JSONResponse(
        {"upload_url": f"{endpoint.settings.base_url}/upload/{token}", "file_url": endpoint.shelf.url(row)}
    )


def _sent(request: Request, owner: str, most: float) -> dict[str, Any]:
    """The row of a file from the headers that come with it."""
    return new_row(
        owner=owner,
        name=request.headers.get("x-fal-file-name", "file"),
        content_type=request.headers.get("content-type", ""),
        keep=keep_seconds(request, most),
    )


def _bearer(request: Request) -> str:
    return request.headers.get("authorization", "").partition(" ")[2].strip()


def _number(text: Any) -> int:
    if not str(text).isdecimal() or len(str(text)) > 6:
        raise ApiError(422, "bad_request", f"part {str(text)[:20]!r}: must be a whole number from 1.")
    return int(str(text))

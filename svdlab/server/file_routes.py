"""Fetching files: anybody who knows the address may, in ranges too, and no browser runs what is in them."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from svdlab.server.answers import ApiError, Endpoint
from svdlab.server.files import INLINE


async def fetch_file(request: Request) -> Response:
    """A result or an upload."""
    shelf = Endpoint.of(request).shelf
    row = await run_in_threadpool(shelf.find, request.path_params["file_id"], request.path_params["name"])
    if row is None or not (path := shelf.path(row["id"])).is_file():
        raise ApiError(404, "not_found", "There is no such file, or no longer.")
    shown = row["content_type"] in INLINE
    return FileResponse(
        path,
        media_type=row["content_type"] if shown else "application/octet-stream",
        filename=row["name"],
        content_disposition_type="inline" if shown else "attachment",
        headers={
            "Content-Security-Policy": "sandbox; default-src 'none'; media-src 'self'; img-src 'self'",
            "Cross-Origin-Resource-Policy": "cross-origin",
            "Cache-Control": "private, max-age=3600",
        },
    )

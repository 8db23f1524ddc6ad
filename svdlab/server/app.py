"""The web application: routes, guards and what lives as long as the server."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from svdlab._version import __version__
from svdlab.server import file_routes, live_routes, page_routes, queue_routes, upload_routes
from svdlab.server.answers import ApiError, Endpoint
from svdlab.server.changes import Changes
from svdlab.server.deliveries import Deliverer
from svdlab.server.files import FileShelf
from svdlab.server.guards import Guards
from svdlab.server.jobs import Queue
from svdlab.server.keeper import Keeper
from svdlab.server.keys import Doorkeeper
from svdlab.server.openapi import document
from svdlab.server.settings import ServerSettings
from svdlab.server.signing import Signer
from svdlab.server.store import Store
from svdlab.server.uploads import Uploads

log = logging.getLogger("svdlab")

_STATES = ("READY", "BUSY", "STARTING", "SETUP_FAILED")


def create_app(
    settings: ServerSettings, *, generated_key: str | None = None, on_unusable: Callable[[], None] = lambda: None
) -> FastAPI:
    """The application for one folder of data; its worker runs while the application does.

    Args:
        settings: `base_url` must be how clients reach it.
        generated_key: a key that is accepted beside those of `svdlab keys`.
        on_unusable: called if the model cannot be loaded.
    """
    store = Store(settings.data / "server.sqlite")
    queue = Queue(store, keep_results=settings.keep_results, max_log_lines=settings.max_log_lines)
    shelf = FileShelf(store, settings.data / "files", settings.base_url)
    uploads = Uploads(settings, store, shelf)
    signer = Signer(settings.data / "webhook.pem")
    endpoint = Endpoint(
        settings=settings,
        store=store,
        queue=queue,
        shelf=shelf,
        door=Doorkeeper(store, generated_key),
        changes=Changes(store),
        keeper=Keeper(settings, queue, (shelf.sweep, uploads.sweep), on_unusable),
    )
    deliverer = Deliverer(endpoint.keeper.outbox, signer, allow_private=settings.allow_private)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        endpoint.keeper.start()
        deliverer.start()
        try:
            yield
        finally:
            endpoint.keeper.stop()
            deliverer.stop()
            store.close()

    app = FastAPI(
        title=f"{settings.app}, served by svdlab",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,  # the async client follows no redirect
        docs_url=None,  # their scripts come from elsewhere
        redoc_url=None,
    )
    app.state.endpoint, app.state.uploads, app.state.signer = endpoint, uploads, signer
    app.state.open_answers = 0
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    _add_routes(app, settings)
    _add_handlers(app)
    app.add_middleware(Guards, settings=settings)
    return app


def _add_routes(app: FastAPI, settings: ServerSettings) -> None:
    jobs = f"/queue/{settings.app}/requests/{{request_id}}"
    add(app, "POST", f"/queue/{settings.app}", queue_routes.submit)
    add(app, "GET", f"{jobs}/status", queue_routes.status)
    add(app, "GET", jobs, queue_routes.result)
    add(app, "GET", f"{jobs}/response", queue_routes.result)
    add(app, "PUT", f"{jobs}/cancel", queue_routes.cancel)
    add(app, "GET", f"{jobs}/status/stream", live_routes.status_stream)
    add(app, "POST", f"/run/{settings.app}", live_routes.run)
    add(app, "GET", "/files/{file_id}/{name}", file_routes.fetch_file)
    add(app, "HEAD", "/files/{file_id}/{name}", file_routes.fetch_file, include_in_schema=False)
    add(app, "POST", "/rest/storage/upload/initiate", upload_routes.initiate)
    add(app, "POST", "/rest/storage/upload/initiate-multipart", upload_routes.initiate_parts)
    add(app, "POST", "/rest/storage/auth/token", upload_routes.session)
    add(app, "PUT", "/upload/{token}", upload_routes.put_file)
    add(app, "PUT", "/upload/{token}/{number}", upload_routes.put_part)
    add(app, "POST", "/upload/{token}/complete", upload_routes.complete)
    add(app, "POST", "/cdn/files/upload", upload_routes.upload)
    add(app, "POST", "/cdn/files/upload/multipart", upload_routes.session_parts)
    parts = "/files/{file_id}/{name}/multipart/{token}"
    add(app, "PUT", f"{parts}/{{number}}", upload_routes.put_part)
    add(app, "POST", f"{parts}/complete", upload_routes.complete)
    add(app, "GET", "/.well-known/jwks.json", jwks)
    add(app, "GET", "/rest/.well-known/jwks.json", jwks, include_in_schema=False)
    add(app, "GET", "/health", health)
    app.add_route("/", page_routes.page)
    app.add_route("/page/about.json", page_routes.page_about)
    app.add_route("/page/{name}", page_routes.page_part)


def add(app: FastAPI, method: str, path: str, handler: Any, **options: Any) -> None:
    """Add a route with and without a slash at its end: nobody is redirected."""
    app.add_api_route(path, handler, methods=[method], response_model=None, **options)
    hidden = {**options, "include_in_schema": False}
    app.add_api_route(path + "/", handler, methods=[method], response_model=None, **hidden)


async def jwks(request: Request) -> Response:
    """The public key by which receivers of webhooks check their signatures."""
    return JSONResponse(request.app.state.signer.jwks(), headers={"Cache-Control": "public, max-age=3600"})


async def health(request: Request) -> Response:
    """The worker's state (STARTING, READY, BUSY, SETUP_FAILED) and what to know of its clips. Needs no key."""
    endpoint = Endpoint.of(request)
    slots = range(len(endpoint.keeper.workers))
    rows = [row for row in endpoint.store.rows("SELECT slot, state, said FROM worker") if row["slot"] in slots]
    # The one that can do most speaks for all.
    state = next((state for state in _STATES if state in {row["state"] for row in rows}), "STARTING")
    notice = next((row["said"] for row in rows if row["state"] in ("READY", "BUSY")), None)
    return JSONResponse({"state": state, "notice": notice})


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        settings = Endpoint.of(request).settings
        if error.status_code == 405:
            text = f"{request.method} is not offered here."
            return ApiError(405, "method_not_allowed", text, **(error.headers or {})).response()
        # The rest of the path, not of the server's own prefix, as the hosted endpoint words it.
        path = request.url.path.partition(settings.app)[2] or request.url.path
        text = f"Path {path[:100]} not found. This server offers {settings.app}."
        return ApiError(404, "not_found", text).response()

    @app.exception_handler(sqlite3.Error)
    async def no_store(request: Request, error: sqlite3.Error) -> Response:
        log.error("the store: %s", error)
        return ApiError(500, "internal_error", f"the server's store cannot be used now ({error}).").response()

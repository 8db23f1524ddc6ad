"""What stands before every route: which names the server answers to, which web pages may speak to it, and the proxy.

A page in a browser can send requests to servers on its user's machine, and a name server can make any name lead
there. So the Host header must be one of the server's own names, and an Origin header one of the server's own or of
those that were allowed.
"""

from __future__ import annotations

import contextlib
import urllib.parse

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from svdlab.server.answers import ApiError
from svdlab.server.settings import ServerSettings, is_loopback

PROXY_PATH = "/api/fal/proxy"
HOSTED = {
    "queue.fal.run": "/queue",
    "fal.run": "/run",
    "rest.fal.ai": "/rest",
    "rest.alpha.fal.ai": "/rest",
}
"""Hosts of the hosted service, and where their paths are found here. Nothing is ever sent to them."""

_REQUEST_HEADERS = (
    "accept, authorization, content-type, x-fal-target-url, x-fal-queue-priority, x-fal-request-timeout,"
    " x-fal-request-start-timeout, x-fal-runner-hint, x-fal-object-lifecycle-preference, x-fal-object-lifecycle,"
    " x-fal-file-name, x-fal-no-retry, x-fal-store-io, x-idempotency-key, x-fal-client-proxy"
)
_RESPONSE_HEADERS = "x-fal-request-id, x-fal-error-type, x-fal-request-timeout-type, etag"


class Guards:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        base = urllib.parse.urlsplit(settings.base_url)
        self._hosts = {base.netloc.lower(), *(name.lower() for name in settings.allowed_hosts)}
        self._origins = {f"{base.scheme}://{base.netloc}".lower()}
        self._origins |= {origin.rstrip("/").lower() for origin in settings.allowed_origins}
        if is_loopback(base.hostname or ""):  # the other names of the same place
            port = f":{base.port}" if base.port else ""
            names = {f"{name}{port}" for name in ("localhost", "127.0.0.1", "[::1]")}
            self._hosts |= names
            self._origins |= {f"{base.scheme}://{name}" for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, answer a preflight, or pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        allowed = origin is not None and origin.lower() in self._origins
        answer = self._refusal(headers, origin, allowed)
        if answer is None and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            answer = Response(status_code=204, headers=_PREFLIGHT)
        if answer is None and scope["path"].rstrip("/") == PROXY_PATH:
            try:
                scope = redirected(scope, headers.get("x-fal-target-url", ""))
            except ApiError as error:
                answer = error.response()

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out["X-Content-Type-Options"] = "nosniff"
                out["Referrer-Policy"] = "no-referrer"
                out.setdefault("Cache-Control", "no-store")
                out.add_vary_header("Origin")
                if allowed:
                    out["Access-Control-Allow-Origin"] = str(origin)
                    out["Access-Control-Expose-Headers"] = _RESPONSE_HEADERS
            await send(message)

        await (answer or self.app)(scope, receive, send_guarded)

    def _refusal(self, headers: Headers, origin: str | None, allowed: bool) -> Response | None:
        host = headers.get("host", "").lower()
        if host not in self._hosts:
            text = f"Host {host[:80]!r} is not a name of this server. `svdlab serve --allow-host NAME` adds one."
            return ApiError(421, "misdirected_request", text).response()
        if origin is not None and not allowed:
            text = f"Origin {origin[:80]!r} may not use this server. `svdlab serve --allow-origin URL` allows one."
            return ApiError(403, "origin_not_allowed", text).response()
        return None


_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT",
    "Access-Control-Allow-Headers": _REQUEST_HEADERS,
    "Access-Control-Max-Age": "600",
}


def redirected(scope: Scope, target: str) -> Scope:
    """The request as if it had been sent to the route that stands for `target`, an address of the hosted service.

    The JavaScript client asks a proxy so. This one never opens a connection: the host must be one of `HOSTED`,
    letter by letter, and the path is looked up among the server's own routes.

    Raises:
        ApiError: the header is missing, or leads elsewhere.
    """
    parts = None
    if target.isprintable() and " " not in target and "\\" not in target:
        with contextlib.suppress(ValueError):
            parts = urllib.parse.urlsplit(target)
    if parts is None or parts.scheme != "https" or parts.netloc not in HOSTED or not parts.path.startswith("/"):
        text = f"x-fal-target-url: must be an https address at one of {', '.join(HOSTED)}; nothing is fetched for you."
        raise ApiError(400, "bad_request", text)
    path = HOSTED[parts.netloc] + parts.path
    return {
        **scope,
        "path": urllib.parse.unquote(path),
        "raw_path": path.encode(),
        "query_string": parts.query.encode(),
    }

"""The official client, with what a laboratory that pays by the call needs beside it.

`fal-client` tries a request again when the connection breaks or a gateway answers, the submission among them; its
protocol has no key by which a second submission would be known for the first one. So a submission that may have
reached the queue is not sent again here, and an error says that its fate is not known.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from svdlab.errors import EndpointError, ExtraError
from svdlab.hosted.words import explain, refused_text

try:
    import fal_client.auth
    import fal_client.client
    import httpx
except ImportError as missing:
    raise ExtraError(
        f"hosted endpoints need the package {missing.name!r}, which is not installed: pip install 'svdlab[hosted]'."
    ) from None

if TYPE_CHECKING:
    from fal_client.client import SyncRequestHandle

PUBLIC = "queue.fal.run"
SUBMIT_SECONDS = 60.0
# What an answer to a submission says by its status alone: the queue may have taken it, and only then it broke.
_UNCLEAR = {408, *range(500, 600)}
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)


class Client(fal_client.client.SyncClient):
    """`fal_client.SyncClient`, whose submissions are sent at most once.

    Example:
        >>> handle = make_client().submit("fal-ai/fast-svd-lcm", {"image_url": url})
    """

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(
            transport=_Guarded(fal_client.client.BackupDomainTransport(), self._ends),
            headers={"Authorization": self._auth.header_value, "User-Agent": fal_client.client.USER_AGENT},
            timeout=self.default_timeout,
            follow_redirects=True,
        )

    def _get_cdn_client(self) -> httpx.Client:
        client = super()._get_cdn_client()
        self._uploading.append(client)
        return client

    def wait_until(self, request_id: str, end: float | None) -> None:
        """Let no request about a job wait beyond `end` (of `time.monotonic`): LateError then. None: as the client does,
        which alone would wait for up to 20 minutes for a host that takes a connection and never answers."""
        if end is None:
            self._ends.pop(request_id, None)
        else:
            self._ends[request_id] = end

    @cached_property
    def _ends(self) -> dict[str, float]:
        return {}

    @cached_property
    def _uploading(self) -> list[httpx.Client]:
        return []

    def close(self) -> None:
        """Close all connections, those of uploads too, which the official client leaves open. Usable again after it."""
        for client in (vars(self).pop("_client", None), *vars(self).pop("_uploading", ())):
            if client is not None:
                client.close()


class UnclearError(Exception):
    """A submission was sent and not acknowledged: whether there is a job now is not known."""


class LateError(Exception):
    """The time for a job was over before the host answered."""


class _Guarded(httpx.BaseTransport):
    """Lets a submission be tried again only if it was not sent, or was refused (429), and keeps the ends of jobs."""

    def __init__(self, inner: httpx.BaseTransport, ends: Mapping[str, float]) -> None:
        self._inner, self._ends = inner, ends

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        submits = request.method == "POST" and str(request.url).startswith(str(httpx.URL(address())))
        self._limit(request)
        try:
            response = self._inner.handle_request(request)
            if submits:
                response.read()
        except _NOT_SENT:
            raise
        except httpx.TransportError as error:
            if submits:
                raise UnclearError(f"the connection broke ({type(error).__name__})") from None
            raise
        if submits and response.status_code in _UNCLEAR:
            raise UnclearError(refused_text(response.status_code, response.text))
        return response

    def _limit(self, request: httpx.Request) -> None:
        """Shorten the waits of a request to what is left for its job; the client's repetitions come by here too."""
        _, _, about = request.url.path.partition("/requests/")
        end = self._ends.get(about.partition("/")[0])
        if end is None:
            return
        if (left := end - time.monotonic()) <= 0:
            raise LateError
        waits = request.extensions.get("timeout", {})
        kinds = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {kind: min(left, waits.get(kind) or left) for kind in kinds}

    def close(self) -> None:
        self._inner.close()


def make_client() -> Client:
    """A client with the credentials of the environment: `FAL_KEY`, or what else `fal-client` takes.

    They are held in memory for as long as the client lives, and written nowhere.

    Raises:
        EndpointError: there are none.
    """
    try:
        found = fal_client.auth.fetch_auth_credentials()
    except fal_client.auth.MissingCredentialsError:
        raise EndpointError(
            "FAL_KEY is not set: a hosted endpoint needs a key. Make one in your account at the host, and set it in the"
            " environment of this process (export FAL_KEY=...); svdlab reads it there and writes it nowhere.",
            lasting=True,
        ) from None
    if not found.token.isascii() or not found.token.isprintable() or " " in found.token:
        raise EndpointError(
            "FAL_KEY holds blanks, control characters or letters that no key has (its value is not shown). Set it to"
            " the key alone.",
            lasting=True,
        )
    return Client(key=found.token if found.scheme == "Key" else None, default_timeout=SUBMIT_SECONDS)


def address() -> str:
    """Where submissions go now: the queue's address as `fal-client` has it, ending in a slash."""
    return fal_client.client.QUEUE_URL_FORMAT


def host(url: str) -> str:
    """Host and port of an address, without user, path and query.

    Example:
        >>> host("https://queue.fal.run/")
        'queue.fal.run'
    """
    return urlsplit(url).netloc.rpartition("@")[2]


def is_own(url: str) -> bool:
    """Whether an address is on the host that the client was pointed at by its owner, in place of the public service.

    Only then files are fetched from it even if it is loopback or private. All names of this machine are one host.

    Example:
        >>> with connect_fal_client("http://localhost:8000"):
        ...     is_own("http://127.0.0.1:8000/files/a.mp4"), is_own("http://127.0.0.1:22/"), is_own("https://fal.media/a")
        (True, False, False)
    """
    try:
        return host(address()) != PUBLIC and _place(address()) == _place(url)
    except ValueError:  # no address at all, as fetching it says
        return False


def _place(url: str) -> tuple[str, int]:
    """Host and port of an address; "loopback" for every name of this machine."""
    parts = urlsplit(url)
    name = parts.hostname or ""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(name).is_loopback:
            name = "loopback"
    if name == "localhost" or name.endswith(".localhost"):
        name = "loopback"
    return name, parts.port or (443 if parts.scheme == "https" else 80)


def submit(client: Client, name: str, arguments: dict[str, Any], *, start_timeout: float) -> SyncRequestHandle:
    """Submit a job, once.

    The handle's addresses are made from the client's own and not taken from the answer, so that the key is sent nowhere
    else.

    Raises:
        EndpointError, RequestError: refused, not reached, or not acknowledged.
    """
    with explained(f"{name}: submitting"):
        handle = client.submit(name, arguments, start_timeout=start_timeout)
        return client.get_handle(name, handle.request_id)


@contextlib.contextmanager
def explained(doing: str, request_id: str | None = None) -> Iterator[None]:
    """Turn what `fal-client` and `httpx` raise into an EndpointError or RequestError in words.

    Neither keeps the other's error: it would carry the key in its headers.
    """
    try:
        yield
    except fal_client.client.FalClientHTTPError as error:
        raise explain(
            doing, error.status_code, error.message, error_type=error.error_type, request_id=request_id
        ) from None
    except UnclearError as error:
        raise EndpointError(
            f"{doing}: {error}. Whether a job was made, and will be billed, is not known, so it is not sent again."
            " Look at your requests at the host, then run this again."
        ) from None
    except httpx.HTTPError as error:
        raise EndpointError(
            f"{doing}: {host(address())} was not reached ({type(error).__name__}: {str(error)[:200]}). Check the"
            " network and try again.",
            request_id=request_id,
        ) from None
    except (ValueError, KeyError, TypeError) as error:  # an answer that is not of the protocol
        raise EndpointError(
            f"{doing}: the answer is not understood ({type(error).__name__}: {str(error)[:200]}). Is"
            f" {host(address())} the address of such an endpoint?",
            request_id=request_id,
        ) from None

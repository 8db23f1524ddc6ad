"""Point the official clients at a server of your own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from svdlab.errors import ExtraError, ServerError
from svdlab.server.settings import check_origin

_ADDRESSES = ("QUEUE_URL_FORMAT", "RUN_URL_FORMAT", "REST_URL", "CDN_URL")
_REMEMBERED = ("_auth", "_client", "_token_manager")


@contextlib.contextmanager
def connect_fal_client(url: str, key: str | None = None) -> Iterator[Any]:
    """Within the block, the whole of `fal_client` talks to the server at `url` and to nobody else.

    Its functions, and clients that are made within the block, sync and async, uploads included. Afterwards everything
    is as it was. The addresses are the module's, not a thread's: do not talk to the hosted service meanwhile.

    Args:
        url: `http(s)://host:port` of the server.
        key: a key of the server. None: `FAL_KEY` from the environment, as always.

    Yields:
        The module `fal_client`.

    Raises:
        ExtraError: the package fal-client is not installed.
        ServerError: `url` is no such address, or this version of the client keeps its addresses elsewhere.

    Example:
        >>> with connect_fal_client("http://127.0.0.1:8000", key="...") as fal_client:
        ...     fal_client.subscribe("fal-ai/fast-svd-lcm", {"image_url": fal_client.encode_file("rocket.png")})
    """
    try:
        import fal_client
        import fal_client.client as client
    except ImportError as error:
        raise ExtraError(
            'connect_fal_client: needs the package fal-client. Install it: pip install "svdlab[hosted]"'
        ) from error
    check_origin("url", url)
    lacks = [name for name in _ADDRESSES if not hasattr(client, name)]
    if lacks:
        raise ServerError(
            f"fal-client {fal_client.__version__} has no {lacks[0]}, so it cannot be pointed elsewhere."
            " Versions 1.0.0 to 1.0.3 are known to work."
        )
    base = url.rstrip("/")
    addresses = (f"{base}/queue/", f"{base}/run/", f"{base}/rest", f"{base}/cdn")
    before = {name: getattr(client, name) for name in _ADDRESSES}
    key_before = os.environ.get("FAL_KEY")
    shared = (fal_client.sync_client, fal_client.async_client)
    kept = [_forget(one) for one in shared]
    try:
        for name, address in zip(_ADDRESSES, addresses, strict=True):
            setattr(client, name, address)
        if key is not None:
            os.environ["FAL_KEY"] = key
        yield fal_client
    finally:
        for name, address in before.items():
            setattr(client, name, address)
        if key is not None:
            os.environ.pop("FAL_KEY", None)
            if key_before is not None:
                os.environ["FAL_KEY"] = key_before
        for one, old in zip(shared, kept, strict=True):
            made = _forget(one)
            if "_client" in made and hasattr(made["_client"], "close"):
                made["_client"].close()
            one.__dict__.update(old)


def preload_path() -> Path:
    """The module that points unchanged JavaScript programs at a server: `node --import PATH program.mjs`.

    It reads the server's address from `SVDLAB_URL`.
    """
    return Path(__file__).with_name("fal_preload.mjs")


def _forget(client: Any) -> dict[str, Any]:
    """Take out what a client of the module has worked out once and keeps: its key, its connections."""
    return {name: client.__dict__.pop(name) for name in _REMEMBERED if name in client.__dict__}

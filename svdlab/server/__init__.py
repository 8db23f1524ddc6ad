"""The endpoint `fal-ai/fast-svd-lcm` on your own machine, for the official clients; needs the extra `serve`.

Example:
    >>> from svdlab.server import ServerSettings, connect_fal_client, serve
    >>> serve(ServerSettings(data="serve", model="tiny"))

    In another process:

    >>> import fal_client
    >>> with connect_fal_client("http://127.0.0.1:8000", key="..."):
    ...     fal_client.subscribe("fal-ai/fast-svd-lcm", {"image_url": "https://example.org/rocket.png"})
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from svdlab.lazy import lazily

if TYPE_CHECKING:
    from svdlab.server.connect import connect_fal_client, preload_path
    from svdlab.server.running import serve
    from svdlab.server.settings import ServerSettings

_HOMES = {
    "ServerSettings": "settings",
    "connect_fal_client": "connect",
    "preload_path": "connect",
    "serve": "running",
}

__all__ = ["ServerSettings", "connect_fal_client", "preload_path", "serve"]

__getattr__, __dir__ = lazily(__name__, _HOMES, __all__)

"""A real server on the loopback address: the web part in a thread of this process, the worker in a process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from svdlab.server import ServerSettings
from svdlab.server.answers import Endpoint
from svdlab.server.keys import make_key
from svdlab.server.running import ready
from svdlab.server.store import Store

APP = "fal-ai/fast-svd-lcm"
QUICK = {"num_frames": 2, "steps": 1}
"""Settings of a job that takes a moment."""
LONG = {"num_frames": 25, "steps": 40}
"""Settings of a job that is still running when a test looks."""
ENDLESS = {"num_frames": 100, "steps": 100, "schedule": "karras"}
"""Settings of a job that outlasts every test; it must be cancelled."""


@dataclass
class Running:
    """A server that runs, and keys for it."""

    url: str
    alice: str
    bob: str
    settings: ServerSettings
    endpoint: Endpoint
    server: uvicorn.Server

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        """A plain HTTP client with a key (Alice's unless told; "" for none)."""
        key = self.alice if key is None else key
        headers = {"Authorization": f"Key {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=300, trust_env=False, **options)

    def submit(self, client: httpx.Client, arguments: dict[str, Any], **options: Any) -> str:
        """Submit and return the id."""
        answer = client.post(f"/queue/{APP}", json=arguments, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()["request_id"]

    def wait(self, client: httpx.Client, id: str, status: str = "COMPLETED") -> dict[str, Any]:
        """Follow a job until it has a status, and return it with its log."""
        return until(lambda: self._status(client, id, status))

    def _status(self, client: httpx.Client, id: str, wanted: str) -> dict[str, Any] | None:
        body = client.get(f"/queue/{APP}/requests/{id}/status", params={"logs": "1"}).json()
        return body if body["status"] == wanted else None


def until(look: Callable[[], Any], seconds: float = 400) -> Any:
    """What `look` returns, once that is true."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"nothing after {seconds} s"
        time.sleep(0.02)
    return found


def run_async(fal: Any, main: Callable[[], Awaitable[Any]]) -> Any:
    """Run a coroutine that calls the official client, and close what its module would leave open until the end."""

    async def whole() -> Any:
        try:
            return await main()
        finally:
            await (await fal.async_client._client).aclose()

    return asyncio.run(whole())


@contextlib.contextmanager
def running(folder: Path, keys: tuple[str, str] | None = None, **settings: Any) -> Iterator[Running]:
    """Serve a model from a folder on a free port; `keys` of an earlier run are those of Alice and Bob."""
    wanted = ServerSettings(data=folder, port=0, **{"model": "tiny-random", **settings})
    if keys is None:
        with Store(folder / "server.sqlite") as store:
            keys = (make_key(store, "alice"), make_key(store, "bob"))
    with ready(wanted) as (server, listening, actual, _):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            endpoint = server.config.app.state.endpoint  # type: ignore[union-attr]
            yield Running(actual.base_url, *keys, actual, endpoint, server)
        finally:
            server.should_exit = True
            thread.join()

"""Load on the loopback address: many clients that poll as the official Python client does, while requests run.

    python -m tests.server.load [CLIENTS] [JOBS]

starts `svdlab serve` on a free port, and prints how long statuses took.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svdlab.server.keys import make_key
from svdlab.server.store import Store
from tests.server.running import APP

INTERVAL = 0.1
"""Seconds between an answer and the next question, as in the official client."""


@dataclass
class Outcome:
    """What came of a campaign."""

    statuses: list[float] = field(default_factory=list)  # seconds that each took
    wrong: list[str] = field(default_factory=list)  # answers that should not have been
    results: list[dict[str, Any]] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the statuses came."""
        return sorted(self.statuses)[min(len(self.statuses) - 1, int(share * len(self.statuses)))]


class Client:
    """A connection that is kept open, spoken to by hand: a hundred of them must cost less than what they measure."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key

    async def __aenter__(self) -> Client:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        self.close()
        with contextlib.suppress(OSError):  # the other end may be gone
            await self._writer.wait_closed()

    async def open(self) -> Client:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    def close(self) -> None:
        """Let go of the connection."""
        self._writer.close()

    async def ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> tuple[int, Any]:
        """Status code and JSON body of an answer; `headers` are further ones, each with its end of line."""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Key {self._key}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self._writer.write(head.encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.lower().startswith(b"content-length:"))
        return int(lines[0].split()[1]), json.loads(await self._reader.readexactly(length))


async def campaign(port: int, key: str, arguments: dict[str, Any], *, clients: int, jobs: int) -> Outcome:
    """Submit `jobs` requests and follow them with `clients` clients, several a request, until all have ended."""
    outcome, ids = Outcome(), []
    async with Client(port, key) as client:
        for seed in range(jobs):
            body = json.dumps({**arguments, "seed": seed}).encode()
            ids.append((await client.ask("POST", f"/queue/{APP}", body))[1]["request_id"])
    await asyncio.gather(*(_follow(port, key, ids[k % jobs], outcome) for k in range(clients)))
    async with Client(port, key) as client:  # a new one: the server closes those that are silent for long
        for id in ids:
            code, body = await client.ask("GET", f"/queue/{APP}/requests/{id}")
            outcome.results.append(body)
            if code != 200:
                outcome.wrong.append(f"{id}: {code} {body}")
    return outcome


async def _follow(port: int, key: str, id: str, outcome: Outcome) -> None:
    async with Client(port, key) as client:
        while True:
            begin = time.perf_counter()
            code, body = await client.ask("GET", f"/queue/{APP}/requests/{id}/status?logs=true")
            outcome.statuses.append(time.perf_counter() - begin)
            if code not in (200, 202):
                outcome.wrong.append(f"{id}: {code} {body}")
                return
            if body["status"] == "COMPLETED":
                return
            await asyncio.sleep(INTERVAL)


def main() -> None:
    """Run a campaign against a server of its own, and print what came of it."""
    from tests.media_samples import noise, packed, uri
    from tests.server.test_crash import served

    clients, jobs = [int(text) for text in sys.argv[1:3]] or [200, 20]
    from PIL import Image

    picture = uri(packed(Image.fromarray(noise(48, 64))))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store(folder / "server.sqlite") as store:
            key = make_key(store, "load")
        with served(folder) as (_, url):
            port = int(url.rsplit(":", 1)[1])
            arguments = {"image_url": picture}
            asyncio.run(campaign(port, key, {**arguments, "steps": 1}, clients=1, jobs=1))  # the model is loaded
            begin = time.perf_counter()
            outcome = asyncio.run(campaign(port, key, arguments, clients=clients, jobs=jobs))
            seconds = time.perf_counter() - begin
    shares = ", ".join(f"p{100 * share:g} {1000 * outcome.percentile(share):.1f} ms" for share in (0.5, 0.9, 0.99, 1))
    rate = len(outcome.statuses) / seconds
    sys.stdout.write(f"{clients} clients, {jobs} requests, {seconds:.1f} s, {rate:.0f} statuses a second\n")
    sys.stdout.write(f"{shares}; {len(outcome.wrong)} wrong answers\n")


if __name__ == "__main__":
    main()

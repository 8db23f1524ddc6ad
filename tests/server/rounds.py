"""Kills under load: the worker, then the server, die by SIGKILL while requests are handed in, run and are polled for.

    python -m tests.server.rounds [ROUNDS] [CLIENTS] [JOBS] [--model NAME]

What must hold after each round, else `LostError` is raised: each request that was handed in is there once, though it
was sent again whenever its connection broke; it ended well, with its own seed; it was started at most twice; its video
is there once; no client that asked saw anything but right answers and broken connections.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import svdlab
from svdlab.server.keys import make_key
from svdlab.server.store import Store
from tests.server.load import INTERVAL, Client
from tests.server.running import APP


class LostError(AssertionError):
    """A promise was not kept."""


@dataclass
class Tally:
    """What the clients of a campaign saw."""

    polls: int = 0
    broken: int = 0  # connections, each of them opened again
    again: int = 0  # requests that ran a second time
    wrong: list[str] = field(default_factory=list)


@dataclass
class Campaign:
    """A folder of a server that is killed again and again, at one address."""

    folder: Path
    port: int
    key: str
    arguments: dict[str, Any]
    model: str = "tiny-random"
    tally: Tally = field(default_factory=Tally)
    server: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start `svdlab serve`, and return when it listens."""
        command = [sys.executable, "-c", "from svdlab.cli import main; main()", "serve", "--model", self.model]
        command += ["--port", str(self.port), "--data", str(self.folder)]
        environment = {**os.environ, "PYTHONPATH": str(Path(svdlab.__file__).parents[1])}
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.server.stdout is not None
        if not re.search(r"at http://\S+$", self.server.stdout.readline().rstrip()):
            raise LostError("the server did not start")

    def kill_server(self) -> None:
        """SIGKILL it; its worker notices by itself."""
        if self.server is not None:
            self.server.kill()
            self.server.communicate()

    def kill_worker(self) -> None:
        """SIGKILL the worker that runs now, if there is one."""
        with Store(self.folder / "server.sqlite") as store:
            row = store.row("SELECT pid FROM worker WHERE slot = 0")
        with contextlib.suppress(ProcessLookupError):
            if row is not None:
                os.kill(row["pid"], signal.SIGKILL)

    async def round(self, number: int, *, clients: int, jobs: int) -> None:
        """Hand in `jobs` requests, poll with `clients` clients, kill twice meanwhile, and wait for all the ends."""
        chance = random.Random(number)
        seeds = [number * jobs + k for k in range(jobs)]
        handing_in = [asyncio.create_task(self._hand_in(seed)) for seed in seeds]
        killing = asyncio.create_task(self._kill(chance))
        ids = await asyncio.gather(*handing_in)
        await asyncio.gather(*(self._follow(ids[k % jobs]) for k in range(clients)), killing)
        if self.tally.wrong:
            raise LostError("; ".join(self.tally.wrong))
        for seed, id in zip(seeds, ids, strict=True):
            code, body = await self._result(id)
            if (code, body.get("seed")) != (200, seed):
                raise LostError(f"{id}: {code} {body}, wanted 200 and seed {seed}")
        self._check((number + 1) * jobs)

    async def _kill(self, chance: random.Random) -> None:
        await self._runs()
        await asyncio.sleep(chance.uniform(0, 0.5))
        await asyncio.to_thread(self.kill_worker)
        if chance.random() < 0.5:  # else, most often, while the next worker loads the model
            await self._runs()
        await asyncio.sleep(chance.uniform(0, 1))
        self.kill_server()
        await asyncio.to_thread(self.start)

    async def _runs(self) -> None:
        """Wait until a request is in hand, and its worker is the one that is known."""
        with Store(self.folder / "server.sqlite") as store:
            while not store.row("SELECT 1 FROM worker JOIN job ON job.slot = worker.slot WHERE state = 'BUSY'"):
                await asyncio.sleep(0.02)

    async def _hand_in(self, seed: int) -> str:
        body = json.dumps({**self.arguments, "seed": seed}).encode()
        # So that one that is sent again, since nobody knows whether it came, is the same request.
        with Line(self) as line:
            code, answer = await line.ask("POST", f"/queue/{APP}", body, f"X-Idempotency-Key: seed-{seed}\r\n")
        if code != 200:
            raise LostError(f"seed {seed}: {code} {answer}")
        return answer["request_id"]

    async def _follow(self, id: str) -> None:
        """Poll as the Python client does, until the request has ended."""
        with Line(self) as line:
            while True:
                code, body = await line.ask("GET", f"/queue/{APP}/requests/{id}/status?logs=true")
                self.tally.polls += 1
                if code not in (200, 202):
                    self.tally.wrong.append(f"{id}: {code} {body}")
                if code != 202:
                    return
                await asyncio.sleep(INTERVAL)

    async def _result(self, id: str) -> tuple[int, Any]:
        with Line(self) as line:
            return await line.ask("GET", f"/queue/{APP}/requests/{id}")

    def _check(self, jobs: int) -> None:
        """What the store says of all rounds so far."""
        with Store(self.folder / "server.sqlite") as store:
            rows = store.rows("SELECT id, status, http_status, attempts FROM job")
            videos = store.rows("SELECT id, name, size FROM file")
        bad = [dict(row) for row in rows if (row["status"], row["http_status"]) != ("COMPLETED", 200)]
        if bad or len(rows) != jobs or any(row["attempts"] > 2 for row in rows):
            raise LostError(f"{len(rows)} requests of {jobs}, {bad}")
        if sorted(row["name"] for row in videos) != sorted(f"{row['id']}.mp4" for row in rows):
            raise LostError(f"{len(videos)} videos of {jobs}")
        for row in videos:
            if (self.folder / "files" / row["id"]).stat().st_size != row["size"]:
                raise LostError(f"{row['name']}: is not {row['size']} bytes")
        self.tally.again = sum(row["attempts"] == 2 for row in rows)


class Line:
    """A connection that is opened when it is needed, and opened again when it breaks."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._client: Client | None = None

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    async def ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> tuple[int, Any]:
        """An answer, though it be that of the next server."""
        end = time.monotonic() + 300
        while time.monotonic() < end:
            try:
                if self._client is None:
                    self._client = await Client(self._campaign.port, self._campaign.key).open()
                return await self._client.ask(method, path, body, headers)
            except (OSError, asyncio.IncompleteReadError):
                if self._client is not None:
                    self._client.close()
                self._client = None
                self._campaign.tally.broken += 1
                await asyncio.sleep(INTERVAL)
        raise LostError(f"{method} {path}: no server for 300 s")


@contextlib.contextmanager
def campaign(folder: Path, arguments: dict[str, Any], model: str = "tiny-random") -> Iterator[Campaign]:
    """A server of its own, started, and killed at the end."""
    with Store(folder / "server.sqlite") as store:
        key = make_key(store, "rounds")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = Campaign(folder, port, key, arguments, model)
    one.start()
    try:
        yield one
    finally:
        one.kill_server()


def main() -> None:
    """Run rounds, and print what came of them."""
    from PIL import Image

    from tests.media_samples import noise, packed, uri

    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int, nargs="?", default=20)
    parser.add_argument("clients", type=int, nargs="?", default=200)
    parser.add_argument("jobs", type=int, nargs="?", default=20)
    parser.add_argument("--model", default="tiny-random")
    wanted = parser.parse_args()
    arguments = {"image_url": uri(packed(Image.fromarray(noise(48, 64))))}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name, campaign(Path(name), arguments, wanted.model) as one:
        for number in range(wanted.rounds):
            asyncio.run(one.round(number, clients=wanted.clients, jobs=wanted.jobs))
            t = one.tally
            sys.stdout.write(
                f"round {number + 1}: {time.monotonic() - begin:.0f} s, {(number + 1) * wanted.jobs} requests, each"
                f" there once and done; {t.again} started twice, {t.broken} broken connections, {t.polls} statuses\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()

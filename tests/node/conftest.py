"""A server, and Node.js with the official clients from npm (`npm ci --prefix tests/node`) to talk to it."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from svdlab.images import as_data_uri
from svdlab.server.connect import preload_path
from tests.server.running import Running, running
from tests.serving import answering

HERE = Path(__file__).parent
SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class Node:
    """Node.js beside a server; no program that it runs can leave the machine."""

    program: str
    url: str
    key: str
    picture: str
    webhook: str

    def run(self, *arguments: str, preload: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run node in this folder, so that it finds the clients."""
        imports = [f"--require={HERE / 'guard.cjs'}"]
        if preload:
            imports.append(f"--import={preload_path()}")
        own = {
            "SVDLAB_URL": self.url,
            "FAL_KEY": self.key,
            "PICTURE": self.picture,
            "WEBHOOK": self.webhook,
            "NODE_NO_WARNINGS": "1",
        }
        env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **own, **options.pop("env", {})}
        return subprocess.run(
            [self.program, *imports, *arguments],
            cwd=HERE,
            env=env,
            text=True,
            capture_output=True,
            timeout=SECONDS,
            check=False,
            **options,
        )

    def cases(self, client: str, way: str, *names: str) -> dict[str, Any]:
        """What the cases saw (`cases.mjs`); one that broke is its text."""
        done = self.run("matrix.mjs", client, way, *names, preload=way == "preload")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(lines) == len(names), done.stderr
        return {line["name"]: line.get("value", line.get("failed")) for line in lines}


@pytest.fixture(scope="package")
def node(server: Running, hooks: Hooks) -> Node:
    """Tests are skipped without Node.js and the clients, unless SVDLAB_REQUIRE_NODE=1 demands them."""
    program = shutil.which("node")
    lacks = "node is not on PATH" if program is None else "" if (HERE / "node_modules").is_dir() else "no clients"
    if lacks:
        reason = f"{lacks}: install Node.js 18.19 or newer, then npm ci --prefix tests/node"
        if os.environ.get("SVDLAB_REQUIRE_NODE") == "1":
            pytest.fail(f"SVDLAB_REQUIRE_NODE=1, but {reason}")
        pytest.skip(reason)
    blocks = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    picture = as_data_uri(Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1)))
    assert program is not None
    webhook = f"http://127.0.0.1:{hooks.server_port}/hook"
    return Node(program=program, url=server.url, key=server.alice, picture=picture, webhook=webhook)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests of this folder; the tests' own webhook receiver is on this machine."""
    with running(tmp_path_factory.mktemp("served"), allow_private=True) as server:
        yield server


class Hooks(http.server.ThreadingHTTPServer):
    """A receiver of webhooks; `seen` has the headers and the body of each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.seen: list[tuple[dict[str, str], bytes]] = []


class _Receiver(http.server.BaseHTTPRequestHandler):
    server: Hooks

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(({name.title(): value for name, value in self.headers.items()}, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture(scope="package")
def hooks() -> Iterator[Hooks]:
    with answering(Hooks()) as receiver:
        yield receiver


@pytest.fixture(scope="package")
def column(node: Node) -> Callable[[str, str], dict[str, Any]]:
    """All cases of a column of the matrix (a client, told in some way), run once, one after the other."""
    from tests.node.test_javascript import COLUMNS

    return cache(lambda client, way: node.cases(client, way, *COLUMNS[client, way]))

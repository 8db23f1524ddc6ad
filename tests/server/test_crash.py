"""SIGKILL of the worker and of the whole server while requests wait and run: none is lost, none runs a third time.

`python -m tests.server.rounds` does it again and again, under more load.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import svdlab
from svdlab.server.keys import make_key
from svdlab.server.store import Store
from tests.server.rounds import campaign
from tests.server.running import APP, LONG, QUICK, running, until

SERVE = [sys.executable, "-c", "from svdlab.cli import main; main()", "serve", "--port", "0", "--model", "tiny-random"]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`svdlab serve` as a person starts it, and its address; killed at the end."""
    environment = {**os.environ, "PYTHONPATH": str(Path(svdlab.__file__).parents[1])}
    process = subprocess.Popen([*SERVE, "--data", str(folder)], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    with process.stdout:
        try:
            found = re.search(r"at (http://\S+)$", process.stdout.readline().rstrip())
            assert found
            yield process, found[1]
        finally:
            process.kill()
            process.wait()


def statuses(url: str, key: str, ids: list[str]) -> list[str]:
    with httpx.Client(base_url=url, headers={"Authorization": f"Key {key}"}, trust_env=False) as client:
        return [client.get(f"/queue/{APP}/requests/{id}/status").json()["status"] for id in ids]


def test_a_worker_that_is_killed_is_replaced_and_its_request_runs_again_once(tmp_path: Path, data_uri: str) -> None:
    with running(tmp_path) as server, server.client() as client:
        until(lambda: client.get("/health").json()["state"] == "READY")
        first = server.submit(client, {"image_url": data_uri, **LONG})
        second = server.submit(client, {"image_url": data_uri, **QUICK, "seed": 8})
        for _ in range(2):
            server.wait(client, first, "IN_PROGRESS")
            pid = server.endpoint.store.row("SELECT pid FROM worker WHERE slot = 0")
            assert pid is not None
            os.kill(pid["pid"], signal.SIGKILL)
            # The next worker notes that it is there before it looks at what the last one left.
            until(lambda old=pid["pid"]: server.endpoint.store.row("SELECT 1 FROM worker WHERE pid != ?", (old,)))
            until(
                lambda: (
                    any("died" in line["message"] for line in server.endpoint.queue.logs(first))
                    or server.endpoint.queue.status(first, server.alice.partition(":")[0])["status"] == "COMPLETED"
                )
            )
        lost = server.wait(client, first)
        assert (lost["error_type"], client.get(lost["response_url"]).status_code) == ("runner_disconnected", 500)
        assert server.wait(client, second)["metrics"]["inference_time"] > 0
        assert client.get(f"/queue/{APP}/requests/{second}").json()["seed"] == 8


@pytest.mark.slow
def test_a_server_that_is_killed_loses_nothing(tmp_path: Path, data_uri: str) -> None:
    with Store(tmp_path / "server.sqlite") as store:
        key = make_key(store, "alice")
    headers = {"Authorization": f"Key {key}"}
    ids: list[str] = []
    with served(tmp_path) as (process, url):
        for k in range(4):
            arguments = {"image_url": data_uri, **(LONG if k == 0 else QUICK), "steps": 40 if k == 0 else 1, "seed": k}
            ids.append(httpx.post(f"{url}/queue/{APP}", json=arguments, headers=headers).json()["request_id"])
        until(lambda: statuses(url, key, ids)[0] == "IN_PROGRESS")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with served(tmp_path) as (_, url):
        until(lambda: set(statuses(url, key, ids)) == {"COMPLETED"})
        results = [httpx.get(f"{url}/queue/{APP}/requests/{id}", headers=headers) for id in ids]
        assert [answer.status_code for answer in results] == [200] * 4
        assert [answer.json()["seed"] for answer in results] == [0, 1, 2, 3]
        assert {path.name for path in (tmp_path / "files").iterdir()} == {
            answer.json()["video"]["url"].split("/")[-2] for answer in results
        }
        second = subprocess.run([*SERVE, "--data", str(tmp_path)], capture_output=True, text=True, timeout=300)
        assert second.returncode == 2
        assert "another server runs on this folder" in second.stderr


@pytest.mark.slow
def test_one_round_of_the_campaign_loses_nothing_and_does_nothing_twice(tmp_path: Path, data_uri: str) -> None:
    with campaign(tmp_path, {"image_url": data_uri, "num_frames": 8}) as one:
        asyncio.run(one.round(0, clients=12, jobs=6))
    assert one.tally.wrong == []
    assert one.tally.broken > 0  # there was a time without a server
    assert one.tally.polls >= 12

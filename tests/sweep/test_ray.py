"""Ray: real clusters of simulated nodes on this machine, whose workers, nodes and driver are killed."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest

import svdlab as sl
from svdlab.doctor import checkup_ray
from svdlab.errors import SweepError
from svdlab.sweep.engine import Engine
from svdlab.sweep.frame import COSTS
from svdlab.sweep.ledger import Ledger
from tests.sweep.conftest import QUIET, SMALL

ray = pytest.importorskip("ray") if "SVDLAB_REQUIRE_RAY" not in os.environ else __import__("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

GRID = {"image": sl.examples.path("kite"), "steps": [1, 2], "motion_bucket_id": [32, 127, 224], "seed": [0, 1]}
CELLS = 12
KILLS = 3  # each costs a worker that loads the model anew; more by hand
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def short():
    """A folder with a short name: Ray keeps sockets there."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.fixture(scope="module")
def cluster(short):
    """Two nodes of one core each; the tests share them."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    head = {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False, "temp_dir": f"{short}/a"}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, num_gpus=0)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def go(cluster, tmp_path):
    """A sweep of twelve cells on the cluster; arguments are changes."""

    def go(**changes):
        engine = {"kind": "ray", "address": cluster.address, **changes.pop("engine", {})}
        call = {**GRID, "out": tmp_path / "run", "engine": engine, **QUIET, **SMALL}
        return sl.sweep("tiny-random", **{**call, **changes})

    return go


@pytest.fixture(scope="module")
def local(pipe, tmp_path_factory):
    """The same sweep in this process."""
    return sl.sweep(pipe, out=tmp_path_factory.mktemp("local") / "run", **GRID, **QUIET, **SMALL)


def assert_equal(sweep, local):
    frames = [each.frame().drop(columns=list(COSTS)) for each in (sweep, local)]
    pd.testing.assert_frame_equal(*frames)
    for cell in frames[0]["cell"]:
        assert sweep.manifest(cell)["files"] == local.manifest(cell)["files"]  # bit for bit: latents, mp4, thumbnail


def actors() -> list[int]:
    """Processes of workers that hold a pipeline."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and b"ray::CellWorker" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return sorted(found)


def test_workers_killed_at_random_leave_what_this_process_makes(go, local, caplog):
    rng, killed = random.Random(0), []

    def kill(row):
        """All at first, the one that made this cell among them; then one at a time."""
        if len(killed) < KILLS and (pids := actors()):
            chosen = [rng.choice(pids)] if killed else pids
            killed.extend(chosen)
            for pid in chosen:
                os.kill(pid, signal.SIGKILL)

    with caplog.at_level(logging.WARNING, "svdlab"):
        sweep = go(on_cell=kill, engine={"attempts": 2 * KILLS})
    assert killed
    assert_equal(sweep, local)
    assert "a worker died: " in caplog.text
    assert any(worker.died for worker in sweep.workers)
    assert sum(worker.cells for worker in sweep.workers) == CELLS
    with Ledger(sweep.path) as ledger:
        done = [row["cell"] for row in ledger.events() if row["what"] == "done"]
    assert len(done) == len(set(done)) == CELLS


def test_a_node_that_goes_and_one_that_does_not_fit(cluster, go, local, tmp_path, caplog):
    about = tmp_path / "site" / "torch-9.9.9.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9\n")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    strange = cluster.add_node(num_cpus=1, num_gpus=0, env_vars={"PYTHONPATH": path})
    brief = cluster.add_node(num_cpus=1, num_gpus=0)
    rows = []

    def end_node(row):
        rows.append(row)
        if len(rows) == 3:
            cluster.remove_node(brief, allow_graceful=False)
        if "is left out" not in caplog.text:
            time.sleep(3)  # else all may be made before the strange node has started its worker

    try:
        with caplog.at_level(logging.WARNING, "svdlab"):
            sweep = go(on_cell=end_node)
    finally:
        cluster.remove_node(strange)
    assert_equal(sweep, local)
    assert "is left out: has torch 9.9.9, and the driver" in caplog.text


def test_a_driver_that_is_killed_goes_on(cluster, go, local, tmp_path):
    code = (
        "import sys, os, signal, svdlab as sl\n"
        "from tests.sweep.test_ray import GRID\n"
        "from tests.sweep.conftest import QUIET, SMALL\n"
        "rows = []\n"
        "def die(row):\n"
        "    rows.append(row)\n"
        "    if len(rows) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "engine = {'kind': 'ray', 'address': sys.argv[2]}\n"
        "sl.sweep('tiny-random', out=sys.argv[1], engine=engine, on_cell=die, **GRID, **QUIET, **SMALL)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run"), cluster.address]
    died = subprocess.run(command, cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    assert sl.open_sweep(tmp_path / "run").status()["done"] == 4
    sweep = go()
    assert sweep.plan.todo == CELLS - 4
    assert_equal(sweep, local)


def test_a_sweep_that_is_stopped_lets_workers_finish_what_they_have_in_hand(go, local):
    rows = []
    sweep = go(on_cell=rows.append, stop=lambda: len(rows) >= 2)
    counts = sweep.status()
    assert sweep.interrupted
    assert 2 <= counts["done"] < CELLS
    assert counts["pending"] == CELLS - counts["done"]  # none is left running
    assert_equal(go(), local)


def test_the_doctor_lets_every_worker_load_the_model(cluster, tmp_path):
    engine = Engine(kind="ray", address=cluster.address)
    found = checkup_ray("tiny-random", engine=engine)
    assert [finding.state for finding in found] == ["ok", "ok"]
    assert all(finding.found == "1 CPU, 0 GPU: 1 worker on cpu" for finding in found)
    *nodes, whole = checkup_ray(str(tmp_path), engine=engine)
    assert [finding.state for finding in (*nodes, whole)] == ["problem"] * 3
    assert all(str(tmp_path) in finding.mend for finding in nodes)
    assert "no node can make cells" in whole.found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_addresses_where_no_cluster_answers_are_refused_at_once(tmp_path, monkeypatch):
    call = {**GRID, "out": tmp_path / "run", **QUIET, **SMALL}
    with pytest.raises(SweepError, match=r"no Ray cluster can be used at 127\.0\.0\.1:\d+ \(ConnectionRefusedError"):
        sl.sweep("tiny-random", engine={"kind": "ray", "address": f"127.0.0.1:{free_port()}"}, **call)
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:10001")
    with pytest.raises(SweepError, match=r"ray:// addresses are not.*RAY_ADDRESS unset"):
        sl.sweep("tiny-random", engine="ray", **call)
    assert not (tmp_path / "run").exists()


def test_what_no_node_can_do_is_said_before_anything_is_written(go, tmp_path):
    with pytest.raises(SweepError, match=r"no node has room for a worker, which takes 1 CPU, 1 GPU\. The cluster has"):
        go(engine={"gpus_per_worker": 1})
    assert not (tmp_path / "run").exists()

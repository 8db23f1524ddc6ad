"""Trackers: the real clients, without a network, and what they stored, read back."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import svdlab as sl
from svdlab.errors import ExtraError, SweepError
from svdlab.sweep.trackers import _jobs

ROOT = Path(__file__).parents[2]
BEGIN = """
import json, pathlib, sys
import svdlab as sl
sweep = sl.open_sweep(sys.argv[1])
answer = lambda value: pathlib.Path("answer.json").write_text(json.dumps(value))
"""


def export(code: str, folder: Path, **variables: str) -> str:
    """What a few lines answer, in a process of their own: clients keep threads, servers and warnings of their own."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **variables}
    code = f"{BEGIN}\n{code}"
    (folder / "home").mkdir(exist_ok=True)
    env["HOME"] = str(folder / "home")
    run = [sys.executable, "-c", code, str(folder / "copy")]
    done = subprocess.run(run, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return (folder / "answer.json").read_text()


def needs(client: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(client) is None, reason=f"the client {client} is not installed")


def test_what_a_tracker_is_told(eight):
    sweep = sl.open_sweep(eight)
    row = sweep.frame().iloc[3]
    job = _jobs(sweep, clips=True)[3]
    assert (job.cell, job.group) == (row["cell"], "run")
    assert job.config["steps"] == 2
    assert job.config["decode_chunk"] == 2  # also what the sweep did not name
    assert job.config["image"] == "rocket"
    assert job.config["model/fingerprint"] == sweep.model["fingerprint"]
    assert job.config["metric_versions/flow_mean"] == sl.metrics.get("flow_mean").version
    assert "versions/torch" in job.config
    assert job.values["flow_mean"] == row["flow_mean"]
    assert "vram_peak_mb" not in job.values  # not defined on a CPU
    assert job.clip is not None
    assert job.clip.is_file()
    json.dumps(dict(job.config))  # plain values
    assert _jobs(sweep, clips=False)[0].clip is None


def test_a_tracker_that_nobody_knows_or_that_is_not_there(eight, monkeypatch):
    sweep = sl.open_sweep(eight)
    with pytest.raises(SweepError, match=r"to = 'tensorboard': must be one of 'wandb', 'mlflow', 'trackio'"):
        sweep.export("tensorboard")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ExtraError, match=r"to = 'wandb': its client is not installed\. Install it: pip install wandb"):
        sweep.export("wandb")


@pytest.mark.slow
@needs("mlflow")
def test_mlflow_in_a_local_store(copied, tmp_path):
    code = """
address = "file://" + sys.argv[1] + "-mlflow"
counts = [sweep.export("mlflow", project="lcm", clips=k == 0, progress=False, tracking_uri=address) for k in range(2)]
import mlflow
client = mlflow.MlflowClient(tracking_uri=address)
runs = client.search_runs([client.get_experiment_by_name("lcm").experiment_id])
cells = {run.data.tags["svdlab.cell"]: [run.data.params, run.data.metrics, run.info.status] for run in runs}
artifacts = [file.path for file in client.list_artifacts(runs[0].info.run_id)]
answer([counts, len(runs), artifacts, cells])
"""
    counts, runs, artifacts, cells = json.loads(export(code, tmp_path, MLFLOW_ALLOW_FILE_STORE="true"))
    assert (counts, runs, artifacts) == ([8, 8], 8, ["clip.mp4"])  # exported twice, each cell is there once
    for _, row in copied.frame().iterrows():
        params, metrics, status = cells[row["cell"]]
        assert status == "FINISHED"
        assert (params["steps"], params["seed"], params["image"]) == (str(row["steps"]), str(row["seed"]), row["image"])
        assert metrics["flow_mean"] == row["flow_mean"]
        assert metrics["seconds"] == row["seconds"]


@pytest.mark.slow
@needs("trackio")
def test_trackio_in_a_local_store(copied, tmp_path):
    code = """
counts = [sweep.export("trackio", project="lcm", clips=True, progress=False) for _ in range(2)]
import sqlite3, glob, os
[place] = glob.glob(os.environ["TRACKIO_DIR"] + "/lcm*.db")
db = sqlite3.connect(place)
names = [row[0] for row in db.execute("SELECT DISTINCT run_name FROM metrics")]
values = {row[0]: json.loads(row[1]) for row in db.execute("SELECT run_name, metrics FROM metrics")}
configs = {row[0]: json.loads(row[1]) for row in db.execute("SELECT run_name, config FROM configs")}
answer([counts, names, values, configs])
"""
    counts, names, values, configs = json.loads(export(code, tmp_path, TRACKIO_DIR=str(tmp_path / "trackio")))
    frame = copied.frame()
    assert counts == [8, 8]
    assert sorted(names) == sorted(frame["cell"])
    for _, row in frame.iterrows():
        assert values[row["cell"]]["flow_mean"] == row["flow_mean"]
        assert configs[row["cell"]]["steps"] == row["steps"]
        assert values[row["cell"]]["clip"]["_type"] == "trackio.video"


@pytest.mark.slow
@needs("wandb")
def test_wandb_without_a_network(copied, tmp_path):
    code = """
count = sweep.export("wandb", project="lcm", clips=True, progress=False, mode="offline", dir=sys.argv[1] + "-wandb")
answer(count)
"""
    (tmp_path / "copy-wandb").mkdir()
    assert json.loads(export(code, tmp_path)) == 8
    cells = list(copied.frame()["cell"])
    folders = {path.name.rpartition("-")[2]: path for path in (tmp_path / "copy-wandb").glob("wandb/offline-run-*")}
    assert sorted(folders) == sorted(cells)
    for cell, folder in folders.items():
        stored = (folder / f"run-{cell}.wandb").read_bytes()
        for word in (b"flow_mean", b"model/fingerprint", cell.encode(), b"warp_error"):
            assert word in stored
        assert len(list(folder.glob("files/media/videos/*.mp4"))) == 1

"""Recipes: what docs/recipes tells others to run is understood by svdlab as it is now."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import typer
import yaml

from svdlab.cli import app

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"


def parse_sweep(line: str) -> dict:
    """What `svdlab sweep` takes a command line for, without running it."""
    program, command, *words = shlex.split(line)
    assert (program, command) == ("svdlab", "sweep")
    return typer.main.get_command(app).commands["sweep"].make_context("sweep", words).params


def test_the_manifest_for_kubernetes():
    job = yaml.safe_load((RECIPES / "kuberay.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    given = parse_sweep(job["spec"]["entrypoint"])
    assert given["engine"] == "ray"
    cluster = job["spec"]["rayClusterSpec"]
    [workers] = cluster["workerGroupSpecs"]
    head, worker = (group["template"]["spec"] for group in (cluster["headGroupSpec"], workers))
    for pod in (head, worker):
        [container] = pod["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["requests"] == container["resources"]["limits"]
    # All see the spec; the head alone sees the run directory, on a claim of its own.
    assert [{mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]} for pod in (head, worker)] == [
        {"/data", "/runs"},
        {"/data"},
    ]
    assert given["spec"].is_relative_to("/data")
    assert given["run"].is_relative_to("/runs")
    assert head["containers"][0]["image"] == worker["containers"][0]["image"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_script_for_slurm():
    script = RECIPES / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    last = script.read_text(encoding="utf-8").splitlines()[-1]
    assert parse_sweep(last.replace('"$spec"', "spec.toml").replace('"$@"', "--retry failed"))["engine"] == "ray"
    wrong = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert wrong.returncode != 0
    assert "usage: sbatch slurm.sh SPEC" in wrong.stderr

"""Provenance: commits are found without running anything of the checkout; manifests tell where a cell comes from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import svdlab as sl
from svdlab.request import Defaults, Request
from svdlab.sampling import NoiseStreams
from svdlab.sampling import noise as noise_module
from svdlab.sweep import artifacts, provenance
from svdlab.sweep.ledger import FILE

ROOT = Path(__file__).parents[2]
DEFAULTS = Defaults(num_frames=2, width=32, height=32)


def git(root: Path, *words: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", str(root), *who, *words], capture_output=True, text=True, check=True, env=env)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A git checkout of a package called svdlab."""
    root = tmp_path / "checkout"
    (root / "svdlab").mkdir(parents=True)
    (root / "svdlab" / "_version.py").write_text("__version__ = '0'\n")
    (root / "README.md").write_text("hello\n")
    git(tmp_path, "init", "-q", "-b", "main", str(root))
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    return root


def test_the_commit_and_whether_the_package_differs_from_it(checkout):
    head = git(checkout, "rev-parse", "HEAD")
    assert provenance.read_commit(checkout) == head
    (checkout / "README.md").write_text("changed\n")  # no part of the package
    assert provenance.read_commit(checkout) == head
    (checkout / "svdlab" / "new.py").write_text("")
    assert provenance.read_commit(checkout) == f"{head}-dirty"
    (checkout / "svdlab" / "new.py").unlink()
    (checkout / "svdlab" / "_version.py").write_text("__version__ = '1'\n")
    assert provenance.read_commit(checkout) == f"{head}-dirty"


def test_nothing_of_the_checkout_is_run_or_written(checkout, tmp_path):
    """A file monitor and a hook that would leave a trace."""
    trace = tmp_path / "trace"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {trace}\n")
    script.chmod(0o755)
    git(checkout, "config", "core.fsmonitor", str(script))
    hook = checkout / ".git" / "hooks" / "post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_bytes(script.read_bytes())
    hook.chmod(0o755)
    index = (checkout / ".git" / "index").read_bytes()
    os.utime(checkout / "svdlab" / "_version.py", (0, 0))  # git status would like to refresh its index now
    assert provenance.read_commit(checkout) is not None
    assert not trace.exists()
    assert (checkout / ".git" / "index").read_bytes() == index
    git(checkout, "status")
    assert trace.exists()  # an ordinary call does run them


def test_no_checkout_no_word(checkout, tmp_path, monkeypatch, caplog):
    assert provenance.read_commit(tmp_path) is None  # no .git
    inside = checkout / "lib" / "python"  # a package that is installed inside of somebody's checkout
    (inside / "svdlab").mkdir(parents=True)
    assert provenance.read_commit(inside) is None
    git(checkout, "rm", "-q", "--cached", "svdlab/_version.py")
    assert provenance.read_commit(checkout) is None  # the package is not tracked
    git(tmp_path, "init", "-q", str(tmp_path / "young"))
    (tmp_path / "young" / "svdlab").mkdir()
    (tmp_path / "young" / "svdlab" / "_version.py").write_text("")
    git(tmp_path / "young", "add", ".")
    assert provenance.read_commit(tmp_path / "young") is None  # no commit yet
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / ".git").write_text("gitdir: /nowhere\n")
    assert provenance.read_commit(tmp_path / "fake") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.read_commit(checkout) is None  # no git
    assert not caplog.records


def test_surroundings_do_not_lead_git_astray(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert re.fullmatch(r"[0-9a-f]{40}", provenance.read_commit(checkout) or "")


def test_versions_name_the_code_and_are_asked_once():
    provenance.code_version.cache_clear()
    versions = provenance.versions()
    assert versions["svdlab"] == sl.__version__
    assert {"python", "torch", "diffusers", "numpy", "opencv-python-headless"} <= set(versions)
    assert versions.get("commit") == provenance.read_commit(ROOT)
    provenance.versions()
    assert provenance.code_version.cache_info().misses == 1


def test_a_package_that_is_not_there_is_left_out(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "no-such-package"))
    assert set(provenance.versions()) - {"commit"} == {"svdlab", "python", "torch"}


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 1},
        {"steps": 4},
        {"steps": 3, "schedule": "even"},
        {"steps": 5, "schedule": "karras", "gamma": 0.5},
        {"steps": 3, "gamma": 0.0},
        {"steps": 2, "cond_aug": 0.0},
    ],
)
def test_the_streams_are_those_that_the_pipeline_draws(pipe, pictures, monkeypatch, changes):
    """Against what is really drawn; conditioning noise of strength 0 is drawn, but is no part of the clip."""
    drawn = []
    draw = noise_module.draw
    monkeypatch.setattr(noise_module, "draw", lambda seed, name, shape: drawn.append(name) or draw(seed, name, shape))
    small = {"num_frames": 2, "width": 32, "height": 32, "seed": 3}
    pipe.clear_cache()  # what is kept is not drawn again
    clip = pipe(pictures / "kite.png", **small, **changes)
    if clip.request.cond_aug == 0:
        drawn.remove("conditioning")
    assert list(provenance.noise_streams(clip.request.settings())) == drawn


def test_equal_names_are_equal_noise():
    settings = [Request(image="x", seed=1, steps=steps).resolve(DEFAULTS).settings() for steps in (4, 8)]
    shared = set(provenance.noise_streams(settings[0])) & set(provenance.noise_streams(settings[1]))
    assert {"conditioning", "initial", "reinjected/128.563697"} <= shared
    one, two = (NoiseStreams(1).reinjected(sigma, (2, 2)) for sigma in (128.563697, 128.5636970001))
    assert one.equal(two)


def test_the_machine_in_words():
    about = provenance.machine("cpu")
    assert set(about) == {"platform", "threads", "vectors"}  # torch is loaded here
    assert about["threads"] == str(torch.get_num_threads())
    assert provenance.machine(None) == about


def test_a_manifest_tells_where_its_cell_comes_from(go, tmp_path):
    sweep = go(steps=[2], seed=[0])
    cell = sweep.frame()["cell"][0]
    manifest = sweep.manifest(cell)
    assert manifest["noise_streams"] == list(provenance.noise_streams(manifest["request"]))
    assert manifest["versions"] == provenance.versions()
    assert manifest["machine"] == provenance.machine("cpu")
    assert manifest["key_version"] == 1
    assert "revision" in manifest["model"]
    assert manifest["metrics"]["flow_mean"]["version"] == sl.metrics.get("flow_mean").version
    text = (sweep.path / artifacts.cell_path(cell) / "manifest.json").read_text()
    for path in (str(tmp_path), str(ROOT), str(Path.home()), sys.prefix):
        assert f"{path}/" not in text, path


def test_metrics_that_came_later_say_by_which_code(go):
    sweep = go(steps=[1], seed=[0])
    cell = sweep.frame()["cell"][0]
    assert "backfills" not in sweep.manifest(cell)
    sweep.backfill(["flicker"], progress=False)
    sweep.backfill(["psnr_input"], progress=False)
    added = sweep.manifest(cell)["backfills"]
    assert [entry["metrics"] for entry in added] == [["flicker"], ["psnr_input"]]
    assert added[0]["versions"] == provenance.versions()
    assert added[0]["finished"] <= added[1]["finished"]


def test_manifests_of_svdlab_0_1_0_still_open(go):
    """Without the keys that came since: read, measured again, and rebuilt from."""
    sweep = go(steps=[1], seed=[0])
    cell = sweep.frame()["cell"][0]
    place = sweep.path / artifacts.cell_path(cell) / "manifest.json"
    manifest = json.loads(place.read_text())
    for name in ("noise_streams", "machine", "key_version"):
        del manifest[name]
    manifest["versions"].pop("commit", None)
    place.write_text(json.dumps(manifest))
    assert sweep.clip(cell).seed == 0
    (sweep.path / FILE).unlink()
    again = go(steps=[1], seed=[0])
    assert again.status()["done"] == 1
    again.backfill(["flicker"], progress=False)
    assert again.frame()["flicker"].notna().all()
    text = str(again.explain(cell))
    assert "by the request" in text
    assert re.search(r"platform +not recorded", text)

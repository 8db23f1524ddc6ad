"""Engine: its settings are checked before anything is started, and secrets stay out of texts and specs."""

from __future__ import annotations

import dataclasses
import sys

import pytest
from PIL import Image

from svdlab.errors import ExtraError, MetricError, SpecError, SweepError
from svdlab.pipeline import Pipeline
from svdlab.sweep.engine import KEYS, Engine, make_engine
from svdlab.sweep.ray_cluster import Node, gpus_per_worker, has, slots, words
from svdlab.sweep.ray_worker import Needs
from svdlab.sweep.spec import change_engine, make_spec


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "dask"}, r"kind = 'dask': must be 'local' \(this process\) or 'ray'"),
        (7, "engine = 7: must be 'local', 'ray', or a table of settings"),
        ({"kind": "ray", "gpus": 2}, r"gpus: there is no such key\. Allowed are kind, address, workers"),
        ({"kind": "ray", "address": "ray://10.0.0.5:10001"}, "address = 'ray://.*must be host:port of a Ray cluster"),
        ({"kind": "ray", "address": "somewhere"}, "address = 'somewhere': must be host:port"),
        ({"kind": "ray", "workers": 0}, "workers = 0: must be a whole number, 1 or more"),
        ({"kind": "ray", "workers": True}, "workers = True: must be a whole number"),
        ({"kind": "ray", "gpus_per_worker": 2}, "gpus_per_worker = 2: must be 1, a share of it, or 0"),
        ({"kind": "ray", "gpus_per_worker": float("nan")}, "gpus_per_worker = nan: must be 1"),
        ({"kind": "ray", "resources": {"GPU": 1}}, "GPU is given as gpus_per_worker"),
        ({"kind": "ray", "resources": {"CPU": -1}}, "CPU must be a number, 0 or more"),
        ({"kind": "ray", "resources": ["CPU"]}, "must be a table of amounts by name"),
        ({"kind": "ray", "env": {"A B": "x"}}, "must be a table of texts by the names of variables"),
        ({"kind": "ray", "env": {"A": 1}}, "must be a table of texts"),
        ({"kind": "ray", "attempts": 0}, "attempts = 0: must be a whole number"),
        ({"workers": 2}, "workers: only 'ray' knows that; give kind = 'ray'"),
    ],
)
def test_what_is_refused(given, said):
    with pytest.raises(SpecError, match=said):
        make_engine(given)


@pytest.mark.parametrize("name", ["HF_TOKEN", "FAL_KEY", "DB_PASSWORD", "KEY", "aws_secret_access"])
def test_secrets_are_refused_and_not_repeated(name):
    with pytest.raises(SpecError, match=f"{name} looks like a secret") as error:
        make_engine({"kind": "ray", "env": {name: "hunter2", "HF_HOME": "/scratch"}})
    assert "hunter2" not in str(error.value)


def test_the_kind_alone_keeps_the_settings_of_a_spec():
    engine = {"kind": "ray", "workers": 2, "env": {"HF_HOME": "/scratch", "KEYBOARD": "us"}}
    spec = make_spec(images=Image.new("RGB", (64, 48)), grid={}, engine=engine)
    assert change_engine(spec, "ray").engine.workers == 2
    assert change_engine(spec, None) is spec
    assert change_engine(spec, "local").engine == Engine()
    assert change_engine(spec, {"kind": "ray", "workers": 3}).engine == Engine(kind="ray", workers=3)
    assert set(KEYS) == set(Engine.__dataclass_fields__)


def test_how_many_workers_a_node_has_room_for():
    node = Node(key="a", name="host/a", resources={"CPU": 8.0, "GPU": 1.0, "fast": 1.0})
    ray = Engine(kind="ray")
    assert gpus_per_worker(ray, [node]) == 1
    assert gpus_per_worker(Engine(kind="ray", gpus_per_worker=0), [node]) == 0
    assert gpus_per_worker(ray, []) == 0
    assert slots(node, ray, 1.0) == 1
    assert slots(node, ray, 0.1) == 8  # one core each
    assert slots(node, Engine(kind="ray", resources={"CPU": 0.1}), 0.1) == 10
    assert slots(node, Engine(kind="ray", resources={"CPU": 3}), 0.0) == 2
    assert slots(node, Engine(kind="ray", resources={"fast": 1}), 0.0) == 1
    assert slots(node, Engine(kind="ray", resources={"slow": 1}), 0.0) == 0
    assert has([node]) == "1 node: host/a with 8 CPU, 1 GPU"
    assert has([node] * 10).startswith("10 nodes: ")
    assert has([node] * 10).endswith(" and 2 more")


def test_without_the_package_the_error_says_how_to_get_it(go, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(ExtraError, match=r'needs the package ray\. Install it: pip install "svdlab\[ray\]"'):
        go(engine="ray")
    assert not (tmp_path / "run").exists()


def test_what_is_not_for_workers_is_refused_before_a_cluster_is_asked_for(go, pipe, tmp_path):
    with pytest.raises(SweepError, match=r"batch = 'auto': workers may differ.*Give a number"):
        go(engine="ray", batch="auto")
    with pytest.raises(SweepError, match="a hosted model computes at its host"):
        go(engine="ray", pipe="fal-ai/fast-svd-lcm")
    folder = Pipeline(dataclasses.replace(pipe.components, name="my-model"))
    with pytest.raises(SweepError, match=r"'my-model' was loaded from a folder.*Give the path"):
        go(engine="ray", pipe=folder)
    with pytest.raises(MetricError, match="no_such_metric"):
        go(engine="ray", metrics=["no_such_metric"])
    assert not (tmp_path / "run").exists()


def test_a_worker_computes_on_what_it_was_given():
    assert Needs(name="svd").on(0.5).device == "cuda"
    assert Needs(name="svd").on(0.0).device == "cpu"
    assert Needs(name="svd", device="mps").on(0.0).device == "mps"


def test_what_ray_says_in_one_line():
    text = "\x1b[36mThe actor died of it.\x1b[0m\n\tclass_name: CellWorker\n\tactor_id: 12ab\nIt was killed."
    assert words(RuntimeError(text)) == "The actor died of it. It was killed."
    assert len(words(RuntimeError("x" * 1000))) == 303
    wrapped = RuntimeError("ray::CellWorker.make() (pid=12, ip=10.0.0.5)\n  File ...")
    wrapped.cause = OSError(28, "No space left on device")
    assert words(wrapped) == "OSError: [Errno 28] No space left on device"

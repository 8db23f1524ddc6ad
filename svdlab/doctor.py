"""Doctor: what this installation has, what it lacks, and the command that mends it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from svdlab._version import __version__
from svdlab.errors import SweepError
from svdlab.files import cache_dir

if TYPE_CHECKING:
    from svdlab.sweep.engine import Engine

EXTRAS = {"hosted": "fal_client", "serve": "fastapi", "ray": "ray", "train": "accelerate", "test": "pytest"}
NEEDED = ("torch", "torchvision", "diffusers", "transformers", "safetensors", "lpips", "opencv-python-headless", "av")


@dataclass(frozen=True)
class Finding:
    """One line of the checkup."""

    state: str  # ok, note or problem
    what: str
    found: str
    mend: str = ""


def checkup() -> list[Finding]:
    """Look at everything that svdlab needs. Nothing is fetched or changed.

    Example:
        >>> [finding.what for finding in checkup() if finding.state == "problem"]
        []
    """
    return [*_python(), *_packages(), *_pair(), *_device(), *_weights(), *_disk(), *_extras()]


def checkup_ray(model: str, *, engine: Engine) -> list[Finding]:
    """Look at a Ray cluster as a sweep would use it: every worker that there is room for loads the model.

    Args:
        model: what `svdlab.load` takes.
        engine: of a sweep, with the kind ``"ray"``.

    Raises:
        ExtraError: ray is not installed.

    Example:
        >>> [finding.what for finding in checkup_ray("tiny-random", engine=Engine(kind="ray"))]
        ['node gpu-3/5f0c1b']
    """
    try:
        return list(_cluster(engine, model))
    except SweepError as error:
        return [Finding("problem", "cluster", str(error))]


def _cluster(engine: Engine, model: str) -> Iterator[Finding]:
    from svdlab.sweep.ray_cluster import connected, has, nodes
    from svdlab.sweep.ray_pool import RayPool
    from svdlab.sweep.ray_worker import Needs

    with connected(engine.address) as ray, contextlib.closing(RayPool(ray, engine, Needs(name=model))) as pool:
        trouble, slow = "", set()
        try:
            slow = pool.settle()
        except SweepError as error:
            trouble = str(error)
        for node in nodes(ray):
            ready = [worker.device for worker in pool.ready if worker.node == node.name]
            found = has([node]).partition(" with ")[2]
            workers = f"{len(ready)} worker{'' if len(ready) == 1 else 's'} on {ready[0]}" if ready else "no worker"
            what, found = f"node {node.name}", f"{found}: {workers}"
            if why := pool.left_out.get(node.name):
                yield Finding("problem", what, found, why)
            elif node.name in slow:
                yield Finding(
                    "note", what, found, "not all workers are ready: others use the node, or the model is slow"
                )
            else:
                yield Finding("ok" if ready else "note", what, found, "" if ready else "there is no room for one")
        if not pool.ready:
            yield Finding("problem", "cluster", trouble or "no node can make cells")


def _python() -> Iterator[Finding]:
    yield Finding("ok", "svdlab", f"{__version__} on Python {platform.python_version()}, {platform.platform()}")


def _packages() -> Iterator[Finding]:
    for name in NEEDED:
        try:
            yield Finding("ok", name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("problem", name, "not installed", "pip install svdlab, into a fresh environment")


def _pair() -> Iterator[Finding]:
    """Torch and torchvision of different builds fail at import with an error that names neither."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        mend = "a fresh environment: python -m venv .venv, then pip install svdlab there"
        yield Finding("problem", "torch + torchvision", f"do not fit together: {error}", mend)
    else:
        yield Finding("ok", "torch + torchvision", "a fitting pair")


def _device() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            yield Finding("ok", f"device cuda:{index}", f"{about.name}, {about.total_memory / 1e9:.0f} GB")
    elif torch.backends.mps.is_available():
        yield Finding("ok", "device", "mps (Apple)")
    else:
        yield Finding(
            "note", "device", f"cpu, {cores} cores", "the real models want a CUDA GPU; the bundled ones do not"
        )
    threads = torch.get_num_threads()
    if threads > (cores or 1):
        mend = f"set OMP_NUM_THREADS={cores}: more threads than cores cost up to tenfold"
        yield Finding("problem", "threads", f"{threads} for {cores} cores", mend)
    else:
        yield Finding("ok", "threads", f"{threads} for {cores} cores")


def _weights() -> Iterator[Finding]:
    from svdlab.metrics.lpips_weights import find_lpips_weights
    from svdlab.models import CATALOGUE, is_local

    lpips = find_lpips_weights()
    if lpips:
        yield Finding("ok", "LPIPS weights", str(lpips))
    else:
        yield Finding("note", "LPIPS weights", "not here yet; fetched once when first needed", "svdlab weights lpips")
    for info in CATALOGUE.values():
        if is_local(info.name):
            yield Finding("ok", f"model {info.name}", "on this machine")
        else:
            yield Finding("note", f"model {info.name}", "not on this machine", f"svdlab weights {info.name}")


def _disk() -> Iterator[Finding]:
    folder = cache_dir()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    yield Finding(
        "ok" if free > 2 else "problem", "free disk", f"{free:.0f} GB at {cache_dir()}", "" if free > 2 else "free some"
    )
    here = shutil.disk_usage(Path.cwd()).free / 1e9
    yield Finding("ok" if here > 2 else "problem", "free disk", f"{here:.0f} GB here", "" if here > 2 else "free some")


def _extras() -> Iterator[Finding]:
    for extra, module in EXTRAS.items():
        if importlib.util.find_spec(module):
            yield Finding("ok", f"extra [{extra}]", "installed")
        else:
            yield Finding("note", f"extra [{extra}]", "not installed", f'pip install "svdlab[{extra}]"')

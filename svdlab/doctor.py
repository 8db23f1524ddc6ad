"""Doctor: what this installation has, what it lacks, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from svdlab._version import __version__
from svdlab.files import cache_dir

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

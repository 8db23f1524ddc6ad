"""Checkpoints: all that training needs to go on, as one safetensors file and one JSON file that points to it.

The JSON file is the commit: it is moved into place after the tensors are on the disk, and names them. A process that is
killed at any moment leaves the last whole checkpoint, or the new one.

    checkpoints/
        checkpoint.json                 step, settings, size and name of the tensors' file
        step-00000500.safetensors       weights, averages, optimiser state
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from svdlab.errors import TrainingError
from svdlab.files import atomic_path, write_atomic

FOLDER = "checkpoints"
COMMIT = "checkpoint.json"
FORMAT = 1


def save_checkpoint(folder: Path, *, step: int, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> Path:
    """Write a checkpoint into `folder` and remove what it replaces; the path of its tensors.

    Args:
        folder: made if missing.
        step: steps that are done; names the file.
        tensors: any device; stored as they are, in their own format.
        info: what else is to be kept, ready for JSON.

    Raises:
        TrainingError: the disk is full or the folder cannot be written; the last checkpoint is untouched.

    Example:
        >>> save_checkpoint(Path("run/checkpoints"), step=500, tensors={"weight": w}, info={"seconds": 12.5})
    """
    from safetensors.torch import save_file

    name = f"step-{step:08d}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / name) as tmp:
            save_file(_storable(tensors), tmp)
        commit = {"format": FORMAT, "step": step, "file": name, "bytes": (folder / name).stat().st_size, **info}
        write_atomic(folder / COMMIT, json.dumps(commit, indent=2) + "\n")
    except OSError as error:
        raise TrainingError(
            f"{folder}: the checkpoint of step {step} cannot be written ({error}). What was saved before is untouched;"
            " make room there and start again to go on from it."
        ) from error
    for path in folder.iterdir():  # older ones, and what killed processes left
        if path.name not in (name, COMMIT):
            path.unlink()
    return folder / name


def read_commit(folder: Path) -> dict[str, Any] | None:
    """What `checkpoint.json` in `folder` says (`step`, `file`, and the `info` that was saved); None if there is none.

    Raises:
        TrainingError: it cannot be read, is of another version, or its tensors are missing or cut short.
    """
    path = folder / COMMIT
    if not path.exists():
        return None
    try:
        commit = json.loads(path.read_text(encoding="utf-8"))
        tensors = folder / commit["file"]
        if commit["format"] != FORMAT:
            raise ValueError(f"format {commit['format']!r}, and this version reads {FORMAT}")
        if not tensors.is_file() or tensors.stat().st_size != commit["bytes"]:
            raise ValueError(f"{tensors.name} is missing or has another size than was written")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path}: not a checkpoint that training can go on from ({type(error).__name__}: {error})."
            f" Remove {folder} to start this stage anew."
        ) from error
    return commit


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors (on the CPU) and commit of the checkpoint in `folder`; None if there is none.

    Raises:
        TrainingError: as `read_commit`, or the tensors cannot be read.

    Example:
        >>> tensors, commit = load_checkpoint(Path("run/checkpoints"))
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    commit = read_commit(folder)
    if commit is None:
        return None
    try:
        return load_file(folder / commit["file"]), commit
    except (SafetensorError, OSError) as error:
        raise TrainingError(
            f"{folder / commit['file']}: cannot be read ({error}). Remove {folder} to start this stage anew."
        ) from error


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, and no two of them in one memory (which the format refuses)."""
    stored: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().to("cpu").contiguous()
        where = value.untyped_storage().data_ptr()
        stored[name] = value.clone() if where in seen else value
        seen.add(where)
    return stored

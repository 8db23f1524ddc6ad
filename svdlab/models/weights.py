"""Weight files, judged by their headers before a byte of memory is spent on them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from svdlab.errors import ModelError

if TYPE_CHECKING:
    import torch

FLOATS = ("F64", "F32", "F16", "BF16")
SHOWN = 3  # keys named in an error


def read_shapes(paths: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in some safetensors files, from their headers.

    Raises:
        ModelError: a file is damaged, is a placeholder of git LFS, or holds something other than floating point.
    """
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
                shapes |= {key: tuple(part.get_shape()) for key, part in slices.items()}
                formats = {part.get_dtype() for part in slices.values()}
        except (SafetensorError, OSError) as error:
            with path.open("rb") as file:
                pointer = file.read(40).startswith(b"version https://git-lfs")
            problem = "is a placeholder of git LFS: run 'git lfs pull'" if pointer else f"is damaged ({error})"
            raise ModelError(
                f"{path}: {problem}, or fetch the model anew ({path.stat().st_size} bytes here)."
            ) from error
        if odd := formats - set(FLOATS):
            raise ModelError(
                f"{path}: holds weights of type {', '.join(sorted(odd))}; only {', '.join(FLOATS)} are taken."
                " Quantised weights need the original ones."
            )
    return shapes


def check_shapes(
    shapes: Mapping[str, tuple[int, ...]], model: torch.nn.Module, *, where: str, fix: str, strict: bool = True
) -> None:
    """Compare tensors of a file with those of a model (which may be on the meta device).

    With `strict` every name must be on both sides. Otherwise the file may use other names for some tensors, which must
    have room in it: what is missing under its own name is no larger than what is there under an unknown one.

    Raises:
        ModelError: naming the first few keys that are missing, unexpected or of another shape, and `fix`, what to do.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = [key for key in wanted if key not in shapes]
    unexpected = [key for key in shapes if key not in wanted]
    if not strict and _numbers(wanted, missing) <= _numbers(shapes, unexpected):
        missing = []
    if not strict:
        unexpected = []
    other = [
        f"{key} {list(shapes[key])} instead of {list(shape)}"
        for key, shape in wanted.items()
        if key in shapes and shapes[key] != shape
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("of another shape", other))
    if problems := [f"{len(keys)} {what}: {_first(keys)}" for what, keys in found if keys]:
        raise ModelError(f"{where}: does not fit {type(model).__name__} as configured. {'; '.join(problems)}. {fix}")


def _numbers(shapes: Mapping[str, tuple[int, ...]], keys: list[str]) -> int:
    return sum(math.prod(shapes[key]) for key in keys)


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")

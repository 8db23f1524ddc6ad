"""ModelInfo: what is known of a model before its weights are read, and the file `svdlab.json` that carries it.

A diffusers folder says how its networks are built, but not how they want to be sampled: a few-step student and its
many-step teacher have the same layout. `svdlab.json` beside the components says it. It is optional. A folder that holds
nothing but a UNet names in its card the folder beside it that lends the rest.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from svdlab.errors import ModelError
from svdlab.files import write_atomic
from svdlab.request import Defaults, Request

Kind = Literal["student", "teacher", "random"]
CARD = "svdlab.json"
_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One model: where its weights are, how it wants to be sampled, what it costs.

    Example:
        >>> info("svd-xt").defaults.num_frames
        25
    """

    name: str
    title: str
    kind: Kind  # "student": few steps, "teacher": many, "random": weights without meaning
    defaults: Defaults
    licence: str
    memory_gb: float  # all weights at fp16, in 10^9 bytes
    download_gb: float = 0.0  # what is fetched for half precision, in 10^9 bytes; 0: nothing
    repo_id: str | None = None  # hub repository of the weights
    base: str | None = None  # lends everything but the UNet: a name in the catalogue, for a folder the one beside it
    unet_file: str | None = None  # safetensors file in `repo_id` with the UNet alone; needs `base`
    revision: str | None = None  # branch, tag or commit of `repo_id`; None: its main branch
    folder: Path | None = None  # where the weights lie already, for bundled models
    notes: str = ""


def write_card(folder: str | os.PathLike[str], info: ModelInfo) -> Path:
    """Write `svdlab.json` into a diffusers folder, so that it loads with its own defaults; the file's path.

    Example:
        >>> write_card("runs/student", info("tiny"))
    """
    card = {
        "name": info.name,
        "title": info.title,
        "kind": info.kind,
        "licence": info.licence,
        "notes": info.notes,
        "defaults": dataclasses.asdict(info.defaults),
        **({"base": info.base} if info.base else {}),
    }
    path = Path(folder) / CARD
    write_atomic(path, json.dumps(card, indent=2) + "\n")
    return path


def read_card(folder: str | os.PathLike[str]) -> ModelInfo | None:
    """The model that lies in `folder`, from its `svdlab.json`; None if there is no such file.

    Raises:
        ModelError: the file is not JSON, lacks something, or has a default that does not exist or is out of bounds.
    """
    folder = Path(folder)
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(card, dict):
            raise ValueError(f"a JSON object is expected, not a {type(card).__name__}")
        kind, base = _kind(card), _base(card)
        defaults = Defaults(**card["defaults"])
        Request(image=CARD).resolve(defaults)  # refuses defaults that no request could have
        return ModelInfo(
            name=_text(card, "name", folder.name),
            title=_text(card, "title", folder.name),
            kind=kind,
            defaults=defaults,
            licence=_text(card, "licence", "not stated"),
            notes=_text(card, "notes", ""),
            memory_gb=weights_gb(folder) + (weights_gb(lender(folder, base), besides="unet") if base else 0.0),
            base=base,
            folder=folder,
        )
    except (ValueError, KeyError, TypeError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"{path}: cannot be used as a model's card ({problem}). Needed are 'kind' ({_kinds()}) and 'defaults' with"
            " at least num_frames, width and height; or remove the file to load the folder with general defaults."
        ) from error


def lender(folder: Path, base: str) -> Path:
    """The folder that lends all but the UNet to the model in `folder`: the one of the name `base` beside it."""
    return folder.resolve().parent / base


def weights_gb(folder: Path, *, besides: str = "") -> float:
    """Size of the safetensors below `folder`, 10^9 bytes: fp16 variants alone where there are some; less one part."""
    sizes: dict[Path, dict[bool, int]] = {}
    for path in folder.glob("*/*.safetensors"):
        if path.parent.name == besides:
            continue
        of_part = sizes.setdefault(path.parent, {True: 0, False: 0})
        of_part[".fp16" in path.name] += path.stat().st_size
    return sum(by_half[True] or by_half[False] for by_half in sizes.values()) / 1e9


def _text(card: dict[str, Any], key: str, default: str) -> str:
    return str(card.get(key, default))


def _kind(card: dict[str, Any]) -> Kind:
    if card["kind"] not in get_args(Kind):
        raise ValueError(f"kind = {card['kind']!r}: must be {_kinds()}")
    return card["kind"]


def _base(card: dict[str, Any]) -> str | None:
    base = card.get("base")
    if base is not None and (not isinstance(base, str) or not _NAME.fullmatch(base)):
        raise ValueError(f"base = {base!r}: must be the name of a folder beside this one, without a path")
    return base


def _kinds() -> str:
    return " or ".join(repr(kind) for kind in get_args(Kind))

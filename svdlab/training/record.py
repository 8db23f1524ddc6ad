"""The record of a run: what it was begun with, so that it goes on with the same or not at all."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from svdlab.errors import TrainingError
from svdlab.files import write_atomic


def check_record(
    path: Path,
    settings: Mapping[str, Any],
    *,
    free: Collection[str],
    resume: bool,
    write: bool = True,
    grows: str | None = None,
) -> None:
    """Write down the settings of a run when it begins, and refuse to go on with others.

    Args:
        path: the record; its folder is made.
        settings: nested mappings of plain values, as `dataclasses.asdict` gives them.
        free: names, at any depth, that may change when the run goes on.
        resume: False refuses a run that was begun before.
        write: False only compares (for all processes but the first).
        grows: a list that may have become longer; the record then takes up what was added.

    Raises:
        TrainingError: naming each setting that differs; or the run exists and `resume` is False.

    Example:
        >>> check_record(Path("runs/a/recipe.json"), {"loop": {"steps": 10}}, free=(), resume=True)
    """
    now = flatten(json.loads(json.dumps(settings)), free)
    if not path.exists():
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(now, indent=2) + "\n")
        return
    if not resume:
        raise TrainingError(f"resume = False: {path.parent} was begun before. Use resume=True, or another folder.")
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")).items())
    except (ValueError, AttributeError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}). Use another folder.") from error
    added = {key for key in now.keys() - before.keys() if grows and key.startswith(f"{grows}[")}
    changed = [
        f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
        for key in sorted((before.keys() | now.keys()) - added)
        if before.get(key) != now.get(key)
    ]
    if added and write and not changed:
        write_atomic(path, json.dumps(now, indent=2) + "\n")
    if changed:
        raise TrainingError(
            f"{path.parent}: begun otherwise: {'; '.join(changed)}. Give the same to go on, or use another folder."
        )


def flatten(value: Any, free: Collection[str] = (), name: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}, without the names in `free`.

    Example:
        >>> flatten({"a": [{"b": 1}], "device": "cpu"}, free=("device",))
        {'a[0].b': 1}
    """
    if isinstance(value, dict) and value:
        parts = [flatten(part, free, f"{name}.{key}") for key, part in value.items() if key not in free]
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        parts = [flatten(part, free, f"{name}[{i}]") for i, part in enumerate(value)]
    else:
        return {name.removeprefix("."): value}
    return {key: found for part in parts for key, found in part.items()}

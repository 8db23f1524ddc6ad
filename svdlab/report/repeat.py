"""Repeat: a specification that makes the same cells again, from the folder of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def spec_text(declaration: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """A sweep's declaration as TOML; the same model then makes cells with the same keys.

    Args:
        declaration: as `svdlab.sweep.ledger.Ledger.declaration` gives it.
        pictures: paths, as seen from where the file will lie.

    Example:
        >>> print(spec_text(declaration, ["images/rocket.png"]))
        name = "first"
        model = "tiny"
        images = ["images/rocket.png"]
        ...
    """
    fixed = dict(declaration["fixed"])
    if declaration.get("seed") is not None:
        fixed["seed"] = declaration["seed"]
    head = {
        "name": declaration["name"],
        "model": declaration["model"],
        "images": list(pictures),
        "metrics": declaration["metrics"],
        "timing": declaration["timing"],
    }
    tables = {"grid": declaration["grid"], "fixed": fixed, "engine": {"kind": declaration["engine"]}}
    parts = [_lines(head)] + [f"[{name}]\n{_lines(values)}" for name, values in tables.items() if values]
    return "\n\n".join(parts) + "\n"


def _lines(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name} = {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    """A text, number or list of them as TOML, which for these is written as in JSON but for DEL."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")

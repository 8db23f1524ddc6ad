"""The key of a cell: a hash of what decides its pixels, and of nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from svdlab.errors import SweepError

KEY_VERSION = 1
"""Part of every key; it grows when the same request would give other pixels than before."""


def cell_key(settings: Mapping[str, Any], *, image: str, model: str) -> str:
    """Content key of one cell, 16 hexadecimal digits.

    Device, batch size and every path are left out: the same request on another machine has the same key.

    Args:
        settings: the settings of a resolved request, its seed included.
        image: digest of the picture as loaded (RGB), see `svdlab.images.image_digest`.
        model: fingerprint of the weights, see `svdlab.pipeline.Pipeline.fingerprint`.

    Raises:
        SweepError: a setting is open (None), or not a plain number or text.

    Example:
        >>> cell_key({"steps": 4, "cond_aug": 0.02}, image="ab12", model="cd34")
        '858e5441cbc9fabd'
    """
    missing = [name for name, value in settings.items() if value is None]
    if missing:
        raise SweepError(
            f"{', '.join(missing)} = None: a key needs every setting filled in; resolve the request first."
        )
    content = {"version": KEY_VERSION, "model": model, "image": image, "request": dict(settings)}
    return hashlib.blake2b(canonical_json(content).encode(), digest_size=8).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal content: sorted names, no blanks, floats by their shortest exact form.

    1 and 1.0 stay distinct, -0.0 is written as 0.0.

    Raises:
        SweepError: something is not plain JSON (NumPy numbers included), or a float is not finite.

    Example:
        >>> canonical_json({"b": 0.10, "a": 1})
        '{"a":1,"b":0.1}'
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float and math.isfinite(value):
        return value + 0.0  # -0.0 + 0.0 is 0.0
    if isinstance(value, Mapping) and all(type(name) is str for name in value):
        return {name: _plain(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return [_plain(item) for item in value]
    raise SweepError(
        f"{value!r} ({type(value).__name__}): cannot be part of a key. Allowed are None, booleans, ints, finite floats,"
        " text, lists and mappings by text; convert NumPy numbers with int() or float()."
    )

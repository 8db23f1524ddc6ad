"""Fields: the settings of a request as rows of a form, with bounds from `Request` and defaults from the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from svdlab.request import MAX_SEED, SCHEDULES, SETTINGS, Defaults, allowed, bounds
from svdlab.widgets.source import model_values

FIRST = ("motion_bucket_id", "cond_aug", "steps", "fps", "schedule", "seed")  # the others are folded away
_SLIDERS = {  # where a slider over all that is allowed would squeeze what is used; the box beside takes all of it
    "motion_bucket_id": lambda low, high, defaults: (low, 255, 1),  # models were trained up to here
    "cond_aug": lambda low, high, defaults: (low, 1, 0.01),
    "steps": lambda low, high, defaults: (low, min(high, 2 * defaults.good_steps), 1),
    "fps": lambda low, high, defaults: (low, high, 1),
    "gamma": lambda low, high, defaults: (low, high, 0.05),
    "min_guidance": lambda low, high, defaults: (low, 5, 0.1),
    "max_guidance": lambda low, high, defaults: (low, 5, 0.1),
}


def build_fields(defaults: Defaults) -> list[dict[str, Any]]:
    """One dict a setting, ready for JSON: name, kind, step, hint, slider, choices, folded.

    `kind` is ``number``, ``choice`` or ``seed``; `slider` is (low, high, step) or None; `hint` says what is allowed and
    what the model's own value is.

    Example:
        >>> build_fields(Defaults(num_frames=25, width=64, height=64))[0]["name"]
        'motion_bucket_id'
    """
    own = model_values(defaults)
    names = [*FIRST, *(name for name in SETTINGS if name not in FIRST)]
    return [_field(name, own[name], defaults) for name in names]


def _field(name: str, own: Any, defaults: Defaults) -> dict[str, Any]:
    limits = bounds(name)
    kind = "seed" if limits and limits[1] == MAX_SEED else "number" if limits else "choice"
    hint = allowed(name) if kind == "seed" else f"{allowed(name)}; the model's own: {own}"
    if name == "decode_chunk":
        hint += ". Frames that are decoded at once: fewer need less memory, and change pixels"
    return {
        "name": name,
        "kind": kind,
        "step": 1 if isinstance(own, int) else "any",
        "hint": hint,
        "slider": list(_SLIDERS[name](*limits, defaults)) if limits and name in _SLIDERS else None,
        "choices": list(SCHEDULES) if kind == "choice" else [],
        "folded": name not in FIRST,
    }


def shown_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as the form shows them: the seed as text, because browsers cannot count that far.

    Example:
        >>> shown_values({"seed": 2**63 - 1})
        {'seed': '9223372036854775807'}
    """
    return {name: str(value) if name == "seed" else value for name, value in values.items()}


def read_value(name: str, value: Any) -> Any:
    """What the form sent, as a setting: a seed's digits become a number; anything odd is left for `Request` to refuse.

    Example:
        >>> read_value("seed", "42"), read_value("seed", "forty"), read_value("steps", 4)
        (42, 'forty', 4)
    """
    if name == "seed" and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 30:
        return int(value)
    return value

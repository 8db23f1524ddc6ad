"""Engine: who computes the cells of a sweep. Settings only; it changes no result.

In a spec::

    [engine]
    kind = "ray"                  # or "local", this process
    address = "10.0.0.5:6379"     # of a running cluster; left out: RAY_ADDRESS, the one on this machine, or a new one
    workers = 8                   # at most; left out: one on every GPU (without GPUs, on every core)
    gpus_per_worker = 1           # 0: workers compute on the CPU; a share such as 0.5: several on one GPU
    resources = {CPU = 4}         # what else a worker takes, by Ray's names for it
    env = {HF_HOME = "/scratch/hf"}
    attempts = 3                  # workers that one cell may take down with it
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from svdlab.errors import SpecError

KINDS = ("local", "ray")
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|(^|_)KEY(_|$)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Who computes the cells: ``"local"``, this process, or ``"ray"``, workers of a Ray cluster.

    Attributes:
        kind: ``"local"`` or ``"ray"``; the others belong to ``"ray"``.
        address: of a running cluster, ``host:port``; None: that of ``RAY_ADDRESS``, or the one on this machine, or a
            new one on this machine for the length of the sweep.
        workers: how many at most; None: as many as the cluster has room for, also when it grows.
        gpus_per_worker: 1, a share of one, or 0 for the CPU; None: 1 where a node has a GPU, else 0.
        resources: what else a worker takes, by Ray's names (``CPU``: 1 if left out).
        env: environment variables of the workers. No secrets: a spec is kept with its run.
        attempts: so many workers may die over one cell before it fails.

    Raises:
        SpecError: naming the key, its value and what is allowed.

    Example:
        >>> Engine(kind="ray", workers=8)
    """

    kind: str = "local"
    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 3

    def __post_init__(self) -> None:
        for name in KEYS:
            if wrong := _CHECKS[name](getattr(self, name)):
                raise SpecError(f"engine: {name} = {_shown(name, getattr(self, name))}: {wrong}.")
        if self.kind == "local" and (set_ := [name for name in KEYS[1:] if getattr(self, name) != _DEFAULTS[name]]):
            raise SpecError(f"engine: {', '.join(set_)}: only 'ray' knows that; give kind = 'ray', or leave it out.")

    @property
    def cpus(self) -> float:
        """Cores that a worker takes."""
        return float(self.resources.get("CPU", 1))


def _shown(name: str, value: Any) -> str:
    """A value for an error's text; those of the environment stay out of it."""
    return repr(list(value)) if name == "env" and isinstance(value, Mapping) else repr(value)


def _kind(value: Any) -> str | None:
    return None if value in KINDS else "must be 'local' (this process) or 'ray'"


def check_address(value: Any) -> str | None:
    """What is wrong with the address of a cluster; None if nothing is.

    Example:
        >>> check_address("10.0.0.5:6379") is None
        True
    """
    if value is None or (isinstance(value, str) and re.fullmatch(r"auto|local|[^/]+:\d{1,5}", value)):
        return None
    return "must be host:port of a Ray cluster that this machine is part of; ray:// addresses are not"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _count(value: Any) -> str | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return None if whole else "must be a whole number, 1 or more"


def _gpus(value: Any) -> str | None:
    fine = value is None or (_is_number(value) and 0 <= value <= 1)
    return None if fine else "must be 1, a share of it, or 0 for the CPU: a pipeline computes on one GPU"


def _resources(value: Any) -> str | None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key for key in value):
        return "must be a table of amounts by name, such as {CPU = 4}"
    if wrong := [key for key, amount in value.items() if not _is_number(amount) or amount < 0]:
        return f"{wrong[0]} must be a number, 0 or more"
    return "GPU is given as gpus_per_worker" if "GPU" in value else None


def _env(value: Any) -> str | None:
    texts = isinstance(value, Mapping) and all(isinstance(part, str) for item in value.items() for part in item)
    if not texts or not all(_NAME.fullmatch(key) for key in value):
        return "must be a table of texts by the names of variables, such as {HF_HOME = '/scratch/hf'}"
    if secrets := [key for key in value if _SECRET.search(key)]:
        return f"{secrets[0]} looks like a secret, and a spec is kept with its run; set it where Ray is started"
    return None


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "kind": _kind,
    "address": check_address,
    "workers": lambda value: None if value is None else _count(value),
    "gpus_per_worker": _gpus,
    "resources": _resources,
    "env": _env,
    "attempts": _count,
}
KEYS = tuple(_CHECKS)
_DEFAULTS: dict[str, Any] = {
    item.name: {} if item.name in ("resources", "env") else item.default for item in fields(Engine)
}


def make_engine(given: Any, *, where: Callable[[str], str] = lambda key: "") -> Engine:
    """An engine from its kind, from a table of settings, or as it is.

    Args:
        where: key -> the beginning of an error's text.

    Raises:
        SpecError: as `Engine`.

    Example:
        >>> make_engine("ray").kind, make_engine({"kind": "ray", "workers": 2}).workers
        ('ray', 2)
    """
    if isinstance(given, Engine):
        return given
    if isinstance(given, str):
        given = {"kind": given}
    if not isinstance(given, Mapping):
        raise SpecError(f"{where('kind')}engine = {given!r}: must be 'local', 'ray', or a table of settings.")
    for key, value in given.items():
        if key not in KEYS:
            raise SpecError(f"{where(str(key))}{key}: there is no such key. Allowed are {', '.join(KEYS)}.")
        if wrong := _CHECKS[key](value):
            raise SpecError(f"{where(key)}{key} = {_shown(key, value)}: {wrong}.")
    return Engine(**given)

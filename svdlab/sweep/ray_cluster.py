"""The Ray cluster of a sweep: found or started, its nodes and what they have, and its log kept quiet."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from svdlab.errors import ExtraError, SweepError
from svdlab.sweep.engine import Engine, check_address

log = logging.getLogger("svdlab")

NEW = "local"  # the address of a cluster that is started for the length of a run


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine of a cluster.

    Attributes:
        key: Ray's name for it.
        name: for people: host, and the beginning of the key.
        resources: what it has by Ray's names, used or not.
    """

    key: str
    name: str
    resources: dict[str, float]

    @property
    def gpus(self) -> float:
        """How many GPUs it has."""
        return self.resources.get("GPU", 0.0)


def import_ray() -> ModuleType:
    """The package ray.

    Raises:
        ExtraError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless somebody asks for it
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it, some versions warn of what they do
    try:
        import ray
    except ImportError as error:
        raise ExtraError("engine 'ray': needs the package ray. Install it: pip install \"svdlab[ray]\"") from error
    return ray


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[ModuleType]:
    """Be connected to a cluster for the length of a `with` block; gives the package ray.

    A connection that is there is used, and left as it is.

    Args:
        address: see `svdlab.sweep.engine.Engine`.

    Raises:
        ExtraError: ray is not installed.
        SweepError: no cluster answers there, or it runs another version of Ray or Python.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    address = address or os.environ.get("RAY_ADDRESS") or _on_this_machine()
    if address == NEW:
        how["include_dashboard"] = False
    try:
        _check_answers(address)
        ray.init(address=address, **how)
    except Exception as error:  # Ray's own, of many kinds
        where = "this machine" if address == NEW else address
        raise SweepError(
            f"engine 'ray': no Ray cluster can be used at {where} ({_first_line(error)}). Start one there with `ray"
            " start --head`, of the same Ray and Python, or leave the address out (and RAY_ADDRESS unset) to use this"
            " machine alone. If it asks for a token, have it here (`ray get-auth-token`) and set RAY_AUTH_MODE=token."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise what is wrong with an address of the form host:port, or with reaching it: Ray would try for minutes."""
    if wrong := check_address(address):
        raise ValueError(wrong)
    host, colon, port = address.rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def _on_this_machine() -> str:
    """ "auto", which is the cluster that runs on this machine, if it answers; else `NEW`.

    Ray itself notes the address in a file, which outlives a cluster that was killed.
    """
    names = ("RAY_TMPDIR", "TMPDIR") if sys.platform == "linux" else ("RAY_TMPDIR",)
    place = next((os.environ[name] for name in names if name in os.environ), "/tmp")
    note = Path(place) / "ray" / "ray_current_cluster"
    try:
        _check_answers(note.read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        return NEW
    return "auto"  # and not the address: only then Ray takes the cluster's token by itself


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or repr(error)
    return f"{type(error).__name__}: {text.splitlines()[0]}"


def nodes(ray: ModuleType) -> list[Node]:
    """The nodes that are there now."""
    return [
        Node(
            key=node["NodeID"],
            name=f"{node['NodeManagerHostname']}/{node['NodeID'][:6]}",
            resources=dict(node["Resources"]),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def gpus_per_worker(engine: Engine, there: list[Node]) -> float:
    """GPUs that a worker takes: as the engine says, else 1 where any node has one, else 0.

    Example:
        >>> gpus_per_worker(Engine(kind="ray"), [])
        0.0
    """
    if engine.gpus_per_worker is not None:
        return float(engine.gpus_per_worker)
    return 1.0 if any(node.gpus for node in there) else 0.0


def slots(node: Node, engine: Engine, gpus: float) -> int:
    """How many workers a node has room for, if nothing else runs there.

    Example:
        >>> slots(Node(key="a", name="a", resources={"CPU": 8.0, "GPU": 2.0}), Engine(kind="ray"), 1.0)
        2
    """
    wants = {"CPU": engine.cpus, "GPU": gpus, **{k: float(v) for k, v in engine.resources.items() if k != "CPU"}}
    counts = [math.floor(node.resources.get(name, 0.0) / amount + 1e-9) for name, amount in wants.items() if amount]
    return min(counts, default=0)


def has(there: list[Node]) -> str:
    """What nodes have, in words.

    Example:
        >>> has([Node(key="a", name="a", resources={"CPU": 8.0, "GPU": 2.0})])
        '1 node: a with 8 CPU, 2 GPU'
    """
    if not there:
        return "no node"
    shown = [
        f"{node.name} with {', '.join(f'{node.resources.get(name, 0):g} {name}' for name in ('CPU', 'GPU'))}"
        for node in there[:8]
    ]
    more = f" and {len(there) - 8} more" if len(there) > 8 else ""
    return f"{len(there)} node{'' if len(there) == 1 else 's'}: {'; '.join(shown)}{more}"


def words(error: BaseException) -> str:
    """What Ray says about a worker, in one line without its ids and advice.

    Example:
        >>> words(RuntimeError("The actor died.\\nclass_name: CellWorker"))
        'The actor died.'
    """
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):  # what the worker's own code raised
        return _first_line(cause)
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    dull = re.compile(r"^(class_name|actor_id|pid|name|namespace|ip|node_id|repr|.*ActorID|ray::)", re.IGNORECASE)
    kept = [line for line in lines if not dull.match(line)]
    said = " ".join(kept) or type(error).__name__
    return said if len(said) <= 300 else f"{said[:300]}..."

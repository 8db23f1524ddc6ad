"""The workers of a sweep on a Ray cluster: one actor a slot, started where there is room, replaced when one dies."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from svdlab.errors import SweepError
from svdlab.sweep.drive import Died, Ended, Event, Returned, Worker
from svdlab.sweep.engine import Engine
from svdlab.sweep.groups import Group
from svdlab.sweep.making import Recipe
from svdlab.sweep.provenance import versions
from svdlab.sweep.ray_cluster import Node, gpus_per_worker, has, nodes, slots, words
from svdlab.sweep.ray_worker import CellWorker, Description, Needs, Report

log = logging.getLogger("svdlab")

LOOK = 1.0  # s between two looks at the cluster
PATIENCE = 60.0  # s that a run waits for a node when there is none
FALLS = 3  # cells, with none made between them, over which workers of a node die before it is left out
MUST_AGREE = ("svdlab", "commit", "torch", "diffusers", "transformers", "numpy")  # what decides pixels


@dataclass(eq=False)
class _Actor:
    """An actor, from its start to its end."""

    worker: Worker
    node: Node
    handle: Any
    loading: Any  # reference to its report; None once that is here
    given: deque[_Given] = field(default_factory=deque)  # what it has, the oldest first

    @property
    def suspect(self) -> str:
        """What it was at, if it died now: a cell, or loading."""
        return next(iter(self.given[0].keys), "") if self.given else f"loading {self.worker.key}"


@dataclass(eq=False)
class _Given:
    """A group that an actor has."""

    results: Any  # generator of references
    keys: list[str]  # of the cells that are not back, in their order


class RayPool:
    """Workers on a cluster; implements `svdlab.sweep.drive.Pool`.

    Example:
        >>> with connected(None) as ray:
        ...     pool = RayPool(ray, Engine(kind="ray"), Needs(name="tiny-random"))
        ...     pool.describe().fingerprint
    """

    def __init__(self, ray: ModuleType, engine: Engine, needs: Needs) -> None:
        self._ray, self._engine, self._needs = ray, engine, needs
        self._class = ray.remote(concurrency_groups={"control": 1})(CellWorker)
        self._actors: dict[int, _Actor] = {}
        self._ready: list[Worker] = []
        self._gone: list[Worker] = []
        self._out: dict[str, tuple[str, str]] = {}  # key of a node that is left out -> its name, why
        self._falls: dict[str, set[str]] = {}  # node -> over what its workers died since a cell came from it
        self._numbers = itertools.count()
        self._sent: dict[str, Any] = {}  # "recipe" and digests of pictures -> references
        self._description: Description | None = None
        self._events: list[Event] = []
        self._halted = False
        self._looked = -LOOK
        self._lonely: float | None = None  # since when there has been no worker

    # What a run asks before it begins.

    def describe(self) -> Description:
        """The model, as the first worker that is ready describes it.

        Raises:
            SweepError: no node can run it; each is named with its reason.
        """
        began, told = time.monotonic(), False
        while self._description is None:
            self.workers()
            self._listen(0.5)
            if not told and time.monotonic() - began > PATIENCE:
                told = True
                log.warning(
                    "no worker is ready after %.0f s: the model takes long to load, or others use the cluster;"
                    " waiting (Ctrl-C ends it; `ray status` says who uses what)",
                    PATIENCE,
                )
        return self._description

    def settle(self) -> set[str]:
        """Wait until every worker that the cluster has room for has the model, or its node is left out.

        Returns:
            Names of nodes of which a worker is not ready, after a time in which there was no news of any.

        Raises:
            SweepError: no node can run it; each is named with its reason.
        """
        heard = time.monotonic()
        while True:
            self.workers()
            loading = {actor.worker.node for actor in self._actors.values() if actor.loading is not None}
            if not loading or time.monotonic() - heard > PATIENCE:
                return loading
            if self._listen(0.5):
                heard = time.monotonic()

    def begin(self, recipe: Recipe, pictures: Mapping[str, Any]) -> None:
        """Say what is to be made."""
        self._sent = {digest: self._ray.put(picture) for digest, picture in pictures.items()}
        self._sent["recipe"] = self._ray.put(recipe)

    @property
    def left_out(self) -> dict[str, str]:
        """Name of each node that is not used -> why."""
        return dict(self._out.values())

    @property
    def ready(self) -> Sequence[Worker]:
        """Workers that are ready for work, without a look at the cluster."""
        return tuple(self._ready)

    @property
    def everyone(self) -> Sequence[Worker]:
        """All workers that were ever ready, also those that are gone."""
        return tuple(sorted((*self._gone, *self._ready), key=lambda worker: (worker.node, worker.key)))

    @property
    def room(self) -> int:
        """Workers that the cluster has room for now, as far as the engine allows."""
        there = nodes(self._ray)
        gpus = gpus_per_worker(self._engine, there)
        count = sum(slots(node, self._engine, gpus) for node in there if node.key not in self._out)
        return count if self._engine.workers is None else min(count, self._engine.workers)

    # What the driver asks, see `Pool`.

    def workers(self) -> Sequence[Worker]:
        """See `svdlab.sweep.drive.Pool.workers`."""
        if time.monotonic() - self._looked >= LOOK and not self._halted:
            self._looked = time.monotonic()
            self._tend()
        return self.ready

    def give(self, worker: Worker, group: Group, attempts: dict[str, int]) -> None:
        """See `svdlab.sweep.drive.Pool.give`."""
        digests = tuple(dict.fromkeys(cell.image for cell in group.cells))
        pictures = [self._sent[digest] for digest in digests]
        actor = self._actors[worker.key]
        method = actor.handle.make.options(num_returns="streaming")
        results = method.remote(self._sent["recipe"], group.batches, attempts, digests, *pictures)
        actor.given.append(_Given(results, [cell.key for cell in group.cells]))

    def events(self, seconds: float) -> Iterator[Event]:
        """See `svdlab.sweep.drive.Pool.events`."""
        if not self._events:
            self._listen(seconds)
        events, self._events = self._events, []
        yield from events

    def halt(self) -> None:
        """See `svdlab.sweep.drive.Pool.halt`."""
        self._halted = True
        for actor in self._actors.values():
            actor.handle.halt.options(concurrency_group="control").remote()

    def close(self) -> None:
        """Let all workers go."""
        for actor in self._actors.values():
            self._ray.kill(actor.handle)
        self._actors.clear()
        for worker in self._ready:
            if worker.left is None:
                worker.leave(died=False)

    # The cluster.

    def _tend(self) -> None:
        """Start a worker wherever there is room for one."""
        there = nodes(self._ray)
        gpus = gpus_per_worker(self._engine, there)
        here = Counter(actor.node.key for actor in self._actors.values())
        room = {node.key: slots(node, self._engine, gpus) - here[node.key] for node in there}
        usable = [node for node in there if node.key not in self._out]
        most = self._engine.workers
        while most is None or len(self._actors) < most:
            node = max(usable, key=lambda node: (room[node.key], -here[node.key]), default=None)
            if node is None or room[node.key] < 1:
                break
            self._start(node, gpus)
            room[node.key] -= 1
            here[node.key] += 1
        self._mind_emptiness(there, gpus)

    def _start(self, node: Node, gpus: float) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        handle = self._class.options(
            num_cpus=self._engine.cpus,
            num_gpus=gpus,
            resources={name: amount for name, amount in self._engine.resources.items() if name != "CPU"},
            runtime_env={"env_vars": dict(self._engine.env)} if self._engine.env else None,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.key, soft=False),
            max_restarts=0,
        ).remote(self._needs.on(gpus))
        worker = Worker(key=next(self._numbers), node=node.name)
        self._actors[worker.key] = _Actor(worker, node, handle, handle.ready.remote())

    def _mind_emptiness(self, there: list[Node], gpus: float) -> None:
        """End the run if there is no worker, and none to come."""
        if self._actors:
            self._lonely = None
            return
        if not self._gone and not any(slots(node, self._engine, gpus) for node in there):
            wants = f"{self._engine.cpus:g} CPU, {gpus:g} GPU"
            wants += "".join(f", {amount:g} {name}" for name, amount in self._engine.resources.items() if name != "CPU")
            raise SweepError(
                f"engine 'ray': no node has room for a worker, which takes {wants}. The cluster has {has(there)}."
                " Change gpus_per_worker or resources, or add nodes."
            )
        if self._lonely is None:
            self._lonely = time.monotonic()
            if self._gone:
                log.warning("no worker is left; waiting %.0f s for a node", PATIENCE)
        if not self._gone or time.monotonic() - self._lonely > PATIENCE:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.left_out.items()) or "all nodes are gone"
            raise SweepError(
                f"engine 'ray': no node can make cells ({reasons}). What is done stays done; `svdlab doctor --engine"
                " ray` looks at the cluster."
            )

    # What comes from it.

    def _listen(self, seconds: float) -> bool:
        """Wait for news of any worker, and note it; whether there was any."""
        asked: dict[Any, _Actor] = {}
        for actor in self._actors.values():
            if actor.loading is not None:
                asked[actor.loading] = actor
            elif actor.given:
                asked[actor.given[0].results] = actor
        if not asked:
            time.sleep(min(seconds, 0.1))
            return False
        news, _ = self._ray.wait(list(asked), num_returns=1, timeout=seconds, fetch_local=False)
        if news and len(asked) > 1:
            news, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=0, fetch_local=False)
        for one in news:
            actor = asked[one]
            if actor.worker.key in self._actors:
                self._hear(actor)
        return bool(news)

    def _hear(self, actor: _Actor) -> None:
        try:
            if actor.loading is not None:
                self._welcome(actor, self._ray.get(actor.loading))
                return
            try:
                reference = next(actor.given[0].results)
            except StopIteration:
                actor.given.popleft()
                self._events.append(Ended(worker=actor.worker))
                return
            result = self._ray.get(reference)
            actor.given[0].keys.remove(result.cell.key)
            self._falls.pop(actor.node.key, None)
            self._events.append(Returned(worker=actor.worker, result=result))
        except self._ray.exceptions.RayError as error:
            self._lose(actor, words(error))

    def _welcome(self, actor: _Actor, report: Report) -> None:
        actor.loading = None
        if why := self._unfit(report):
            self._leave_out(actor, why)
            return
        assert report.model is not None
        if self._description is None:
            self._description = report.model
        worker = actor.worker
        worker.device = report.hardware.get("gpu", report.model.device)
        worker.memory, worker.joined = report.memory, time.monotonic()
        self._ready.append(worker)

    def _unfit(self, report: Report) -> str | None:
        """Why a worker is not to be used; None if it is."""
        ours = versions()
        for name in MUST_AGREE:
            here, there = (_plain(about.get(name)) for about in (ours, report.versions))
            if here != there and (name != "commit" or (here and there)):
                return f"has {name} {there or 'not at all'}, and the driver {here or 'not at all'}; install the same"
        if report.trouble or report.model is None:
            return f"cannot make cells with {self._needs.name!r}: {report.trouble}"
        known = self._description.fingerprint if self._description else self._needs.fingerprint
        if known not in (None, report.model.fingerprint):
            return f"has other weights, or another precision, of {self._needs.name!r}: {report.model.fingerprint}"
        from svdlab import metrics

        ours_too = metrics.versions(self._needs.metrics)
        if wrong := [name for name, version in ours_too.items() if report.metrics.get(name) != version]:
            return f"does not have the metrics {', '.join(wrong)} as the driver has them"
        return None

    def _lose(self, actor: _Actor, reason: str) -> None:
        """A worker is gone."""
        key = actor.node.key
        self._drop(actor)
        falls = self._falls.setdefault(key, set())
        falls.add(actor.suspect)
        if actor.worker in self._ready:
            self._ready.remove(actor.worker)
            actor.worker.leave(died=True)
            self._gone.append(actor.worker)
            log.warning("%s: a worker died: %s", actor.worker.node, reason)
            self._events.append(Died(worker=actor.worker, reason=reason))
        if len(falls) >= FALLS and key in {node.key for node in nodes(self._ray)}:
            self._put_out(actor.node, f"{FALLS} workers in a row died there; the last: {reason}")

    def _leave_out(self, actor: _Actor, why: str) -> None:
        self._drop(actor)
        self._put_out(actor.node, why)

    def _put_out(self, node: Node, why: str) -> None:
        if node.key not in self._out:
            self._out[node.key] = (node.name, why)
            log.warning("node %s is left out: %s", node.name, why)

    def _drop(self, actor: _Actor) -> None:
        del self._actors[actor.worker.key]
        self._ray.kill(actor.handle)
        self._looked = -LOOK  # there may be room now


def _plain(version: str | None) -> str | None:
    """A version without its build: wheels for another CUDA are the same torch."""
    return None if version is None else version.split("+")[0]

"""Trackers: the cells of a sweep as runs of Weights & Biases, MLflow or trackio, through their own clients."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from svdlab.errors import ExtraError, SweepError
from svdlab.sweep.artifacts import VIDEO, cell_path, read_manifest
from svdlab.sweep.frame import COSTS, build_frame, metric_columns
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.progress import counted

if TYPE_CHECKING:
    from svdlab.sweep.handle import Sweep


@dataclass(frozen=True, kw_only=True)
class Job:
    """One finished cell as a tracker takes it.

    Attributes:
        cell: its key; the run is known by it, so that a second export meets the run of the first.
        group: name of the sweep.
        config: settings and provenance, flat: ``steps``, ``image``, ``model/fingerprint``, ``versions/torch``, ...
        values: metrics and costs that are defined.
        clip: the mp4, or None if clips stay here.
    """

    cell: str
    group: str
    config: Mapping[str, Any]
    values: Mapping[str, float]
    clip: Path | None


Log = Callable[[Job], None]


def export(
    sweep: Sweep,
    to: str,
    *,
    project: str | None = None,
    clips: bool = False,
    progress: bool = True,
    **options: Any,
) -> int:
    """Hand the finished cells of the declaration to an experiment tracker: one run a cell, grouped by the sweep.

    A run's config holds all settings, the picture, the model and the versions; its values are metrics and costs. Runs
    are known by the key of their cell, so a cell that is exported again goes to the run that it has.

    Args:
        to: ``"wandb"``, ``"mlflow"`` or ``"trackio"``. Its client must be installed and, if it needs it, logged in.
        project: project (of MLflow: experiment) that the runs go to; the sweep's name if left out.
        clips: upload the mp4s too.
        progress: show a progress bar.
        options: to the client: of ``wandb.init`` (``entity``, ``mode="offline"``, ``dir``, ...), of ``trackio.init``
            (``space_id``, ...), or of ``mlflow.MlflowClient`` (``tracking_uri``).

    Returns:
        How many cells were handed over. A run of trackio that was open in this process is ended by its client.

    Raises:
        ExtraError: the client is not installed.
        SweepError: `to` is none of these, or the folder of a cell is damaged.
        Whatever the client raises, such as for a server that cannot be reached.

    Example:
        >>> sweep.export("mlflow", tracking_uri="sqlite:///mlflow.db")
        48
    """
    if to not in _TRACKERS:
        raise SweepError(f"to = {to!r}: must be one of {', '.join(map(repr, _TRACKERS))}.")
    try:
        client = importlib.import_module(to)
    except ModuleNotFoundError as error:
        raise ExtraError(f"to = {to!r}: its client is not installed. Install it: pip install {to}") from error
    jobs = _jobs(sweep, clips=clips)
    with _TRACKERS[to](client, project or sweep.name, options) as log:
        for job in counted(jobs, show=progress, title=to):
            log(job)
    return len(jobs)


def _jobs(sweep: Sweep, *, clips: bool) -> list[Job]:
    with Ledger(sweep.path) as ledger, ledger.transaction():
        frame, cells, name = build_frame(ledger), ledger.cells(), sweep.name
    numbers = [*metric_columns(frame), *COSTS]
    jobs = []
    for cell, (_, row) in zip(cells, frame.iterrows(), strict=True):
        if cell["status"] != "done":
            continue
        manifest = read_manifest(sweep.path, cell["key"])
        jobs.append(
            Job(
                cell=cell["key"],
                group=name,
                config=_config(manifest, json.loads(cell["settings"]), row["image"]),
                values={number: float(row[number]) for number in numbers if row[number] == row[number]},
                clip=sweep.path / cell_path(cell["key"]) / VIDEO if clips else None,
            )
        )
    return jobs


def _config(manifest: Mapping[str, Any], settings: Mapping[str, Any], label: str) -> dict[str, Any]:
    nested = {
        "model": manifest["model"],
        "versions": manifest.get("versions", {}),
        "machine": manifest.get("machine", {}),
        "metric_versions": {name: metric["version"] for name, metric in manifest["metrics"].items()},
    }
    flat = {f"{part}/{name}": value for part, values in nested.items() for name, value in values.items()}
    about = {"cell": manifest["cell"], "image": label, "image_digest": manifest["image"]["digest"]}
    return {**settings, **about, **{name: value for name, value in flat.items() if value is not None}}


@contextlib.contextmanager
def _wandb(wandb: Any, project: str, options: Mapping[str, Any]) -> Iterator[Log]:
    def log(job: Job) -> None:
        settings = wandb.Settings(silent=True, console="off")  # it would follow what is printed meanwhile
        given = {"settings": settings, "resume": "allow", "reinit": "create_new", **options}
        run = wandb.init(project=project, id=job.cell, name=job.cell, group=job.group, config=dict(job.config), **given)
        with run:
            if job.clip is not None:
                run.log({"clip": wandb.Video(str(job.clip), format="mp4")})
            run.summary.update(dict(job.values))

    yield log


@contextlib.contextmanager
def _trackio(trackio: Any, project: str, options: Mapping[str, Any]) -> Iterator[Log]:
    def log(job: Job) -> None:
        given = {"resume": "allow", "embed": False, "auto_log_cpu": False, "auto_log_gpu": False, **options}
        run = trackio.init(project=project, name=job.cell, group=job.group, config=dict(job.config), **given)
        try:
            clip = {} if job.clip is None else {"clip": trackio.Video(str(job.clip), format="mp4")}
            run.log({**job.values, **clip})
        finally:
            trackio.finish()  # trackio has one run at a time

    yield log


@contextlib.contextmanager
def _mlflow(mlflow: Any, project: str, options: Mapping[str, Any]) -> Iterator[Log]:
    client = mlflow.MlflowClient(**options)
    found = client.get_experiment_by_name(project)
    experiment = client.create_experiment(project) if found is None else found.experiment_id

    def log(job: Job) -> None:
        here = client.search_runs([experiment], filter_string=f"tags.`svdlab.cell` = '{job.cell}'", max_results=1)
        tags = {"svdlab.cell": job.cell, "svdlab.sweep": job.group}
        run = here[0] if here else client.create_run(experiment, run_name=job.cell, tags=tags)
        known = run.data.params
        for name, value in job.config.items():
            if name not in known:  # MLflow lets no parameter change
                client.log_param(run.info.run_id, name, value)
        for name, value in job.values.items():
            client.log_metric(run.info.run_id, name, value)
        if job.clip is not None:
            client.log_artifact(run.info.run_id, str(job.clip))
        client.set_terminated(run.info.run_id)

    yield log


_TRACKERS: Mapping[str, Callable[[Any, str, Mapping[str, Any]], AbstractContextManager[Log]]] = MappingProxyType(
    {"wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}
)

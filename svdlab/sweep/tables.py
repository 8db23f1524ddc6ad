"""Several sweeps in one table: one below the other (`merge`), or side by side, cell by cell (`join`)."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svdlab.errors import SweepError
from svdlab.request import SETTINGS
from svdlab.sweep.frame import COSTS, build_frame, metric_columns, metric_versions, setting_columns
from svdlab.sweep.handle import Sweep
from svdlab.sweep.keys import canonical_json
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.partners import words_references

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("svdlab")

Source = Sweep | str | os.PathLike[str]
VERSIONS = ("refuse", "note")
DUPLICATES = ("first", "keep")


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A sweep as it is put together with others.

    Attributes:
        frame: `Sweep.frame` with all settings as columns, and the columns `model` (fingerprint), `digest` (of the
            picture) and `point` (a text that is equal for equal picture, settings and seed).
        settings, metrics: names of the columns of each kind that `Sweep.frame` has.
        versions: metric -> versions of its values.
        references: metric -> what its values compare with, in words; only metrics that compare.
    """

    frame: pd.DataFrame
    settings: tuple[str, ...]
    metrics: tuple[str, ...]
    versions: Mapping[str, set[int]]
    references: Mapping[str, set[str]]


def read_table(source: Source) -> Table:
    """Read a sweep, or the run directory of one, as it is now.

    Raises:
        SweepError: there is no sweep.
    """
    sweep = open_source(source)
    with Ledger(sweep.path) as ledger, ledger.transaction():
        frame, cells = build_frame(ledger), ledger.cells()
        versions = metric_versions(ledger, frame["cell"])
        references = words_references(ledger, frame["cell"])
    settings = [json.loads(cell["settings"]) for cell in cells]
    names = {"settings": tuple(setting_columns(frame)), "metrics": tuple(metric_columns(frame))}
    frame = frame.assign(
        **{name: [values[name] for values in settings] for name in SETTINGS if settings},
        model=[cell["fingerprint"] for cell in cells],
        digest=[cell["image"] for cell in cells],
        point=[f"{cell['image']} {canonical_json(values)}" for cell, values in zip(cells, settings, strict=True)],
        video=frame["video"].map(lambda path: (sweep.path / path).as_posix(), na_action="ignore"),
    )
    return Table(frame=frame, versions=versions, references=references, **names)


def open_source(source: Source) -> Sweep:
    """A sweep, or the one in a run directory.

    Raises:
        SweepError: there is none.
    """
    if isinstance(source, Sweep):
        return source
    if not isinstance(source, str | os.PathLike):
        raise SweepError(
            f"sweep = {source!r} ({type(source).__name__}): must be a Sweep or the path of a run directory."
        )
    return Sweep(source)


def merge(
    sweeps: Iterable[Source] | Mapping[str, Source], *, versions: str = "refuse", duplicates: str = "first"
) -> pd.DataFrame:
    """The cells of several sweeps in one table, one below the other.

    Columns are those of `Sweep.frame`, after a column `sweep`. A setting that any of them varies or names is a column,
    filled in for all. `video` begins with the run directory, and a column `model` holds the fingerprint of the weights.
    Pictures are told apart by their pixels: equal ones share a label, different ones of one label get another.

    Args:
        sweeps: sweeps or run directories; a mapping gives them names, else they are called by their own name, or by
            their directory where two have the same.
        versions: ``"refuse"`` if a metric has values of different versions, or against different references, which do
            not compare; ``"note"`` adds a column ``<metric>_version`` for each metric of several versions, and logs
            which have several references.
        duplicates: a cell (one key) that is in several sweeps: ``"first"`` takes it once, from the first sweep in
            which it is done; ``"keep"`` takes all.

    Raises:
        SweepError: no sweeps, metric versions that differ, or an argument that is not one of these.

    Example:
        >>> sl.sweep.merge(["runs/first", "runs/second"]).groupby(["sweep", "steps"])["flow_mean"].mean()
    """
    import pandas as pd

    _check("versions", versions, VERSIONS)
    _check("duplicates", duplicates, DUPLICATES)
    opened = _named(sweeps)
    tables = {name: read_table(sweep) for name, sweep in opened.items()}
    mixed = _mixed_versions(tables, versions)
    check_references(tables, versions)
    settings = _union(table.settings for table in tables.values())
    metrics = _union(table.metrics for table in tables.values())
    columns = ["cell", "image", *settings, "status", *metrics, *COSTS, "video", "error", "model"]
    labels = _labels([table.frame for table in tables.values()])
    parts = []
    for name, table in tables.items():
        part = table.frame.assign(image=[labels[digest] for digest in table.frame["digest"]]).reindex(columns=columns)
        part.insert(0, "sweep", name)
        part = part.astype(dict.fromkeys(metrics, "float64"))
        for metric in mixed:
            part[f"{metric}_version"] = part["cell"].map(_version_of(opened[name], metric))
        parts.append(part)
    merged = pd.concat(parts, ignore_index=True)
    return merged if duplicates == "keep" else _once(merged)


def join(
    a: Source,
    b: Source,
    *,
    how: str = "inner",
    suffixes: tuple[str, str] = ("_a", "_b"),
    versions: str = "refuse",
) -> pd.DataFrame:
    """Two sweeps side by side: one row a picture, settings and seed; what was measured, once for each sweep.

    Cells are paired by the pixels of their picture and all their settings, the seed included, whatever the weights. So
    two models, or two versions of the code, meet in equal noise, and differences of their columns are paired.

    Args:
        a, b: sweeps or run directories.
        how: ``"inner"`` keeps what is in both, ``"outer"`` all.
        suffixes: of the columns `cell`, `status`, metrics and costs.
        versions: as for `merge`; ``"note"`` takes values of different versions as they are, and logs which.

    Raises:
        SweepError: as for `merge`.

    Example:
        >>> both = sl.sweep.join("runs/teacher", "runs/student")
        >>> (both["flow_mean_b"] - both["flow_mean_a"]).describe()
    """
    import pandas as pd

    _check("versions", versions, VERSIONS)
    _check("how", how, ("inner", "outer"))
    if len(set(suffixes)) != 2:
        raise SweepError(f"suffixes = {suffixes!r}: must be two different texts, such as ('_a', '_b').")
    left, right = read_table(a), read_table(b)
    if mixed := _mixed_versions({"a": left, "b": right}, versions):
        log.warning("values of different versions stand side by side: %s", ", ".join(mixed))
    check_references({"a": left, "b": right}, versions)
    settings = _union([left.settings, right.settings])
    labels = _labels([left.frame, right.frame])
    sides = []
    for table, suffix in zip((left, right), suffixes, strict=True):
        kept = ["cell", "status", *table.metrics, *COSTS]
        side = table.frame.set_index("point")[kept].add_suffix(suffix)
        sides.append(side)
    points = [str(point) for point in dict.fromkeys([*sides[0].index, *sides[1].index])]
    if how == "inner":
        points = [point for point in points if point in sides[0].index and point in sides[1].index]
    known = pd.concat([left.frame, right.frame]).drop_duplicates("point").set_index("point").loc[points]
    about = known[settings].assign(image=[labels[digest] for digest in known["digest"]])[["image", *settings]]
    return pd.concat([about, *(side.reindex(points) for side in sides)], axis=1).reset_index(drop=True)


def _check(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise SweepError(f"{name} = {value!r}: must be {' or '.join(map(repr, allowed))}.")


def _named(sweeps: Iterable[Source] | Mapping[str, Source]) -> dict[str, Sweep]:
    if isinstance(sweeps, Mapping):
        named = {str(name): open_source(sweep) for name, sweep in sweeps.items()}
    elif isinstance(sweeps, Sweep | str | os.PathLike):
        raise SweepError(f"sweeps = {sweeps!r}: must be a list of sweeps or run directories, such as [{sweeps!r}].")
    else:
        opened = [open_source(sweep) for sweep in sweeps]
        for names in ([sweep.name for sweep in opened], [str(sweep.path) for sweep in opened]):
            if len(set(names)) == len(names):
                break
        else:
            raise SweepError(f"sweeps: {', '.join(sorted(set(names)))} is listed twice; each sweep goes in once.")
        named = dict(zip(names, opened, strict=True))
    if not named:
        raise SweepError("sweeps: there are none; give a list of sweeps or run directories.")
    return named


def _mixed_versions(tables: Mapping[str, Table], versions: str) -> list[str]:
    """Metrics whose values do not compare; refused, unless they are to be noted."""
    metrics = _union(table.versions for table in tables.values())
    mixed = [name for name in metrics if len(set().union(*(t.versions.get(name, ()) for t in tables.values()))) > 1]
    if mixed and versions == "refuse":
        said = "; ".join(
            f"{name} is "
            + ", ".join(
                f"version {' and '.join(map(str, sorted(table.versions[name])))} in {sweep}"
                for sweep, table in tables.items()
                if name in table.versions
            )
            for name in mixed
        )
        raise SweepError(
            f"values of different metric versions do not compare: {said}. Sweep.backfill([{mixed[0]!r}]) computes the"
            " older ones again; versions='note' takes them as they are."
        )
    return mixed


def check_references(tables: Mapping[str, Table], versions: str = "refuse") -> None:
    """Refuse values that compare with different references, or log them (``"note"``).

    Raises:
        SweepError: there are such values; the text names metric and references.

    Example:
        >>> check_references({"first": read_table("runs/first")})
    """
    for metric in _union(table.references for table in tables.values()):
        kinds = _union(sorted(table.references.get(metric, ())) for table in tables.values())
        if len(kinds) < 2:
            continue
        said = f"{metric} is against {' and against '.join(kinds)}"
        if versions == "refuse":
            raise SweepError(
                f"values against different references do not compare: {said}. Sweep.against(reference, [{metric!r}],"
                " replace=True) computes it against another one; versions='note' takes the values as they are."
            )
        log.warning("values against different references stand side by side: %s", said)


def _version_of(sweep: Sweep, metric: str) -> dict[str, int]:
    table = sweep.metric_table()
    rows = table[(table["name"] == metric) & table["value"].notna()]
    return dict(zip(rows["cell"], rows["version"], strict=True))


def _union(names: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for group in names for name in group))


def _labels(frames: Iterable[pd.DataFrame]) -> dict[str, str]:
    """Digest of each picture -> its label, of which no two are equal."""
    labels: dict[str, str] = {}
    for frame in frames:
        for digest, label in zip(frame["digest"], frame["image"], strict=True):
            if digest not in labels:
                labels[digest] = f"{label}-{digest[:8]}" if label in labels.values() else label
    return labels


def _once(merged: pd.DataFrame) -> pd.DataFrame:
    """Each cell once: from the first sweep in which it is done, else from the first."""
    best = (merged["status"] != "done").sort_values(kind="stable").index
    first = merged.loc[best].drop_duplicates("cell").sort_index()
    if left := len(merged) - len(first):
        log.info("%d cells are in several sweeps and were taken once", left)
    return first.reset_index(drop=True)

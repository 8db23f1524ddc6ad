"""Against: the metrics that compare a sweep with a reference sweep, such as few steps with the teacher's many.

Values are computed from what both sweeps have stored; nothing is generated again. With each value is kept which cell it
was compared with, and values against references of different weights or samplers never stand in one column.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.errors import MetricError, SvdlabError, SweepError
from svdlab.interrupt import StopRequest
from svdlab.sweep.artifacts import LATENTS, load_clip, read_manifest, update_manifest
from svdlab.sweep.backfill import needing_encoder
from svdlab.sweep.decode import check_frames
from svdlab.sweep.frame import export
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.measure import DECODED, VIDEO, measure
from svdlab.sweep.partners import kind_of, pair, words_kind
from svdlab.sweep.progress import counted
from svdlab.sweep.tables import Source, open_source
from svdlab.sweep.writing import writing

if TYPE_CHECKING:
    from svdlab.clip import Clip
    from svdlab.pipeline import Pipeline
    from svdlab.sweep.handle import Sweep

log = logging.getLogger("svdlab")

Partners = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two sweeps: where its cells are, and the model that decodes them, if it is at hand."""

    folder: Path
    pipe: Pipeline | None

    def decodes(self, key: str) -> bool:
        """Whether the frames of a cell can be had exactly."""
        return self.pipe is not None and LATENTS in read_manifest(self.folder, key)["files"]

    def clip(self, key: str, *, exact: bool) -> Clip:
        """A cell as a clip; with `exact`, decoded from its latents."""
        return load_clip(self.folder, key, pipe=self.pipe if exact else None)


def against(
    sweep: Source,
    reference: Source,
    metrics: Iterable[str] | None = None,
    *,
    pipe: Pipeline | None = None,
    reference_pipe: Pipeline | None = None,
    where: Mapping[str, Any] | None = None,
    same: Sequence[str] = (),
    missing: str = "refuse",
    replace: bool = False,
    progress: bool = True,
) -> int:
    """Compute the metrics that compare for all finished, declared cells of `sweep` that lack them.

    Each cell is compared with the cell of `reference` that agrees in the pixels of its picture, in the seed and in all
    settings but those of the sampler (`svdlab.sweep.partners.SAMPLER`: steps, schedule, gamma, sigma_max, guidance and
    decode_chunk). The models may differ. Everything is paired and checked before the first value is computed.

    With both pipelines frames are decoded from latents, which is exact; without, those of both mp4s are compared, which
    is lossy (in `Sweep.metric_table` the `source` of a value says which). What was compared with which cell is kept in
    ledger and manifest. A call that is made again computes what is missing, broken, of another version, can now be made
    exact, or was compared with another cell. A cell that is its own reference has no value.

    The first Ctrl-C lets the cell in hand finish; what is computed stays.

    Args:
        sweep, reference: sweeps or run directories; they may be the same one, with `where`.
        metrics: names of metrics that compare; None for all of them: `psnr_ref`, `lpips_ref`, `tof_ref`, your own.
        pipe, reference_pipe: the models of the two sweeps; give both or none. Where both sweeps have one model, `pipe`
            serves for both.
        where: sampler setting -> value, which chooses among several partners: ``{"steps": 25}``.
        same: sampler settings in which partners must agree too: ``["max_guidance"]``.
        missing: ``"refuse"`` if finished cells have no finished partner; ``"skip"`` leaves them without values.
        replace: give up values against a reference of other weights or another sampler; without, they are refused.
        progress: show a progress bar.

    Returns:
        How many cells got a value.

    Raises:
        SweepError: cells have no partner or several, values against another reference are there, a pipeline has other
            weights than its sweep, there is none and cells are not decoded yet, or another process is writing.
        MetricError: a metric is unknown, compares with nothing, or needs an encoder and there is no `pipe`.
        WeightsError: LPIPS is wanted and its weights cannot be had.

    Example:
        >>> against("runs/student", "runs/teacher", ["psnr_ref", "tof_ref"], where={"steps": 25})
        48
    """
    few, many = open_source(sweep), open_source(reference)
    names = _checked_names(metrics, pipe)
    sides = _sides(few, many, pipe, reference_pipe)
    pairing = pair(few, many, where=where, same=same, missing=missing)
    _require(names)
    for side, opened, cells in zip(
        sides,
        (few, many),
        (list(pairing.partners), [record["cell"] for record in pairing.partners.values()]),
        strict=True,
    ):
        check_frames(opened, cells, pipe=side.pipe)
    if pairing.lonely:
        log.warning("%d cells are left without values: %s", len(pairing.lonely), pairing.why)
    with writing(few.path) as ledger:
        _keep_apart(ledger, pairing.partners, names, replace=replace)
        todo = _outdated(ledger, pairing.partners, names, exact=sides[0].pipe is not None)
        try:
            with StopRequest("cell") as stop:
                return _fill(ledger, todo, pairing.partners, *sides, progress=progress, stop=lambda: stop.asked)
        finally:
            export(ledger, few.path)


def _checked_names(metrics: Iterable[str] | None, pipe: Pipeline | None) -> tuple[str, ...]:
    from svdlab.metrics import registry

    comparing = [metric.name for metric in registry.select(None) if "reference" in metric.needs]
    names = comparing if metrics is None else [metric.name for metric in registry.select(metrics)]
    if plain := [name for name in names if name not in comparing]:
        raise MetricError(
            f"metrics: {', '.join(plain)} does not compare with another run; Sweep.backfill({plain!r}) computes it."
            f" Those that compare: {', '.join(comparing)}."
        )
    if not names:
        raise MetricError(f"metrics = []: name at least one; those that compare: {', '.join(comparing)}.")
    if pipe is None and (needy := needing_encoder(names)):
        raise MetricError(f"{', '.join(needy)}: needs the image encoder of a model; pass pipe=svdlab.load(...).")
    return tuple(names)


def _require(names: Iterable[str]) -> None:
    from svdlab import metrics

    metrics.require(names)


def _sides(few: Sweep, many: Sweep, pipe: Pipeline | None, reference_pipe: Pipeline | None) -> tuple[Side, Side]:
    weights = [sweep.model.get("fingerprint") for sweep in (few, many)]
    if weights[0] == weights[1]:
        pipe, reference_pipe = pipe or reference_pipe, reference_pipe or pipe
    if (pipe is None) != (reference_pipe is None):
        lacking, sweep = ("reference_pipe", many) if pipe else ("pipe", few)
        raise SweepError(
            f"{lacking} is missing: exact frames of one sweep and lossy ones of the other do not compare. Load the"
            f" model of {sweep.path} ({sweep.model.get('name')!r}) too, or pass neither and compare the mp4s."
        )
    for argument, given, made, sweep in zip(
        ("pipe", "reference_pipe"), (pipe, reference_pipe), weights, (few, many), strict=True
    ):
        if given is not None and given.fingerprint != made:
            raise SweepError(
                f"{argument} = {given.name!r}: has other weights ({given.fingerprint}) than {sweep.path} ({made}). Load"
                f" the model of that sweep ({sweep.model.get('name')!r}), or pass no pipeline and compare the mp4s."
            )
    return Side(folder=few.path, pipe=pipe), Side(folder=many.path, pipe=reference_pipe)


def _keep_apart(ledger: Ledger, partners: Partners, names: Sequence[str], *, replace: bool) -> None:
    """Refuse, or on `replace` drop, values that compare with another kind of reference."""
    wanted = {kind_of(record) for record in partners.values()}
    other = {
        (cell, name): record
        for (cell, name), record in ledger.references().items()
        if name in names and kind_of(record) not in wanted
    }
    if not other:
        return
    if not replace:
        record = next(iter(other.values()))
        held = ", ".join(dict.fromkeys(name for _, name in other))
        raise SweepError(
            f"reference: {len({cell for cell, _ in other})} cells hold {held} against another reference,"
            f" {words_kind(record)}, and the two do not compare. This one is"
            f" {words_kind(next(iter(partners.values())))}. Pass replace=True to compute all anew against it."
        )
    ledger.drop_metrics(list(other))


def _outdated(ledger: Ledger, partners: Partners, names: Sequence[str], *, exact: bool) -> dict[str, list[str]]:
    """Cells -> those of the metrics that are to be computed; cells with one reference follow one another."""
    from svdlab import metrics

    have = {(row["cell"], row["name"]): row for row in ledger.metrics()}
    references, states = ledger.references(), ledger.states()

    def stale(key: str, name: str, version: int) -> bool:
        row = have.get((key, name))
        if row is None or row["error"] or row["version"] != version or (exact and row["source"] == VIDEO):
            return True
        return references.get((key, name), {}).get("cell") != partners[key]["cell"]

    seen = dict.fromkeys(record["cell"] for record in partners.values())
    place = {cell: number for number, cell in enumerate(seen)}
    todo = {}
    for key in sorted(partners, key=lambda key: place[partners[key]["cell"]]):
        names_left = [name for name, version in metrics.versions(names).items() if stale(key, name, version)]
        if names_left and states.get(key) == "done":
            todo[key] = names_left
    return todo


def _fill(
    ledger: Ledger,
    todo: Mapping[str, list[str]],
    partners: Partners,
    few: Side,
    many: Side,
    *,
    progress: bool,
    stop: Callable[[], bool],
) -> int:
    """Compute the metrics in `todo` (cell -> names) and put them into manifests and ledger. Returns how many cells."""
    frames_of = lru_cache(maxsize=1)(lambda key, exact: many.clip(key, exact=exact).frames)
    count = 0
    for key in counted(todo, show=progress and bool(todo), title="against"):
        if stop():
            break
        try:
            results = _compare(key, todo[key], partners[key]["cell"], few, many, frames_of)
        except SvdlabError as error:  # someone's hand was there
            log.warning("cell %s is left as it is. %s", key, error)
            continue
        results = {name: {**result, "reference": dict(partners[key])} for name, result in results.items()}
        update_manifest(few.folder, key, results)
        ledger.put_metrics(key, results)
        count += 1
    return count


def _compare(
    key: str, names: Sequence[str], partner: str, few: Side, many: Side, frames_of: Callable[[str, bool], np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Both from latents or both from their mp4: a codec on one side alone would count as a difference."""
    exact = few.decodes(key) and many.decodes(partner)
    source = DECODED if exact else VIDEO
    if key == partner:
        return _undefined(names, source=source)
    clip = few.clip(key, exact=exact)
    return measure(clip, names, pipe=few.pipe, source=source, reference=frames_of(partner, exact))


def _undefined(names: Sequence[str], *, source: str) -> dict[str, dict[str, Any]]:
    """A clip says nothing about itself; perfect scores would only lift the means of a plot."""
    from svdlab import metrics

    return {
        name: {"value": None, "version": version, "source": source, "error": None}
        for name, version in metrics.versions(names).items()
    }

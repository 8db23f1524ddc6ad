"""Diff: what differs between two sweeps, and whether their results moved more than seeds move them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from svdlab.errors import SweepError
from svdlab.sweep.artifacts import LATENTS, read_manifest
from svdlab.sweep.moved import RULE, Moved, count_of, measure_move
from svdlab.sweep.tables import Source, Table, open_source, read_table

if TYPE_CHECKING:
    import pandas as pd

    from svdlab.sweep.handle import Sweep

NONE = "none"
SHOWN = 4  # cells that are named


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What differs between two sweeps. Prints as text, and as tables in a notebook.

    Attributes:
        a, b: the names of the sweeps.
        declared: what was declared differently: name -> (in a, in b), as texts.
        model: the same of the models.
        versions: the same of code, packages and hardware, over all finished cells.
        metric_versions: the same of the metrics, and of the references of those that compare with one; these metrics
            are not compared here.
        only_a, only_b: keys of the declared cells whose picture, settings and seed are in one sweep only.
        pairs: pairs of cells that are declared in both.
        done: those that are done in both.
        latents: pairs done in both with latents to compare.
        identical: those whose latents are equal bit for bit.
        moved: metric by metric.
        damaged: finished cells that could not be read.
        uncommitted: cells of both sweeps ran with code that was not committed, so equal commits need not be equal code.
    """

    a: str
    b: str
    declared: Mapping[str, tuple[str, str]]
    model: Mapping[str, tuple[str, str]]
    versions: Mapping[str, tuple[str, str]]
    metric_versions: Mapping[str, tuple[str, str]]
    only_a: tuple[str, ...] = field(repr=False)
    only_b: tuple[str, ...] = field(repr=False)
    pairs: int
    done: int
    latents: int
    identical: int
    moved: tuple[Moved, ...]
    damaged: tuple[str, ...] = ()
    uncommitted: bool = False

    def frame(self) -> pd.DataFrame:
        """The metrics as a table: one row a metric, with the attributes of `Moved` and its verdict."""
        import pandas as pd

        names = [*Moved.__dataclass_fields__, "verdict"]
        return pd.DataFrame([[getattr(row, name) for name in names] for row in self.moved], columns=names)

    def sentences(self) -> tuple[str, ...]:
        """What was found, a sentence each."""
        return tuple(self._sentences())

    def _sentences(self) -> Iterator[str]:
        for title, found in self._tables():
            said = f"{', '.join(found)} differ{'s' if len(found) == 1 else ''}" if found else "the same"
            yield f"{title}: {said}."
        if self.uncommitted:
            yield "Code: both ran with changes that were not committed, so equal commits need not be equal code."
        yield (
            f"Cells: {self.pairs} with equal picture, settings and seed in both, {self.done} of them done in both;"
            f" {len(self.only_a)} only in a, {len(self.only_b)} only in b."
        )
        for side, cells in (("a", self.only_a), ("b", self.only_b)):
            if cells:
                more = f" and {len(cells) - SHOWN} more" if len(cells) > SHOWN else ""
                yield f"Only in {side}: {', '.join(cells[:SHOWN])}{more}."
        if self.damaged:
            yield f"Damaged, and left out: {', '.join(self.damaged)}."
        if self.latents:
            yield f"Latents: bit-identical in {self.identical} of {count_of(self.latents, 'pair')}."
        elif self.done:
            yield "Latents: no pair has any to compare."
        for name, (in_a, in_b) in self.metric_versions.items():
            mend = "against" if "against" in in_a + in_b else "backfill"
            yield f"{name}: version {in_a} in a, {in_b} in b: its values do not compare; Sweep.{mend} mends that."
        yield from map(str, self.moved)
        if self.done and not self.moved and not self.metric_versions:
            yield "No metric has values in both."

    def _tables(self) -> tuple[tuple[str, Mapping[str, tuple[str, str]]], ...]:
        return (
            ("Declaration", self.declared),
            ("Model", self.model),
            ("Versions", self.versions),
            ("Metric versions", self.metric_versions),
        )

    def __str__(self) -> str:
        lines = [f"a: {self.a}", f"b: {self.b}", "", *self._sentences()]
        for title, found in self._tables():
            if found:
                width = max(map(len, found))
                lines.append(f"\n{title}")
                for name, (in_a, in_b) in found.items():
                    lines += [f"  {name.ljust(width)}  a: {in_a}", f"  {' ' * width}  b: {in_b}"]
        return "\n".join([*lines, "", RULE])

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self._sentences())
        parts = [f"<p><b>a</b>: {html.escape(self.a)}<br><b>b</b>: {html.escape(self.b)}</p><ul>{items}</ul>"]
        for title, found in self._tables():
            rows = "".join(_html_row(name, *pair) for name, pair in found.items())
            head = _html_row(title, "a", "b", tag="th")
            parts.append(f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>" if rows else "")
        return "".join([*parts, f"<p><small>{html.escape(RULE)}</small></p>"])


def diff(a: Source, b: Source) -> Difference:
    """Compare two sweeps: declarations, models, versions, cells, latents and metrics.

    Cells are paired by the pixels of their picture and all settings with the seed, whatever the weights. A metric is
    compared where both values have one version. It moved more than seeds do if

        |mean(b - a)| > s,   s^2 = sum over groups of (x - group mean)^2 / sum over groups of (n - 1),

    a group being the seeds of one picture and setting in one sweep. The mean can hide moves in both directions, so the
    settings whose own mean difference exceeds s are counted too.

    Args:
        a, b: sweeps or run directories.

    Raises:
        SweepError: one of them is no sweep.

    Example:
        >>> print(sl.open_sweep("runs/before").diff("runs/after"))
    """
    sweeps = open_source(a), open_source(b)
    tables = read_table(sweeps[0]), read_table(sweeps[1])
    frames = tables[0].frame.set_index("point"), tables[1].frame.set_index("point")
    manifests, damaged = _manifests(sweeps, frames)
    common = frames[0].index.intersection(frames[1].index, sort=False)
    both = [point for point in common if point in manifests[0] and point in manifests[1]]
    hashes = [tuple(_latents(side[point]) for side in manifests) for point in both]
    compared = [pair for pair in hashes if None not in pair]
    names = [name for name in tables[0].metrics if name in tables[1].metrics]
    versions = _differing(_shown_versions(tables[0]), _shown_versions(tables[1]), names=names)
    moved = (measure_move(name, *frames, both) for name in names if name not in versions)
    return Difference(
        a=f"{sweeps[0].name} ({sweeps[0].path})",
        b=f"{sweeps[1].name} ({sweeps[1].path})",
        declared=_differing(*map(_declaration, sweeps)),
        model=_differing(*({name: _text(value) for name, value in sweep.model.items()} for sweep in sweeps)),
        versions=_differing(*map(_environments, manifests)),
        metric_versions=versions,
        only_a=tuple(frames[0].loc[frames[0].index.difference(common, sort=False), "cell"]),
        only_b=tuple(frames[1].loc[frames[1].index.difference(common, sort=False), "cell"]),
        pairs=len(common),
        done=len(both),
        latents=len(compared),
        identical=sum(first == second for first, second in compared),
        moved=tuple(row for row in moved if row.pairs),
        damaged=damaged,
        uncommitted=all(_ran_uncommitted(side.values()) for side in manifests),
    )


def _manifests(
    sweeps: tuple[Sweep, Sweep], frames: tuple[pd.DataFrame, pd.DataFrame]
) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """Of each sweep: point -> manifest of the finished cells; and the keys of those that cannot be read."""
    damaged: list[str] = []
    sides = []
    for sweep, frame in zip(sweeps, frames, strict=True):
        side: dict[str, Any] = {}
        for point, cell in frame.loc[frame["status"] == "done", "cell"].items():
            try:
                side[str(point)] = read_manifest(sweep.path, cell)
            except SweepError:
                damaged.append(cell)
        sides.append(side)
    return tuple(sides), tuple(damaged)


def _latents(manifest: Mapping[str, Any]) -> str | None:
    return manifest["files"].get(LATENTS, {}).get("sha256")


def _declaration(sweep: Sweep) -> dict[str, str]:
    """What was declared, as texts; pictures by label and the first digits of their digest."""
    declared = sweep._declared()
    images = [f"{image['label']} ({image['digest'][:8]})" for image in declared.get("images", ())]
    axes = {f"{name} (axis)": _listed(values) for name, values in sweep.axes.items() if name != "image"}
    fixed = {name: _text(value) for name, value in sweep.fixed.items()}
    return {
        "name": sweep.name,
        "images": _listed(images),
        **axes,
        **fixed,
        "metrics": _listed(sweep.metrics),
        "timing": _text(declared.get("timing")),
    }


def _environments(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Package, code and hardware -> the versions that the finished cells name, mostly one."""
    found: dict[str, dict[str, None]] = {}
    for manifest in manifests.values():
        for name, value in {**manifest.get("versions", {}), **manifest.get("machine", {})}.items():
            found.setdefault(name, {})[str(value)] = None
    return {name: _listed(values) for name, values in found.items()}


def _ran_uncommitted(manifests: Iterable[Mapping[str, Any]]) -> bool:
    return any(manifest.get("versions", {}).get("commit", "").endswith("-dirty") for manifest in manifests)


def _shown_versions(table: Table) -> dict[str, str]:
    """Metric -> its versions and, of those that compare, what with: values compare only where both are equal."""
    shown = {}
    for name, versions in table.versions.items():
        references = sorted(table.references.get(name, ()))
        shown[name] = _listed(sorted(versions)) + (f" against {_listed(references)}" if references else "")
    return shown


def _differing(
    a: Mapping[str, str], b: Mapping[str, str], names: Iterable[str] | None = None
) -> dict[str, tuple[str, str]]:
    """What has another text in a than in b; with `names`, only what is in both and among them."""
    known = dict.fromkeys([*a, *b]) if names is None else [name for name in names if name in a and name in b]
    pairs = {name: (a.get(name, NONE), b.get(name, NONE)) for name in known}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(_text, values)) or NONE


def _text(value: Any) -> str:
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _html_row(*texts: str, tag: str = "td") -> str:
    return (
        "<tr>"
        + "".join(f'<{tag} style="text-align:left;padding-right:1em">{html.escape(text)}</{tag}>' for text in texts)
        + "</tr>"
    )

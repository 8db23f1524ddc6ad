"""Partners: which cell of a reference sweep each cell of a sweep is compared with.

Two cells show the same film, made in two ways, if they agree in picture (by its pixels), seed and everything that says
what is to be shown: motion, noise on the picture, frame rate, length and size. How it was made may differ: the model,
and the settings of the sampler.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import SweepError
from svdlab.request import SETTINGS
from svdlab.sweep.ledger import Ledger

if TYPE_CHECKING:
    from svdlab.sweep.handle import Sweep

SAMPLER = ("steps", "schedule", "gamma", "sigma_max", "min_guidance", "max_guidance", "decode_chunk")
"""The settings in which partners may differ; all others, those of later versions included, must agree."""

PICTURE = "picture"
MISSING = ("refuse", "skip")
SHOWN = 6  # values that are named in a message


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A declared cell of a sweep, as far as pairing needs it: `film` is equal for partners."""

    key: str
    status: str
    label: str  # of its picture
    fingerprint: str
    film: tuple[tuple[str, Any], ...]
    sampler: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """What is compared with what.

    Attributes:
        partners: finished cell -> the reference that is recorded with its values, ready for JSON: ``cell`` (key),
            ``sweep`` and ``model`` (names), ``fingerprint`` (of the weights), ``sampler`` (the settings that were free
            to differ).
        lonely: finished cells without a partner.
        why: why they have none, in words; empty if there are none.
    """

    partners: Mapping[str, Mapping[str, Any]]
    lonely: tuple[str, ...] = ()
    why: str = ""


def pair(
    sweep: Sweep,
    reference: Sweep,
    *,
    where: Mapping[str, Any] | None = None,
    same: Sequence[str] = (),
    missing: str = "refuse",
) -> Pairing:
    """Find the partner of each finished, declared cell of `sweep` among the declared cells of `reference`.

    Args:
        where: sampler setting -> the one value that a partner has, such as ``{"steps": 25}``.
        same: sampler settings in which partners must agree too, such as ``["max_guidance"]``.
        missing: ``"refuse"`` if a finished cell has no finished partner, ``"skip"`` to leave it without one.

    Raises:
        SweepError: an argument is not one of these; a cell has several partners; a cell has none and that is refused;
            or none has one.

    Example:
        >>> pair(student, teacher, where={"steps": 25}).partners["3f2a..."]["cell"]
        '91be0c...'
    """
    where = {} if where is None else where
    _check(where, same, missing)
    cells = [cell for cell in _cells(sweep.path, same) if cell.status == "done"]
    if not cells:
        raise SweepError(f"{sweep.path}: has no finished cell to compare. Run the sweep first.")
    candidates = _narrowed(_cells(reference.path, same), where, reference)
    found: dict[Any, list[Cell]] = {}
    for cell in candidates:
        found.setdefault(cell.film, []).append(cell)
    _refuse_several(cells, found, reference)
    done = {film: few[0] for film, few in found.items() if few[0].status == "done"}
    lonely = [cell for cell in cells if cell.film not in done]
    why = _why(lonely, candidates, found)
    if lonely and (missing == "refuse" or len(lonely) == len(cells)):
        raise SweepError(_words_lonely(len(lonely), len(cells), why, reference))
    model = reference.model.get("name", "")
    return Pairing(
        partners={
            cell.key: _record(done[cell.film], sweep=reference.name, model=model, same=same)
            for cell in cells
            if cell.film in done
        },
        lonely=tuple(cell.key for cell in lonely),
        why=why,
    )


def kind_of(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What references must have in common for values against them to stand in one column: weights and sampler.

    Args:
        record: as in `Pairing.partners`.
    """
    return record["fingerprint"], tuple(sorted(record["sampler"].items()))


def words_kind(record: Mapping[str, Any]) -> str:
    """A kind of reference in words.

    Example:
        >>> words_kind(record)
        'svd-xt (3f2a91be0c44d210-fp16; steps 25, schedule karras, gamma 0)'
    """
    sampler = ", ".join(f"{name} {_show(value)}" for name, value in record["sampler"].items())
    return f"{record['model']} ({record['fingerprint']}; {sampler})"


def words_references(ledger: Ledger, cells: Iterable[str]) -> dict[str, set[str]]:
    """Metric -> the kinds of reference that its values in these cells compare with, in words, mostly one."""
    wanted = set(cells)
    found: dict[str, set[str]] = {}
    for (cell, name), record in ledger.references().items():
        if cell in wanted:
            found.setdefault(name, set()).add(words_kind(record))
    return found


def _cells(folder: Path, same: Sequence[str]) -> list[Cell]:
    with Ledger(folder) as ledger:
        rows, labels = ledger.cells(), ledger.labels()
    cells = []
    for row in rows:
        settings = json.loads(row["settings"])
        film = {name: value for name, value in settings.items() if name not in SAMPLER or name in same}
        cells.append(
            Cell(
                key=row["key"],
                status=row["status"],
                label=labels[row["image"]],
                fingerprint=row["fingerprint"],
                film=((PICTURE, row["image"]), *sorted(film.items())),
                sampler={name: settings[name] for name in SETTINGS if name in settings and name in SAMPLER},
            )
        )
    return cells


def _record(cell: Cell, *, sweep: str, model: str, same: Sequence[str]) -> dict[str, Any]:
    free = {name: value for name, value in cell.sampler.items() if name not in same}
    return {"sweep": sweep, "cell": cell.key, "model": model, "fingerprint": cell.fingerprint, "sampler": free}


def _check(where: Mapping[str, Any], same: Sequence[str], missing: str) -> None:
    if missing not in MISSING:
        raise SweepError(f"missing = {missing!r}: must be {' or '.join(map(repr, MISSING))}.")
    if not isinstance(where, Mapping):
        raise SweepError(f"where = {where!r}: must be a dict of settings, such as {{'steps': 25}}.")
    if isinstance(same, str):
        raise SweepError(f"same = {same!r}: must be a list of settings, such as [{same!r}].")
    for argument, names in (("where", where), ("same", same)):
        for name in names:
            if name in SAMPLER:
                continue
            if name in SETTINGS or name == "image":
                raise SweepError(f"{argument}: {name} agrees between partners in any case; leave it out.")
            close = difflib.get_close_matches(str(name), SAMPLER, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise SweepError(
                f"{argument}: {name!r} is no setting of the sampler. {hint}There are {', '.join(SAMPLER)}."
            )


def _narrowed(cells: list[Cell], where: Mapping[str, Any], reference: Sweep) -> list[Cell]:
    """The cells that have the values of `where`."""
    if not cells:
        raise SweepError(f"reference: {reference.path} has no cells. Run that sweep first.")
    for name, value in where.items():
        there = list(dict.fromkeys(cell.sampler[name] for cell in cells))
        if value not in there:
            raise SweepError(
                f"where: {name} = {_show(value)} is not in {reference.path}; give one value of {_listed(there)}."
            )
    kept = [cell for cell in cells if all(cell.sampler[name] == value for name, value in where.items())]
    if not kept:
        raise SweepError(f"where = {dict(where)!r}: no cell of {reference.path} has all of these values at once.")
    return kept


def _refuse_several(cells: Iterable[Cell], found: Mapping[Any, Sequence[Cell]], reference: Sweep) -> None:
    for cell in cells:
        fits = found.get(cell.film, ())
        if len(fits) < 2:
            continue
        differ = {
            name: values
            for name in fits[0].sampler
            if len(values := list(dict.fromkeys(other.sampler[name] for other in fits))) > 1
        }
        name, values = next(iter(differ.items()))
        raise SweepError(
            f"cell {cell.key} has {len(fits)} partners in {reference.path}, which differ in"
            f" {'; '.join(f'{name} ({_listed(values)})' for name, values in differ.items())}. Choose one, such as"
            f" where={{{name!r}: {values[-1]!r}}}, or name what partners have in common: same=[{name!r}]."
        )


def _why(lonely: Sequence[Cell], candidates: Sequence[Cell], found: Mapping[Any, Sequence[Cell]]) -> str:
    """Why these cells have no partner: values that the reference lacks, or the state in which their partner is."""
    states = Counter(found[cell.film][0].status for cell in lonely if cell.film in found)
    reasons = [f"{count} {'partner is' if count == 1 else 'partners are'} {state}" for state, count in states.items()]
    absent = [cell for cell in lonely if cell.film not in found]
    explained: set[str] = set()
    for name in dict(candidates[0].film):
        there = dict.fromkeys(dict(cell.film)[name] for cell in candidates)
        gone = [cell for cell in absent if dict(cell.film)[name] not in there]
        explained |= {cell.key for cell in gone}
        if gone and name == PICTURE:
            reasons.append(_words_pictures(gone, candidates))
        elif gone:
            values = dict.fromkeys(dict(cell.film)[name] for cell in gone)
            reasons.append(f"{name} {_listed(values)} is not there (there is {_listed(there)})")
    if rest := len(absent) - len(explained):
        reasons.append(f"{rest} {'combination' if rest == 1 else 'combinations'} of settings that it does not have")
    return "; ".join(reasons)


def _words_pictures(gone: Sequence[Cell], candidates: Sequence[Cell]) -> str:
    names = dict.fromkeys(cell.label for cell in gone)
    known = {cell.label for cell in candidates}
    other = [name for name in names if name in known]
    hint = f"; there, {_listed(other)} has other pixels" if other else ""
    return f"the picture {_listed(names)} is not there{hint}"


def _words_lonely(lonely: int, count: int, why: str, reference: Sweep) -> str:
    if lonely == count:
        return (
            f"reference: no finished cell has a finished partner in {reference.path}: {why}. Partners agree in picture,"
            f" seed and all settings but {', '.join(SAMPLER)}; run the reference with the settings of this sweep."
        )
    return (
        f"reference: {lonely} of {count} finished cells have no finished partner in {reference.path}: {why}. Run these"
        " cells of the reference, or pass missing='skip' to leave the cells here without values."
    )


def _listed(values: Iterable[Any]) -> str:
    shown = [_show(value) for value in values]
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

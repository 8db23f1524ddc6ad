"""Cells: every point of a grid as a checked, resolved request with its key."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from svdlab.errors import RequestError, SpecError
from svdlab.request import Defaults, Request, SettingWarning
from svdlab.sharing import Chain, call_chain
from svdlab.sweep.grid import Grid
from svdlab.sweep.keys import cell_key
from svdlab.sweep.pictures import Picture

MOST_PROBLEMS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One point of a grid.

    Attributes:
        key: content key, see `svdlab.sweep.keys.cell_key`.
        image: digest of its picture.
        label: label of its picture.
        settings: every setting of the resolved request, the seed included.
    """

    key: str
    image: str
    label: str
    settings: Mapping[str, Any]

    @property
    def calls(self) -> int:
        """Denoiser calls: twice the steps with guidance."""
        return count_calls(self.settings)

    @property
    def chain(self) -> Chain:
        """The keys of its denoiser calls; cells with equal keys have that call in common."""
        return call_chain(self.settings, image=self.image)


def count_calls(settings: Mapping[str, Any]) -> int:
    """Denoiser calls of a resolved request: its steps, twice if it is guided (a maximum of guidance above 1)."""
    return settings["steps"] * (2 if settings["max_guidance"] > 1 else 1)


def count_pixels(settings: Mapping[str, Any]) -> int:
    """Pixels of a clip, all frames together."""
    return math.prod(settings[name] for name in ("num_frames", "width", "height"))


def build_cells(
    pictures: Iterable[Picture],
    grid: Grid,
    *,
    defaults: Defaults,
    model: str,
    seed: int | None,
    where: Callable[[str], str] = lambda name: "",
) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """All cells in the order of the grid, pictures outermost, and what was worth a warning, each text once.

    Args:
        defaults: of the model, for the settings that are left open.
        model: fingerprint of the weights.
        seed: for all cells, if the grid has no seeds.
        where: a setting -> the beginning of an error's text about it.

    Raises:
        SpecError: combinations that no request can have; the first ten are named.
    """
    points: list[dict[str, Any]] = []
    problems: dict[str, None] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SettingWarning)
        for point in grid:
            try:
                request = Request(image="unnamed", **({} if grid.seeded else {"seed": seed}), **point)
                points.append(request.resolve(defaults).settings())
            except RequestError as error:
                name = re.match(r"\w*", str(error))
                problems[f"{where(name[0] if name else '')}{error}"] = None
    if problems:
        more = f"\n... and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        raise SpecError("cells that cannot be:\n" + "\n".join(list(problems)[:MOST_PROBLEMS]) + more)
    cells = tuple(
        Cell(
            key=cell_key(settings, image=picture.digest, model=model),
            image=picture.digest,
            label=picture.label,
            settings=settings,
        )
        for picture in pictures
        for settings in points
    )
    return cells, tuple(dict.fromkeys(str(warning.message) for warning in caught))


def quiet_request(image: Any, settings: Mapping[str, Any]) -> Request:
    """A request whose warnings have been given before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettingWarning)
        return Request(image=image, **settings)

"""Calibrate: judge what cells will take before one is done, by a trial clip of a single step."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svdlab.sweep import artifacts
from svdlab.sweep.cells import Cell, count_calls, count_pixels, quiet_request
from svdlab.sweep.ledger import is_undecoded
from svdlab.sweep.measure import MEMORY, measure
from svdlab.sweep.strip import make_files

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline

log = logging.getLogger("svdlab")

WHOLE = 25 * 128 * 128  # pixels up to which the trial is a whole clip; larger clips are tried with two frames
FEW = 2


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What cells take for each of their pixels, all frames counted.

    Attributes:
        call: seconds of one denoiser call.
        rest: seconds of everything else: conditioning, decoding, metrics, files.
        bytes: what is stored; None if a trial cannot tell.
        source: what the rates were judged by, in words.
    """

    call: float
    rest: float
    bytes: float | None
    source: str

    def seconds(self, cells: Sequence[Cell], calls: Sequence[int] | None = None) -> float:
        """Seconds that `cells` will take.

        Args:
            calls: denoiser calls made for each of them; None: all that it needs.
        """
        calls = [cell.calls for cell in cells] if calls is None else calls
        return sum(
            count_pixels(cell.settings) * (made * self.call + self.rest)
            for cell, made in zip(cells, calls, strict=True)
        )


def rates_of(done: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]], *, decode: str = "full") -> Rates | None:
    """Rates from finished cells: pairs of settings and ledger row; None if there are none that were made like `decode`.

    A hosted model does not say what its denoiser takes: all of a cell's time is then its rest.

    A call is judged by what denoising costs alone. The rest is what cells really took (`elapsed`: with metrics and
    files) less what was spent on calls: of `seconds_spent`, what is beyond conditioning and decoding.
    """
    lazy = decode != "full"
    timed = ((settings, row) for settings, row in done if row["seconds"] or row["seconds_denoise"])
    done = [(settings, row) for settings, row in timed if lazy == is_undecoded(row)]
    if not done:
        return None
    pixels = sum(count_pixels(settings) for settings, _ in done)
    call = sum(row["seconds_denoise"] or 0.0 for _, row in done) / sum(
        count_pixels(settings) * count_calls(settings) for settings, _ in done
    )
    rest = sum(row["elapsed"] - _spent_on_calls(row) for _, row in done) / pixels
    size = sum(row["bytes"] for _, row in done) / pixels
    return Rates(call=call, rest=rest, bytes=size, source="the cells that are done")


def _spent_on_calls(row: Mapping[str, Any]) -> float:
    if row["seconds_denoise"] is None:
        return 0.0
    beside = (row["seconds_condition"] or 0.0) + (row["seconds_decode"] or 0.0)
    return max(0.0, row["seconds_spent"] - beside)


def calibrate(
    cell: Cell, image: Any, metrics: tuple[str, ...], pipe: Pipeline, *, decode: str = "full"
) -> Rates | None:
    """Rates from a trial of one step in the settings of `cell`, made twice: the first run only warms up.

    A large clip is tried with two of its frames. Nothing is stored, and the pipeline forgets the trial. If it fails,
    the answer is None: the sweep will meet the same error and keep it with the cell.
    """
    settings = dict(cell.settings, steps=1)
    if count_pixels(settings) > WHOLE:
        frames = min(FEW, settings["num_frames"])
        settings |= {"num_frames": frames, "decode_chunk": min(settings["decode_chunk"], frames)}
    try:
        _trial(settings, image, metrics, pipe, decode)
        pipe.clear_cache()
        elapsed, denoise = _trial(settings, image, metrics, pipe, decode)
    except Exception as error:
        log.debug("the trial before the plan failed: %s", error)
        return None
    finally:
        pipe.clear_cache()
    pixels = count_pixels(settings)
    call = denoise / pixels / count_calls(settings)
    return Rates(call=call, rest=(elapsed - denoise) / pixels, bytes=None, source="a trial of one step")


def _trial(
    settings: Mapping[str, Any], image: Any, metrics: tuple[str, ...], pipe: Pipeline, decode: str
) -> tuple[float, float]:
    """Seconds of a clip with its metrics and files, and those of denoising among them."""
    began = time.perf_counter()
    [sample] = pipe.denoise([quiet_request(image, settings)])
    if decode != "full":
        make_files(sample, preview=decode == "preview")
        return time.perf_counter() - began, sample.seconds["denoise"]
    clip = sample()
    measure(clip, metrics, pipe=pipe, source=MEMORY)
    artifacts.encode(dataclasses.replace(clip, model={}))
    return time.perf_counter() - began, clip.seconds["denoise"]

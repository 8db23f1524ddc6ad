"""Schedules: at which noise levels the denoiser is called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral

from matplotlib.figure import Figure

from svdlab.errors import ViewError
from svdlab.plot.style import ACCENT, QUIET, panels
from svdlab.request import SCHEDULES

MOST_TICKS = 8


def schedules(
    steps: Iterable[int] = (1, 2, 4, 8), schedules: Sequence[str] = SCHEDULES, *, sigma_max: float = 700.0
) -> Figure:
    """The noise levels of every step count, a panel for each schedule, on a logarithmic axis; the last call is marked.

    The line through the last calls is what to look at: where it rises, more steps stop at a noisier place.

    Args:
        steps: step counts, such as ``range(1, 17)``.
        schedules: names of schedules; see `svdlab.sampling.sigmas`.
        sigma_max: where sampling starts, in EDM units.

    Raises:
        ViewError: no step counts or schedules, or a step count that is no whole number.
        RequestError: an unknown schedule, or a step count that it cannot give.

    Example:
        >>> schedules(range(1, 17))
    """
    from svdlab.sampling import sigmas  # loads torch, which no other plot needs

    counts = list(steps)
    names = [schedules] if isinstance(schedules, str) else list(schedules)
    if not counts or not names:
        raise ViewError("steps and schedules: give at least one of each.")
    for count in counts:
        if isinstance(count, bool) or not isinstance(count, Integral):
            raise ViewError(f"steps: {count!r} is not a whole number of denoiser calls.")
    counts = sorted({int(count) for count in counts})
    levels = {name: [sigmas(n, schedule=name, sigma_max=sigma_max)[:-1].tolist() for n in counts] for name in names}
    with panels(1, len(names), (1.0 + 3.3 * len(names), 3.6), sharey=True) as (figure, array):
        for axes, name in zip(array[0], names, strict=True):
            calls = [(n, sigma) for n, of in zip(counts, levels[name], strict=True) for sigma in of]
            axes.plot(*zip(*calls, strict=True), "o", markersize=4, color=QUIET, markeredgecolor="none")
            last = [of[-1] for of in levels[name]]
            axes.plot(counts, last, "o-", color=ACCENT, markersize=5, linewidth=1.2, label="last call")
            axes.set_yscale("log")
            axes.set_title(name)
            axes.set_xlabel("steps")
            axes.grid(False, axis="x")
            if len(counts) <= MOST_TICKS:
                axes.set_xticks(counts, [str(count) for count in counts])
            else:
                axes.set_xticks(_round_ticks(counts[0], counts[-1]))
        array[0, 0].set_ylabel("noise level sigma of the denoiser calls")
        array[0, 0].legend(loc="lower left")
    return figure


def _round_ticks(first: int, last: int) -> list[int]:
    """The first step count, and round ones up to the last.

    Example:
        >>> _round_ticks(1, 16)
        [1, 4, 8, 12, 16]
    """
    stride = next(stride for stride in (1, 2, 4, 5, 10, 20) if (last - first) / stride <= MOST_TICKS / 2)
    return [first, *range(stride * (first // stride + 1), last + 1, stride)]

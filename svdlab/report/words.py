"""Words: what a report says about its sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MOST_VALUES = 12  # of an axis that are listed


def lead(
    axes: Mapping[str, Sequence[Any]], counts: Mapping[str, int], model: Mapping[str, Any], *, running: bool
) -> str:
    """One paragraph: how many cells, of what, with which model, and how far they are.

    Example:
        >>> lead({"steps": (1, 4)}, {"done": 2}, {"name": "tiny", "device": "cpu", "dtype": "float32"}, running=False)
        '2 cells: 2 steps, made with tiny on cpu in float32. All of them are done.'
    """
    total = sum(counts.values())
    if not total:
        return "No cells are declared here yet." + (" A process is writing in this sweep." if running else "")
    grid = " \u00d7 ".join(f"{len(values)} {_plural(name, len(values))}" for name, values in axes.items())
    made = f", made with {model['name']}" if model.get("name") else ""
    made += f" on {model['device']}" if model.get("device") else ""
    made += f" in {model['dtype']}" if model.get("dtype") else ""
    return (
        f"{total} {'cell' if total == 1 else 'cells'}{': ' + grid if grid else ''}{made}. {_progress(counts, running)}"
    )


def _plural(name: str, count: int) -> str:
    return {"image": "pictures", "seed": "seeds"}.get(name, name) if count > 1 else name


def _progress(counts: Mapping[str, int], running: bool) -> str:
    total, done = sum(counts.values()), counts.get("done", 0)
    if done == total:
        return "It is done." if total == 1 else "All of them are done."
    left = counts.get("pending", 0) + counts.get("running", 0)
    parts = [f"{done} {'is' if done == 1 else 'are'} done"]
    parts += [f"{counts[name]} {name}" for name in ("failed", "skipped") if counts.get(name)]
    if left:
        parts.append(f"{left} {'was' if left == 1 else 'were'} still to do when this report was written")
    more = " The sweep was running: write the report again to see more." if running and left else ""
    return ", ".join(parts) + "." + more


def failures(frame: pd.DataFrame) -> list[tuple[str, int, str]]:
    """Each error with how many cells it ended and the key of the first, most frequent first."""
    failed = frame[frame["status"] == "failed"]
    counted = Counter(str(error) for error in failed["error"])
    first = {str(error): str(cell) for cell, error in zip(failed["cell"][::-1], failed["error"][::-1], strict=True)}
    return [(error, count, first[error]) for error, count in counted.most_common()]


def listed(values: Sequence[Any]) -> str:
    """The values of an axis, not too many of them.

    Example:
        >>> listed(range(100))
        '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ... 99 (100 values)'
    """
    if len(values) <= MOST_VALUES:
        return ", ".join(map(str, values))
    return f"{', '.join(map(str, values[: MOST_VALUES - 1]))}, ... {values[-1]} ({len(values)} values)"

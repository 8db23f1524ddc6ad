"""Results table: a sweep in the terminal, one line a setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

# Shown in the terminal, the most telling first; as many as fit beside the settings. All are in results.csv.
SHOWN = ("flow_mean", "warp_error", "lpips_input", "seconds", "clip_temporal", "flicker", "ssim_input")


def results_table(frame: pd.DataFrame, *, axes: list[str], most: int = 40, width: int = 80) -> Table:
    """A table for the terminal: a row a setting, the mean of the metrics over pictures and seeds.

    Args:
        frame: `Sweep.frame()`.
        axes: the names that vary in the sweep.
        most: rows to show at the most.
        width: characters a line.
    """
    groups = [name for name in axes if name not in ("image", "seed")]
    left = width - sum(len(name) + 2 for name in [*groups, "done"])
    shown = []
    for name in SHOWN:
        if name in frame and len(name) + 2 <= left:
            shown.append(name)
            left -= len(name) + 2
    averaged = " and ".join({"image": "pictures", "seed": "seeds"}[name] for name in axes if name not in groups)
    table = Table(title=f"mean over {averaged}" if averaged else None, title_justify="left", box=None, padding=(0, 1))
    for name in [*groups, "done", *shown]:
        table.add_column(name, justify="right", no_wrap=True)
    done = frame.assign(done=frame["status"] == "done")
    grouped = done.groupby(groups, sort=False, dropna=False) if groups else done.groupby(lambda _: 0)
    for index, (key, part) in enumerate(grouped):
        if index == most:
            table.caption = f"{len(grouped) - most} more rows are in results.csv"
            break
        settings = list(key) if isinstance(key, tuple) else [key] if groups else []
        values = part.loc[part["done"], shown].mean()
        table.add_row(
            *(f"{value:g}" if isinstance(value, float) else str(value) for value in settings),
            f"{part['done'].sum()}/{len(part)}",
            *("" if value != value else f"{value:.3g}" for value in values),
        )
    return table


def print_failures(frame: pd.DataFrame, out: Console, *, most: int = 5) -> None:
    """Print the first failed cells of `Sweep.frame()` with their errors, and how many more there are."""
    failed = frame[frame["status"] == "failed"]
    for _, row in failed.head(most).iterrows():
        out.print(f"failed: cell {row['cell']}: {row['error']}", style="red", markup=False, highlight=False)
    if len(failed) > most:
        out.print(f"... and {len(failed) - most} more failed cells", style="red")

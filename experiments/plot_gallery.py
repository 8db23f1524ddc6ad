"""Draw the example pictures of docs/plots.md from a finished sweep.

    svdlab sweep experiments/quickstart.toml --out runs/quickstart
    python experiments/plot_gallery.py runs/quickstart --out docs/images

The sweep needs several values of motion_bucket_id, cond_aug and steps. The pictures are PNG files with a palette, each
under 60 KB: colours are given up until they are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import svdlab as sl
from answers.small import small_png
from svdlab.files import write_atomic

LIMIT = 60_000  # bytes
DPI = 90


def main(arguments: list[str] | None = None) -> int:
    """Draw all pictures; 0 if each could be drawn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run directory of a sweep")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures; created")
    given = parser.parse_args(arguments)
    try:
        sweep = sl.open_sweep(given.run)
        given.out.mkdir(parents=True, exist_ok=True)
        for name, figure in gallery(sweep).items():
            path = given.out / f"plot_{name}.png"
            write_atomic(path, small_png(figure, dpi=DPI, limit=LIMIT))
            print(f"{path}  {path.stat().st_size / 1000:.0f} KB")  # noqa: T201 (a command speaks to its caller)
    except (sl.SvdlabError, OSError) as error:
        parser.error(str(error))
    return 0


def gallery(sweep: sl.Sweep) -> dict[str, Any]:
    """One figure of each kind."""
    plot, df = sl.plot, sweep.frame()
    clips = clips_by_steps(sweep)
    return {
        "heatmap": plot.heatmap(df, "motion_bucket_id", "cond_aug", "flow_mean", col="steps"),
        "response": plot.response(df, "motion_bucket_id", ["flow_mean", "warp_error"], by="steps"),
        "tradeoff": plot.tradeoff(df),
        "frames": plot.frames(dict([*clips.items()][:: max(1, len(clips) - 1)]), every=6),  # fewest and most steps
        "per_frame": plot.per_frame(clips),
        "convergence": plot.convergence(sweep),
        "schedules": plot.schedules(range(1, 17)),
    }


def clips_by_steps(sweep: sl.Sweep) -> dict[str, sl.Clip]:
    """A clip of each number of steps, everything else as in the first finished cell of the middle motion bucket."""
    done = sweep.frame().query("status == 'done'")
    buckets = sorted(done["motion_bucket_id"].unique())
    alike = done[done["motion_bucket_id"] == buckets[len(buckets) // 2]]
    for name in ("image", *sweep.axes):
        if name not in ("steps", "motion_bucket_id"):
            alike = alike[alike[name] == alike[name].iloc[0]]
    return {f"{row.steps} step{'s' if row.steps > 1 else ''}": sweep.clip(row.cell) for row in alike.itertuples()}


if __name__ == "__main__":
    sys.exit(main())

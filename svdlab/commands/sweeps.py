"""The commands that run sweeps and look at them; heavy imports wait until one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from svdlab.commands.console import Device, Dtype, LowMemory, out, print_path, print_text
from svdlab.results_table import print_failures, results_table


def sweep(
    spec: Annotated[Path, typer.Argument(help="Specification of the sweep, TOML.")],
    run: Annotated[Path | None, typer.Option("--out", help="Run directory. [default: runs/NAME of the spec]")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, compute nothing.")
    ] = False,
    batch: Annotated[str, typer.Option(help="Cells that are denoised together, or 'auto' to measure.")] = "1",
    decode: Annotated[
        str | None,
        typer.Option(
            help="full: frames at once; preview or none: when somebody looks. [default: the spec's, else full]"
        ),
    ] = None,
    preview_weights: Annotated[
        Path | None, typer.Option(help="Folder of an AutoencoderTiny, for previews. [default: a linear map]")
    ] = None,
    retry: Annotated[str | None, typer.Option(help="'failed': run failed cells again.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="local: this process; ray: workers of a Ray cluster. [default: the spec's, else local]"),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    low_memory: LowMemory = "auto",
) -> None:
    """Run a grid of settings; started again, it goes on where it was.

    Example: svdlab sweep experiments/quickstart.toml
    """
    from svdlab.sweep import plan_spec, run_spec

    together: Any = int(batch) if batch.isdecimal() else batch
    if dry_run:
        how: dict[str, Any] = {"decode": decode, "preview_weights": preview_weights, "batch": together}
        how |= {"engine": engine, "device": device, "dtype": dtype, "low_memory": low_memory}
        out.print(plan_spec(spec, out=run, **how), highlight=False)
        return
    result = run_spec(
        spec,
        out=run,
        decode=decode,
        preview_weights=preview_weights,
        batch=together,
        engine=engine,
        retry=retry,
        device=device,
        dtype=dtype,
        low_memory=low_memory,
        on_plan=lambda plan: out.print(plan, highlight=False),
    )
    frame = result.frame()
    out.print(results_table(frame, axes=list(result.axes), width=out.width))
    print_failures(frame, out)
    _print_undecoded(frame, result.path)
    for worker in result.workers:
        print_text(str(worker))
    print_path("run directory", result.path)
    if result.interrupted:
        out.print(f"interrupted; the same command goes on: svdlab sweep {spec}", markup=False, highlight=False)
        raise typer.Exit(130)
    if (frame["status"] == "failed").any():
        raise typer.Exit(1)


def status(run: Annotated[Path, typer.Argument(help="Run directory.")]) -> None:
    """Say what of a sweep is done, failed and still to do; works while it runs."""
    from svdlab.sweep import open_sweep

    opened = open_sweep(run)
    frame = opened.frame()
    counts = ", ".join(f"{count} {name}" for name, count in opened.status().items() if count)
    out.print(f"{opened.name}: {len(frame)} cells: {counts or 'none'}", markup=False, highlight=False)
    if len(frame):
        out.print(results_table(frame, axes=list(opened.axes), width=out.width))
    print_failures(frame, out)
    _print_undecoded(frame, run)
    if others := len(opened.frame(all=True)) - len(frame):
        cells = "1 more cell" if others == 1 else f"{others} more cells"
        print_text(f"{cells} of earlier declarations stay here: Sweep.frame(all=True) marks them in `declared`")


def repair(run: Annotated[Path, typer.Argument(help="Run directory.")]) -> None:
    """Check every file of a run, and make a lost or damaged ledger again; exit code 1 if something was lost.

    Damaged cells and ledgers are moved into its folder `damaged`; nothing is deleted.

    Example: svdlab repair runs/quickstart
    """
    from svdlab.sweep.repair import repair as repair_run

    repaired = repair_run(run)
    print_text(str(repaired))
    if repaired.lost:
        raise typer.Exit(1)


def decode(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    cells: Annotated[
        list[str] | None, typer.Argument(help="Keys of cells, or their first digits. [default: all]")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Its model. [default: by the name in the directory]")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Make the frames of cells that were swept with --decode preview or none, and the metrics of the sweep.

    Example: svdlab decode runs/quickstart
    """
    from svdlab.pipeline import load
    from svdlab.sweep import open_sweep

    opened = open_sweep(run, pipe=None if model is None else load(model, device=device, dtype=dtype))
    before = opened.frame()["video"].notna().sum()
    opened.decode(cells)
    frame = opened.frame()
    made, left = frame["video"].notna().sum() - before, _count_undecoded(frame)
    out.print(
        f"{opened.name}: {made} cell{'' if made == 1 else 's'} decoded, {left} left", markup=False, highlight=False
    )
    if left and not cells:
        raise typer.Exit(1)


def explain(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    cell: Annotated[str, typer.Argument(help="Key of a cell, or its first digits.")],
) -> None:
    """Say where a cell comes from, and whether its files are whole; exit code 1 if they are not.

    Example: svdlab explain runs/quickstart 3f2a
    """
    from svdlab.sweep import open_sweep

    explained = open_sweep(run).explain(cell)
    print_text(str(explained))
    if explained.problems:
        raise typer.Exit(1)


def diff(
    run_a: Annotated[Path, typer.Argument(help="Run directory.")],
    run_b: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Say what differs between two sweeps, and whether results moved more than seeds move them.

    Example: svdlab diff runs/before runs/after
    """
    from svdlab.sweep import open_sweep

    out.print(str(open_sweep(run_a).diff(run_b)), markup=False, highlight=False)


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Run directories of one model.")],
    folder: Annotated[Path, typer.Option("--out", help="Run directory that will hold everything.")],
) -> None:
    """Put run directories of one model together into one; they are only read.

    Example: svdlab merge runs/part-0 runs/part-1 --out runs/whole
    """
    from svdlab.sweep import merge_runs

    print_text(str(merge_runs(runs, folder)))


def report(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    folder: Annotated[Path | None, typer.Option("--out", help="Folder to write. [default: RUN-report]")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page. [default: the sweep's name]")] = None,
    videos: Annotated[bool, typer.Option(help="Copy the clips; without them, pictures only.")] = True,
    embed: Annotated[bool, typer.Option("--embed", help="Everything in one file, to be sent around.")] = False,
) -> None:
    """Write a sweep as a static HTML folder that opens from disk; works while it runs.

    Example: svdlab report runs/quickstart
    """
    from svdlab.report import write_report
    from svdlab.sweep import open_sweep

    folder = folder or run.with_name(f"{run.absolute().name}-report")
    print_path("report", write_report(open_sweep(run), folder, title=title, videos=videos, embed=embed))


def _count_undecoded(frame: Any) -> int:
    return int(((frame["status"] == "done") & frame["video"].isna()).sum())


def _print_undecoded(frame: Any, run: Path) -> None:
    """How many finished cells have no frames yet, and how they get them."""
    if count := _count_undecoded(frame):
        cells = "1 cell has" if count == 1 else f"{count} cells have"
        print_text(f"{cells} no frames yet: svdlab decode {run}")

"""The commands `svdlab lab`, `bench` and `doctor`; heavy imports wait until one runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from svdlab.commands.console import DEFAULT_MODEL, Device, Dtype, out
from svdlab.files import write_atomic


def lab(
    folder: Annotated[Path, typer.Argument(help="Folder for your copies of the notebooks.")] = Path("svdlab-lab"),
    port: Annotated[int | None, typer.Option(help="Port of JupyterLab. [default: the first that is free]")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Open JupyterLab on a copy of the notebooks; a notebook that you have changed stays as it is.

    Example: svdlab lab
    """
    from svdlab.lab import open_lab

    open_lab(folder, port=port, browser=browser)


def bench(
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name (svdlab models), folder or org/name.")
    ] = DEFAULT_MODEL,
    rows: Annotated[str | None, typer.Option(help="Names of rows, separated by commas. [default: all]")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="A model of full size without its weights: same arithmetic.")
    ] = False,
    repeats: Annotated[int, typer.Option(help="Timed runs of each side.")] = 3,
    num_frames: Annotated[int | None, typer.Option(help="Length of the clips. [default: the model's]")] = None,
    width: Annotated[int | None, typer.Option(help="px. [default: the model's]")] = None,
    height: Annotated[int | None, typer.Option(help="px. [default: the model's]")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the rows here.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Measure svdlab beside a plain loop over stock diffusers, in turns, on the same weights.

    Example: svdlab bench --rows unet_call,decode_frame,clip --json bench.json
    """
    from svdlab.bench import COLD, HEADER, ROWS, Settings, run_bench
    from svdlab.errors import BenchError
    from svdlab.pipeline import load

    every = tuple(name for name in ROWS if name not in COLD) if random_weights else ROWS
    chosen = every if rows is None else tuple(name.strip() for name in rows.split(","))
    sizes: dict[str, Any] = {"num_frames": num_frames, "width": width, "height": height}
    settings = Settings(rows=chosen, repeats=repeats, **sizes)
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise BenchError(f"--json = {str(json_file)!r}: its folder does not exist. Make it, or choose another.")
    if random_weights:
        from svdlab.bench.full_size import random_pipeline

        pipe = random_pipeline(model, **sizes, device=device, dtype=dtype)
    else:
        pipe = load(model, device=device, dtype=dtype, low_memory="none")  # what stock diffusers is given too
    result = run_bench(pipe, settings)
    table = Table(*HEADER, box=None, padding=(0, 2, 0, 0))
    for texts in result.table():
        table.add_row(*map(escape, texts))
    out.print(table)
    peaks = f"a large matrix product, {result.peak_tflops:.3g} TFLOP/s, and a large copy, {result.peak_gbytes:.3g} GB/s"
    out.print(f"peaks: {peaks}; ratio: stock / svdlab", highlight=False)
    for note in result.notes():
        out.print(note, markup=False, highlight=False)
    if json_file is not None:
        write_atomic(json_file, json.dumps(result.to_dict(), indent=1) + "\n")


def doctor(
    engine: Annotated[
        str, typer.Option(help="ray: look at the cluster, and let every worker load the model.")
    ] = "local",
    model: Annotated[
        str, typer.Option("--model", "-m", help="With --engine ray: name, folder or org/name.")
    ] = DEFAULT_MODEL,
    address: Annotated[
        str | None, typer.Option(help="With --engine ray: host:port. [default: as a sweep finds its cluster]")
    ] = None,
) -> None:
    """Say what is installed, which device is used, which weights are here, and how to mend what is missing.

    Example: svdlab doctor --engine ray --model animatelcm-svd-xt-1.1
    """
    from svdlab.doctor import checkup, checkup_ray
    from svdlab.sweep.engine import make_engine

    chosen = make_engine({"kind": engine, "address": address})  # refuses what is none, in words
    findings = checkup() if chosen.kind == "local" else checkup_ray(model, engine=chosen)
    table = Table("", "what", "found", "to mend it", box=None, padding=(0, 2, 0, 0))
    table.columns[1].no_wrap = True
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}
    for finding in findings:
        table.add_row(marks[finding.state], escape(finding.what), escape(finding.found), escape(finding.mend))
    out.print(table)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)

"""The command line. Every command is one call into the library; heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from svdlab._version import __version__
from svdlab.errors import SvdlabError
from svdlab.files import write_atomic
from svdlab.results_table import print_failures, results_table
from svdlab.server.commands import keys_app, serve

DEFAULT_MODEL = "tiny-random"

app = typer.Typer(
    name="svdlab",
    help="A laboratory for few-step image-to-video: make clips, sweep their settings, measure them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(serve)
app.add_typer(keys_app, name="keys")
out = Console()
err = Console(stderr=True)

Device = Annotated[str, typer.Option(help="auto, cuda, cuda:1, mps or cpu.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")]
LowMemory = Annotated[
    str,
    typer.Option(
        help="auto: what fits; none; slices: decode in slices, same pixels, slower; parts: and one network on the"
        " device at a time."
    ),
]


def _show_version(value: bool) -> None:
    if value:
        out.print(f"svdlab {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
) -> None:
    """Set up what all commands share: log lines and warnings go to the error stream, one line each."""
    log = logging.getLogger("svdlab")
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    for handler in [handler for handler in log.handlers if isinstance(handler, logging.StreamHandler)]:
        log.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    warnings.showwarning = lambda message, *where, **rest: log.warning("warning: %s", message)


@app.command()
def generate(
    output: Annotated[Path, typer.Option("--output", "-o", help="The mp4 to write.")],
    image: Annotated[str | None, typer.Argument(help="Picture: a path, an http(s) URL or a data URI.")] = None,
    from_manifest: Annotated[
        Path | None,
        typer.Option(help="Make a cell of a sweep again: manifest.json, its folder, or RUN/KEY; without settings."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help=f"Name (svdlab models), folder or org/name. [default: {DEFAULT_MODEL}]"),
    ] = None,
    motion_bucket_id: Annotated[int | None, typer.Option(help="Amount of motion, 0 to 1023. [default: 127]")] = None,
    cond_aug: Annotated[float | None, typer.Option(help="Noise on the picture, 0 to 10. [default: 0.02]")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoiser calls. [default: 4]")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames per second, 1 to 60. [default: 10]")] = None,
    seed: Annotated[int | None, typer.Option(help="0 to 2^63 - 1. [default: drawn, and printed]")] = None,
    num_frames: Annotated[int | None, typer.Option(help="Length of the clip. [default: the model's]")] = None,
    width: Annotated[int | None, typer.Option(help="px. [default: the model's]")] = None,
    height: Annotated[int | None, typer.Option(help="px. [default: the model's]")] = None,
    schedule: Annotated[str | None, typer.Option(help="animatelcm, even or karras. [default: the model's]")] = None,
    gamma: Annotated[float | None, typer.Option(help="1: latent consistency, 0: Euler. [default: the model's]")] = None,
    sigma_max: Annotated[float | None, typer.Option(help="Start of sampling. [default: the model's]")] = None,
    min_guidance: Annotated[float | None, typer.Option(help="At the first frame. [default: the model's]")] = None,
    max_guidance: Annotated[
        float | None, typer.Option(help="At the last frame; 1 is off. [default: the model's]")
    ] = None,
    decode_chunk: Annotated[int | None, typer.Option(help="Frames a decoder call. [default: the model's]")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    low_memory: LowMemory = "auto",
) -> None:
    """Make one clip of a picture.

    Example: svdlab generate rocket.jpg -o rocket.mp4 --motion-bucket-id 180 --seed 42
    """
    given = dict(locals())
    from svdlab.errors import RequestError, VideoError
    from svdlab.images import load_image
    from svdlab.request import SETTINGS, Request

    if output.suffix.lower() != ".mp4" or not output.parent.is_dir():
        raise VideoError(f"--output = {str(output)!r}: must be a file name ending in .mp4 in a folder that exists.")
    if from_manifest is not None:
        _generate_again(given)
        return
    if image is None:
        raise RequestError("IMAGE: a picture is needed (path, http(s) URL or data URI), or --from-manifest.")
    request = Request(image=image, **{name: given[name] for name in SETTINGS if given[name] is not None})
    load_image(image)  # what is wrong with the picture or the settings is said before weights are loaded

    from svdlab.models import CATALOGUE
    from svdlab.pipeline import load

    model = model or DEFAULT_MODEL
    if model in CATALOGUE:
        request.resolve(CATALOGUE[model].defaults)

    pipe = load(model, device=device, dtype=dtype, low_memory=low_memory)
    if pipe.notice:
        err.print(pipe.notice, style="yellow", highlight=False)
    _save_clip(pipe(request), output)


def _generate_again(given: dict[str, Any]) -> None:
    """`generate --from-manifest`; exit code 1 if the latents are not the stored ones."""
    from svdlab.errors import RequestError
    from svdlab.pipeline import load
    from svdlab.request import SETTINGS
    from svdlab.sweep.regenerate import regenerate

    if extra := [f"--{name.replace('_', '-')}" for name in SETTINGS if given[name] is not None]:
        raise RequestError(f"{', '.join(extra)}: with --from-manifest all settings are the cell's; leave them out.")
    options = {name: given[name] for name in ("device", "dtype", "low_memory")}
    # Such as a model from a folder, whose place a manifest does not name.
    pipe = load(given["model"], **options) if given["model"] else None
    made = regenerate(given["from_manifest"], image=given["image"], pipe=pipe, **options)
    _save_clip(made.clip, given["output"])
    _print_text(str(made))
    if made.same is False:
        raise typer.Exit(1)


def _save_clip(clip: Any, output: Path) -> None:
    clip.save(output)
    count, tall, wide, _ = clip.frames.shape
    out.print(
        f"{output}: {count} frames, {wide}x{tall}, {clip.fps:g} fps, seed {clip.seed}, {clip.seconds_spent:.1f} s",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


@app.command()
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
        how |= {"device": device, "dtype": dtype, "low_memory": low_memory}
        out.print(plan_spec(spec, out=run, **how), highlight=False)
        return
    result = run_spec(
        spec,
        out=run,
        decode=decode,
        preview_weights=preview_weights,
        batch=together,
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
    _print_path("run directory", result.path)
    if result.interrupted:
        out.print(f"interrupted; the same command goes on: svdlab sweep {spec}", markup=False, highlight=False)
        raise typer.Exit(130)
    if (frame["status"] == "failed").any():
        raise typer.Exit(1)


@app.command()
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
        _print_text(f"{cells} of earlier declarations stay here: Sweep.frame(all=True) marks them in `declared`")


@app.command()
def repair(run: Annotated[Path, typer.Argument(help="Run directory.")]) -> None:
    """Check every file of a run, and make a lost or damaged ledger again; exit code 1 if something was lost.

    Damaged cells and ledgers are moved into its folder `damaged`; nothing is deleted.

    Example: svdlab repair runs/quickstart
    """
    from svdlab.sweep.repair import repair as repair_run

    repaired = repair_run(run)
    _print_text(str(repaired))
    if repaired.lost:
        raise typer.Exit(1)


@app.command()
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


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    cell: Annotated[str, typer.Argument(help="Key of a cell, or its first digits.")],
) -> None:
    """Say where a cell comes from, and whether its files are whole; exit code 1 if they are not.

    Example: svdlab explain runs/quickstart 3f2a
    """
    from svdlab.sweep import open_sweep

    explained = open_sweep(run).explain(cell)
    _print_text(str(explained))
    if explained.problems:
        raise typer.Exit(1)


@app.command()
def diff(
    run_a: Annotated[Path, typer.Argument(help="Run directory.")],
    run_b: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Say what differs between two sweeps, and whether results moved more than seeds move them.

    Example: svdlab diff runs/before runs/after
    """
    from svdlab.sweep import open_sweep

    out.print(str(open_sweep(run_a).diff(run_b)), markup=False, highlight=False)


@app.command()
def merge(
    runs: Annotated[list[Path], typer.Argument(help="Run directories of one model.")],
    folder: Annotated[Path, typer.Option("--out", help="Run directory that will hold everything.")],
) -> None:
    """Put run directories of one model together into one; they are only read.

    Example: svdlab merge runs/part-0 runs/part-1 --out runs/whole
    """
    from svdlab.sweep import merge_runs

    _print_text(str(merge_runs(runs, folder)))


@app.command()
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
    _print_path("report", write_report(open_sweep(run), folder, title=title, videos=videos, embed=embed))


@app.command()
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


@app.command()
def models() -> None:
    """List the models that can be named, with size and licence, and which are on this machine or hosted."""
    from svdlab.hosted.endpoints import ENDPOINTS
    from svdlab.models import CATALOGUE, is_local

    table = Table("name", "what", "clip", "download", "here", "licence", box=None, padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True
    for info in CATALOGUE.values():
        d = info.defaults
        size = f"{d.num_frames}x{d.height}x{d.width}"
        download = f"{info.download_gb:g} GB" if info.download_gb else "none"
        table.add_row(info.name, info.title, size, download, "yes" if is_local(info.name) else "no", info.licence)
    for endpoint in ENDPOINTS.values():
        size = f"{endpoint.defaults.num_frames} frames"  # height and width are not documented
        table.add_row(endpoint.name, "Hosted: each clip is a paid call", size, "none", "hosted", "its host's terms")
    out.print(table)
    out.print("Fetch one ahead: svdlab weights NAME", highlight=False)


@app.command()
def weights(
    name: Annotated[str, typer.Argument(help="'lpips', or a model of `svdlab models`.")],
) -> None:
    """Fetch weights ahead of time: of the LPIPS metric, or of a model."""
    if name == "lpips":
        from svdlab.metrics.lpips_weights import ensure_lpips_weights

        _print_path("LPIPS weights", ensure_lpips_weights())
        return
    from svdlab.hosted.endpoints import ENDPOINTS

    if name in ENDPOINTS:
        out.print(f"{name} runs at its host: there is nothing to fetch", highlight=False)
        return
    from svdlab.models import fetch

    path = fetch(name)
    if path is None:
        out.print(f"{name} comes with svdlab: there is nothing to fetch", highlight=False)
    else:
        _print_path(name, path)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe, TOML; see experiments/tiny.toml.")],
    run: Annotated[Path, typer.Option("--out", help="Folder of the run; the model ends up in its folder `model`.")],
    part: Annotated[str | None, typer.Option(help="Only 'decoder' or 'unet', to train them side by side.")] = None,
) -> None:
    """Train a small teacher on the procedural world; started again, it goes on where it was.

    Decoder and UNet need nothing of one another: with `--part` two shells train them side by side, and a last call
    without it puts them together.

    Example: svdlab train experiments/tiny.toml --out runs/tiny-teacher
    """
    from svdlab.training.recipe import read_recipe
    from svdlab.training.teacher import train as train_teacher

    trained = train_teacher(read_recipe(recipe), run, part=part)
    if trained.finished and part:
        out.print(f"{part}: done, in {run}", markup=False, highlight=False)
        return
    if trained.folder is None:
        out.print(
            f"stopped; the same command goes on: svdlab train {recipe} --out {run}", markup=False, highlight=False
        )
        raise typer.Exit(130)
    _print_path("teacher", trained.folder)


@app.command()
def distill(
    run: Annotated[Path, typer.Option("--out", help="Folder of the run; the model ends up in its folder `student`.")],
    teacher: Annotated[str, typer.Option(help="Many-step model: a name, a folder or org/name.")],
    data: Annotated[str, typer.Option(help="A folder of mp4 files, or 'world' for the procedural world.")],
    settings: Annotated[Path | None, typer.Option(help="Settings of the distillation, TOML.")] = None,
) -> None:
    """Distil a many-step model into a few-step one; started again, it goes on where it was.

    Example: svdlab distill --teacher svd-xt --data videos --out runs/student
    """
    from svdlab.training.distill import distill as distill_student
    from svdlab.training.distill import load_teacher
    from svdlab.training.distill_step import DistillSettings
    from svdlab.training.recipe import read_settings
    from svdlab.training.world import World

    chosen = DistillSettings() if settings is None else read_settings(DistillSettings, settings)
    components = load_teacher(teacher, chosen)
    clips: Any = data
    if data == "world":
        native = components.defaults
        clips = World(size=native.width, num_frames=native.num_frames, stage="full")
    result = distill_student(components, clips, chosen, out=run)
    if not result.finished:
        out.print(f"stopped after {result.step} steps; the same command goes on", highlight=False)
        raise typer.Exit(130)
    _print_path("student", run / "student")


@app.command()
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


@app.command()
def doctor() -> None:
    """Say what is installed, which device is used, which weights are here, and how to mend what is missing."""
    from svdlab.doctor import checkup

    findings = checkup()
    table = Table("", "what", "found", "to mend it", box=None, padding=(0, 2, 0, 0))
    table.columns[1].no_wrap = True
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}
    for finding in findings:
        table.add_row(marks[finding.state], escape(finding.what), escape(finding.found), escape(finding.mend))
    out.print(table)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def _print_path(label: str, path: Any) -> None:
    """One line that can be copied whole: never wrapped, never styled."""
    _print_text(f"{label}: {path}")


def _print_text(text: str) -> None:
    """As it is: nothing in it is markup, and a terminal may wrap it but not cut it."""
    out.print(text, soft_wrap=True, markup=False, highlight=False)


def _count_undecoded(frame: Any) -> int:
    return int(((frame["status"] == "done") & frame["video"].isna()).sum())


def _print_undecoded(frame: Any, run: Path) -> None:
    """How many finished cells have no frames yet, and how they get them."""
    if count := _count_undecoded(frame):
        cells = "1 cell has" if count == 1 else f"{count} cells have"
        _print_text(f"{cells} no frames yet: svdlab decode {run}")


def main() -> None:
    """Run the command line; svdlab's own errors and Ctrl-C end it in words, with exit codes 2 and 130."""
    try:
        app()
    except SvdlabError as error:
        err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("interrupted", style="red")
        sys.exit(130)


if __name__ == "__main__":
    main()

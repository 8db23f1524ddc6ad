"""The commands that list, fetch and train models; heavy imports wait until one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from svdlab.commands.console import out, print_path


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


def weights(
    name: Annotated[str, typer.Argument(help="'lpips', or a model of `svdlab models`.")],
) -> None:
    """Fetch weights ahead of time: of the LPIPS metric, or of a model."""
    if name == "lpips":
        from svdlab.metrics.lpips_weights import ensure_lpips_weights

        print_path("LPIPS weights", ensure_lpips_weights())
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
        print_path(name, path)


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
    print_path("teacher", trained.folder)


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
    print_path("student", run / "student")

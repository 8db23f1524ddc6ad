"""The command `svdlab generate`; heavy imports wait until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from svdlab.commands.console import DEFAULT_MODEL, Device, Dtype, LowMemory, err, out, print_text


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
    print_text(str(made))
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

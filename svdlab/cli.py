"""The command line. Every command is one call into the library; heavy imports wait until a command needs them."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from svdlab._version import __version__
from svdlab.commands.clips import generate
from svdlab.commands.console import err, out
from svdlab.commands.models import distill, models, train, weights
from svdlab.commands.sweeps import decode, diff, explain, merge, repair, report, status, sweep
from svdlab.commands.upkeep import bench, doctor, lab
from svdlab.errors import SvdlabError
from svdlab.server.commands import keys_app, serve

app = typer.Typer(
    name="svdlab",
    help="A laboratory for few-step image-to-video: make clips, sweep their settings, measure them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(value: bool) -> None:
    if value:
        out.print(f"svdlab {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
) -> None:
    """Set up what all commands share: log lines and warnings go to the error stream, one line each."""
    context.with_resource(_lines_on_error_stream(logging.WARNING if quiet else logging.INFO))


@contextmanager
def _lines_on_error_stream(level: int) -> Iterator[None]:
    """Until closed; so whoever calls a command from a program of their own finds logging as it was."""
    log = logging.getLogger("svdlab")
    before = log.level, log.handlers[:], warnings.showwarning
    for handler in [handler for handler in log.handlers if isinstance(handler, logging.StreamHandler)]:
        log.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(level)
    warnings.showwarning = lambda message, *where, **rest: log.warning("warning: %s", message)
    try:
        yield
    finally:
        log.setLevel(before[0])
        log.handlers[:], warnings.showwarning = before[1:]


for command in (
    serve,
    generate,
    sweep,
    status,
    repair,
    decode,
    explain,
    diff,
    merge,
    report,
    lab,
    models,
    weights,
    train,
    distill,
    bench,
    doctor,
):
    app.command()(command)
app.add_typer(keys_app, name="keys")


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

"""What all commands share: where they print, and the options that several of them have."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

DEFAULT_MODEL = "tiny"
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


def print_path(label: str, path: Any) -> None:
    """One line that can be copied whole: never wrapped, never styled."""
    print_text(f"{label}: {path}")


def print_text(text: str) -> None:
    """As it is: nothing in it is markup, and a terminal may wrap it but not cut it."""
    out.print(text, soft_wrap=True, markup=False, highlight=False)

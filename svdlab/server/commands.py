"""The commands `svdlab serve` and `svdlab keys`; what they need is imported when they run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from svdlab.errors import ExtraError

if TYPE_CHECKING:
    from svdlab.server.store import Store

out = Console()
keys_app = typer.Typer(help="Make, list and revoke the keys of a server.", no_args_is_help=True)

DEFAULT_DATA = Path("svdlab-serve")
Data = Annotated[Path, typer.Option(help="Folder of the server: queue, keys, files.")]


def serve(
    model: Annotated[str, typer.Option("--model", "-m", help="Name (svdlab models), folder or org/name.")] = "tiny",
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
    data: Data = DEFAULT_DATA,
    public_url: Annotated[str | None, typer.Option(help="How clients reach it. [default: http://HOST:PORT]")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="A further value of the Host header.")] = None,
    allow_origin: Annotated[list[str] | None, typer.Option(help="A web page's origin that may call it.")] = None,
    allow_private_urls: Annotated[
        bool, typer.Option("--allow-private-urls", help="Let pictures and webhooks lead to this machine and network.")
    ] = False,
    keep_results: Annotated[float, typer.Option(help="Hours that results and logs are kept.")] = 24,
    keep_files: Annotated[float, typer.Option(help="Hours that files are kept.")] = 168,
    quota_gb: Annotated[float, typer.Option(help="GB of files that one key may hold.")] = 10,
    memory_gb: Annotated[
        float | None, typer.Option(help="GB of memory that a worker may hold. [default: 90 % of the machine's]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu; or several: cuda:0,cuda:1.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
) -> None:
    """Serve a model behind the interface of the endpoint fal-ai/fast-svd-lcm, with a page to try it.

    Example: svdlab serve --model tiny --port 8000 --data svdlab-serve
    """
    try:
        from svdlab.server.running import serve as run_server
        from svdlab.server.settings import ServerSettings
    except ImportError as error:
        raise ExtraError(
            f'serve: the package {error.name} is not installed. Install it: pip install "svdlab[serve]"'
        ) from error
    settings = ServerSettings(
        data=data,
        model=model,
        host=host,
        port=port,
        public_url=public_url,
        allowed_hosts=tuple(allow_host or ()),
        allowed_origins=tuple(allow_origin or ()),
        allow_private=allow_private_urls,
        keep_results=keep_results * 3600,
        keep_files=keep_files * 3600,
        quota=int(quota_gb * 10**9),
        max_memory=None if memory_gb is None else int(memory_gb * 10**9),
        device=device,
        dtype=dtype,
    )
    run_server(settings, _announce)


@keys_app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose it is, or what for.")],
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a key and print it; it is not kept, only its hash, so it is seen this once.

    Example: svdlab keys add alice
    """
    from svdlab.server.keys import make_key

    with _store(data) as store:
        _line("key", make_key(store, name))


@keys_app.command("list")
def list_all(data: Data = DEFAULT_DATA) -> None:
    """List the keys: id, name, when they were made and revoked."""
    from svdlab.server.keys import list_keys

    with _store(data) as store:
        keys = list_keys(store)
    table = Table("id", "name", "made", "revoked", box=None, padding=(0, 2, 0, 0))
    for key in keys:
        table.add_row(key.id, escape(key.name), _when(key.created), _when(key.revoked))
    out.print(table if keys else "no keys; make one: svdlab keys add NAME", highlight=False)


@keys_app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Id or name of a key.")],
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a key invalid at once, also for a server that runs.

    Example: svdlab keys revoke alice
    """
    from svdlab.server.keys import revoke_key

    with _store(data) as store:
        revoke_key(store, key)
    _line("revoked", key)


def _store(data: Path) -> Store:
    from svdlab.server.store import Store

    return Store(data.expanduser() / "server.sqlite")


def _announce(settings: object, generated: str | None) -> None:
    """Where it is, and how to get in."""
    base = settings.base_url  # type: ignore[attr-defined]
    _line("serving", f"{settings.app} ({settings.model}) at {base}")  # type: ignore[attr-defined]
    if generated:
        _line("key", generated)
        _line("page", f"{base}/#key={generated}")
    else:
        _line("page", f"{base}/")


def _line(label: str, text: str) -> None:
    out.print(f"{label}: {text}", soft_wrap=True, markup=False, highlight=False)


def _when(date: datetime | None) -> str:
    return date.strftime("%Y-%m-%d %H:%M") if date else ""

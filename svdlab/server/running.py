"""Run the server until it is told to stop."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn

from svdlab.errors import ServerError
from svdlab.server.app import create_app
from svdlab.server.keys import has_keys, new_secret
from svdlab.server.locks import held
from svdlab.server.settings import ServerSettings
from svdlab.server.store import Store, make_private_folder

log = logging.getLogger("svdlab")

_KEEP_ALIVE_SECONDS = 75  # longer than clients keep idle connections, so that it is they who close them


def serve(settings: ServerSettings, on_start: Callable[[ServerSettings, str | None], None] = lambda *_: None) -> None:
    """Serve until Ctrl-C or SIGTERM; a job in hand goes back to the queue, and runs at the next start.

    Args:
        settings: where, what and how.
        on_start: called when it listens, with the settings as they came to be (port 0 filled in), and the generated
            key if the folder has no keys.

    Raises:
        ServerError: the address or the folder is taken, keys are missing for an address that others can reach, or the
            model cannot be loaded.

    Example:
        >>> serve(ServerSettings(data="serve", model="tiny"))
    """
    with ready(settings) as (server, listening, settings, generated):
        on_start(settings, generated)
        server.run(sockets=[listening])
        if getattr(server, "unusable", False):
            raise ServerError(f"model = {settings.model!r}: cannot be loaded; the lines above say why.")


@contextlib.contextmanager
def ready(settings: ServerSettings) -> Iterator[tuple[uvicorn.Server, socket.socket, ServerSettings, str | None]]:
    """Everything that `serve` needs, checked: server, socket, settings, generated key. Holds the folder's lock."""
    make_private_folder(settings.data)
    with held(settings.data / "server.lock", taken="another server runs on this folder; stop it, or name another"):
        with Store(settings.data / "server.sqlite") as store:
            generated = None if has_keys(store) else new_secret()
        if generated and not settings.is_loopback:
            raise ServerError(
                f"host = {settings.host!r}: others can reach it, so it needs keys. Make one first:"
                f" svdlab keys add NAME --data {settings.data}"
            )
        if not settings.is_loopback and settings.public_url is None:
            raise ServerError(
                f"host = {settings.host!r}: say how clients reach it, such as --public-url https://video.example.org."
            )
        listening = _listen(settings)
        with listening:
            settings = settings.replace(port=listening.getsockname()[1])
            stop = threading.Event()
            app = create_app(settings, generated_key=generated, on_unusable=stop.set)
            config = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,  # addresses hold secrets
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=5,
                ws="none",
            )
            yield _Server(config, stop), listening, settings, generated


class _Server(uvicorn.Server):
    """A server that also stops when its model turns out to be unusable."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._stop = stop

    @property
    def unusable(self) -> bool:
        """Whether that was why it stopped."""
        return self._stop.is_set()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_set()


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(2048)
        listening.set_inheritable(False)
    except OSError as error:
        listening.close()
        raise ServerError(
            f"{settings.host}:{settings.port}: cannot be listened on ({error.strerror or error}). Choose another port."
        ) from error
    return listening

"""What a server of the endpoint is told once, at its start."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svdlab.errors import ServerError

APP = "fal-ai/fast-svd-lcm"
MB = 2**20
HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Settings of `svdlab serve`; bytes, seconds and counts.

    Attributes:
        data: folder of everything the server keeps: queue, keys' hashes, files, the key that signs webhooks.
        model: a name of `svdlab models`, a folder, or `org/name`.
        app: the name under which clients ask for it, `owner/alias`.
        host, port: where it listens; port 0 takes a free one.
        public_url: how clients reach it, `http(s)://host[:port]`. None: `http://host:port`. Addresses in answers are
            made from this, never from what a request says about itself.
        allowed_hosts: further values of the Host header that are answered.
        allowed_origins: web pages, `http(s)://host[:port]`, whose scripts may call the server.
        allow_private: let picture and webhook addresses lead to this machine and its network.
        device, dtype: as `svdlab.load` takes them; several devices, separated by commas, have a worker process each.
        keep_results: how long a result and its log stay after the job ended.
        keep_files: how long results' and uploaded files stay.
        quota: bytes of files that one key may hold.
        max_upload: bytes of one uploaded file.
        max_image: bytes of one picture, uploaded, inline or fetched.
        max_body: bytes of one JSON body.
        max_queue: jobs of one key that may wait.
        max_streams: status streams and synchronous runs that may be open at once.
        max_log_lines: of one job; what comes after is counted, not kept.
        max_job_seconds: a job that takes longer is ended, and the model is loaded anew.
        max_clip_factor: a clip may have so many times the pixels (frames x height x width) of the model's own size.
        max_memory: bytes of main memory that a worker may hold while it has a job in hand; else the job fails, and the
            model is loaded anew. None: 90 % of the machine's, divided among the workers. Watched on Linux alone.
        webhook_tries: deliveries of one webhook before it is given up; waits between them double from `webhook_wait`.

    Raises:
        ServerError: a value makes no sense; the text says which.

    Example:
        >>> ServerSettings(data="serve", model="tiny").base_url
        'http://127.0.0.1:8000'
    """

    data: Path
    model: str = "tiny"
    app: str = APP
    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    allow_private: bool = False
    device: str = "auto"
    dtype: str = "auto"
    keep_results: float = 24 * HOUR
    keep_files: float = 7 * 24 * HOUR
    quota: int = 10 * 1024 * MB
    max_upload: int = 512 * MB
    max_image: int = 50 * MB
    max_body: int = 70 * MB
    max_queue: int = 1000
    max_streams: int = 200
    max_log_lines: int = 500
    max_job_seconds: float = HOUR
    max_clip_factor: float = 4.0
    max_memory: int | None = None
    webhook_tries: int = 10
    webhook_wait: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", Path(self.data).expanduser().absolute())
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.app):
            raise ServerError(f"app = {self.app!r}: must be owner/alias, such as {APP!r}.")
        if not 0 <= self.port <= 65535:
            raise ServerError(f"port = {self.port}: must be 0 (any free one) to 65535.")
        if not all(self.devices):
            raise ServerError(f"device = {self.device!r}: must be a device, or several, such as 'cuda:0,cuda:1'.")
        for name in ("public_url", "allowed_origins"):
            given = getattr(self, name)
            for url in (given,) if isinstance(given, str) else given or ():
                check_origin(name, url)
        for limit in dataclasses.fields(self):
            value = getattr(self, limit.name)
            if value is None and limit.name == "max_memory":
                continue
            if limit.name.startswith(("keep_", "max_", "quota", "webhook_")) and not value > 0:
                raise ServerError(f"{limit.name} = {value!r}: must be above 0.")

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices, one for each worker."""
        return tuple(name.strip() for name in self.device.split(","))

    @property
    def base_url(self) -> str:
        """The address that answers name, without a slash at its end."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return (self.public_url or f"http://{shown}:{self.port}").rstrip("/")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    def replace(self, **changes: Any) -> ServerSettings:
        """A copy with some settings changed, checked again."""
        return dataclasses.replace(self, **changes)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone.

    Example:
        >>> is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_origin(name: str, url: str) -> None:
    """Raise ServerError unless `url` is `http(s)://host[:port]`; `name` is the argument it came by."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ServerError(f"{name} = {url!r}: must be http(s)://host or http(s)://host:port, with nothing behind it.")

"""Files that are either whole or absent: atomic writes, content hashes, locks, and where svdlab keeps its cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


def cache_dir() -> Path:
    """Folder for what svdlab fetches once and keeps; named here, not created.

    ``$SVDLAB_CACHE``, else ``$XDG_CACHE_HOME/svdlab``, else ``~/.cache/svdlab``.
    """
    if own := os.environ.get("SVDLAB_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "svdlab"


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, its content is synced and moved onto `path`.

    The temporary name keeps the suffix, since writers such as FFmpeg choose a format by it. If the block raises,
    the temporary file is removed and `path` is untouched.

    Example:
        >>> with atomic_path("clip.mp4") as tmp:
        ...     tmp.write_bytes(data)
    """
    path = Path(path)
    tmp = path.with_name(f".tmp-{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        yield tmp
        sync_file(tmp)
        tmp.replace(path)
        sync_folder(path.parent)
    finally:
        tmp.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path` so that a reader sees the old file or the new one, never a part."""
    with atomic_path(path) as tmp:
        tmp.write_bytes(data.encode() if isinstance(data, str) else data)


def sync_file(path: Path) -> None:
    """Ask the system to put the bytes of `path` on the disk before going on."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Ask the system to put the names in `folder` on the disk; a move is durable only after this."""
    if os.name != "posix":  # other systems cannot open a folder; there the move itself must do
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def file_lock(path: str | os.PathLike[str], *, mode: int = 0o600) -> Iterator[int]:
    """Hold the exclusive lock of the file `path` for the length of a `with` block, without waiting for it.

    The lock is `flock`'s: it goes with its process, so a crash leaves nothing to clean up. The file is made if it is
    missing, with the permissions `mode` (for this user alone unless told), and never removed.

    Yields:
        A descriptor of the file, open for reading and writing.

    Raises:
        BlockingIOError: another process holds it, or another block of this one.
        NotImplementedError: the system, or the disk that the file is on, has no such locks; the text says why.
        OSError: the file cannot be opened.

    Example:
        >>> with file_lock("runs/first/lock") as fd:
        ...     os.write(fd, b"mine")
    """
    try:
        import fcntl
    except ImportError:  # Windows
        raise NotImplementedError("this needs a POSIX system: Linux, macOS, or WSL on Windows") from None
    fd = os.open(path, os.O_RDWR | os.O_CREAT, mode)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            raise NotImplementedError(f"{error.strerror}; use a folder on a local disk") from error
        yield fd
    finally:
        os.close(fd)  # frees the lock


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data`, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()

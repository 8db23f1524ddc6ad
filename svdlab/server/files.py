"""Files that clients fetch by an address nobody can guess: results and uploads, with an owner, a quota and an end.

On the disk a file's name is its random id; the name that a client gave is only shown.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import sqlite3
import time
import unicodedata
from pathlib import Path
from typing import Any

from svdlab.files import atomic_path
from svdlab.server.store import Store, make_private_folder

INLINE = ("video/mp4", "image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")
"""Types that a browser may show; everything else is only ever downloaded."""

_ID = re.compile(r"[A-Za-z0-9_-]{32}")


class FileShelf:
    """The folder of files, and the rows that say whose they are.

    Example:
        >>> shelf = FileShelf(store, folder / "files", "http://127.0.0.1:8000")
        >>> row = shelf.put(data, owner="local", name="clip.mp4", content_type="video/mp4", keep=3600)
        >>> shelf.url(row)
        'http://127.0.0.1:8000/files/.../clip.mp4'
    """

    def __init__(self, store: Store, folder: Path, base_url: str) -> None:
        self._store, self.folder, self._base = store, folder, base_url
        make_private_folder(folder)

    def url(self, row: Any) -> str:
        """Where a file is fetched."""
        return f"{self._base}/files/{row['id']}/{row['name']}"

    def path(self, id: str) -> Path:
        """Where a file lies; `id` is one that this class made."""
        if not _ID.fullmatch(id):
            raise ValueError(f"id = {id!r}: not the id of a file")
        return self.folder / id

    def write(self, data: bytes, *, owner: str, name: str, content_type: str, keep: float) -> dict[str, Any]:
        """Put bytes onto the disk and return the row for them, which is not yet in the store."""
        row = new_row(owner=owner, name=name, content_type=content_type, keep=keep)
        with atomic_path(self.path(row["id"])) as tmp:
            tmp.touch(mode=0o600)
            tmp.write_bytes(data)
        return {**row, "size": len(data)}

    def put(self, data: bytes, *, owner: str, name: str, content_type: str, keep: float) -> dict[str, Any]:
        """Put bytes onto the disk and into the store."""
        row = self.write(data, owner=owner, name=name, content_type=content_type, keep=keep)
        self.enter(row)
        return row

    def enter(self, row: dict[str, Any]) -> None:
        """Make a file that lies on the disk known, so that it can be fetched."""
        with self._store.write() as db:
            db.execute(
                "INSERT INTO file (id, owner, name, content_type, size, created, expires)"
                " VALUES (:id, :owner, :name, :content_type, :size, :created, :expires)",
                row,
            )

    def find(self, id: str, name: str | None = None) -> sqlite3.Row | None:
        """The row of a file that can be fetched; None if there is none, or no longer."""
        row = self._store.row("SELECT * FROM file WHERE id = ? AND expires > ?", (id, time.time()))
        return row if row is not None and name in (None, row["name"]) else None

    def find_url(self, url: str, owner: str) -> Path | None:
        """The path of a file of this server, by the address it gave for it; None for any other address.

        Raises:
            FileNotFoundError: the address is this server's, but the owner has no such file, or no longer.
        """
        prefix = self._base + "/files/"
        if not url.startswith(prefix):
            return None
        id, _, _ = url.removeprefix(prefix).partition("/")
        row = self.find(id)
        if row is None or row["owner"] != owner:
            raise FileNotFoundError(url)
        return self.path(id)

    def used(self, owner: str) -> int:
        """Bytes of all files of an owner."""
        row = self._store.row("SELECT coalesce(sum(size), 0) FROM file WHERE owner = ?", (owner,))
        return row[0] if row else 0

    def sweep(self) -> int:
        """Delete the files whose time has come, and what crashes left behind; how many there were."""
        now = time.time()
        gone = [row["id"] for row in self._store.rows("SELECT id FROM file WHERE expires <= ?", (now,))]
        with self._store.write() as db:
            db.executemany("DELETE FROM file WHERE id = ?", [(id,) for id in gone])
        known = {row["id"] for row in self._store.rows("SELECT id FROM file")}
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                # An hour: what is being written has no row yet.
                if path.name in gone or (path.name not in known and path.stat().st_mtime < now - 3600):
                    path.unlink()
        return len(gone)


def new_row(*, owner: str, name: str, content_type: str, keep: float) -> dict[str, Any]:
    """What is known of a file before its bytes are there; its id holds 192 random bits."""
    now = time.time()
    clean = {"name": display_name(name), "content_type": plain_type(content_type)}
    return {"id": secrets.token_urlsafe(24), "owner": owner, **clean, "size": 0, "created": now, "expires": now + keep}


def display_name(name: str) -> str:
    """A file name that is safe to show and to put into an address: ASCII letters, digits, `.`, `_` and `-`.

    Example:
        >>> display_name("../../etc/pass wd\\x00.png")
        'pass_wd_.png'
    """
    last = re.split(r"[/\\]", name)[-1]
    ascii = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode()
    clean = re.sub(r"[^A-Za-z0-9._-]", "_", ascii).lstrip(".")
    stem, dot, suffix = clean[-200:].rpartition(".")
    return f"{stem[-80:]}{dot}{suffix[:10]}" if stem else clean[:80] or "file"


def plain_type(content_type: str) -> str:
    """A content type without parameters, or `application/octet-stream` where it is none.

    Example:
        >>> plain_type("Text/HTML; charset=utf-8")
        'text/html'
    """
    bare = content_type.partition(";")[0].strip().lower()
    return (
        bare
        if re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,60}/[a-z0-9][a-z0-9.+-]{0,60}", bare)
        else "application/octet-stream"
    )

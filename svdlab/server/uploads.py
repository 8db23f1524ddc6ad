"""Uploads: permission is a random token in an address or a header, kept as a hash, for one owner and a short time."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections import Counter
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from starlette.requests import ClientDisconnect, Request

from svdlab.files import sha256_bytes, sync_file, sync_folder
from svdlab.server.answers import ApiError, check_length, too_large
from svdlab.server.files import FileShelf, new_row, plain_type
from svdlab.server.settings import HOUR, ServerSettings
from svdlab.server.store import Store, make_private_folder

PUT, PARTS, SESSION = "put", "parts", "session"
MAX_PARTS = 1000
_TOKEN_SECONDS = HOUR


class Uploads:
    """What may be uploaded, and what has arrived of it.

    Three kinds of permission: `PUT` for one file in one go, used up by its first use; `PARTS` for one file in pieces,
    used up when it is put together; `SESSION` for any number of files, as the Python client asks for.
    """

    def __init__(self, settings: ServerSettings, store: Store, shelf: FileShelf) -> None:
        self._settings, self._store, self._shelf = settings, store, shelf
        self.folder = settings.data / "uploads"
        make_private_folder(self.folder)
        self._arriving: Counter[str] = Counter()  # bytes of bodies that are being read, by owner

    @staticmethod
    def of(request: Request) -> Uploads:
        """Those of the server that a request has reached."""
        return request.app.state.uploads

    def permit(
        self, kind: str, owner: str, *, name: str = "", content_type: str = "", keep: float | None = None
    ) -> tuple[str, dict[str, Any], float]:
        """Make a permission: its token, the row of the file that it is for, and when it ends (seconds since 1970)."""
        keep = self._settings.keep_files if keep is None else keep
        row = new_row(owner=owner, name=name, content_type=content_type, keep=keep)
        token, expires = token_urlsafe(24), time.time() + _TOKEN_SECONDS
        with self._store.write() as db:
            db.execute(
                "INSERT INTO upload (hash, kind, file, owner, name, content_type, keep_files, expires)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (_hash(token), kind, row["id"], owner, row["name"], row["content_type"], keep, expires),
            )
        return token, row, expires

    def look(self, token: str, kind: str) -> sqlite3.Row:
        """A permission that holds.

        Raises:
            ApiError: 403, there is none, it has ended or was used up.
        """
        row = self._store.row(
            "SELECT * FROM upload WHERE hash = ? AND kind = ? AND expires > ?", (_hash(token), kind, time.time())
        )
        if row is None:
            raise _no_permission()
        return row

    def use_up(self, token: str, kind: str) -> sqlite3.Row:
        """A permission that holds, and from now on no longer does; of several that ask at once, one gets it."""
        row = self.look(token, kind)
        with self._store.write() as db:
            if db.execute("DELETE FROM upload WHERE hash = ?", (row["hash"],)).rowcount != 1:
                raise _no_permission()
        return row

    async def receive(self, request: Request, owner: str, row: dict[str, Any]) -> dict[str, Any]:
        """Take in a whole file and make it known."""
        size = await self._save(request, self._shelf.path(row["id"]), owner)
        row = {**row, "size": size}
        self._shelf.enter(row)
        return row

    async def receive_part(self, request: Request, permission: sqlite3.Row, number: int) -> str:
        """Take in one piece, 1 and up; a name for its content (ETag)."""
        if not 1 <= number <= MAX_PARTS:
            raise ApiError(422, "bad_request", f"part {number}: must be 1 to {MAX_PARTS}.")
        folder = self.folder / permission["hash"]
        make_private_folder(folder)
        before = sum(path.stat().st_size for path in folder.iterdir() if path.name != str(number))
        size = await self._save(request, folder / str(number), permission["owner"], before)
        return f'"{number}-{size}"'

    def put_together(self, permission: sqlite3.Row, numbers: list[int]) -> dict[str, Any]:
        """Join the pieces, in the order of their numbers, and make the file known.

        Raises:
            ApiError: a piece is missing, or they are too large together.
        """
        folder = self.folder / permission["hash"]
        paths = [folder / str(number) for number in sorted(set(numbers))]
        if not paths or not all(path.is_file() for path in paths):
            raise ApiError(422, "bad_request", "parts: none were named, or one that was has not arrived.")
        if (size := sum(path.stat().st_size for path in paths)) > self._settings.max_upload:
            raise too_large(self._settings.max_upload)
        row = {**file_of(permission), "size": size}
        whole = self._shelf.path(row["id"])
        with _private(whole) as out:
            for path in paths:
                with path.open("rb") as piece:
                    shutil.copyfileobj(piece, out, 2**20)
        sync_file(whole)
        self._shelf.enter(row)
        shutil.rmtree(folder, ignore_errors=True)
        return row

    def sweep(self) -> None:
        """Forget permissions that have ended, with the pieces that came for them."""
        with self._store.write() as db:
            db.execute("DELETE FROM upload WHERE expires <= ?", (time.time(),))
        known = {row["hash"] for row in self._store.rows("SELECT hash FROM upload")}
        for path in self.folder.iterdir():
            # Those in use may have been used up a moment ago.
            if path.name not in known and path.stat().st_mtime < time.time() - _TOKEN_SECONDS:
                shutil.rmtree(path, ignore_errors=True)

    async def _save(self, request: Request, path: Path, owner: str, before: int = 0) -> int:
        """Write a body to `path` as it comes, within the limits; nothing stays of one that is refused or cut short."""
        limit = self._settings.max_upload - before
        check_length(request, limit)
        part, size = path.with_name(f"{path.name}.{token_urlsafe(6)}.part"), 0
        room = self._room(owner, path)
        try:
            with _private(part) as out:
                async for piece in request.stream():
                    size += len(piece)
                    self._arriving[owner] += len(piece)
                    if size > limit:
                        raise too_large(self._settings.max_upload)
                    self._check_room(owner, room)
                    out.write(piece)
            self._check_room(owner, self._room(owner, path))  # others may have arrived meanwhile
            sync_file(part)
            part.replace(path)
            sync_folder(path.parent)
        except ClientDisconnect:
            raise ApiError(400, "bad_request", "the upload ended early.") from None
        except OSError as error:
            raise ApiError(500, "internal_error", f"the server cannot keep the file ({error.strerror}).") from error
        finally:
            self._arriving[owner] -= size
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        return size

    def _room(self, owner: str, replaced: Path) -> int:
        """Bytes that an owner may still bring: pieces that wait for the others of their file take room as files do."""
        rows = self._store.rows("SELECT hash FROM upload WHERE owner = ? AND kind = ?", (owner, PARTS))
        held = 0
        for row in rows:
            with contextlib.suppress(OSError):  # none have come yet, or they are put together just now
                pieces = (path for path in (self.folder / row["hash"]).iterdir() if path != replaced)
                # Those with a suffix are among the arriving.
                held += sum(path.stat().st_size for path in pieces if not path.suffix)
        return self._settings.quota - self._shelf.used(owner) - held

    def _check_room(self, owner: str, room: int) -> None:
        if self._arriving[owner] > room:
            text = f"the files of this key would exceed the {self._settings.quota} bytes that it may hold."
            raise ApiError(403, "quota_exceeded", text, Connection="close")


def file_of(permission: sqlite3.Row) -> dict[str, Any]:
    """The row of the file that a permission is for."""
    row = new_row(
        owner=permission["owner"],
        name=permission["name"],
        content_type=permission["content_type"],
        keep=permission["keep_files"],
    )
    return {**row, "id": permission["file"]}


def check_type(request: Request, permission: sqlite3.Row) -> None:
    """Refuse a body of another type than was announced.

    Raises:
        ApiError: 415.
    """
    sent = plain_type(request.headers.get("content-type", ""))
    if sent != permission["content_type"]:
        text = f"Content-Type {sent!r}: the upload was announced as {permission['content_type']!r}."
        raise ApiError(415, "bad_request", text, Connection="close")


def _private(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _no_permission() -> ApiError:
    return ApiError(
        403, "forbidden", "This upload address was used before, has expired, or never was. Ask for a new one."
    )


def _hash(token: str) -> str:
    return sha256_bytes(token.encode())

"""The SQLite connection under a ledger: what goes wrong with the file or the disk is a sentence."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from svdlab.errors import SweepError

BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside its file while it is open, or after a crash
TABLES = ("run", "image", "cell", "metric", "event")  # of every ledger
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_NONSENSE = (
    *("no such table", "no such column", "Could not decode to UTF-8"),
    *("unsupported file format", "malformed database schema", "file is not a database"),
)
_UNREADABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM)


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open a ledger's file; for writing, it is made if it is missing, and checked if it is there.

    A reader that may not write beside the file reads a copy of it, if a process that was killed left more than the
    plain file: SQLite needs a place to put the pieces together.

    Raises:
        SweepError: the file is damaged, or cannot be opened. So do all statements of the connection, instead of
            sqlite3's own errors, where the file or the disk is the cause.
    """
    address = f"{path.absolute().as_uri()}?mode={'rwc' if write else 'ro'}"
    try:
        db = _open(address, path, write)
    except (SweepError, sqlite3.Error) as error:
        cause = error.__cause__ if isinstance(error, SweepError) else error
        if write or not (isinstance(cause, sqlite3.Error) and _code(cause) in _UNREADABLE):
            raise
        db = _open_copy(path)
    if write:
        try:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise SweepError(damaged(path, found))
        except BaseException:
            db.close()
            raise
    return db


def _open(address: str, path: Path, write: bool) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(
            address, uri=True, timeout=30, isolation_level=None, check_same_thread=False, factory=_Connection
        )
    except sqlite3.Error as error:
        raise _in_words(error, path, write) or error from error
    db.path, db.write = path, write
    db.row_factory = sqlite3.Row
    try:
        db.execute("PRAGMA user_version").fetchone()  # reads the file for the first time
    except BaseException:
        db.close()
        raise
    return db


def _open_copy(path: Path) -> sqlite3.Connection:
    """Read a copy, in memory, of the file and of what a killed process left beside it."""
    with tempfile.TemporaryDirectory(prefix="svdlab-") as folder:
        copy = Path(folder) / path.name
        try:
            for end in ("", *BESIDE):
                if end != "-shm" and (source := path.with_name(path.name + end)).exists():
                    shutil.copyfile(source, copy.with_name(copy.name + end))
        except OSError as error:
            raise SweepError(f"{path}: cannot be read ({error.strerror}).") from None
        there = _open(copy.as_uri(), path, False)
        with contextlib.closing(there):
            here = _open(":memory:", path, False)
            there.backup(here)
            return here


def trouble(path: Path) -> str | None:
    """What is wrong with a ledger's file as such: missing, empty or damaged, in words; None if it is whole.

    Raises:
        SweepError: it cannot be read, for a reason that lies outside of it.
    """
    if not path.is_file():
        return "is missing"
    try:
        with contextlib.closing(connect(path, write=False)) as db:
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master").fetchall()}
            if not tables:
                return "is empty"
            if lacks := [name for name in TABLES if name not in tables]:
                return f"is damaged (it has no table {lacks[0]})"
            found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            return None if found == "ok" else f"is damaged ({found.splitlines()[-1]})"
    except SweepError as error:
        cause = error.__cause__
        if isinstance(cause, UnicodeDecodeError) or (isinstance(cause, sqlite3.Error) and _is_damage(cause)):
            return f"is damaged ({cause})"
        raise


class _Cursor(sqlite3.Cursor):
    """A cursor whose errors are sentences, where the file or the disk is the cause."""

    def _try(self, name: str, *args: Any) -> Any:
        try:
            return getattr(super(), name)(*args)
        except sqlite3.Error as error:
            db: Any = self.connection
            words = _in_words(error, db.path, db.write)
            self.close()  # whoever keeps the error would keep the file open
            if words is None:
                raise
            raise words from error
        except UnicodeDecodeError as error:  # a table's own text, in the file or in SQLite's complaint about it
            db = self.connection
            self.close()
            raise SweepError(damaged(db.path, "text that is not UTF-8")) from error

    def execute(self, *args: Any) -> Any:
        return self._try("execute", *args)

    def executemany(self, *args: Any) -> Any:
        return self._try("executemany", *args)

    def executescript(self, *args: Any) -> Any:
        return self._try("executescript", *args)

    def fetchone(self) -> Any:
        return self._try("fetchone")

    def fetchall(self) -> Any:
        return self._try("fetchall")

    def __next__(self) -> Any:
        return self._try("__next__")


class _Connection(sqlite3.Connection):
    """A connection whose statements go through `_Cursor`."""

    path: Path
    write: bool

    def execute(self, *args: Any) -> Any:
        return self.cursor(_Cursor).execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor(_Cursor).executemany(*args)

    def executescript(self, *args: Any) -> Any:
        return self.cursor(_Cursor).executescript(*args)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, without the byte that refines it."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether the content of the file is the cause; some of it comes under the code of mistakes in statements."""
    return _code(error) in _DAMAGE or (_code(error) in (0, sqlite3.SQLITE_ERROR) and str(error).startswith(_NONSENSE))


def damaged(path: Path, why: object) -> str:
    """The sentence for a ledger that is damaged."""
    return (
        f"{path}: is damaged ({why}). `svdlab repair {path.parent}` makes the ledger again, from"
        " the manifests of the finished cells."
    )


def _in_words(error: sqlite3.Error, path: Path, write: bool) -> SweepError | None:
    """The sentence for an error of the file or the disk; None for one of the program."""
    code = _code(error)
    if _is_damage(error):
        return SweepError(damaged(path, error))
    if code == sqlite3.SQLITE_FULL:
        return SweepError(f"{path}: {error}. Make room and run again; what is done stays done.")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SweepError(f"{path}: {error}. Another program holds the file for long; try again when it is done.")
    if code in _UNREADABLE and (write or code != sqlite3.SQLITE_READONLY):
        what = "written" if write else "read"
        return SweepError(
            f"{path}: cannot be {what} ({error}). See that the directory is there, that there is room, and that it may"
            f" be {what}; what is done stays done."
        )
    return None

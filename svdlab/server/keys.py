"""Keys of the server: made here, shown once, kept as hashes."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from svdlab.errors import ServerError
from svdlab.server.store import Store

LOCAL = "local"
"""Owner of what is done with the key that a server without keys of its own makes at each start."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is known about a key; its secret half is not."""

    id: str
    name: str
    created: datetime
    revoked: datetime | None


def make_key(store: Store, name: str) -> str:
    """Make a key and return it, `id:secret`; this is the only time that it is seen.

    Raises:
        ServerError: a name that is empty, too long or taken.

    Example:
        >>> make_key(store, "alice")
        '3f0c5d...:9b1e...'
    """
    if not re.fullmatch(r"[\w][\w .@+-]{0,63}", name):
        raise ServerError(f"name = {name!r}: must be 1 to 64 letters, digits, blanks or any of . @ + - _.")
    id, secret = secrets.token_hex(8), secrets.token_hex(24)
    with store.write() as db:
        if db.execute("SELECT 1 FROM key WHERE name = ? AND revoked IS NULL", (name,)).fetchone():
            raise ServerError(f"name = {name!r}: there is a key of that name. Revoke it first, or choose another name.")
        db.execute("INSERT INTO key (id, name, hash, created) VALUES (?, ?, ?, ?)", (id, name, _hash(secret), _now()))
    return f"{id}:{secret}"


def list_keys(store: Store) -> list[Key]:
    """Every key, the revoked ones too, oldest first."""
    return [
        Key(
            id=row["id"],
            name=row["name"],
            created=_date(row["created"]),
            revoked=_date(row["revoked"]) if row["revoked"] else None,
        )
        for row in store.rows("SELECT id, name, created, revoked FROM key ORDER BY created")
    ]


def revoke_key(store: Store, id_or_name: str) -> None:
    """Make a key invalid at once, also for a server that runs.

    Raises:
        ServerError: there is no such key, or it was revoked before.
    """
    with store.write() as db:
        found = db.execute(
            "UPDATE key SET revoked = ? WHERE (id = ? OR name = ?) AND revoked IS NULL",
            (_now(), id_or_name, id_or_name),
        )
        if found.rowcount == 0:
            raise ServerError(
                f"{id_or_name!r}: there is no valid key of that id or name. `svdlab keys list` lists them."
            )


def has_keys(store: Store) -> bool:
    """Whether any key is valid."""
    return store.row("SELECT 1 FROM key WHERE revoked IS NULL LIMIT 1") is not None


class Doorkeeper:
    """Tells whose key a request carries.

    With `generated` (the key of a server without keys of its own), that one is accepted too and is `LOCAL`'s.
    """

    def __init__(self, store: Store, generated: str | None = None) -> None:
        self._store = store
        self._generated = _hash(generated) if generated else None

    def owner(self, authorization: str | None) -> str | None:
        """The owner (a key's id) for an `Authorization` header of the form `Key id:secret`; None if it is not valid."""
        scheme, _, given = (authorization or "").partition(" ")
        given = given.strip()
        if scheme.lower() != "key" or not given:
            return None
        if self._generated and hmac.compare_digest(self._generated, _hash(given)):
            return LOCAL
        id, _, secret = given.partition(":")
        row = self._store.row("SELECT hash FROM key WHERE id = ? AND revoked IS NULL", (id,))
        # The same work for an id that is not there: the time that it takes tells nothing.
        valid = hmac.compare_digest(row["hash"] if row else "0" * 64, _hash(secret))
        return id if row and valid else None


def new_secret() -> str:
    """A key in the form of those that `make_key` makes, known to nobody yet."""
    return f"{secrets.token_hex(8)}:{secrets.token_hex(24)}"


def _hash(secret: str) -> str:
    # 192 random bits cannot be guessed, so a plain hash keeps them as well as a slow one.
    return hashlib.sha256(secret.encode()).hexdigest()


def _now() -> float:
    return time.time()


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

"""Being told when something in the store changes, whichever process changed it."""

from __future__ import annotations

import asyncio
import contextlib

from svdlab.server.store import Store

_LOOK_SECONDS = 0.03


class Changes:
    """One look at the store's version, every 30 ms and only while someone waits, serves all who wait."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def wait(self, seconds: float) -> None:
        """Return when anything has changed, or after so many seconds; look again yourself at what you wait for."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(future, seconds)
        finally:
            self._waiting.discard(future)

    async def _look(self) -> None:
        seen = self._store.version()
        while self._waiting:
            await asyncio.sleep(_LOOK_SECONDS)
            if (now := self._store.version()) != seen:
                seen = now
                for future in self._waiting:
                    if not future.done():
                        future.set_result(None)

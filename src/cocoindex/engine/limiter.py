"""The limit on components that execute at the same time."""

from __future__ import annotations

import asyncio
from collections import deque


class Limiter:
    """A semaphore whose uncontended path needs no await.

    Whoever runs may take what is free. Those who wait are woken one after the other, the first
    first, each once the one before has taken what it wants: who mounts many components gets its
    permits in one go.
    """

    __slots__ = ("_free", "_is_waking", "_waiting", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = self._free = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_waking = False

    @property
    def is_idle(self) -> bool:
        return self._free == self.limit

    def try_acquire(self) -> bool:
        if self._free > 0:
            self._free -= 1
            return True
        return False

    async def acquire(self) -> None:
        turn: asyncio.Future[None] | None = None
        while not self.try_acquire():
            first = turn is not None  # somebody was faster: this one keeps its place
            turn = asyncio.get_running_loop().create_future()
            (self._waiting.appendleft if first else self._waiting.append)(turn)
            try:
                await turn
            except asyncio.CancelledError:
                turn.cancel()
                self._wake_soon()
                raise

    def release(self) -> None:
        self._free += 1
        if self._waiting:
            self._wake_soon()

    def _wake_soon(self) -> None:
        if self._waiting and not self._is_waking:
            self._is_waking = True
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        """Wake the first who waits; the next once that one has run."""
        self._is_waking = False
        while self._free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._wake_soon()
                return

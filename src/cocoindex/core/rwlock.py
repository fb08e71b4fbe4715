"""A fair lock for many readers or one writer, usable from threads and from tasks alike."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["RWLock"]


class _Waiter:
    """One who waits in line; the future is resolved when the lock is theirs."""

    __slots__ = ("granted", "writes")

    def __init__(self, writes: bool) -> None:
        self.writes = writes
        self.granted: Future[None] = Future()


class RWLock:
    """Many readers or one writer, first come, first served: neither side can starve.

    ``lock.read()`` and ``lock.write()`` give guards for ``with`` and ``async with``. Not
    re-entrant. A ``with`` on a thread that runs an event loop blocks that loop while it waits.
    """

    __slots__ = ("_mutex", "_readers", "_waiters", "_writing")

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._readers = 0
        self._writing = False
        self._waiters: deque[_Waiter] = deque()

    def read(self) -> _Guard:
        """A guard that shares the lock with other readers."""
        return _Guard(self, writes=False)

    def write(self) -> _Guard:
        """A guard that has the lock alone."""
        return _Guard(self, writes=True)

    def _enter(self, writes: bool) -> _Waiter | None:
        """Take the lock, or queue for it."""
        with self._mutex:
            if not self._waiters and self._fits(writes):
                self._take(writes)
                return None
            waiter = _Waiter(writes)
            self._waiters.append(waiter)
            return waiter

    def _fits(self, writes: bool) -> bool:
        return not self._writing and not (writes and self._readers)

    def _take(self, writes: bool) -> None:
        if writes:
            self._writing = True
        else:
            self._readers += 1

    def _leave(self, writes: bool) -> None:
        with self._mutex:
            if writes:
                self._writing = False
            else:
                self._readers -= 1
            ready = self._grant()
        for waiter in ready:
            waiter.granted.set_result(None)

    def _abandon(self, waiter: _Waiter) -> None:
        """Undo the wait of somebody who was interrupted, whether or not it had succeeded."""
        with self._mutex:
            queued = waiter in self._waiters
            if queued:
                self._waiters.remove(waiter)
                ready = self._grant()
        if not queued:
            self._leave(waiter.writes)
            return
        for other in ready:
            other.granted.set_result(None)

    def _grant(self) -> list[_Waiter]:
        """Give the lock to those at the head of the line for whom it is free."""
        ready = []
        while self._waiters and self._fits(self._waiters[0].writes):
            waiter = self._waiters.popleft()
            self._take(waiter.writes)
            ready.append(waiter)
        return ready


class _Guard:
    """Holds one side of the lock while its block runs."""

    __slots__ = ("_lock", "_writes")

    def __init__(self, lock: RWLock, *, writes: bool) -> None:
        self._lock = lock
        self._writes = writes

    def __enter__(self) -> None:
        waiter = self._lock._enter(self._writes)
        if waiter is None:
            return
        try:
            waiter.granted.result()
        except BaseException:  # raised again: a wait that a Ctrl-C ends must give up its place too
            self._lock._abandon(waiter)
            raise

    async def __aenter__(self) -> None:
        waiter = self._lock._enter(self._writes)
        if waiter is None:
            return
        try:
            # The shield keeps a cancelled wait from cancelling the future that grants the lock.
            await asyncio.shield(asyncio.wrap_future(waiter.granted))
        except BaseException:  # raised again: so must one that a cancellation ends
            self._lock._abandon(waiter)
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock._leave(self._writes)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock._leave(self._writes)

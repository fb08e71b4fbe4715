"""Client libraries that block, used from an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, TypeVar

__all__ = ["BlockingClient"]

_INTERRUPT_EVERY: Final = 0.02
"""Seconds."""

C = TypeVar("C")
T = TypeVar("T")


class BlockingClient(Generic[C]):
    """Runs calls of a blocking client on threads of its own, at most ``workers`` at a time.

    Threads start with the first call and are shared by all event loops. A cancelled call is
    interrupted, if the client can be, and waited for: when the cancellation arrives, nothing
    of the call is running any more.

    Args:
        client: passed as first argument to what is called.
        workers: threads. With one, calls follow each other in order.
        interrupt: makes a running call of the client fail soon; called from another thread.
        name: of the threads.
    """

    def __init__(
        self,
        client: C,
        *,
        workers: int = 1,
        interrupt: Callable[[C], object] | None = None,
        name: str = "cocoindex-client",
    ) -> None:
        self.client = client
        self._workers = workers
        self._interrupt = interrupt
        self._name = name
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    async def call(self, fn: Callable[..., T], *args: object) -> T:
        """``fn(client, *args)``, run on one of the threads."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._workers, self._name)
            job = self._pool.submit(fn, self.client, *args)
        future = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not job.cancel():
                await self._stop(future)
            raise

    async def _stop(self, future: asyncio.Future[T]) -> None:
        """Wait until a running call has ended, however often the waiting is cancelled."""
        while not future.done():
            if self._interrupt is not None:
                # Again and again: it has no effect between two statements of the call.
                self._interrupt(self.client)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future], timeout=_INTERRUPT_EVERY)
        if not future.cancelled():
            future.exception()  # seen: who cancelled wants to hear of the cancellation only

    def close(self) -> None:
        """Wait for calls that run, and end the threads; a later call starts new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

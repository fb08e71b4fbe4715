"""Who waits for a commit.

All batches accepted between the starts of two commits form one :class:`Generation`. Waiting is
cheap because everybody on one event loop waits for the same future, and a finished commit wakes
each loop once.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["CommitThread", "Generation"]


class _Signal(asyncio.Future[None]):
    """A future that many tasks wait for; one cancelled task must not cancel it for the others.

    A task cancelled meanwhile gets its ``CancelledError`` when the commit ends.
    """

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - asyncio's signature
        return False


class Generation:
    """Batches that become durable in the same commit."""

    __slots__ = ("_events", "_signals")

    def __init__(self) -> None:
        self._signals: dict[asyncio.AbstractEventLoop, _Signal] = {}
        self._events: list[threading.Event] = []

    def signal(self, loop: asyncio.AbstractEventLoop) -> tuple[asyncio.Future[None], bool]:
        """The future of ``loop``, and whether this call made it. With the store's lock held."""
        signal = self._signals.get(loop)
        if signal is not None:
            return signal, False
        signal = self._signals[loop] = _Signal(loop=loop)
        return signal, True

    def event(self) -> threading.Event:
        """An event for a thread that blocks. With the store's lock held."""
        event = threading.Event()
        self._events.append(event)
        return event

    def finish(self) -> None:
        """Wake everybody. Nobody may start waiting after this call has begun."""
        for event in self._events:
            event.set()
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        for loop, signal in self._signals.items():
            if loop is running:
                signal.set_result(None)
            else:
                _wake(loop, signal)


def _wake(loop: asyncio.AbstractEventLoop, signal: _Signal) -> None:
    # A loop that was closed while its tasks waited has nobody left to wake.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(signal.set_result, None)


class CommitThread:
    """A thread that commits one generation after the other; started by the first request."""

    def __init__(self, commit: Callable[[Generation], None]) -> None:
        self._commit = commit
        self._queue: queue.SimpleQueue[Generation | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def request(self, generation: Generation) -> None:
        with self._lock:
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(
                    target=self._run, name="cocoindex-store", daemon=True
                )
                self._thread.start()
        self._queue.put(generation)

    def stop(self) -> None:
        """End the thread after what was requested before."""
        with self._lock:
            self._stopped = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (generation := self._queue.get()) is not None:
            self._commit(generation)

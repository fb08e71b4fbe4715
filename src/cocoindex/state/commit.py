"""Who waits for a commit.

All batches accepted between the starts of two commits form one :class:`Generation`. Waiting is
cheap because everybody on one event loop waits for the same future, and a finished commit wakes
each loop once.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

__all__ = ["Generation"]


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

"""Iterating across the border between threads and event loops, with back-pressure."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cocoindex.errors import UsageError, UsageValueError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

__all__ = ["async_to_sync_iter", "sync_to_async_iter"]

T = TypeVar("T")


class _Channel(Generic[T]):
    """Items on their way from the producer's thread to the consumer's, at most ``size``.

    Whoever waits in an event loop is woken through ``wake_*``; whoever waits in a thread,
    through the condition.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise UsageValueError(f"max_queue_size must be at least 1, not {size}")
        self.size = size
        self.changed = threading.Condition()
        self.items: deque[T] = deque()
        self.finished = False
        self.stopped = False
        self.error: BaseException | None = None

    @property
    def can_put(self) -> bool:
        return self.stopped or len(self.items) < self.size

    @property
    def can_take(self) -> bool:
        return self.finished or bool(self.items)

    def finish(self, error: BaseException | None) -> None:
        with self.changed:
            self.error = error
            self.finished = True
            self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def raise_error(self) -> None:
        if self.error is not None:
            raise self.error


class _Bell:
    """Wakes a coroutine in ``loop`` from another thread; cheap while nobody listens."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._rung = asyncio.Event()
        self._listening = False

    def listen(self) -> None:
        """Announce, under the channel's lock, that :meth:`wait` follows."""
        self._rung.clear()
        self._listening = True

    async def wait(self) -> None:
        await self._rung.wait()

    def ring(self) -> None:
        """Wake who listens. Called under the channel's lock."""
        if not self._listening:
            return
        self._listening = False
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._rung.set)


def sync_to_async_iter(
    fn: Callable[[], Iterator[T]], *, max_queue_size: int = 1024
) -> AsyncGenerator[T, None]:
    """Async iterator over what ``fn()`` yields, which is produced in a daemon thread.

    ``fn`` and its iterator run in a copy of the caller's context. At most ``max_queue_size``
    items are produced ahead. Errors are raised again here. Leaving early (``aclose``, as at the
    end of ``contextlib.aclosing``) stops the producer at its next item and waits for nothing.

    Raises:
        UsageValueError: ``max_queue_size`` is below 1.
    """
    channel: _Channel[T] = _Channel(max_queue_size)
    return _from_thread(fn, channel, contextvars.copy_context())


async def _from_thread(
    fn: Callable[[], Iterator[T]], channel: _Channel[T], context: contextvars.Context
) -> AsyncGenerator[T, None]:
    bell = _Bell(asyncio.get_running_loop())
    thread = threading.Thread(
        target=context.run,
        args=(_produce, fn, channel, bell),
        name="cocoindex-sync-iter",
        daemon=True,
    )
    thread.start()
    try:
        while True:
            item = await _next_from_thread(channel, bell)
            if not item:
                break
            yield item[0]
        channel.raise_error()
    finally:
        channel.stop()


async def _next_from_thread(channel: _Channel[T], bell: _Bell) -> tuple[T] | None:
    while True:
        with channel.changed:
            if channel.items:
                item = channel.items.popleft()
                channel.changed.notify_all()
                return (item,)
            if channel.finished:
                return None
            bell.listen()
        await bell.wait()


def _produce(fn: Callable[[], Iterator[T]], channel: _Channel[T], bell: _Bell) -> None:
    error: BaseException | None = None
    try:
        _put_all(fn(), channel, bell)
    except BaseException as raised:  # noqa: BLE001 - raised again where the items are consumed
        error = raised
    channel.finish(error)
    with channel.changed:
        bell.ring()


def _put_all(items: Any, channel: _Channel[Any], bell: _Bell) -> None:
    iterator = iter(items)
    try:
        for item in iterator:
            with channel.changed:
                channel.changed.wait_for(lambda: channel.can_put)
                if channel.stopped:
                    return
                channel.items.append(item)
                bell.ring()
    finally:
        if hasattr(iterator, "close"):
            iterator.close()


def async_to_sync_iter(
    fn: Callable[[], AsyncIterator[T]], *, max_queue_size: int = 1024
) -> Iterator[T]:
    """Iterator over what ``fn()`` yields, produced by a loop of its own in a daemon thread.

    The reverse of :func:`sync_to_async_iter`; leaving early cancels the producer.

    Raises:
        UsageError: called on a thread that runs an event loop.
        UsageValueError: ``max_queue_size`` is below 1.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise UsageError(
            "async_to_sync_iter() would block the event loop that runs here; use `async for`"
        )
    channel: _Channel[T] = _Channel(max_queue_size)
    return _from_loop(_Pump(fn, channel), channel, contextvars.copy_context())


def _from_loop(pump: _Pump[T], channel: _Channel[T], context: contextvars.Context) -> Iterator[T]:
    thread = threading.Thread(
        target=context.run, args=(pump.run,), name="cocoindex-async-iter", daemon=True
    )
    thread.start()
    try:
        while True:
            with channel.changed:
                channel.changed.wait_for(lambda: channel.can_take)
                if not channel.items:
                    break
                item = channel.items.popleft()
                pump.ring()
            yield item
        channel.raise_error()
    finally:
        channel.stop()
        pump.cancel()


class _Pump(Generic[T]):
    """Moves items from an async iterator into a channel, inside a loop of its own."""

    def __init__(self, fn: Callable[[], AsyncIterator[T]], channel: _Channel[T]) -> None:
        self._fn = fn
        self._channel = channel
        self._bell: _Bell | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def run(self) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._put_all())
        except BaseException as raised:  # noqa: BLE001 - raised again where items are consumed
            error = raised
        self._channel.finish(error)

    def ring(self) -> None:
        """Say that there is space. Called under the channel's lock."""
        if self._bell is not None:
            self._bell.ring()

    def cancel(self) -> None:
        with self._channel.changed:
            loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the producer has ended
                loop.call_soon_threadsafe(task.cancel)

    async def _put_all(self) -> None:
        loop = asyncio.get_running_loop()
        with self._channel.changed:
            self._loop, self._task = loop, asyncio.current_task()
            self._bell = _Bell(loop)
            if self._channel.stopped:
                return
        items = self._fn()
        try:
            async for item in items:
                await self._put(item, self._bell)
        finally:
            if hasattr(items, "aclose"):
                await items.aclose()

    async def _put(self, item: T, bell: _Bell) -> None:
        channel = self._channel
        while True:
            with channel.changed:
                if channel.can_put:
                    channel.items.append(item)
                    channel.changed.notify_all()
                    return
                bell.listen()
            await bell.wait()

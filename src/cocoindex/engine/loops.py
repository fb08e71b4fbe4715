"""Event loops: which one an environment uses, and how other threads reach it."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

from cocoindex.engine.workers import stop_workers

R = TypeVar("R")


async def all_of(awaitables: Iterable[Awaitable[R]]) -> list[R]:
    """Await all of them, at the same time and to their ends; then raise what failed first.

    (``asyncio.gather`` leaves the others behind once one has failed or is cancelled.)
    """
    results: list[R] = []
    for outcome in await asyncio.gather(*awaitables, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results


class LoopThread:
    """A daemon thread that runs one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self.loop = loop
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def stop(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            _finish(self.loop)


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left and close, as ``asyncio.run`` does."""
    with contextlib.suppress(RuntimeError):
        loop.run_until_complete(_cancel_everything())
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _cancel_everything() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_lock = threading.Lock()
_background: LoopThread | None = None
_background_pid = 0
_threads: dict[asyncio.AbstractEventLoop, LoopThread] = {}


def background_loop() -> asyncio.AbstractEventLoop:
    """The process-wide loop for programs without one, started on first use."""
    global _background, _background_pid  # noqa: PLW0603 - one per process
    with _lock:
        if _background is None or _background_pid != os.getpid():
            _background = LoopThread(asyncio.new_event_loop(), "cocoindex-loop")
            _background_pid = os.getpid()
            atexit.register(_stop_at_exit)
        return _background.loop


_exit = threading.Event()


def _stop_at_exit() -> None:
    _exit.set()
    stop_workers()
    if _background is not None and _background_pid == os.getpid():
        _background.stop()


def ensure_running(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop that nobody runs on a daemon thread."""
    with _lock:
        if not loop.is_running() and loop not in _threads:
            _threads[loop] = LoopThread(loop, "cocoindex-env-loop")


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def outcome_of(future: concurrent.futures.Future[R]) -> R:
    """Await what another thread brings about; raises the very error that it has brought.

    (``asyncio.wrap_future`` alone makes a new ``TimeoutError``, which has no traceback.)
    """
    try:
        return await asyncio.wrap_future(future)
    except TimeoutError:
        error = future.exception() if future.done() else None
        if error is None:
            raise
        raise error from None


def submit(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, R]
) -> concurrent.futures.Future[R]:
    """Start ``coro`` on ``loop`` from any thread, that loop's own included.

    Whatever it raises is carried by the future and never reaches the loop, which would stop
    for a KeyboardInterrupt.
    """
    result: concurrent.futures.Future[R] = concurrent.futures.Future()
    result.set_running_or_notify_cancel()

    def keep() -> None:
        task = loop.create_task(carry())
        _kept.add(task)  # a loop holds its tasks only weakly
        task.add_done_callback(let_go)

    def let_go(task: asyncio.Task[Any]) -> None:
        _kept.discard(task)
        if task.cancelled() and not result.done() and not _exit.is_set():  # before its first step
            coro.close()
            result.set_exception(asyncio.CancelledError())

    async def carry() -> None:
        try:
            value = await coro
        except BaseException as error:  # noqa: BLE001 - carried to whoever waits
            if not _exit.is_set():  # only daemon threads wait then: they end with the process
                result.set_exception(error)
        else:
            result.set_result(value)

    if running_loop() is loop:
        keep()
    else:
        loop.call_soon_threadsafe(keep)
    return result


_kept: set[asyncio.Task[Any]] = set()

"""Threads on which synchronous user code runs.

Submitting costs a queue put; results return to the loop in batches, one wake-up for all
that finished meanwhile, because waking a loop from a thread is the expensive part.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

MAX_THREADS = min(64, 16 + 4 * (os.cpu_count() or 1))


class _Job(NamedTuple):
    future: asyncio.Future[Any]
    context: Context
    call: Callable[[], Any]
    returns: _Returns


class _Returns:
    """Carries results of one loop's jobs back to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._finished: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._scheduled = False

    def put(self, future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        self._finished.append((future, value, error))
        if not self._scheduled:
            self._scheduled = True
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        while self._finished:
            future, value, error = self._finished.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)


class Pool(Protocol):
    """Where synchronous user code runs."""

    def submit(self, context: Context, call: Callable[[], Any]) -> asyncio.Future[Any]: ...


class StopIterationInWorker(RuntimeError):
    """A future can't carry StopIteration; same rule as for generators (PEP 479)."""


class WorkerPool:
    """Daemon threads started on demand, shared by all environments of the process."""

    def __init__(self, max_threads: int = MAX_THREADS) -> None:
        self._max_threads = max_threads
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._lock = threading.Lock()
        self._returns: dict[asyncio.AbstractEventLoop, _Returns] = {}

    def submit(self, context: Context, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run ``call`` on a worker within ``context``; the future belongs to the running loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        returns = self._returns.get(loop)
        if returns is None:
            self._forget_closed_loops()
            returns = self._returns[loop] = _Returns(loop)
        with self._lock:
            if self._idle <= self._jobs.qsize() and len(self._threads) < self._max_threads:
                self._start_thread()
        self._jobs.put(_Job(future, context, call, returns))
        return future

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in self._returns if loop.is_closed()]:
            del self._returns[loop]

    def _start_thread(self) -> None:
        name = f"cocoindex-worker-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        self._idle += 1
        thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            with self._lock:
                self._idle -= 1
            self._run(job)
            del job
            with self._lock:
                self._idle += 1

    @staticmethod
    def _run(job: _Job) -> None:
        if job.future.cancelled():
            return
        value: Any = None
        error: BaseException | None = None
        try:
            value = job.context.run(job.call)
        except StopIteration as stop:
            error = StopIterationInWorker("a function raised StopIteration")
            error.__cause__ = stop
        except BaseException as raised:  # noqa: BLE001 - carried to the awaiting caller
            error = raised
        job.returns.put(job.future, value, error)

    def stop(self, timeout: float = 1.0) -> None:
        """Let idle threads end; busy ones are daemons and end with the process."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout if self._idle == len(self._threads) else 0)
        self._threads.clear()
        self._idle = 0


_pool: WorkerPool | None = None
_pool_pid = 0
_replacement: Pool | None = None


def use_pool(pool: Pool | None) -> None:
    """Run sync user code on ``pool`` instead of threads; ``None`` ends that (for simulations)."""
    global _replacement  # noqa: PLW0603 - one pool per process is the point
    _replacement = pool


def worker_pool() -> Pool:
    """The pool of this process, made on first use (and anew in a forked child)."""
    global _pool, _pool_pid
    if _replacement is not None:
        return _replacement
    if _pool is None or _pool_pid != os.getpid():
        _pool, _pool_pid = WorkerPool(), os.getpid()
    return _pool


def on_worker(call: Callable[[], Any]) -> asyncio.Future[Any]:
    """Run ``call`` on a worker thread, within the current context."""
    return worker_pool().submit(copy_context(), call)


def stop_workers() -> None:
    global _pool  # noqa: PLW0603 - one pool per process
    if _pool is not None and _pool_pid == os.getpid():
        _pool.stop()
        _pool = None

"""Threads on which synchronous user code runs.

Only one thread at a time runs Python, so a second one is of use only where the first blocks. Which
bodies block is not known before. Therefore, while jobs wait or results have not been announced
to their loop, one thread is *free*: between two jobs, or just being woken. It takes the next job
as soon as it can run, that is, at once when the others block, and only then calls the next.

Waking a loop from a thread is expensive too. Results are announced when no jobs are left, or by
the free thread as soon as it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Protocol

MAX_THREADS = min(64, 16 + 4 * (os.cpu_count() or 1))

_Future = asyncio.Future[Any]


class _Returns:
    """Carries results of one loop's jobs back to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._finished: deque[tuple[_Future, Any, BaseException | None]] = deque()
        self._scheduled = False

    def put(self, future: _Future, value: Any, error: BaseException | None) -> bool:
        """Hand in a result; whether the loop has yet to be told."""
        self._finished.append((future, value, error))
        return not self._scheduled

    def announce(self) -> None:
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


_Job = tuple[_Future, Context, Callable[[], Any], _Returns]


class Pool(Protocol):
    """Where synchronous user code runs."""

    def submit(self, context: Context, call: Callable[[], Any]) -> asyncio.Future[Any]: ...


class StopIterationInWorker(RuntimeError):
    """A future can't carry StopIteration; same rule as for generators (PEP 479)."""


class WorkerPool:
    """Daemon threads started on demand, shared by all environments of the process."""

    def __init__(self, max_threads: int = MAX_THREADS) -> None:
        self._max_threads = max_threads
        self._returns: dict[asyncio.AbstractEventLoop, _Returns] = {}
        # Changed without a lock, by operations that are atomic.
        self._jobs: deque[_Job] = deque()
        self._unannounced: dict[_Returns, None] = {}
        self._free: deque[None] = deque()  # as long as there are free threads
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        # A thread rests at a lock of its own, so that the last to rest is woken first.
        self._resting: list[threading.Lock] = []
        self._is_stopping = False

    def submit(self, context: Context, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run ``call`` on a worker within ``context``; the future belongs to the running loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        returns = self._returns.get(loop) or self._returns_to(loop)
        self._jobs.append((future, context, call, returns))
        if not self._free:
            try:
                self._call_thread()
            except RuntimeError:  # not even one thread can be started
                future.cancel()
                raise
        return future

    def _returns_to(self, loop: asyncio.AbstractEventLoop) -> _Returns:
        for known in [*self._returns]:  # a copy: other threads may bring other loops
            if known.is_closed():
                self._returns.pop(known, None)
        return self._returns.setdefault(loop, _Returns(loop))

    def _call_thread(self) -> None:
        """Make one of the resting threads free, or a new one."""
        with self._lock:
            if self._resting:
                self._free.append(None)
                self._resting.pop().release()
            elif len(self._threads) < self._max_threads:
                self._start_thread()

    def _start_thread(self) -> None:
        name = f"cocoindex-worker-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._free.append(None)
        try:
            thread.start()
        except RuntimeError:
            self._free.pop()
            if not self._threads:
                raise
            return  # the system allows no more: those that are there have to do
        self._threads.append(thread)

    # --- on the threads ---

    def _work(self) -> None:
        gate = threading.Lock()
        gate.acquire()
        while not self._is_stopping:
            self._announce()
            self._run_jobs()
            if self._rests(gate):
                gate.acquire()

    def _rests(self, gate: threading.Lock) -> bool:
        """Have the thread wait at ``gate`` unless there is something to do."""
        with self._lock:
            # In this order: who adds something looks for a free thread after that.
            self._free.pop()
            if self._jobs or self._unannounced or self._is_stopping:
                self._free.append(None)
                return False
            self._resting.append(gate)
            return True

    def _run_jobs(self) -> None:
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:
                self._announce()
                return
            self.run_job(*job)

    def run_job(
        self, future: _Future, context: Context, call: Callable[[], Any], returns: _Returns
    ) -> None:
        """What a thread does with one job. By this name others find out what it is doing."""
        if future.cancelled():
            return
        self._leave_to_others()
        value: Any = None
        error: BaseException | None = None
        try:
            value = context.run(call)
        except StopIteration as stop:
            error = StopIterationInWorker("a function raised StopIteration")
            error.__cause__ = stop
        except BaseException as raised:  # noqa: BLE001 - carried to the awaiting caller
            error = raised
        self._free.append(None)
        if returns.put(future, value, error):
            self._unannounced[returns] = None

    def _leave_to_others(self) -> None:
        """Be free no more; another thread is to see to what is left."""
        self._free.pop()
        if (self._jobs or self._unannounced) and not self._free:
            self._call_thread()
            if not self._free:
                self._announce()

    def _announce(self) -> None:
        while self._unannounced:
            with contextlib.suppress(KeyError):  # another thread was faster
                self._unannounced.popitem()[0].announce()

    def stop(self, timeout: float = 1.0) -> None:
        """Let idle threads end; busy ones are daemons and end with the process."""
        with self._lock:
            self._is_stopping = True
            all_rest = len(self._resting) == len(self._threads)
            while self._resting:
                self._resting.pop().release()
        for thread in self._threads:
            thread.join(timeout if all_rest else 0)


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

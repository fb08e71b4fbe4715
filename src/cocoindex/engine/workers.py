"""Threads on which synchronous user code runs.

Only one thread at a time runs Python, so a second one is of use only where the first blocks. Which
bodies block is not known before. Therefore, while jobs wait or results have not been announced
to their loop, one thread is *free*: between two jobs, or just being woken. It takes the next job
as soon as it can run, that is, at once when the others block, and only then calls the next.

Waking a thread from a loop is expensive, and so is the other way. Jobs leave at the end of a turn
of their loop, all at once. Results are announced when no jobs are left, or by the free thread as
soon as it runs.

A loop and a thread that both have something to do keep each other from it: whenever one calls into
the system, the other is woken, mostly to find that it came too late. So a loop that hands over many
jobs waits while there is a free thread, that is, until they are done or block.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Protocol

MAX_THREADS = min(64, 16 + 4 * (os.cpu_count() or 1))

MANY_JOBS = 4
"""Jobs of which a loop waits for the end, or for as long as Python lets a busy thread run."""


LONGEST_WAIT = 0.005
"""Seconds; shorter where Python switches between threads sooner."""


class Job(Protocol):
    """A call on its way to a thread and back."""

    context: Context

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for it: else it is not begun."""
        ...

    def run(self) -> Any:
        """On a thread, within :attr:`context`."""
        ...

    def ended(self, value: Any, error: BaseException | None) -> None:
        """On the loop: what :meth:`run` has returned, or else raised."""
        ...


class _AwaitedCall:
    """A job whose result a future gets."""

    __slots__ = ("context", "future", "run")

    def __init__(self, context: Context, call: Callable[[], Any]) -> None:
        self.context = context
        self.run = call
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @property
    def is_wanted(self) -> bool:
        return not self.future.done()

    def ended(self, value: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error)


class Pool(ABC):
    """Where synchronous user code runs."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Run ``job`` on a worker; it belongs to the running loop."""

    def submit(self, context: Context, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run ``call`` on a worker within ``context``; the future belongs to the running loop."""
        job = _AwaitedCall(context, call)
        self.start(job)
        return job.future


class StopIterationInWorker(RuntimeError):
    """A future can't carry StopIteration; same rule as for generators (PEP 479)."""


class _Port:
    """Where the jobs of one loop leave, and their results arrive."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._leaving: list[Job] = []
        self._finished: deque[tuple[Job, Any, BaseException | None]] = deque()
        self._is_told = False
        """Whether it is seen to that the loop takes what has arrived."""

    def put(self, job: Job, hand_over: Callable[[_Port], None]) -> None:
        """Let a job wait for the end of this turn, when ``hand_over`` is to :meth:`take` it."""
        if not self._leaving:
            self._loop.call_soon(hand_over, self, context=Context())
        self._leaving.append(job)

    def take(self) -> list[Job]:
        jobs, self._leaving = self._leaving, []
        return jobs

    def arrives(self, job: Job, value: Any, error: BaseException | None) -> bool:
        """Hand in a result; whether the loop has yet to be told."""
        self._finished.append((job, value, error))
        return not self._is_told

    def announce(self) -> None:
        if not self._is_told:
            self._is_told = True
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
                self._loop.call_soon_threadsafe(self._deliver, context=Context())

    def wait(self, gate: threading.Lock) -> None:
        """Deliver what arrives until ``gate`` opens, but don't wait for long."""
        self._is_told = True
        try:
            gate.acquire(timeout=min(sys.getswitchinterval(), LONGEST_WAIT))
        finally:
            self._deliver()

    def _deliver(self) -> None:
        self._is_told = False
        try:
            while self._finished:
                job, value, error = self._finished.popleft()
                job.ended(value, error)
        finally:
            if self._finished:  # there was an interrupt
                self.announce()


class WorkerPool(Pool):
    """Daemon threads started on demand, shared by all environments of the process."""

    def __init__(self, max_threads: int = MAX_THREADS) -> None:
        self._max_threads = max_threads
        self._ports: dict[asyncio.AbstractEventLoop, _Port] = {}
        # Changed without a lock, by operations that are atomic.
        self._jobs: deque[tuple[Job, _Port]] = deque()
        self._unannounced: dict[_Port, None] = {}
        self._free: deque[None] = deque()  # as long as there are free threads
        self._onlookers: list[threading.Lock] = []  # opened when there are none
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        # A thread rests at a lock of its own, so that the last to rest is woken first.
        self._resting: list[threading.Lock] = []
        self._is_stopping = False

    def start(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        port = self._ports.get(loop) or self._port_of(loop)
        port.put(job, self._hand_over)

    def _port_of(self, loop: asyncio.AbstractEventLoop) -> _Port:
        for known in [*self._ports]:  # a copy: other threads may bring other loops
            if known.is_closed():
                self._ports.pop(known, None)
        return self._ports.setdefault(loop, _Port(loop))

    def _hand_over(self, port: _Port) -> None:
        jobs = port.take()
        is_busy = bool(self._jobs or self._free)
        self._jobs.extend([(job, port) for job in jobs])
        gate = None
        if len(jobs) >= MANY_JOBS and not is_busy:
            gate = _closed_gate()
            self._onlookers.append(gate)
        try:
            if not self._free:
                self._call_thread()
        except RuntimeError as error:  # not even one thread can be started
            for job in jobs:
                job.ended(None, error)
        if gate is not None and self._free:
            port.wait(gate)

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
        gate = _closed_gate()
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
            self._release_onlookers()
            return True

    def _run_jobs(self) -> None:
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:
                self._announce()
                return
            self.run_job(*job)

    def run_job(self, job: Job, port: _Port) -> None:
        """What a thread does with one job. By this name others find out what it is doing."""
        if not job.is_wanted:
            return
        self._leave_to_others()
        value: Any = None
        error: BaseException | None = None
        try:
            value = job.context.run(job.run)
        except StopIteration as stop:
            error = StopIterationInWorker("a function raised StopIteration")
            error.__cause__ = stop
        except BaseException as raised:  # noqa: BLE001 - carried to whoever waits
            error = raised
        self._free.append(None)
        if port.arrives(job, value, error):
            self._unannounced[port] = None

    def _leave_to_others(self) -> None:
        """Be free no more; another thread is to see to what is left."""
        self._free.pop()
        if (self._jobs or self._unannounced) and not self._free:
            self._call_thread()
            if not self._free:
                self._announce()
        self._release_onlookers()

    def _release_onlookers(self) -> None:
        while self._onlookers and not self._free:
            with contextlib.suppress(IndexError):  # another thread was faster
                self._onlookers.pop().release()

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


def _closed_gate() -> threading.Lock:
    gate = threading.Lock()
    gate.acquire()
    return gate


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

# ruff: noqa: SLF001 - a loop works on the handles and lists that asyncio keeps
"""An event loop without threads, sockets or a real clock, whose scheduling follows a seed."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import inspect
import weakref
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from cocoindex.engine import loops

T = TypeVar("T")

__all__ = ["Deadlock", "Killed", "SeededLoop"]


MAX_TURNS = 100_000
"""Rounds of callbacks at one instant after which a program counts as stuck."""


class Killed(BaseException):
    """The simulated process was killed."""


class Deadlock(AssertionError):
    """The awaited result is still missing, and nothing is left that could bring it."""


class SeededLoop(asyncio.BaseEventLoop):
    """Runs what is ready in an order drawn from ``seed``; timers fire without waiting.

    Any interleaving that this loop produces is one that a real loop may produce, and the same
    seed produces it again. Give asynchronous doubles of slow systems ``asyncio.sleep`` to make
    them slow: virtual seconds cost nothing.
    """

    # BaseEventLoop keeps these; its own ``_run_once`` needs a selector, which there is none of.
    _ready: Any
    _scheduled: list[Any]
    _stopping: bool

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = Random(seed)  # noqa: S311 - repeatable on purpose
        self.is_dead = False
        self._now = 0.0
        self._turns = 0
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._doomed: set[asyncio.Task[Any]] = set()

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """As every loop does; remembers its tasks, for :meth:`tasks`."""
        task = super().create_task(coro, **options)
        self._tasks.add(task)
        return task

    def tasks(self) -> set[asyncio.Task[Any]]:
        """The tasks that have not ended (unlike ``asyncio.all_tasks``, without passing over those
        of every other loop there ever was).
        """
        return {task for task in self._tasks if not task.done()}

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run ``coro`` to its end.

        Raises:
            Killed: :meth:`kill` was called meanwhile.
            Deadlock: it can't end.
        """
        self._turns = 0
        task = self.create_task(coro)
        task.add_done_callback(lambda _: self.stop())
        self.run_forever()
        if self.is_dead:
            raise Killed
        result: T = task.result()
        return result

    def run_while(self, is_busy: Callable[[], bool]) -> None:
        """Run on while ``is_busy()`` and anything is left to do."""
        while is_busy() and (self._ready or self._scheduled):
            self.call_at(self.time() if self._ready else self._scheduled[0]._when, self.stop)
            self.run_forever()

    def kill(self) -> None:
        """Stop at once: nothing that was scheduled runs any more."""
        self._doomed = self.tasks()  # or they would vanish, with warnings
        self.is_dead = True
        self._stopping = True

    def bury(self) -> None:
        """Unwind what a killed (or abandoned) loop has left, so that no frame lives on."""
        self.is_dead = True
        buried: set[asyncio.Task[Any]] = set()
        while tasks := self.tasks() - buried:  # unwinding may start new ones
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                loops._kept.discard(task)  # its done callback will never run
                _unwind(task.get_coro())
            buried |= tasks
        self._doomed.clear()
        self._ready.clear()
        self._scheduled.clear()
        self.close()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Stay silent: whoever awaits hears of an error, and the dead do not complain."""

    # --- what BaseEventLoop asks of a loop -------------------------------------------------------

    def _run_once(self) -> None:
        self._fire_timers()
        self._turns += 1
        if self._turns > MAX_TURNS:
            raise Deadlock(f"{MAX_TURNS} turns without any time passing: something spins")
        if not self._ready and not self._stopping:
            if not self._scheduled:
                raise Deadlock("nothing is ready and no timer is set")
            self._turns = 0
            self._now = max(self._now, self._scheduled[0]._when)
            self._fire_timers()
        batch = list(self._ready)
        self._ready.clear()
        if len(batch) > 1:
            self.random.shuffle(batch)
        for handle in batch:
            if self.is_dead:
                return
            if not handle._cancelled:
                handle._run()

    def _fire_timers(self) -> None:
        while self._scheduled and (
            self._scheduled[0]._cancelled or self._scheduled[0]._when <= self._now
        ):
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._ready.append(timer)

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is nobody to wake."""


def _unwind(coro: Any) -> None:
    if inspect.getcoroutinestate(coro) == inspect.CORO_CREATED:  # closing it would warn
        with contextlib.suppress(BaseException):
            coro.throw(Killed())
        return
    # A ``finally`` that awaits refuses to be closed; each try gets one such block further.
    for _ in range(20):
        with contextlib.suppress(BaseException):
            coro.close()
            return

"""Tasks that run components, one after the other.

A task costs as much as a small component, so components share tasks. A *lane* is a task that runs
whatever waits for one, in turn. While a body waits for something its lane waits with it, and
others go on with the rest: as long as anything waits, one more lane at least is about to start.
To a body, its lane is a task of its own, with a context of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from cocoindex.engine.run import Run

R = TypeVar("R")
T = TypeVar("T")

ENOUGH = 64
"""Works that wait for a lane before whoever adds more lets the lanes begin; also works that a lane
does before others on the loop get their turn."""

Work = Callable[[T, Context], Coroutine[Any, Any, None]]
"""Makes what is to be run for something, given the context in which that will be."""


class Lanes:
    """The lanes of one run."""

    __slots__ = ("_called", "_run", "_waiting", "_wanted")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting: deque[tuple[Context, Work[Any], Any]] = deque()
        self._called: set[asyncio.Task[Any]] = set()
        """Lanes that are about to start."""
        self._wanted = 1
        """How many of these there should be: twice as many whenever one has found work, since
        the others seem to wait with what they do."""

    def put(self, work: Work[T], subject: T, context: Context | None = None) -> None:
        """Do ``work`` for ``subject`` soon, in ``context``, or else a copy of the current one."""
        self._waiting.append((copy_context() if context is None else context, work, subject))
        self._call()

    def _call(self) -> None:
        while len(self._called) < min(self._wanted, len(self._waiting)):
            lane = self._run.start_task(self._lane())
            self._called.add(lane)
            lane.add_done_callback(self._has_ended)

    def _has_ended(self, lane: asyncio.Task[Any]) -> None:
        if lane in self._called:  # cancelled before it began
            self._called.discard(lane)
            self._call()

    async def _lane(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._run.begin_task(task)
        self._called.discard(task)
        self._wanted = min(self._wanted * 2, ENOUGH) if self._waiting else 1
        try:
            while self._waiting and not task.cancelling():  # a cancellation is for one work only
                await self._do_some(task)
                if self._waiting:
                    await asyncio.sleep(0)
        finally:
            self._run.end_task(task)
            if not task.get_loop().is_closed():  # else this is its burial
                self._call()

    async def _do_some(self, task: asyncio.Task[Any]) -> None:
        waiting = self._waiting
        for _ in range(ENOUGH):
            if not waiting or task.cancelling():
                return
            context, work, subject = waiting.popleft()
            self._call()
            await within(context, work(subject, context))


@coroutine
def within(context: Context, coro: Coroutine[Any, Any, R]) -> Generator[Any, Any, R]:
    """Run ``coro`` as a part of the current task, but in ``context``."""
    step: Callable[..., Any] = coro.send
    argument: Any = None
    while True:
        try:
            awaited = context.run(step, argument)
        except StopIteration as ended:
            result: R = ended.value
            return result
        try:
            step, argument = coro.send, (yield awaited)
        except GeneratorExit:
            context.run(coro.close)
            raise
        except BaseException as error:  # noqa: BLE001 - thrown in where it belongs
            step, argument = coro.throw, error

"""Components with synchronous bodies: while a thread runs one, no task waits for it."""

from __future__ import annotations

import asyncio
import inspect
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from cocoindex.engine.component_memo import MISS, ComponentMemo
from cocoindex.engine.ending import note_failure
from cocoindex.engine.faults import AFTER_BODY, BEFORE_BODY, MEMO_DROPPED, reach
from cocoindex.engine.lifecycle import conclude, make_submit
from cocoindex.engine.scope import enter, leave
from cocoindex.engine.stats import STARTS
from cocoindex.engine.workers import worker_pool

if TYPE_CHECKING:
    from cocoindex.engine.ending import Ready, Then
    from cocoindex.engine.execution import Execution


def needs_no_task(execution: Execution) -> bool:
    """Whether :class:`ThreadedBody` can build it: it is synchronous, and has no memo to ask."""
    function, memo = execution.function, execution.memo
    if function.is_async and not function.runs_on_thread:
        return False
    return not function.memo or (memo is not None and memo.found is MISS)


class ThreadedBody:
    """Does what :func:`~cocoindex.engine.lifecycle.build` does, for a body on a thread.

    A job of the worker pool. What has to wait after the body, as it hardly ever does, gets a lane.
    """

    __slots__ = ("_execution", "_is_awaitable", "_then", "context", "is_wanted")

    def __init__(self, execution: Execution, context: Context, then: Then) -> None:
        self._execution = execution
        self._is_awaitable = False
        """Whether the body's value comes from a lambda or plain wrapper around an async function.
        """
        self._then = then
        self.context = context
        self.is_wanted = True

    def start(self) -> None:
        """Hand the body to a thread."""
        execution = self._execution
        run = execution.run
        run.threaded.add(self)
        execution.stats.count(execution.name, STARTS)
        try:
            run.check_not_cancelled()
            if execution.function.memo or execution.was_memoized:
                self._drop_memo()
            reach(BEFORE_BODY, execution)
            worker_pool().start(self)
        except BaseException as error:  # noqa: BLE001 - handed on
            self.ended(None, error)

    def _drop_memo(self) -> None:
        execution = self._execution
        memo = execution.memo
        if memo is None:  # memoized no more
            memo = execution.memo = ComponentMemo(
                execution.run,
                execution.place,
                execution.function,
                execution.args,
                execution.kwargs,
            )
            memo.probe()
        memo.drop()
        reach(MEMO_DROPPED, execution)

    def run(self) -> Any:
        """The body, on a thread."""
        execution = self._execution
        function, args, kwargs = execution.function, execution.args, execution.kwargs
        token = enter(execution.scope)
        try:
            if not self.is_wanted:  # cancelled just now: the arguments may be gone
                return None
            value = function.invoke_here(args, kwargs)
            if value is not None and not function.is_async:
                # Here, where what it raises is the body's: looking at a proxy runs its code.
                self._is_awaitable = inspect.isawaitable(value)
            return value
        finally:
            leave(token)

    def cancel(self) -> None:
        """Leave the body behind, if it has begun, since its run is being cancelled."""
        self.context = self.context.copy()  # nobody else can enter the one that it is in
        self.ended(None, asyncio.CancelledError())

    def ended(self, value: Any, error: BaseException | None) -> None:
        """What follows the body."""
        if not self.is_wanted:
            return
        self.is_wanted = False
        execution = self._execution
        execution.run.threaded.discard(self)
        if self._has_to_wait(value):
            work = partial(ThreadedBody._end_patiently, value=value, error=error)
            execution.run.lanes.put(work, self, self.context)
            return
        execution.seal()
        if error is None:
            error = self._submit(value)
        if error is not None:
            self._fail(error)

    def _submit(self, value: Any) -> BaseException | None:
        """Bring the targets in step soon; what is wrong with that, if anything is."""
        execution = self._execution
        try:
            execution.check_mounts_awaited()
            reach(AFTER_BODY, execution)
            submit = self.context.run(make_submit, execution, value)
            submit.put_off(self._then, self.context)
        except BaseException as error:  # noqa: BLE001 - handed on
            return error
        return None

    def _has_to_wait(self, value: Any) -> bool:
        execution = self._execution
        return (
            execution.has_below
            or execution.declarations.has_containers
            or (execution.memo is not None and execution.memo.asks_states)
            or self._is_awaited(value)
        )

    def _is_awaited(self, value: Any) -> bool:
        return value is not None and self._is_awaitable  # without one, it was left behind

    async def _end_patiently(self, _: Context, value: Any, error: BaseException | None) -> None:
        try:
            ready = await self._finish(value, error)
        except BaseException as raised:  # noqa: BLE001 - handed on
            self._fail(raised)
        else:
            if ready is not None:
                self._then(self._execution, ready, None)

    async def _finish(self, value: Any, error: BaseException | None) -> Ready | None:
        execution = self._execution
        token = enter(execution.scope)
        try:
            if error is not None:
                raise error
            if self._is_awaited(value):
                value = await value
            execution.check_mounts_awaited()
        finally:
            leave(token)
            execution.seal()
            if execution.pending_children:
                await execution.children_finished()
        reach(AFTER_BODY, execution)
        return await conclude(execution, value, self._then)

    def _fail(self, error: BaseException) -> None:
        note_failure(self._execution, error, counted=True)
        self._then(self._execution, None, error)

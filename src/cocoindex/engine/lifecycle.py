"""The life of one build execution: probe, body, children, submit."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from cocoindex.core.deadline import check_cancellation
from cocoindex.engine import rows
from cocoindex.engine.component_memo import ComponentMemo, Probe
from cocoindex.engine.faults import FaultPoint, reach
from cocoindex.engine.run import Decided
from cocoindex.engine.scope import enter, leave
from cocoindex.engine.stats import Counter
from cocoindex.engine.submit import Submit
from cocoindex.engine.takeover import MustWait
from cocoindex.engine.workers import on_worker

if TYPE_CHECKING:
    from cocoindex.engine.execution import Execution
    from cocoindex.engine.run import Run
    from cocoindex.engine.stats import StatsGroup


class Ready(NamedTuple):
    """A component is ready: its return value, and what it depends on (if anybody asks)."""

    value: Any
    deps: rows.Dependencies | None


Then = Callable[[Ready | None, BaseException | None], None]
"""Hears how a component ended: ready, or what it failed with."""


async def build(execution: Execution, then: Then | None = None) -> Ready | None:
    """Run one build execution, or reuse its memo; raises what the component failed with.

    With ``then``, nobody waits here for more than the body, if that is possible: None is returned,
    and ``then`` called in the end.
    """
    stats, counted = execution.stats, False
    try:
        check_cancellation()
        memo = None
        if execution.function.memo or execution.was_memoized:
            memo = execution.memo = execution.memo or ComponentMemo(
                execution.run,
                execution.place,
                execution.function,
                execution.args,
                execution.kwargs,
            )
            if memo.found is not Probe.MISS and await _is_hit(execution, memo):
                note_hit(execution.run, stats, execution.name, execution.id)
                return Ready(memo.result(), memo.deps)
            memo.drop()
            reach(FaultPoint.MEMO_DROPPED, execution)
        stats.count(execution.name, Counter.STARTS)
        counted = True
        value = await _process(execution)
        row = None
        if memo is not None:
            if memo.asks_states:
                await memo.ask_states(execution)
            row = memo.encode(execution, value)
        memo = None
        execution.release_memo()
        submit = Submit(execution, row)
        if then is not None and submit.needs_no_task:
            execution.run.turn.put_off(_Submitting(execution, submit, then))
            return None
        await submit.apply()
        await submit.finish()
        return _ready(execution, value)
    except BaseException as error:  # raised again: an interrupt ends an execution like an error
        _note_failure(execution, error, counted=counted)
        raise


class _Submitting:
    """What :func:`build` does after the body, where nobody waits for it."""

    __slots__ = ("_execution", "_submit", "_then")

    def __init__(self, execution: Execution, submit: Submit, then: Then) -> None:
        self._execution = execution
        self._submit = submit
        self._then = then

    def rows_to_read(self) -> Sequence[bytes]:
        return self._submit.rows_to_read()

    def __call__(self, taken: AbstractSet[bytes] | None) -> None:
        run = self._execution.run
        try:
            run.check_not_cancelled()
            applying = self._submit.begin(taken)
        except MustWait:
            run.lanes.put(self._submit_patiently)
        except BaseException as error:  # noqa: BLE001 - handed on
            self._applied(error)
        else:
            if applying is None:
                self._applied(None)
            else:
                applying.start(self._applied)

    async def _submit_patiently(self, _: object) -> None:
        try:
            await self._submit.apply()
        except BaseException as error:  # noqa: BLE001 - handed on
            self._applied(error)
        else:
            self._applied(None)

    def _applied(self, error: BaseException | None) -> None:
        ready: Ready | None = None
        if error is None:
            try:
                self._submit.conclude()
                ready = _ready(self._execution, None)
            except BaseException as raised:  # noqa: BLE001 - handed on
                error = raised
        if error is not None:
            _note_failure(self._execution, error, counted=True)
        self._then(ready, error)


def _ready(execution: Execution, value: Any) -> Ready:
    return Ready(value, execution.dependencies() if execution.collects_deps else None)


def _note_failure(execution: Execution, error: BaseException, *, counted: bool) -> None:
    stats = execution.stats
    if isinstance(error, asyncio.CancelledError):
        if counted:
            stats.finish_cancelled(execution.name)
        return
    if not counted:
        stats.count(execution.name, Counter.STARTS)
    stats.count(execution.name, Counter.ERRORS)
    if isinstance(error, Exception):
        execution.run.note_failure(str(execution), execution.name, error)


async def _is_hit(execution: Execution, memo: ComponentMemo) -> bool:
    token = enter(execution.scope)
    try:
        found = memo.found or memo.probe()
        if found is Probe.ASK:
            found = await memo.ask()
    finally:
        leave(token)
    return found is Probe.HIT and memo.is_readable()


def note_hit(run: Run, stats: StatsGroup, name: str, component_id: int) -> None:
    """Count a reused component."""
    stats.count_reused(name)
    run.mark_decided(component_id, Decided.REUSED)


async def _process(execution: Execution) -> Any:
    """Run the body, then wait for everything it mounted, whether it succeeded or not."""
    reach(FaultPoint.BEFORE_BODY, execution)
    function = execution.function
    token = enter(execution.scope)
    try:
        running = (
            function.invoke(execution.args, execution.kwargs)
            if function.is_async
            else on_worker(partial(function.invoke, execution.args, execution.kwargs))
        )
        value = await running
        if not function.is_async and inspect.isawaitable(value):
            value = await value  # a lambda or plain wrapper around an async function
        check_cancellation()
        execution.check_mounts_awaited()
    finally:
        leave(token)
        execution.is_sealed = True
        execution.frame.has_ended = True
        if execution.pending_children:
            await execution.children_finished()
    reach(FaultPoint.AFTER_BODY, execution)
    return value

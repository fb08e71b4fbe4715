"""The life of one build execution: probe, body, children, submit."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextvars import Context
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
        return await conclude(execution, value, then)
    except BaseException as error:  # raised again: an interrupt ends an execution like an error
        note_failure(execution, error, counted=counted)
        raise


async def conclude(execution: Execution, value: Any, then: Then | None) -> Ready | None:
    """What follows the body, for :func:`build`."""
    if execution.memo is not None and execution.memo.asks_states:
        await execution.memo.ask_states(execution)
    submit = make_submit(execution, value)
    if then is not None and submit.needs_no_task:
        submit_soon(execution, submit, then)
        return None
    await submit.apply()
    await submit.finish()
    return _ready(execution, value)


def make_submit(execution: Execution, value: Any) -> Submit:
    """What brings targets in step, and writes the memo of a body that has returned ``value``."""
    row = None if execution.memo is None else execution.memo.encode(execution, value)
    execution.release_memo()
    return Submit(execution, row)


def submit_soon(
    execution: Execution, submit: Submit, then: Then, context: Context | None = None
) -> None:
    """Submit what needs no task at the end of this turn, in ``context`` or a copy of ours."""
    execution.run.turn.put_off(partial(_submit, execution, submit, then), context)


def _submit(execution: Execution, submit: Submit, then: Then) -> None:
    """What :func:`build` does after the body, where nobody waits for it."""
    applied = partial(_applied, execution, submit, then)
    try:
        execution.run.check_not_cancelled()
        applying = submit.begin()
    except MustWait:
        execution.run.lanes.put(lambda _: _submit_patiently(submit, applied))
    except BaseException as error:  # noqa: BLE001 - handed on
        applied(error)
    else:
        if applying is None:
            applied(None)
        else:
            applying.start(applied)


async def _submit_patiently(
    submit: Submit, applied: Callable[[BaseException | None], None]
) -> None:
    try:
        await submit.apply()
    except BaseException as error:  # noqa: BLE001 - handed on
        applied(error)
    else:
        applied(None)


def _applied(execution: Execution, submit: Submit, then: Then, error: BaseException | None) -> None:
    ready: Ready | None = None
    if error is None:
        try:
            submit.conclude()
            ready = _ready(execution, None)
        except BaseException as raised:  # noqa: BLE001 - handed on
            error = raised
    if error is not None:
        note_failure(execution, error, counted=True)
    then(ready, error)


def _ready(execution: Execution, value: Any) -> Ready:
    return Ready(value, execution.dependencies() if execution.collects_deps else None)


def note_failure(execution: Execution, error: BaseException, *, counted: bool) -> None:
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
        execution.seal()
        if execution.pending_children:
            await execution.children_finished()
    reach(FaultPoint.AFTER_BODY, execution)
    return value

"""The life of one build execution: probe, body, children, submit."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from cocoindex.core.deadline import check_cancellation
from cocoindex.engine import rows
from cocoindex.engine.component_memo import ComponentMemo, Probe
from cocoindex.engine.faults import FaultPoint, reach
from cocoindex.engine.run import Decided
from cocoindex.engine.scope import enter, leave
from cocoindex.engine.stats import Counter
from cocoindex.engine.submit import submit
from cocoindex.engine.workers import on_worker

if TYPE_CHECKING:
    from cocoindex.engine.execution import Execution
    from cocoindex.engine.run import Run
    from cocoindex.engine.stats import StatsGroup


class Ready(NamedTuple):
    """A component is ready: its return value, and what it depends on (if anybody asks)."""

    value: Any
    deps: rows.Dependencies | None


async def build(execution: Execution) -> Ready:
    """Run one build execution, or reuse its memo; raises what the component failed with."""
    stats, counted = execution.stats, False
    try:
        check_cancellation()
        memo = None
        if execution.function.memo or execution.peek_entry().is_memoized:
            memo = execution.memo = execution.memo or ComponentMemo(
                execution.run,
                execution.place,
                execution.function,
                execution.args,
                execution.kwargs,
            )
            if await _is_hit(execution, memo):
                note_hit(execution.run, stats, execution.name, execution.id)
                return Ready(memo.result(), memo.deps)
            memo.drop()
            reach(FaultPoint.MEMO_DROPPED, execution)
        stats.count(execution.name, Counter.STARTS)
        counted = True
        value = await _process(execution)
        row = None if memo is None else await memo.encode(execution, value)
        memo = None
        execution.release_memo()
        await submit(execution, row)
        deps = execution.dependencies() if execution.collects_deps else None
        return Ready(value, deps)
    except asyncio.CancelledError:
        if counted:
            stats.finish_cancelled(execution.name)
        raise
    except BaseException as error:  # raised again: an interrupt ends an execution like an error
        if not counted:
            stats.count(execution.name, Counter.STARTS)
        stats.count(execution.name, Counter.ERRORS)
        if isinstance(error, Exception):
            execution.run.note_failure(str(execution), execution.name, error)
        raise


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

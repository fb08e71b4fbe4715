"""The life of one build execution: probe, body, children, submit."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from cocoindex.core.deadline import check_cancellation
from cocoindex.engine.component_memo import ASK, HIT, MISS, ComponentMemo
from cocoindex.engine.ending import Ready, Then, note_failure
from cocoindex.engine.faults import AFTER_BODY, BEFORE_BODY, MEMO_DROPPED, reach
from cocoindex.engine.run import REUSED
from cocoindex.engine.scope import enter, leave
from cocoindex.engine.stats import STARTS
from cocoindex.engine.submit import Submit
from cocoindex.engine.workers import on_worker

if TYPE_CHECKING:
    from cocoindex.engine.execution import Execution
    from cocoindex.engine.run import Run
    from cocoindex.engine.stats import StatsGroup


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
            if memo.found is not MISS and await _is_hit(execution, memo):
                note_hit(execution.run, stats, execution.name, execution.id)
                return Ready(memo.result(), memo.deps)
            memo.drop()
            reach(MEMO_DROPPED, execution)
        stats.count(execution.name, STARTS)
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
        submit.put_off(then)
        return None
    await submit.apply()
    await submit.finish()
    return Ready.of(execution, value)


def make_submit(execution: Execution, value: Any) -> Submit:
    """What brings targets in step, and writes the memo of a body that has returned ``value``."""
    row = None if execution.memo is None else execution.memo.encode(execution, value)
    execution.release_memo()
    return Submit(execution, row)


async def _is_hit(execution: Execution, memo: ComponentMemo) -> bool:
    token = enter(execution.scope)
    try:
        found = memo.found or memo.probe()
        if found is ASK:
            found = await memo.ask()
    finally:
        leave(token)
    return found is HIT and memo.is_readable()


def note_hit(run: Run, stats: StatsGroup, name: str, component_id: int) -> None:
    """Count a reused component."""
    stats.count_reused(name)
    run.mark_decided(component_id, REUSED)


async def _process(execution: Execution) -> Any:
    """Run the body, then wait for everything it mounted, whether it succeeded or not."""
    reach(BEFORE_BODY, execution)
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
    reach(AFTER_BODY, execution)
    return value

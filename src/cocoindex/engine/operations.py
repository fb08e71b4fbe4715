"""Updates, previews and drops of an app, on the environment's loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cocoindex.core import logic
from cocoindex.core.deadline import deadline_scope, without_deadline
from cocoindex.engine import rows
from cocoindex.engine.app_state import AppState
from cocoindex.engine.dropping import delete_everything
from cocoindex.engine.exception_handlers import HandlerChain
from cocoindex.engine.execution import Execution
from cocoindex.engine.function import function_of
from cocoindex.engine.leftovers import clear_leftovers, report_leftovers
from cocoindex.engine.lifecycle import build
from cocoindex.engine.rows import Node, NodeKind
from cocoindex.engine.run import Run, RunOptions
from cocoindex.engine.stock import is_being_dropped, take_stock
from cocoindex.engine.tree import Place
from cocoindex.errors import AlreadyRunningError, DeletionsWithheldError, StoreError

if TYPE_CHECKING:
    from cocoindex.engine.app import App
    from cocoindex.engine.environment import Environment


_logger = logging.getLogger("cocoindex.engine")

LEASE_POLL = 0.1
"""Seconds between two attempts to get a lease that another process holds."""


def new_run(environment: Environment, app: App[Any, Any], options: RunOptions) -> Run:
    """A run of ``app`` that has not begun."""
    handler = environment.exception_handler
    return Run(
        environment.app_state(app),
        options,
        env_name=environment.name,
        context_provider=environment.context_provider,
        sinks=environment.sinks,
        handlers=None if handler is None else HandlerChain(handler, None),
    )


async def update(
    environment: Environment, app: App[Any, Any], run: Run, deadline: float | None
) -> Any:
    """Run the app's main function as the root component; returns its result, or the planned
    actions of a preview.
    """
    state = environment.app_state(app)
    async with _exclusive(environment, state, run, app.lease_wait):
        logic.new_run()
        with deadline_scope(deadline):
            value = await _cancellable(run, _build_all(app, run))
        run.report_cancelled()
        run.stats.set_ready()
        if run.is_preview:
            return run.planned_actions
        await state.section.flushed()
    if run.withheld:
        raise DeletionsWithheldError(run.withheld, value)
    return value


async def _build_all(app: App[Any, Any], run: Run) -> Any:
    if is_being_dropped(run):
        await take_stock(run, in_doubt=True)
    value = await _build_root(app, run)
    if await clear_leftovers(run):
        run.begin_second_pass()
        value = await _build_root(app, run)
        await clear_leftovers(run)
    report_leftovers(run)
    return value


async def _build_root(app: App[Any, Any], run: Run) -> Any:
    root = Execution(
        run,
        None,
        (),
        _root_place(run.app),
        function_of(app.main_fn),
        app.args,
        app.kwargs,
        mount_kind="mount",
        handlers=run.handlers,
        stats=run.stats,
    )
    await run.limiter.acquire()
    root.has_permit = True
    try:
        ready = await build(root)
        assert ready is not None
        return ready.value
    finally:
        root.release_permit()
        root.dispose()


def _root_place(state: AppState) -> Place:
    key = rows.existence_key(rows.ROOT_PARENT_ID, b"")
    raw = state.section.get(key)
    stored = None if raw is None else rows.decode_node(raw)
    if stored is not None and stored.kind == NodeKind.COMPONENT:
        return Place(stored, rows.ROOT_PARENT_ID, b"", False)
    node = Node(NodeKind.COMPONENT, rows.ROOT_ID, stored is not None and stored.has_children)
    batch: list[tuple[bytes, bytes | None]] = [(key, node.encode())]
    if stored is not None:  # what a failed drop has left behind
        batch.append((rows.tombstone_key(rows.ROOT_PARENT_ID, rows.ROOT_ID), None))
    state.section.write(batch)
    return Place(node, rows.ROOT_PARENT_ID, b"", stored is None)


async def drop(environment: Environment, app: App[Any, Any], run: Run) -> None:
    """Delete everything the app tracks, then its section of the store.

    Raises:
        Exception: the first failure; what could not be deleted stays tracked.
    """
    state = environment.app_state(app)
    for other in environment.live_runs():
        if other is not run and other.app.name == state.name:
            other.cancel(asyncio.CancelledError(f"app {app.name!r} is being dropped"))
    async with _exclusive(environment, state, run, app.lease_wait):
        with without_deadline():
            await _cancellable(run, delete_everything(run))
        run.stats.set_ready()
        if run.delete_error is not None:
            await state.section.flushed()
            raise run.delete_error
        state.section.clear()
        await state.section.flushed()
        state.forget()


async def _cancellable(run: Run, coro: Any) -> Any:
    """Await ``coro`` as a task of the run; a cancelled run ends with what cancelled it."""
    task = run.spawn(_shielding_loop(run, coro))
    try:
        await asyncio.wait((task,))  # else a cancellation would go to this task alone
        return task.result()
    except asyncio.CancelledError:
        if run.cancelled_by is None:
            run.cancel(asyncio.CancelledError())
        await run.ended()
        coro.close()  # it may never have begun
        if not task.cancelled():
            task.exception()  # nobody waits for it any more
        raise run.cancelled_by if run.cancelled_by is not None else asyncio.CancelledError from None


async def _shielding_loop(run: Run, coro: Any) -> Any:
    """Keep KeyboardInterrupt and SystemExit from user code away from the event loop."""
    try:
        return await coro
    except (KeyboardInterrupt, SystemExit) as error:
        run.cancel(error)
        raise asyncio.CancelledError from error


@contextlib.asynccontextmanager
async def _exclusive(
    environment: Environment, state: AppState, run: Run, lease_wait: timedelta | None
) -> AsyncIterator[None]:
    """The app's run lease (among processes) and root lock (within this one)."""
    environment.run_started(run)
    try:
        async with contextlib.AsyncExitStack() as exits:
            if not run.is_preview:
                await _enter_lease(exits, state, lease_wait)
            await exits.enter_async_context(state.root_lock)
            if run.cancelled_by is not None:
                raise run.cancelled_by
            if run.is_preview:
                yield
                return
            state.section.reset_failure()
            state.refresh()
            try:
                yield
            finally:
                # Before the lease goes: what comes later belongs to the next holder.
                await _let_sinks_finish(environment, run)
                await _flush_rest(state)
    finally:
        environment.run_ended(run)
        run.stats.terminate()


async def _let_sinks_finish(environment: Environment, run: Run) -> None:
    """What a sink still does for a run that was cancelled comes before what others do next."""
    if run.cancelled_by is not None:
        await environment.sinks.let_finish()


async def _flush_rest(state: AppState) -> None:
    try:
        await state.section.flushed()
    except StoreError as error:  # raised already, or the run is failing for another reason
        _logger.error("the last state of app %r was lost: %s", state.name, error)  # noqa: TRY400


async def _enter_lease(
    exits: contextlib.AsyncExitStack, state: AppState, wait: timedelta | None
) -> None:
    deadline = time.monotonic() + (0.0 if wait is None else wait.total_seconds())
    while True:
        try:
            exits.enter_context(state.section.acquire_lease())
            return
        except AlreadyRunningError:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(LEASE_POLL)

"""Running mounted components: permits, bookkeeping at the parent, failures."""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from cocoindex.core.deadline import check_cancellation, has_deadline, without_deadline
from cocoindex.engine.component_memo import HIT, ComponentMemo
from cocoindex.engine.ending import Ready
from cocoindex.engine.exception_handlers import route_in_run
from cocoindex.engine.lifecycle import build, note_hit
from cocoindex.engine.scope import ComponentContext, enter, leave
from cocoindex.engine.stats import ERRORS, STARTS
from cocoindex.engine.threaded import ThreadedBody, needs_no_task
from cocoindex.errors import UsageError

if TYPE_CHECKING:
    from cocoindex.engine.execution import Execution
    from cocoindex.engine.run import Run


class ComponentMountHandle:
    """Stands for one or many mounted components."""

    __slots__ = ("_error", "_idle", "_pending")

    def __init__(self) -> None:
        self._pending = 0
        self._error: BaseException | None = None
        self._idle: asyncio.Future[None] | None = None

    async def ready(self) -> None:
        """Return when everything mounted is ready; may be awaited many times.

        Raises:
            BaseException: what every exception handler passed on, if there are handlers and
                all of them raised.
        """
        check_cancellation()
        while self._pending:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)
        check_cancellation()
        if self._error is not None:
            raise self._error

    def started(self) -> None:
        self._pending += 1

    def finished(self, error: BaseException | None = None) -> None:
        self._pending -= 1
        if self._error is None:
            self._error = error
        if self._pending == 0 and self._idle is not None:
            if not self._idle.done():
                self._idle.set_result(None)
            self._idle = None


# --- what the parent keeps of a child, from its mount to its end ------------------------------


def _begin(child: Execution, parent: Execution) -> None:
    """Count the child in at its parent, which gives its own permit back: so nested mounts always
    progress.
    """
    child.run.check_not_cancelled()
    parent.child_started()
    child.stats.member_started()
    if parent.has_permit:
        parent.release_permit()


async def _get_permit(child: Execution) -> None:
    try:
        await child.run.limiter.acquire()
    except BaseException:  # raised again: cancelled while it waited, it must not stay counted
        _end(child, None)  # claimed, but never run
        raise
    child.has_permit = True


def _end(child: Execution, ready: Ready | None) -> None:
    """Count the child out; without ``ready`` it has failed."""
    parent = _parent(child)
    if child.has_permit:
        child.release_permit()
    deps = ready.deps if ready is not None and parent.collects_deps else None
    child.stats.member_finished()
    parent.child_ended(child, deps, failed=ready is None or child.subtree_failed)
    child.dispose()


def _parent(child: Execution) -> Execution:
    assert child.parent is not None
    return child.parent


# --- in the background ---------------------------------------------------------------------------


async def start_background(child: Execution, handle: ComponentMountHandle) -> None:
    """Start a component in the background."""
    if not start_now(child, handle):
        await start_when_permitted(child, handle)


def start_now(child: Execution, handle: ComponentMountHandle) -> bool:
    """Start a component in the background; if that would take it over the limit,
    :func:`start_when_permitted` has to follow.
    """
    _begin(child, _parent(child))
    if not child.run.limiter.try_acquire():
        return False
    child.has_permit = True
    _start(child, handle)
    return True


async def start_when_permitted(child: Execution, handle: ComponentMountHandle) -> None:
    await _get_permit(child)
    _start(child, handle)


def _start(child: Execution, handle: ComponentMountHandle) -> None:
    child.handle = handle
    handle.started()
    if not needs_no_task(child):
        child.run.lanes.put(_run_background, child)
        return
    context = copy_context()
    if has_deadline():
        context.run(without_deadline().__enter__)
    if child.handlers is not None:
        child.context = context
    ThreadedBody(child, context, _background_ended).start()


def reuse_now(scope: ComponentContext, memo: ComponentMemo) -> bool:
    """Reuse a child's memo, without an execution, if no state function has to be awaited.

    ``scope``: where the state functions run; its execution is the parent's.
    """
    parent = scope.execution
    run = parent.run
    run.check_not_cancelled()
    token = enter(scope)
    try:
        found = memo.probe()
    except Exception:  # noqa: BLE001 - found again, and reported, by the child's own execution
        return False
    finally:
        leave(token)
        memo.asked_context = scope.frame.take_context()
    if found is not HIT or not memo.is_readable():
        return False
    note_hit(run, scope.stats, memo.function.name, memo.component_id)
    if parent.collects_deps:
        parent.frame.receive_child(memo.deps)
    return True


async def _run_background(child: Execution, context: Context) -> None:
    if child.handlers is not None:
        child.context = context
    try:
        child.run.check_not_cancelled()
        if has_deadline():
            with without_deadline():
                ready = await build(child, _background_ended)
        else:
            ready = await build(child, _background_ended)
    except BaseException as error:  # noqa: BLE001 - told to whom it concerns
        await _fail(child, error)
        return
    if ready is not None:  # else the rest of it needs no task
        _succeed(child, ready)


def _background_ended(child: Execution, ready: Ready | None, error: BaseException | None) -> None:
    if ready is not None:
        _succeed(child, ready)
    elif error is None or _is_being_cancelled(child.run):
        _handle(child).finished()
        _end(child, None)
    else:  # on a lane, since exception handlers may wait
        context = child.context
        if context is None:  # the present one is that of a sink, or of nobody
            context = child.run.context.copy()
        child.run.lanes.put(lambda child, _: _fail(child, error), child, context)


def _handle(child: Execution) -> ComponentMountHandle:
    assert child.handle is not None
    return child.handle


def _succeed(child: Execution, ready: Ready) -> None:
    _handle(child).finished()
    _end(child, ready)


async def _fail(child: Execution, error: BaseException) -> None:
    unhandled: BaseException | None = None
    try:
        unhandled = await _report(child, error)
    finally:
        _handle(child).finished(unhandled)
        _end(child, None)


async def _report(child: Execution, error: BaseException) -> BaseException | None:
    """Hand a failure to the exception handlers; what none of them has swallowed."""
    run = child.run
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        run.cancel(error)
        return None
    if isinstance(error, asyncio.CancelledError):
        # Never delivered to handlers, unless nobody has cancelled anything.
        if _is_being_cancelled(run):
            if run.cancelled_by is None:  # it was for this task: by a loop that ends, or by itself
                run.cancelled_alone.append((str(child), child.name))
            return None
        error = _stray_cancellation(child, error)
    elif not isinstance(error, Exception):
        raise error
    child.release_permit()
    return await route_in_run(run, child.handlers, error, child.exception_context())


def _is_being_cancelled(run: Run) -> bool:
    task = asyncio.current_task()
    return run.cancelled_by is not None or (task is not None and task.cancelling() > 0)


def _stray_cancellation(child: Execution, cause: BaseException) -> UsageError:
    error = UsageError(f"{child.name} at {child} raised CancelledError, but nothing was cancelled")
    error.__cause__ = cause
    child.stats.count(child.name, STARTS)
    child.stats.count(child.name, ERRORS)
    child.run.note_failure(str(child), child.name, error)
    return error


# --- in the foreground ---------------------------------------------------------------------------


async def run_foreground(child: Execution) -> Any:
    """Run a component within the caller's task and return its value."""
    _begin(child, _parent(child))
    await _get_permit(child)
    ready: Ready | None = None
    try:
        ready = await build(child)
        assert ready is not None
    except (KeyboardInterrupt, SystemExit) as error:  # must not reach the event loop
        child.run.cancel(error)
        raise asyncio.CancelledError from error
    finally:
        _end(child, ready)
    check_cancellation()
    return ready.value

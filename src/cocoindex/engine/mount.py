"""Mounting components: the functions a body calls to run other functions below itself."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from cocoindex.core.deadline import check_cancellation, has_deadline, without_deadline
from cocoindex.core.introspect import subpath_name
from cocoindex.core.keys import StableKey, Symbol, normalize_key
from cocoindex.core.listing import Unlisted
from cocoindex.engine.component_memo import ComponentMemo, Probe
from cocoindex.engine.declare import declare_target_state_with_child
from cocoindex.engine.exception_handlers import ExceptionContext, MountKind, route
from cocoindex.engine.execution import Execution
from cocoindex.engine.faults import FaultPoint, reach
from cocoindex.engine.function import Function, PlainFunction, function_of
from cocoindex.engine.lifecycle import Ready, build, note_hit
from cocoindex.engine.scope import (
    ComponentContext,
    ComponentSubpath,
    current_or_none,
    current_scope,
    enter,
    leave,
)
from cocoindex.errors import UsageError, UsageTypeError, UsageValueError

if TYPE_CHECKING:
    from cocoindex.engine.providers import TargetStateProvider
    from cocoindex.engine.targets import TargetState

P = ParamSpec("P")
R = TypeVar("R")

MOUNT_TARGET = Symbol("cocoindex/mount_target")

HITS_PER_YIELD = 256
"""Reused children that ``mount_each`` passes before it lets the event loop breathe."""


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


def _noticed(
    mount_function: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Let the calling component notice a mount that is never awaited.

    Nothing would be mounted then, and what was mounted before would be deleted.
    """

    async def awaited(execution: Execution, coro: Coroutine[Any, Any, R], call: object) -> R:
        execution.unawaited_mounts.pop(call, None)
        return await coro

    @functools.wraps(mount_function)
    def mount_call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        coro = mount_function(*args, **kwargs)
        scope = current_or_none()
        if scope is None:
            return coro
        call = object()
        scope.execution.unawaited_mounts[call] = mount_function.__name__
        return awaited(scope.execution, coro, call)

    return mount_call


# --- public functions ----------------------------------------------------------------------------


@_noticed
async def mount(*arguments: Any, **kwargs: Any) -> ComponentMountHandle:
    """``mount([subpath,] processor_fn, *args, **kwargs)``: run a component in the background.

    Returns once it is scheduled. Its failure goes to the exception handlers, not to the caller.

    Raises:
        ValueError: the path is taken.
        RuntimeError: outside a component.
    """
    subpath, fn, args = _parse(arguments, "mount")
    scope = _mounting_scope()
    check_cancellation()
    child = _child(scope, _keys(subpath, fn), function_of(fn), args, kwargs, "mount")
    handle = ComponentMountHandle()
    await _start_background(child, handle)
    return handle


@_noticed
async def use_mount(*arguments: Any, **kwargs: Any) -> Any:
    """``use_mount([subpath,] processor_fn, *args, **kwargs)``: run a component, return its value.

    Returns once the component is ready and committed; raises what it failed with.
    """
    subpath, fn, args = _parse(arguments, "use_mount")
    if _is_live_component_class(fn):
        raise UsageTypeError(f"{fn.__name__} is a live component and cannot be used with use_mount")
    scope = _mounting_scope()
    check_cancellation()
    child = _child(scope, _keys(subpath, fn), function_of(fn), args, kwargs, "mount")
    return await _run_foreground(child)


@_noticed
async def mount_target(target_state: TargetState[Any]) -> TargetStateProvider[Any, Any, Any]:
    """Mount a container target state in a component of its own; returns its child provider."""
    scope = _mounting_scope()
    check_cancellation()
    chain = (*target_state.provider.keys, normalize_key(target_state.key))
    child = _child(scope, (MOUNT_TARGET, chain), _DECLARE_TARGET, (target_state,), {}, "mount")
    provider: TargetStateProvider[Any, Any, Any] = await _run_foreground(child)
    reach(FaultPoint.CONTAINER_READY, scope.execution)
    provider.require_info()
    return provider


@_noticed
async def mount_each(*arguments: Any, **kwargs: Any) -> ComponentMountHandle:
    """``mount_each([subpath,] fn, items, *args, **kwargs)``: one component per item.

    ``items`` is an iterable or async iterable of ``(key, value)``; ``fn(value, *args,
    **kwargs)`` runs in the background at the call's path plus ``key``.

    Raises:
        ValueError: two items have the same key.
    """
    subpath, fn, rest = _parse(arguments, "mount_each")
    if not rest:
        raise UsageTypeError("mount_each needs the items after the function")
    each = _Each(_mounting_scope(), _keys(subpath, fn), function_of(fn), tuple(rest[1:]), kwargs)
    check_cancellation()
    if hasattr(rest[0], "__aiter__"):
        async for item in rest[0]:
            await each.start(item)
    else:
        for item in _iterable(rest[0]):
            await each.start(item)
    return each.handle


class _Each:
    """One ``mount_each`` call in progress."""

    def __init__(
        self,
        scope: ComponentContext,
        keys: tuple[StableKey, ...],
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.handle = ComponentMountHandle()
        self._scope = scope
        self._keys = keys
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._call = scope.execution.tree.each_call(scope.subpath + keys)
        self._hits = 0

    async def start(self, item: Any) -> None:
        """Mount one item's component, as soon as the limit allows."""
        if isinstance(item, Unlisted):
            self._call.unlisted.append(item.match)
            return
        key, value = item
        key = key if type(key) is str else normalize_key(key)
        child = _child(
            self._scope,
            (*self._keys, key),
            self._function,
            (value, *self._args),
            self._kwargs,
            "mount_each",
        )
        if await _start_background(child, self.handle):
            self._hits += 1
            if self._hits % HITS_PER_YIELD == 0:
                await asyncio.sleep(0)


async def map(fn: Any, items: Any, *args: Any, **kwargs: Any) -> list[Any]:
    """Call async ``fn(item, *args, **kwargs)`` for all items at once, within this component.

    Returns the results in input order. Waits for everything that was started; then raises the
    first failure in input order.
    """
    check_cancellation()
    tasks: list[asyncio.Task[Any]] = []
    failure: BaseException | None = None
    try:
        async for item in _iterate(items):
            check_cancellation()
            tasks.append(asyncio.ensure_future(_map_item(fn, item, args, kwargs)))
    except Exception as error:  # noqa: BLE001 - raised below, once what was started has ended
        failure = error
    results = await _finish_all(tasks)
    if failure is not None:
        raise failure
    for task in tasks:
        if (failed := task.exception()) is not None:
            raise failed
    check_cancellation()
    return results


async def _map_item(fn: Any, item: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    check_cancellation()
    try:
        result = await fn(item, *args, **kwargs)
    except (KeyboardInterrupt, SystemExit) as error:  # must not reach the event loop
        scope = current_or_none()
        if scope is None:
            raise
        scope.execution.run.cancel(error)
        raise asyncio.CancelledError from error
    check_cancellation()
    return result


async def _finish_all(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    try:
        return list(await asyncio.gather(*tasks, return_exceptions=True))
    except asyncio.CancelledError:
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


# --- parts ---------------------------------------------------------------------------------------


def _parse(
    arguments: tuple[Any, ...], name: str
) -> tuple[ComponentSubpath | None, Any, tuple[Any, ...]]:
    subpath: ComponentSubpath | None = None
    if arguments and isinstance(arguments[0], ComponentSubpath):
        subpath, arguments = arguments[0], arguments[1:]
    if not arguments:
        raise UsageTypeError(f"{name}() needs a processor function")
    return subpath, arguments[0], tuple(arguments[1:])


def _keys(subpath: ComponentSubpath | None, fn: Any) -> tuple[StableKey, ...]:
    if subpath is not None:
        return subpath.parts
    name = subpath_name(fn)
    if name is None:
        raise UsageTypeError(
            f"{fn!r} has no name to derive a path from: mounting it requires a ComponentSubpath "
            "(coco.component_subpath(...)) as first argument"
        )
    return (Symbol(name),)


def _mounting_scope() -> ComponentContext:
    scope = current_scope()
    if scope.frame.in_memo_call:
        raise UsageValueError(
            f"a function with memo=True mounted child components (at {scope}): only a memoized "
            "function that is itself mounted may do so"
        )
    if scope.execution.is_sealed:
        raise UsageError(f"component {scope} has finished; it can't mount anything any more")
    return scope


def _is_live_component_class(fn: Any) -> bool:
    return isinstance(fn, type) and all(
        callable(getattr(fn, method, None)) for method in ("process", "process_live")
    )


async def _iterate(items: Any) -> Any:
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in _iterable(items):
            yield item


def _iterable(items: Any) -> Iterable[Any]:
    if not isinstance(items, Iterable):
        raise UsageTypeError(f"items must be iterable, not {type(items).__name__}")
    return items


def _child(
    scope: ComponentContext,
    keys: tuple[StableKey, ...],
    function: Function,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    mount_kind: MountKind,
) -> Execution:
    parent = scope.execution
    if not keys:
        raise UsageValueError(f"Path is empty: a component below {scope} needs a subpath")
    relative = scope.subpath + keys
    place = parent.tree.claim(relative, parent.__str__)
    return Execution(
        parent.run,
        parent,
        parent.path + relative,
        place,
        function,
        args,
        kwargs,
        mount_kind=mount_kind,
        handlers=scope.handlers,
        stats=scope.stats,
    )


async def _start_background(child: Execution, handle: ComponentMountHandle) -> bool:
    """Start a component in the background; true if its memo was reused on the spot."""
    parent = child.parent
    assert parent is not None
    parent.release_permit()
    limiter = child.run.app.limiter
    if not limiter.try_acquire():
        await limiter.acquire()
    child.has_permit = True
    if child.function.memo and _reuse_now(child, parent):
        limiter.release()
        return True
    handle.started()
    parent.child_started()
    child.stats.member_started()
    child.task = child.run.start_task(_run_background(child, handle))
    return False


def _reuse_now(child: Execution, parent: Execution) -> bool:
    """Reuse the child's memo without a task, if no state function has to be awaited."""
    memo = ComponentMemo(child)
    token = enter(child.scope)
    try:
        found = memo.probe()
    except Exception:  # noqa: BLE001 - found again, and reported, by the child's own execution
        return False
    finally:
        leave(token)
    if found is not Probe.HIT:
        child.memo = memo
        return False
    deps = note_hit(child, memo)
    parent.absorb_child(deps if parent.collects_deps else None, failed=False, kept_any=False)
    child.dispose()
    return True


async def _run_background(child: Execution, handle: ComponentMountHandle) -> None:
    parent, run = child.parent, child.run
    assert parent is not None
    ready: Ready | None = None
    unhandled: BaseException | None = None
    try:
        if has_deadline():
            with without_deadline():
                ready = await build(child)
        else:
            ready = await build(child)
    except asyncio.CancelledError:
        pass  # never delivered to handlers
    except (KeyboardInterrupt, SystemExit) as error:
        run.cancel(error)
    except Exception as error:  # noqa: BLE001 - the component's failure, for its handlers
        child.release_permit()
        unhandled = await _report(child, error)
    finally:
        child.release_permit()
        deps = ready.deps if ready is not None and parent.collects_deps else None
        failed = ready is None or child.subtree_failed
        parent.absorb_child(deps, failed=failed, kept_any=child.kept_any)
        handle.finished(unhandled)
        child.stats.member_finished()
        parent.child_finished()
        if child.task is not None:
            run.end_task(child.task)
        child.dispose()


async def _report(child: Execution, error: BaseException) -> BaseException | None:
    context = ExceptionContext(
        env_name=child.run.env_name,
        stable_path=str(child),
        processor_name=child.name,
        mount_kind=child.mount_kind,
        parent_stable_path=None if child.parent is None else str(child.parent),
    )
    try:
        return await route(child.handlers, error, context)
    except asyncio.CancelledError:
        return None
    except (KeyboardInterrupt, SystemExit) as interrupt:
        child.run.cancel(interrupt)
        return None


async def _run_foreground(child: Execution) -> Any:
    """Run a component within the caller's task and return its value."""
    parent = child.parent
    assert parent is not None
    parent.release_permit()
    limiter = child.run.app.limiter
    if not limiter.try_acquire():
        await limiter.acquire()
    child.has_permit = True
    parent.child_started()
    child.stats.member_started()
    ready: Ready | None = None
    try:
        ready = await build(child)
    finally:
        child.release_permit()
        deps = ready.deps if ready is not None and parent.collects_deps else None
        failed = ready is None or child.subtree_failed
        parent.absorb_child(deps, failed=failed, kept_any=child.kept_any)
        child.stats.member_finished()
        parent.child_finished()
        child.dispose()
    check_cancellation()
    return ready.value


_DECLARE_TARGET = PlainFunction(declare_target_state_with_child, "mount_target")

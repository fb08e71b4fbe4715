"""Mounting components: the functions a body calls to run other functions below itself."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from cocoindex.core.deadline import check_cancellation
from cocoindex.core.introspect import subpath_name
from cocoindex.core.keys import StableKey, Symbol, normalize_and_encode, normalize_key
from cocoindex.core.listing import Unlisted
from cocoindex.engine.children import (
    ComponentMountHandle,
    reuse_now,
    run_foreground,
    start_background,
    start_now,
    start_when_permitted,
)
from cocoindex.engine.component_memo import MISS, ComponentMemo
from cocoindex.engine.declare import declare_target_state_with_child
from cocoindex.engine.execution import Execution, UsersCall
from cocoindex.engine.faults import FaultPoint, reach
from cocoindex.engine.function import Function, PlainFunction, function_of
from cocoindex.engine.mapping import hint, iterable
from cocoindex.engine.scope import (
    ComponentContext,
    ComponentSubpath,
    current_or_none,
    current_scope,
)
from cocoindex.engine.siblings import Siblings
from cocoindex.errors import DuplicateError, UsageError, UsageTypeError, UsageValueError

if TYPE_CHECKING:
    from cocoindex.engine.exception_context import MountKind
    from cocoindex.engine.function import CallKey
    from cocoindex.engine.providers import TargetState, TargetStateProvider
    from cocoindex.engine.tree import Level, Place

P = ParamSpec("P")
R = TypeVar("R")

MOUNT_TARGET = Symbol("cocoindex/mount_target")

MOUNTS_PER_BREATH = 64
"""Children that a component mounts before it lets them begin, and the event loop breathe."""


def _noticed(
    mount_function: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Let the calling component notice a mount that is never awaited.

    Nothing would be mounted then, and what was mounted before would be deleted.
    """

    async def awaited(
        execution: Execution, call: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> R:
        try:
            return await mount_function(*args, **kwargs)
        finally:
            execution.unawaited_mounts.pop(call, None)

    awaited.__qualname__ = mount_function.__name__  # Python warns by this name

    @functools.wraps(mount_function)
    def mount_call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        scope = current_or_none()
        if scope is None:
            return mount_function(*args, **kwargs)
        call = object()
        scope.execution.unawaited_mounts[call] = _users_call(mount_function.__name__)
        return awaited(scope.execution, call, args, kwargs)

    return mount_call


def _users_call(name: str) -> UsersCall:
    """The call in the user's program that led here, maybe through a connector of ours."""
    frame = sys._getframe(2)
    while frame.f_globals.get("__name__", "")[:10] == "cocoindex." and frame.f_back is not None:
        name, frame = frame.f_code.co_name, frame.f_back
    return name, frame.f_code, frame.f_lineno


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
    _check_awaited(args, kwargs)
    scope = _mounting_scope()
    check_cancellation()
    subkeys, function, handle = _keys(subpath, fn), function_of(fn), ComponentMountHandle()
    keys, place = _claim(scope, subkeys)
    memo = None
    if function.memo:
        memo = ComponentMemo(scope.execution.run, place, function, args, kwargs)
    if memo is None or not _is_reused(scope.for_probing(), keys, memo):
        await start_background(_child(scope, keys, place, function, args, kwargs, memo), handle)
    if _wants_breath(scope.execution):
        await _breathe(scope.execution)
    return handle


@_noticed
async def use_mount(*arguments: Any, **kwargs: Any) -> Any:
    """``use_mount([subpath,] processor_fn, *args, **kwargs)``: run a component, return its value.

    Returns once the component is ready and committed; raises what it failed with.
    """
    subpath, fn, args = _parse(arguments, "use_mount")
    _check_awaited(args, kwargs)
    if _is_live_component_class(fn):
        raise UsageTypeError(f"{fn.__name__} is a live component and cannot be used with use_mount")
    scope = _mounting_scope()
    check_cancellation()
    subkeys, function = _keys(subpath, fn), function_of(fn)
    keys, place = _claim(scope, subkeys)
    return await run_foreground(_child(scope, keys, place, function, args, kwargs))


@_noticed
async def mount_target(target_state: TargetState[Any]) -> TargetStateProvider[Any, Any, Any]:
    """Mount a container target state in a component of its own; returns its child provider."""
    scope = _mounting_scope()
    check_cancellation()
    chain = (*target_state.provider.keys, normalize_key(target_state.key))
    try:
        keys, place = _claim(scope, (MOUNT_TARGET, chain))
    except DuplicateError:
        raise DuplicateError(
            f"target state {target_state} is mounted twice at {scope}: mount it once, and pass on "
            "what that returns"
        ) from None
    child = _child(scope, keys, place, _DECLARE_TARGET, (target_state,), {})
    provider: TargetStateProvider[Any, Any, Any] = await run_foreground(child)
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
    args = tuple(rest[1:])
    _check_awaited(args, kwargs)
    each = _Each(_mounting_scope(), _keys(subpath, fn), function_of(fn), args, kwargs)
    each.hint = hint(rest[0])
    check_cancellation()
    try:
        if hasattr(rest[0], "__aiter__"):
            async for item in rest[0]:
                if each.mount(item):
                    await each.go_on()
        else:
            for item in _pairs(rest[0]):
                if each.mount(item):
                    await each.go_on()
    except BaseException:  # raised again: also for whoever catches it, this is no whole listing
        each.keep_the_rest()
        raise
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
        self.hint = ""
        """What to say about items that are no pairs."""
        self._scope = scope
        self._probing = scope.for_probing()
        self._keys = scope.subpath + keys
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._call = scope.execution.tree.each_call(self._keys)
        self._level: Level | None = None
        self._safe_length = scope.execution.run.limits.key_bytes or sys.maxsize
        """Up to which an encoded key is not too long."""
        self._siblings = Siblings(self._probing, function)
        self._next: Execution | None = None
        """A component that waits for a permit."""

    def keep_the_rest(self) -> None:
        """Nothing that is not listed is known to be gone."""
        self._call.unlisted.append(lambda _key: True)

    def mount(self, item: Any) -> bool:
        """Mount one item's component; return whether to wait for :meth:`go_on` before the next."""
        if isinstance(item, Unlisted):
            self._call.unlisted.append(item.match)
            return False
        try:
            key, value = item
        except (TypeError, ValueError):
            raise UsageTypeError(
                f"mount_each() takes (key, value) pairs; got {type(item).__name__}{self.hint}"
            ) from None
        _check_running(self._scope)
        key, encoded = normalize_and_encode(key)
        level = self._level
        if level is None or len(encoded) > self._safe_length:
            level = self._level_for(key)
        return self._mount_at(level, encoded, (*self._keys, key), (value, *self._args))

    def _mount_at(
        self, level: Level, encoded: bytes, keys: tuple[StableKey, ...], args: tuple[Any, ...]
    ) -> bool:
        parent = self._scope.execution
        if not level.claim(encoded):
            raise parent.tree.taken(keys, parent.__str__)
        call_key = None
        if self._function.memo:
            call_key = self._siblings.call_key(keys, args, self._kwargs)
            if call_key is not None and self._siblings.reuse(level, encoded, call_key):
                return _wants_breath(parent)
        child = self._unless_reused(keys, parent.tree.place(level, encoded), args, call_key)
        if child is not None and not start_now(child, self.handle):
            self._next = child
            return True
        return _wants_breath(parent)

    def _level_for(self, key: StableKey) -> Level:
        """Where the components stand, if ``key`` is one that is allowed there."""
        parent = self._scope.execution
        if self._level is not None:
            parent.run.limits.check_path_key(key)
            return self._level
        parent.run.limits.check_path((*parent.path, *self._keys, key), len(self._keys) + 1)
        self._level = parent.tree.level(self._keys, parent.__str__)
        return self._level

    def _unless_reused(
        self,
        keys: tuple[StableKey, ...],
        place: Place,
        args: tuple[Any, ...],
        call_key: CallKey | None,
    ) -> Execution | None:
        """The component to start for one item; None if its memo was reused."""
        memo, function, kwargs = None, self._function, self._kwargs
        if function.memo:
            run = self._scope.execution.run
            memo = ComponentMemo(run, place, function, args, kwargs, call_key)
            if place.is_fresh and call_key is not None:
                memo.found = MISS
                memo.asked_context = self._probing.frame.take_context()
            elif _is_reused(self._probing, keys, memo):
                self._siblings.follow(memo)
                return None
        return _child(self._scope, keys, place, function, args, kwargs, memo, "mount_each")

    async def go_on(self) -> None:
        """Start what was mounted, once the limit allows it; or let the event loop breathe."""
        child, self._next = self._next, None
        if child is not None:
            await start_when_permitted(child, self.handle)
        else:
            await _breathe(self._scope.execution)


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


def _check_awaited(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise where the mistake is, instead of in the components: these would merely fail, and what
    the call that nobody awaits used to mount would be deleted.
    """
    for value in (*args, *kwargs.values()) if kwargs else args:
        if type(value) is CoroutineType:
            raise UsageTypeError(
                f"an argument is a coroutine of {value.__qualname__}(...): put 'await' before the "
                "call that made it"
            )


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
    _check_running(scope)
    return scope


def _check_running(scope: ComponentContext) -> None:
    if scope.execution.is_sealed:
        raise UsageError(f"component {scope} has finished; it can't mount anything any more")


def _wants_breath(execution: Execution) -> bool:
    """Count a mounted child; return whether to :func:`_breathe` now."""
    execution.mounted_children += 1
    return execution.mounted_children % MOUNTS_PER_BREATH == 0


async def _breathe(execution: Execution) -> None:
    """Let what was mounted begin, before there is much more of it, and the event loop go on."""
    await asyncio.sleep(0)
    if execution.run.has_much_pending():  # changed memo states are rows, too
        await execution.run.app.section.flushed()


def _is_live_component_class(fn: Any) -> bool:
    return isinstance(fn, type) and all(
        callable(getattr(fn, method, None)) for method in ("process", "process_live")
    )


def _pairs(items: Any) -> Iterable[Any]:
    if isinstance(items, Mapping):
        raise UsageTypeError("mount_each() takes (key, value) pairs: pass mapping.items()")
    return iterable(items)


def _claim(
    scope: ComponentContext, keys: tuple[StableKey, ...]
) -> tuple[tuple[StableKey, ...], Place]:
    """Claim the path ``keys`` below ``scope``; returns it as seen from the component, too."""
    parent = scope.execution
    if not keys:
        raise UsageValueError(f"Path is empty: a component below {scope} needs a subpath")
    relative = scope.subpath + keys
    parent.run.limits.check_path(parent.path + relative, len(relative))
    return relative, parent.tree.claim(relative, parent.__str__)


def _is_reused(probing: ComponentContext, keys: tuple[StableKey, ...], memo: ComponentMemo) -> bool:
    """Whether a child does not have to run, since its memo was reused."""
    probing.subpath = keys
    return reuse_now(probing, memo)


def _child(
    scope: ComponentContext,
    keys: tuple[StableKey, ...],
    place: Place,
    function: Function,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    memo: ComponentMemo | None = None,
    mount_kind: MountKind = "mount",
) -> Execution:
    parent = scope.execution
    return Execution(
        parent.run,
        parent,
        parent.path + keys,
        place,
        function,
        args,
        kwargs,
        mount_kind,
        scope.handlers,
        scope.stats,
        memo,
    )


_DECLARE_TARGET = PlainFunction(declare_target_state_with_child, "mount_target")

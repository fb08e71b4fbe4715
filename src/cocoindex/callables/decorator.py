"""``@coco.fn``: functions with memos, change tracking, batching and runners."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import (
    Any,
    Concatenate,
    Final,
    Literal,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from cocoindex.callables.call_key import MemoKey
from cocoindex.callables.decorated import AsyncFunction, Decorated, SyncFunction
from cocoindex.callables.function import DecoratedFunction, Options
from cocoindex.callables.runner import Runner
from cocoindex.engine.function import LogicTracking
from cocoindex.errors import UsageTypeError

__all__ = ["AsyncFunction", "SyncFunction", "fn"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
U = TypeVar("U")


class _Options(TypedDict, total=False):
    memo: bool
    memo_key: MemoKey | None
    version: int | None
    logic_tracking: LogicTracking
    deps: object
    max_batch_size: int | None
    runner: Runner | None


class _WithOptions:
    """``@coco.fn(...)`` before it has met its function."""

    def __init__(self, options: Options, *, to_async: bool = False) -> None:
        self._options = options
        self._to_async = to_async

    def __call__(self, fn: Any, /) -> Any:
        return _decorate(fn, self._options, to_async=self._to_async)


class _Decorator(Protocol):
    """``@coco.fn(...)``."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncFunction[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncFunction[P, R]: ...


class _AsyncDecorator(Protocol):
    """``@coco.fn.as_async(...)`` with options."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncFunction[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> AsyncFunction[P, R]: ...


class _BatchDecorator(Protocol):
    """``batching=True``: the body takes and returns lists, the caller one item."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[list[T], P], Coroutine[Any, Any, list[U]]], /
    ) -> AsyncFunction[Concatenate[T, P], U]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[S, list[T], P], Coroutine[Any, Any, list[U]]], /
    ) -> AsyncFunction[Concatenate[S, T, P], U]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[list[T], P], list[U]], /
    ) -> AsyncFunction[Concatenate[T, P], U]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[S, list[T], P], list[U]], /
    ) -> AsyncFunction[Concatenate[S, T, P], U]: ...


def _decorate(fn: Any, options: Options, *, to_async: bool) -> Any:
    binding = type(fn) if isinstance(fn, (staticmethod, classmethod)) else None
    raw = fn.__func__ if binding is not None else fn
    if isinstance(raw, Decorated):
        raw = raw.__wrapped__
    if not callable(raw) or isinstance(raw, type):
        raise UsageTypeError(f"@coco.fn decorates functions, not {raw!r}")
    function = DecoratedFunction(raw, options, to_async=to_async)
    return (AsyncFunction if function.is_async else SyncFunction)(function, binding)


class _Fn:
    """Decorates a function so that the engine can memoize it and track its changes.

    ``@coco.fn`` or ``@coco.fn(...)`` keeps a sync function sync and an async one async;
    ``@coco.fn.as_async`` makes both async, running sync bodies in worker threads.
    """

    __name__ = "fn"

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncFunction[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncFunction[P, R]: ...
    @overload
    def __call__(
        self, *, batching: Literal[True], **options: Unpack[_Options]
    ) -> _BatchDecorator: ...
    @overload
    def __call__(
        self, *, batching: Literal[False] = False, **options: Unpack[_Options]
    ) -> _Decorator: ...
    def __call__(
        self,
        fn: Any = None,
        *,
        memo: bool = False,
        memo_key: MemoKey | None = None,
        version: int | None = None,
        logic_tracking: LogicTracking = "full",
        deps: object = None,
        batching: bool = False,
        max_batch_size: int | None = None,
        runner: Runner | None = None,
    ) -> Any:
        """Decorate ``fn``, or return a decorator.

        Args:
            fn: the function; a staticmethod or classmethod of one works too.
            memo: reuse results of calls whose arguments, code and dependencies are unchanged.
            memo_key: per parameter, ``None`` to leave it out of the memo key, or a function that
                returns what to key it by.
            version: stands for the body: bump it to say that the function means something new.
            logic_tracking: whose code changes invalidate memos: ``"full"`` its own and that of
                decorated functions it calls, ``"deep"`` also that of undecorated ones of its
                package, ``"self"`` its own only, ``None`` nobody's.
            deps: an extra value that counts like the code.
            batching: the body takes a list of items and returns as many results.
            max_batch_size: most items of one batch.
            runner: where the body runs.

        Raises:
            ValueError: contradicting options, or an unknown parameter in ``memo_key``.
            TypeError: something of the wrong type.
        """
        options = Options(
            memo, memo_key, version, logic_tracking, deps, batching, max_batch_size, runner
        )
        return _WithOptions(options) if fn is None else _decorate(fn, options, to_async=False)

    @overload
    def as_async(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncFunction[P, R]: ...
    @overload
    def as_async(self, fn: Callable[P, R], /) -> AsyncFunction[P, R]: ...
    @overload
    def as_async(
        self, *, batching: Literal[True], **options: Unpack[_Options]
    ) -> _BatchDecorator: ...
    @overload
    def as_async(
        self, *, batching: Literal[False] = False, **options: Unpack[_Options]
    ) -> _AsyncDecorator: ...
    def as_async(
        self,
        fn: Any = None,
        *,
        memo: bool = False,
        memo_key: MemoKey | None = None,
        version: int | None = None,
        logic_tracking: LogicTracking = "full",
        deps: object = None,
        batching: bool = False,
        max_batch_size: int | None = None,
        runner: Runner | None = None,
    ) -> Any:
        """Like ``@coco.fn``, but the result is always async; see there for the options."""
        options = Options(
            memo, memo_key, version, logic_tracking, deps, batching, max_batch_size, runner
        )
        if fn is None:
            return _WithOptions(options, to_async=True)
        return _decorate(fn, options, to_async=True)


fn: Final = _Fn()
"""The decorator of everything the engine should know about; see its call."""

"""A decorated function as the engine runs it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Hashable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from cocoindex.callables.batching import BatchBody, BatchQueue
from cocoindex.callables.call_key import CallKeys, MemoKey
from cocoindex.callables.identity import Identity, Logic, full_name
from cocoindex.callables.results import ResultCodec
from cocoindex.callables.runner import RawBody, Runner, raw_bodies
from cocoindex.core.introspect import display_name, is_async_callable
from cocoindex.engine.function import (
    CallKey,
    LogicTracking,
)
from cocoindex.engine.workers import on_worker
from cocoindex.errors import UsageTypeError, UsageValueError

__all__ = ["BoundFunction", "DecoratedFunction", "Options"]


class Options(msgspec.Struct, frozen=True):
    """What ``@coco.fn(...)`` was given; see there."""

    memo: bool = False
    memo_key: MemoKey | None = None
    version: int | None = None
    logic_tracking: LogicTracking = "full"
    deps: object = None
    batching: bool = False
    max_batch_size: int | None = None
    runner: Runner | None = None


class DecoratedFunction:
    """Implements ``engine.function.Function`` for one decorated function.

    Attributes:
        raw: the user's function.
        is_identity: set by the package's own functions that allocate ids.
    """

    __slots__ = (
        "_is_direct",
        "_logic",
        "_queue",
        "call_key",
        "decode_result",
        "encode_result",
        "full_name",
        "identity",
        "is_async",
        "is_identity",
        "logic",
        "logic_tracking",
        "memo",
        "name",
        "options",
        "plain_call_key",
        "raw",
        "raw_is_async",
    )

    def __init__(self, raw: Callable[..., Any], options: Options, *, to_async: bool) -> None:
        """``to_async``: whether a sync ``raw`` becomes async too. Checks the options."""
        self.raw = raw
        self.options = options
        self.name: str = display_name(raw)
        self.full_name = full_name(raw)
        self.raw_is_async = is_async_callable(raw)
        self.is_async: bool = to_async or self.raw_is_async
        self._is_direct: bool = (
            not (options.batching or options.runner) and self.raw_is_async == self.is_async
        )
        self.is_identity: bool = False
        self.memo: bool = options.memo
        self.logic_tracking: LogicTracking = options.logic_tracking
        _check_options(options)
        if not self.is_async:
            _check_sync(options)
        self.identity = Identity(raw)
        self._queue = BatchQueue() if options.batching and options.runner is None else None
        self._logic: Logic | None = None
        if options.logic_tracking is not None:
            self._logic = Logic(
                self.identity, options.logic_tracking, options.version, options.deps
            )
        # Bound once: they are asked for on every call.
        self.logic: Callable[[], bytes | None] = (
            _untracked if self._logic is None else self._logic.logic
        )
        home = None if self._logic is None else self._logic.home
        keys = CallKeys(raw, self.identity, self.full_name, options.memo_key, home)
        self.call_key, self.plain_call_key = keys.key, keys.plain_key
        codec = ResultCodec(raw, self.full_name, batched=options.batching)
        self.encode_result, self.decode_result = codec.encode, codec.decode

    def as_async(self) -> DecoratedFunction:
        """The same function, awaited: it shares identity, logic and memos with this one."""
        twin = DecoratedFunction.__new__(DecoratedFunction)
        for name in DecoratedFunction.__slots__:
            setattr(twin, name, getattr(self, name))
        twin.is_async = True
        twin._is_direct = self._is_direct and self.raw_is_async
        return twin

    def logic_parts(self) -> list[tuple[str, bytes]]:
        """What :meth:`logic` is made of, labelled, with 8-byte digests; empty if not tracked."""
        return [] if self._logic is None else self._logic.parts()

    # Running the body

    @property
    def runs_apart(self) -> bool:
        """Whether the body runs in a batch, which belongs to no single caller."""
        return self.options.batching

    @property
    def runs_on_thread(self) -> bool:
        """Whether a synchronous body only becomes async by running on a thread."""
        return (
            self.is_async
            and not self.raw_is_async
            and self._is_simple()
            and (not raw_bodies.active)
        )

    def invoke_here(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the bare body on this thread."""
        return self.raw(*args, **kwargs)

    def invoke(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the body; a method that is called on its class gets its instance in ``args``."""
        if self._is_direct:
            return self.raw(*args, **kwargs)
        if self._is_simple():
            return self._invoke_here(args, kwargs)
        if args and self._is_method():
            return self.invoke_on(args[0], args[1:], kwargs)
        return self.invoke_on(None, args, kwargs)

    def invoke_on(self, instance: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the body of a method (of a function, if ``instance`` is None)."""
        if self._is_simple():
            return self._invoke_here(_with(instance, args), kwargs)
        if self.options.batching:
            return self._invoke_batched(instance, args, kwargs)
        return self._invoke_in_runner(instance, args, kwargs)

    def _is_simple(self) -> bool:
        if raw_bodies.active:
            return not self.options.batching
        return not self.options.batching and self.options.runner is None

    def _is_method(self) -> bool:
        code = getattr(self.raw, "__code__", None)
        first = code.co_varnames[:1] if code is not None and code.co_argcount else ()
        return first in (("self",), ("cls",)) and "." in self.name

    def _invoke_here(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self.raw_is_async or not self.is_async:
            return self.raw(*args, **kwargs)
        if raw_bodies.active:
            return _immediate(self.raw, args, kwargs)
        # Not the default executor of the loop: what bodies and state functions send there must
        # not queue behind bodies that wait for them.
        return on_worker(partial(self.raw, *args, **kwargs))

    def _invoke_in_runner(
        self, instance: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Awaitable[Any]:
        runner = self.options.runner
        assert runner is not None
        body = RawBody(self.raw, instance)
        if self.raw_is_async:
            return runner.run(body, *args, **kwargs)
        return runner.run_sync_fn(body, *args, **kwargs)

    def _invoke_batched(
        self, instance: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Awaitable[Any]:
        item, extra, extra_kwargs = self._split_item(args, kwargs)
        make_body = partial(self._batch_body, instance, extra, extra_kwargs)
        if raw_bodies.active:
            return _batch_of_one(make_body(), item)
        queue = self._queue
        if queue is None:
            assert self.options.runner is not None
            queue = self.options.runner.get_queue()
        key = (id(self.identity), id(instance), _group_key(extra, extra_kwargs))
        return queue.submit(key, item, make_body)

    def _batch_body(
        self, instance: object, extra: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> BatchBody:
        return BatchBody(
            self.full_name,
            self._batch_runner(instance, extra, kwargs),
            self.raw_is_async,
            self.options.max_batch_size,
        )

    def _split_item(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Any, tuple[Any, ...], Mapping[str, Any]]:
        if args:
            return args[0], args[1:], kwargs
        name = self._item_name()
        if name is None or name not in kwargs:
            raise UsageValueError(
                f"{self.full_name}() is batched: it takes one input item as its first argument"
            )
        rest = {key: value for key, value in kwargs.items() if key != name}
        return kwargs[name], (), {**rest, _ITEM: name}

    def _item_name(self) -> str | None:
        names = list(inspect.signature(self.raw).parameters)
        names = names[1:] if self._is_method() else names
        return names[0] if names else None

    def _batch_runner(
        self, instance: object, extra: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[[list[Any]], Awaitable[Any]]:
        named = dict(kwargs)
        name = named.pop(_ITEM, None)

        def run(items: list[Any]) -> Awaitable[Any]:
            keywords = named if name is None else {**named, name: items}
            positional = extra if name is not None else (items, *extra)
            if self.options.runner is not None and not raw_bodies.active:
                return self._invoke_in_runner(instance, positional, keywords)
            return self._await_here(_with(instance, positional), keywords)

        return run

    async def _await_here(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        result = self._invoke_here(args, kwargs)
        return await result


def _untracked() -> None:
    """The logic of a function whose code doesn't count."""


_ITEM: Final = "\0item"  # no keyword: under which name the batched argument was passed


def _with(instance: object, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return args if instance is None else (instance, *args)


async def _immediate(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    return fn(*args, **kwargs)


async def _batch_of_one(body: BatchBody, item: Any) -> Any:
    return (await body.run([item]))[0]


def _group_key(extra: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
    if not extra and not kwargs:
        return None
    return (
        tuple([_argument_key(value) for value in extra]),
        tuple([(name, _argument_key(kwargs[name])) for name in sorted(kwargs)]),
    )


def _argument_key(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:
        # Alive while its calls wait: the group's body holds it.
        return ("id", id(value))
    return (type(value), value)


def _check_options(options: Options) -> None:
    if options.logic_tracking not in ("full", "self", "deep", None):
        raise UsageValueError(
            f'logic_tracking must be "full", "self", "deep" or None, not {options.logic_tracking!r}'
        )
    if options.deps is not None and options.logic_tracking is None:
        raise UsageValueError(
            "deps= requires logic_tracking: with logic_tracking=None the function's logic is not "
            "tracked, so deps would be ignored"
        )
    size = options.max_batch_size
    if size is not None and size < 1:
        raise UsageValueError(f"max_batch_size must be at least 1, not {size!r}")
    if options.runner is not None and not isinstance(options.runner, Runner):
        raise UsageTypeError(f"runner must be a coco.Runner, not {type(options.runner).__name__}")


def _check_sync(options: Options) -> None:
    if options.batching or options.max_batch_size is not None or options.runner is not None:
        raise UsageValueError(
            "@coco.fn on a sync function does not support batching, max_batch_size or runner: "
            "they need an async interface. Use @coco.fn.as_async instead."
        )


class BoundFunction:
    """A decorated function with its first argument, as a method has."""

    __slots__ = ("function", "instance")

    def __init__(self, function: DecoratedFunction, instance: object) -> None:
        self.function = function
        self.instance = instance

    @property
    def name(self) -> str:
        return self.function.name

    @property
    def is_async(self) -> bool:
        return self.function.is_async

    @property
    def memo(self) -> bool:
        return self.function.memo

    @property
    def logic_tracking(self) -> LogicTracking:
        return self.function.logic_tracking

    @property
    def is_identity(self) -> bool:
        return self.function.is_identity

    def logic(self) -> bytes | None:
        return self.function.logic()

    def call_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey:
        return self.function.call_key((self.instance, *args), kwargs)

    def plain_call_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey | None:
        return self.function.plain_call_key((self.instance, *args), kwargs)

    @property
    def runs_apart(self) -> bool:
        return self.function.runs_apart

    @property
    def runs_on_thread(self) -> bool:
        return self.function.runs_on_thread

    def invoke(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self.function.invoke_on(self.instance, args, kwargs)

    def invoke_here(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self.function.invoke_here((self.instance, *args), kwargs)

    def encode_result(self, value: Any) -> bytes:
        return self.function.encode_result(value)

    def decode_result(self, payload: bytes) -> Any:
        return self.function.decode_result(payload)

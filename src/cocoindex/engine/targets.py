"""The types that a target connector is written with (§ handlers, outputs, sinks)."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple

from cocoindex.core.introspect import display_name
from cocoindex.engine.generics import (
    T1,
    T2,
    T3,
    T4,
    Generic1,
    Generic2,
    Generic4,
    allow_any_arity,
)
from cocoindex.errors import UsageError, UsageTypeError, UsageValueError

if TYPE_CHECKING:
    from cocoindex.core.sentinels import NonExistenceType
    from cocoindex.engine.context_values import ContextProvider

ChildInvalidation = Literal["destructive", "lossy"] | None


class TargetHandler(Generic4[T1, T2, T3, T4]):
    """Compares a desired target state with what may exist, and says what to do.

    An optional base class: any object with a callable ``reconcile`` is a handler. Its type
    arguments (``[Value, Record]``, ``[Key, Value, Record]``, ``[Key, Value, Record, Child]``)
    matter at run time only where ``reconcile`` is not annotated: records and NamedTuple keys
    are rebuilt from them.

    A handler implements::

        def reconcile(self, key, desired, prev_records, prev_may_be_missing, /)
            -> TargetReconcileOutput | None

    and optionally ``attachments() -> dict[str, handler]`` or ``attachment(att_type) ->
    handler | None``, ``async observe(context_provider, keys)``, and for containers whose
    children must be deleted one by one ``reconcile_children_on_delete`` (``True``, or a method
    ``(key, record) -> bool``). ``reconcile`` must not block; I/O belongs into the sink.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def reconcile(
            self,
            key: Any,
            desired: Any,
            prev_records: Collection[Any],
            prev_may_be_missing: bool,
            /,
        ) -> TargetReconcileOutput[Any, Any, Any] | None: ...


class TargetReconcileOutput(NamedTuple, Generic[T1, T2, T3]):
    """What ``reconcile`` returns when there is something to do.

    Attributes:
        action: any object; handed to the sink, never serialized.
        sink: applies the action.
        tracking_record: what to remember; ``NON_EXISTENCE``: nothing is tracked afterwards.
        child_invalidation: for containers: ``"destructive"`` if the action destroys all
            children, ``"lossy"`` if it may damage them.
    """

    action: T1
    sink: TargetActionSink[T1, Any]
    tracking_record: T2 | NonExistenceType
    child_invalidation: ChildInvalidation = None


allow_any_arity(TargetReconcileOutput)


class ChildTargetDef(NamedTuple, Generic[T1]):
    """Returned by a container's sink: the handler for the container's children."""

    handler: T1


allow_any_arity(ChildTargetDef)


class ChildSlot(Generic1[T1]):
    """Where a slot-form container sink puts the handler for one action's children."""

    __slots__ = ("_handler",)

    def __init__(self) -> None:
        self._handler: Any = None

    def fulfill(self, handler: Any) -> None:
        """Set the handler; exactly once, before the sink returns."""
        if self._handler is not None:
            raise UsageError("this child slot was fulfilled already")
        self._handler = handler

    @property
    def child(self) -> ChildTargetDef[Any] | None:
        return None if self._handler is None else ChildTargetDef(self._handler)


SinkFn = Callable[..., Any]
ChildHandlerFactory = Callable[["ContextProvider", Any], Any]


class TargetActionSink(Generic2[T1, T2]):
    """A function that applies batches of actions to an external system.

    Sinks built from equal functions are the same sink: their actions go out together.
    Build one with :meth:`from_fn` or :meth:`from_async_fn`.
    """

    __slots__ = ("child_handler", "fn", "is_async", "key", "last", "uses_slots")

    fn: SinkFn
    child_handler: ChildHandlerFactory | None
    is_async: bool
    key: object
    last: bool
    uses_slots: bool

    def __init__(self) -> None:
        raise UsageTypeError("use TargetActionSink.from_fn() or TargetActionSink.from_async_fn()")

    @staticmethod
    def from_fn(
        fn: SinkFn, *, child_handler: ChildHandlerFactory | None = None, last: bool = False
    ) -> TargetActionSink[Any, Any]:
        """A sink from a synchronous ``fn(context_provider, actions)``, run on a worker thread.

        Args:
            fn: returns ``None``, or for containers one ``ChildTargetDef | None`` per action.
            child_handler: ``(context_provider, action) -> handler``, free of side effects;
                builds the children's handler from the action alone, which makes previews
                possible. ``fn`` must then return ``None``.
            last: apply after all other sinks of the component (index builds).

        Raises:
            TypeError: ``fn`` or ``child_handler`` is a coroutine function.
        """
        if inspect.iscoroutinefunction(fn):
            raise UsageTypeError(f"{fn!r} is async: use TargetActionSink.from_async_fn")
        return _sink(fn, False, child_handler, last)

    @staticmethod
    def from_async_fn(
        fn: SinkFn, *, child_handler: ChildHandlerFactory | None = None, last: bool = False
    ) -> TargetActionSink[Any, Any]:
        """Like :meth:`from_fn` for an ``fn`` that returns an awaitable, run on the loop."""
        return _sink(fn, True, child_handler, last)

    @staticmethod
    def from_fn_with_children(fn: SinkFn) -> TargetActionSink[Any, Any]:
        """Deprecated: ``fn(context_provider, actions, child_slots)`` fulfils slots."""
        return _slot_sink(fn, is_async=False)

    @staticmethod
    def from_async_fn_with_children(fn: SinkFn) -> TargetActionSink[Any, Any]:
        """Deprecated: async form of :meth:`from_fn_with_children`."""
        return _slot_sink(fn, is_async=True)

    def __str__(self) -> str:
        return display_name(self.fn)  # not its repr: a bound method's shows its instance


def _slot_sink(fn: SinkFn, *, is_async: bool) -> TargetActionSink[Any, Any]:
    warnings.warn(
        "child slots are deprecated: return ChildTargetDef, or pass child_handler=",
        DeprecationWarning,
        stacklevel=3,
    )
    sink = _sink(fn, is_async, None, False)
    sink.uses_slots = True
    return sink


def _sink(
    fn: SinkFn, is_async: bool, child_handler: ChildHandlerFactory | None, last: bool
) -> TargetActionSink[Any, Any]:
    if not callable(fn):
        raise UsageTypeError(f"a sink needs a callable, not {type(fn).__name__}")
    if child_handler is not None and inspect.iscoroutinefunction(child_handler):
        raise UsageTypeError(f"child_handler must not be async: {child_handler!r}")
    sink: TargetActionSink[Any, Any] = object.__new__(TargetActionSink)
    sink.fn = fn
    sink.is_async = is_async
    sink.child_handler = child_handler
    sink.last = last
    sink.uses_slots = False
    sink.key = _SinkKey(fn, is_async, last)
    return sink


class _SinkKey:
    """Equal for sinks whose actions may go out in one call."""

    __slots__ = ("_fn", "_hash", "_rest")

    def __init__(self, fn: SinkFn, is_async: bool, last: bool) -> None:
        self._fn = fn
        self._rest = (is_async, last)
        try:
            self._hash = hash((fn, self._rest))
        except TypeError:  # an unhashable callable object: itself is its identity
            self._hash = hash((id(fn), self._rest))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _SinkKey) or self._rest != other._rest:
            return False
        return self._fn is other._fn or bool(self._fn == other._fn)


def invalid_invalidation(value: object) -> UsageValueError:
    return UsageValueError(
        f"child_invalidation must be None, 'destructive' or 'lossy', not {value!r}"
    )


def check_handler(handler: Any, what: str) -> None:
    """Raise unless ``handler`` has a callable ``reconcile``."""
    if not callable(getattr(handler, "reconcile", None)):
        raise UsageTypeError(
            f"{what}: a handler needs a callable reconcile(); {type(handler).__name__} has none"
        )


async def call_sink(
    sink: TargetActionSink[Any, Any],
    context_provider: ContextProvider,
    actions: list[Any],
    wants_child: Sequence[int],
    run_sync: Callable[[Callable[[], Any]], Awaitable[Any]],
) -> Sequence[ChildTargetDef[Any] | None] | None:
    """Call the sink's function once and return the children's handlers it hands out.

    ``wants_child`` are the positions of actions whose item has a pending child provider.
    """
    slots: Mapping[int, ChildSlot[Any]] | None = None
    arguments: tuple[Any, ...] = (context_provider, actions)
    if sink.uses_slots:
        slots = {position: ChildSlot() for position in wants_child}
        arguments = (context_provider, actions, slots)
    if sink.is_async:
        awaitable = sink.fn(*arguments)
        if not inspect.isawaitable(awaitable):
            raise UsageTypeError(
                f"sink {sink} was built with from_async_fn, but returned "
                f"{type(awaitable).__name__} instead of an awaitable"
            )
        returned = await awaitable
    else:
        returned = await run_sync(lambda: sink.fn(*arguments))
    if slots is not None:
        return [slots[i].child if i in slots else None for i in range(len(actions))]
    if sink.child_handler is not None:
        if returned is not None:
            raise UsageValueError(f"sink {sink} has a child_handler factory and must return None")
        return _planned_children(sink, context_provider, actions, wants_child)
    return None if returned is None else _checked_children(sink, returned)


def _checked_children(
    sink: TargetActionSink[Any, Any], returned: Any
) -> list[ChildTargetDef[Any] | None]:
    if not isinstance(returned, Sequence) or isinstance(returned, (str, bytes)):
        raise UsageTypeError(
            f"sink {sink} must return None or one ChildTargetDef or None for each action, "
            f"not {type(returned).__name__}"
        )
    for child in returned:
        if child is not None and not isinstance(child, ChildTargetDef):
            raise UsageTypeError(
                f"sink {sink} returned {type(child).__name__} where a ChildTargetDef or None "
                "is expected"
            )
    return list(returned)


def _planned_children(
    sink: TargetActionSink[Any, Any],
    context_provider: ContextProvider,
    actions: list[Any],
    wants_child: Sequence[int],
) -> list[ChildTargetDef[Any] | None] | None:
    if not wants_child:
        return None
    children: list[ChildTargetDef[Any] | None] = [None] * len(actions)
    for position in wants_child:
        children[position] = plan_child(sink, context_provider, actions[position])
    return children


def plan_child(
    sink: TargetActionSink[Any, Any], context_provider: ContextProvider, action: Any
) -> ChildTargetDef[Any] | None:
    """The children's handler, built from the action alone by the sink's factory."""
    if sink.child_handler is None:
        return None
    handler = sink.child_handler(context_provider, action)
    return None if handler is None else ChildTargetDef(handler)

"""What the engine needs to know about a function it runs.

``callables`` implements :class:`Function` for decorated functions, and for everything else a
user may mount: plain functions, lambdas, bound methods, partials.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable
from zlib import crc32

import msgspec

from cocoindex.core.introspect import display_name, is_async_callable
from cocoindex.core.memo_key import StateFn
from cocoindex.errors import InternalError, UsageTypeError

LogicTracking = Literal["full", "self", "deep"] | None


class CallKey(msgspec.Struct):  # one per call: nothing is made faster
    """The identity of one call of a memoized function."""

    fingerprint: bytes
    """16 bytes over function identity and arguments."""
    state_fns: Sequence[StateFn]
    labels: tuple[str, ...]
    """Readable labels of the parts, to answer *why did it run*."""
    written: bytes
    """What was fingerprinted: the digest of the function, then the arguments."""
    ends: Sequence[int]
    """Where in it each part ends."""

    def checksums(self) -> bytes:
        """A 4-byte checksum of each part, joined."""
        checksums = self.written[:4]
        start = self.ends[0]
        for end in self.ends[1:]:
            checksums += crc32(self.written[start:end]).to_bytes(4, "big")
            start = end
        return checksums


@runtime_checkable
class Function(Protocol):
    """A function as the engine runs it."""

    @property
    def name(self) -> str:
        """Qualified name, for display and statistics."""
        ...

    @property
    def is_async(self) -> bool:
        """Whether :meth:`invoke` returns an awaitable."""
        ...

    @property
    def memo(self) -> bool: ...

    @property
    def logic_tracking(self) -> LogicTracking: ...

    def logic(self) -> bytes | None:
        """Current logic fingerprint (16 bytes), or None if not tracked. Cheap to call."""
        ...

    def call_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey:
        """Fingerprint a call. Raises ``TypeError`` for values that can't be fingerprinted."""
        ...

    def plain_call_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey | None:
        """The same where no code of the user's has a say in it; None where it may have."""
        ...

    def invoke(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the body (through its batcher or runner, if any)."""
        ...

    @property
    def runs_apart(self) -> bool:
        """Whether the body runs in a context of its own, so that nothing in it depends on ours."""
        ...

    @property
    def runs_on_thread(self) -> bool:
        """Whether :meth:`invoke` awaits a synchronous body that runs on a thread."""
        ...

    def invoke_here(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run that body, or one that is not async, on the calling thread."""
        ...

    @property
    def is_identity(self) -> bool:
        """Whether the result is an allocated id, which a full reprocess must not change."""
        ...

    def encode_result(self, value: Any) -> bytes: ...

    def decode_result(self, payload: bytes) -> Any: ...


class PlainFunction:
    """An undecorated callable, mounted as a component's processor."""

    __slots__ = ("_fn", "is_async", "name")

    memo = False
    logic_tracking: LogicTracking = None
    is_identity = False
    runs_apart = runs_on_thread = False

    def __init__(self, fn: Callable[..., Any], name: str | None = None) -> None:
        self._fn = fn
        self.name = name if name is not None else display_name(fn)
        self.is_async = is_async_callable(fn)

    def logic(self) -> bytes | None:
        return None

    def call_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey:  # noqa: ARG002
        raise InternalError(f"{self.name} is not memoized")

    plain_call_key = call_key

    def invoke(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self._fn(*args, **kwargs)

    invoke_here = invoke

    def encode_result(self, value: Any) -> bytes:  # noqa: ARG002
        raise InternalError(f"{self.name} is not memoized")

    def decode_result(self, payload: bytes) -> Any:  # noqa: ARG002
        raise InternalError(f"{self.name} is not memoized")


def function_of(fn: Any) -> Function:
    """The engine's view of anything a user may pass as a processor function.

    Raises:
        TypeError: ``fn`` is not callable.
    """
    if isinstance(fn, types.MethodType) and hasattr(fn.__func__, "__coco_function__"):
        fn = fn.__func__.__get__(fn.__self__)  # @classmethod over @coco.fn, from 3.13 on
    decorated = getattr(fn, "__coco_function__", None)
    if decorated is not None:
        return decorated  # type: ignore[no-any-return]
    if not callable(fn):
        raise UsageTypeError(f"a processor function must be callable, not {type(fn).__name__}")
    return PlainFunction(fn)

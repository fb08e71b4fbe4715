"""Values that an environment provides to the functions that run in it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Generic, TypeVar, overload

from cocoindex.core.memo_key import StateFn, fingerprint_value
from cocoindex.core.sentinels import NON_EXISTENCE, MemoStateOutcome
from cocoindex.core.serde import serialize
from cocoindex.errors import MissingKeyError, UsageError, UsageTypeError, UsageValueError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_known_keys: dict[str, tuple[bool, str]] = {}


class ContextKey(Generic[T_co]):
    """Names a context value. One key per name and process.

    Args:
        key: the name; persisted in memos and target keys, so keep it stable.
        detect_change: whether functions that use the value recompute when it changes.

    Raises:
        ValueError: the name is taken by a key with another definition.
    """

    __slots__ = ("__weakref__", "_detect_change", "_key")

    def __init__(self, key: str, *, detect_change: bool = False) -> None:
        origin = _defining_module()
        known = _known_keys.get(key)
        # A reloaded module defines its keys again; two modules with one name are a mistake.
        if known is not None and (known != (detect_change, origin) or not _is_reload(origin)):
            raise UsageValueError(f"Context key {key!r} already used; choose another name")
        _known_keys[key] = (detect_change, origin)
        self._key = key
        self._detect_change = detect_change

    @property
    def key(self) -> str:
        return self._key

    @property
    def detect_change(self) -> bool:
        return self._detect_change

    def __coco_memo_key__(self) -> str:
        return self._key

    def __repr__(self) -> str:
        return f"ContextKey({self._key!r})"


def _defining_module() -> str:
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") in (__name__, "typing"):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")) if frame is not None else ""


def _is_reload(module: str) -> bool:
    """Whether ``module`` is being executed again by ``importlib.reload``."""
    import importlib
    import sys

    return module in getattr(importlib, "_RELOADING", {}) and module in sys.modules


class ProvidedValue:
    """A provided value with its fingerprint and the initial states of its memo-state functions."""

    __slots__ = ("fingerprint", "state_fns", "states", "value")

    def __init__(self, key: ContextKey[Any], value: Any) -> None:
        self.value = value
        self.fingerprint: bytes | None = None
        self.state_fns: tuple[StateFn, ...] = ()
        self.states: list[bytes] = []
        if key.detect_change:
            found: list[StateFn] = []
            digest = fingerprint_value((key.key, value), found)
            self.state_fns = tuple(found)
            self.fingerprint = digest
            self.states = [serialize(outcome.state) for outcome in _initial_states(found)]


def _initial_states(state_fns: list[StateFn]) -> list[MemoStateOutcome]:
    results = [state_fn.call(NON_EXISTENCE) for state_fn in state_fns]
    return [_run_now(result) if inspect.isawaitable(result) else result for result in results]


def _run_now(awaitable: Any) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_await(awaitable))
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    raise UsageError(
        "a change-detected context value has an async memo-state function: "
        "call provide() where no event loop is running"
    )


async def _await(awaitable: Any) -> Any:
    return await awaitable


class ContextProvider:
    """Holds the context values of an environment."""

    def __init__(self) -> None:
        self._values: dict[str, ProvidedValue] = {}
        self._current: dict[bytes, tuple[str, ProvidedValue]] = {}
        self._exits: contextlib.AsyncExitStack = contextlib.AsyncExitStack()

    def provide(self, key: ContextKey[T], value: T) -> T:
        """Provide ``value`` under ``key`` and return it; an earlier value is replaced.

        Raises:
            TypeError: a change-detected value can't be fingerprinted.
        """
        provided = ProvidedValue(key, value)
        previous = self._values.get(key.key)
        if previous is not None and previous.fingerprint is not None:
            self._current.pop(previous.fingerprint, None)
        self._values[key.key] = provided
        if provided.fingerprint is not None:
            self._current[provided.fingerprint] = (key.key, provided)
        return value

    def provide_with(self, key: ContextKey[T], cm: AbstractContextManager[T]) -> T:
        """Enter ``cm``, provide what it yields, and exit it in :meth:`aclose`."""
        return self.provide(key, self._exits.enter_context(cm))

    async def provide_async_with(
        self, key: ContextKey[T], acm: AbstractAsyncContextManager[T]
    ) -> T:
        """Like :meth:`provide_with` for an async context manager."""
        return self.provide(key, await self._exits.enter_async_context(acm))

    @overload
    def get(self, key: ContextKey[T]) -> T: ...
    @overload
    def get(self, key: str) -> Any: ...
    @overload
    def get(self, key: str, expected_type: type[T]) -> T: ...

    def get(self, key: ContextKey[Any] | str, expected_type: type[Any] | None = None) -> Any:
        """The value under ``key``.

        Raises:
            KeyError: nothing is provided under that name.
            TypeError: the value is not of ``expected_type``.
        """
        name = key if isinstance(key, str) else key.key
        value = self.provided(name).value
        if expected_type is not None and not isinstance(value, expected_type):
            raise UsageTypeError(
                f"Context key {name!r}: expected {expected_type.__name__}, "
                f"got {type(value).__name__}"
            )
        return value

    def provided(self, name: str) -> ProvidedValue:
        try:
            return self._values[name]
        except KeyError:
            raise MissingKeyError(
                f"Context key {name!r} is not provided; provide it in the lifespan function "
                "(builder.provide) or on the environment's ContextProvider"
            ) from None

    def get_fingerprint(self, key: ContextKey[Any]) -> bytes:
        """The 16-byte fingerprint of a change-detected value (``KeyError`` otherwise)."""
        fingerprint = self.provided(key.key).fingerprint
        if fingerprint is None:
            raise MissingKeyError(f"Context key {key.key!r} does not detect changes")
        return fingerprint

    def current(self, fingerprint: bytes) -> ProvidedValue | None:
        """The value that has this fingerprint now, if any."""
        entry = self._current.get(fingerprint)
        return entry[1] if entry is not None else None

    def fingerprints(self) -> Iterator[tuple[str, bytes]]:
        return ((name, fingerprint) for fingerprint, (name, _) in self._current.items())

    async def aclose(self) -> None:
        """Exit what ``provide_with`` and ``provide_async_with`` entered, in reverse order."""
        exits, self._exits = self._exits, contextlib.AsyncExitStack()
        await exits.aclose()

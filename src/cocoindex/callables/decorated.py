"""Decorated functions as users hold and call them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from cocoindex.callables.function import BoundFunction, DecoratedFunction
from cocoindex.callables.runner import find_decorated
from cocoindex.core.canonical import Canon, Mode, write
from cocoindex.core.memo_key import NotPlainData, canonical_form, register_form
from cocoindex.engine.calls import call_async, call_sync

__all__ = [
    "AsyncFunction",
    "BoundAsyncFunction",
    "BoundSyncFunction",
    "Decorated",
    "SyncFunction",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class Decorated(Generic[P, R_co]):
    """What sync and async decorated functions have in common."""

    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str
    _is_twin = False

    def __init__(self, function: DecoratedFunction, binding: type | None = None) -> None:
        functools.update_wrapper(cast("Callable[..., Any]", self), function.raw)
        self._function = function
        self._binding = binding

    @property
    def __coco_function__(self) -> DecoratedFunction:
        """What the engine runs."""
        return self._function

    def __copy__(self) -> Decorated[P, R_co]:
        return self

    def __deepcopy__(self, memo: object) -> Decorated[P, R_co]:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        name = (self.__module__, self.__qualname__)
        if self._is_twin:
            return _find_twin, name
        try:
            found = find_decorated(*name)
        except (ImportError, AttributeError):
            found = None
        if found is not self:
            from pickle import PicklingError

            raise PicklingError(f"can't pickle {self!r}: no module has it under its name")
        return find_decorated, name

    def __repr__(self) -> str:
        return f"<@coco.fn {self._function.full_name}>"


def _find_twin(module: str, qualname: str) -> Any:
    return find_decorated(module, qualname).as_async


class SyncFunction(Decorated[P, R_co]):
    """A decorated sync function; call it like the original."""

    _twin: Any = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return cast("R_co", call_sync(self._function, args, kwargs))

    @property
    def as_async(self) -> Callable[P, Coroutine[Any, Any, R_co]]:
        """The same function, awaited; its body runs in a worker thread."""
        if self._twin is None:
            self._twin = AsyncFunction(self._function.as_async(), self._binding)
            self._twin._is_twin = True
        return cast("Callable[P, Coroutine[Any, Any, R_co]]", self._twin)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> SyncFunction[P, R_co]: ...
    @overload
    def __get__(
        self: SyncFunction[Concatenate[T, Q], R], instance: T, owner: type | None = None
    ) -> BoundSyncFunction[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        receiver = _receiver(self._binding, instance, owner)
        return self if receiver is None else BoundSyncFunction(self, receiver)


class AsyncFunction(Decorated[P, R_co]):
    """A decorated async function; await it like the original."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        return call_async(self._function, args, kwargs)

    @property
    def as_async(self) -> Callable[P, Coroutine[Any, Any, R_co]]:
        """The function itself: it is async already."""
        return self

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> AsyncFunction[P, R_co]: ...
    @overload
    def __get__(
        self: AsyncFunction[Concatenate[T, Q], R], instance: T, owner: type | None = None
    ) -> BoundAsyncFunction[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        receiver = _receiver(self._binding, instance, owner)
        return self if receiver is None else BoundAsyncFunction(self, receiver)


def _receiver(binding: type | None, instance: object, owner: type | None) -> object:
    if binding is staticmethod:
        return None
    return owner or type(instance) if binding is classmethod else instance


class _Bound(Generic[P, R_co]):
    """A decorated function accessed through an instance."""

    __slots__ = ("__func__", "__self__", "__weakref__", "_function")

    def __init__(self, function: Decorated[..., R_co], instance: object) -> None:
        self.__func__: Any = function
        self.__self__ = instance
        self._function = BoundFunction(function.__coco_function__, instance)

    @property
    def __coco_function__(self) -> BoundFunction:
        """What the engine runs."""
        return self._function

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Bound):
            return self.__func__ is other.__func__ and self.__self__ is other.__self__
        return NotImplemented

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.__func__, self.__self__)

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"


class BoundSyncFunction(_Bound[P, R_co]):
    """A decorated sync method of an instance."""

    __slots__ = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return cast("R_co", call_sync(self._function, args, kwargs))

    @property
    def as_async(self) -> BoundAsyncFunction[P, R_co]:
        """The same method, awaited; its body runs in a worker thread."""
        return BoundAsyncFunction(self.__func__.as_async, self.__self__)


class BoundAsyncFunction(_Bound[P, R_co]):
    """A decorated async method of an instance."""

    __slots__ = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        return call_async(self._function, args, kwargs)

    @property
    def as_async(self) -> BoundAsyncFunction[P, R_co]:
        """The method itself: it is async already."""
        return self


# Decorated functions as values


def _write_decorated(out: bytearray, value: Decorated[..., Any], canon: Canon) -> None:
    if canon.mode is Mode.DATA:
        raise NotPlainData(value)
    out += b"c" + canonical_form(value.__coco_function__.identity.digest())


def _write_bound(out: bytearray, value: _Bound[..., Any], canon: Canon) -> None:
    if canon.mode is Mode.DATA:
        raise NotPlainData(value)
    out += b"m"
    write(out, value.__func__, canon)
    write(out, value.__self__, canon)


register_form(SyncFunction, _write_decorated)
register_form(AsyncFunction, _write_decorated)
register_form(BoundSyncFunction, _write_bound)
register_form(BoundAsyncFunction, _write_bound)

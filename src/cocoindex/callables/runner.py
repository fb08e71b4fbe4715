"""Runners: where else a function body may run."""

from __future__ import annotations

import functools
import importlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final

from cocoindex.callables.batching import BatchQueue

__all__ = ["RawBody", "Runner", "find_decorated", "raw_bodies", "use_raw_bodies"]


class Runner(ABC):
    """Executes function bodies somewhere else: another thread, process or machine.

    Subclasses call ``super().__init__()``. What a runner is handed pickles by reference, so it
    can be sent to another process of the same program; bound methods carry their instance as
    ``__self__``.
    """

    def __init__(self) -> None:
        self._queue = BatchQueue(exclusive=True)

    @abstractmethod
    async def run(self, fn: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        """Run an async body and return its result."""

    @abstractmethod
    async def run_sync_fn(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a sync body and return its result."""

    def get_queue(self) -> BatchQueue:
        """The queue that all batched functions of this runner share: one batch at a time."""
        return self._queue


class _RawBodies:
    active: ClassVar[bool] = False


raw_bodies: Final = _RawBodies


def use_raw_bodies() -> None:
    """From now on decorated functions run their bare bodies, in this process.

    For worker processes of a runner: no memo, no batches across calls, no further runners.
    """
    _RawBodies.active = True


def find_decorated(module: str, qualname: str) -> Any:
    """The decorated function of that name, as pickles refer to it."""
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return getattr(found, "__func__", found)


class RawBody:
    """The bare body of a decorated function, as a runner gets it.

    A module's name for the function leads to the decorated one, so the body itself could not be
    pickled; this finds it again on the other side.
    """

    def __init__(self, body: Callable[..., Any], instance: object = None) -> None:
        """``instance``: of a bound method."""
        functools.update_wrapper(self, body)
        self.__func__ = body
        self.__self__ = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.__self__ is None:
            return self.__func__(*args, **kwargs)
        return self.__func__(self.__self__, *args, **kwargs)

    def __reduce__(self) -> tuple[Callable[..., RawBody], tuple[Any, ...]]:
        body = self.__func__
        return _find_raw_body, (body.__module__, body.__qualname__, self.__self__)


def _find_raw_body(module: str, qualname: str, instance: object) -> RawBody:
    return RawBody(find_decorated(module, qualname).__wrapped__, instance)

"""Runners: where else a function body may run."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final

from cocoindex.callables.batching import BatchQueue

__all__ = ["RawBody", "Runner", "raw_bodies", "use_raw_bodies"]


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


class RawBody:
    """The bare body of a decorated function, as a runner gets it.

    A module's name for the function leads to the decorated one, so the body itself could not be
    pickled; this finds it again on the other side.
    """

    def __init__(self, function: Any, instance: object = None) -> None:
        """``function``: the decorated function; ``instance``: of a bound method."""
        functools.update_wrapper(self, function.__wrapped__)
        self.__func__ = function
        self.__self__ = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        body = self.__func__.__wrapped__
        if self.__self__ is None:
            return body(*args, **kwargs)
        return body(self.__self__, *args, **kwargs)

    def __reduce__(self) -> tuple[type[RawBody], tuple[Any, Any]]:
        return RawBody, (self.__func__, self.__self__)

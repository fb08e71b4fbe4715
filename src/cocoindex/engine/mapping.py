"""``coco.map``: many calls of one function at once, within the component."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

from cocoindex.core.deadline import check_cancellation
from cocoindex.engine.calls import AtHand, start_async
from cocoindex.engine.function import Function, function_of
from cocoindex.engine.scope import current_or_none
from cocoindex.errors import UsageTypeError

_TURN = 256
"""Calls whose results are at hand, between two looks at what else the event loop has to do."""


async def map(fn: Any, items: Any, *args: Any, **kwargs: Any) -> list[Any]:
    """Call async ``fn(item, *args, **kwargs)`` for all items at once, within this component.

    Returns the results in input order. Waits for everything that was started; then raises the
    first failure in input order.
    """
    check_cancellation()
    calls = _Calls(fn, args, kwargs)
    failure: BaseException | None = None
    try:
        if hasattr(items, "__aiter__"):
            async for item in items:
                calls.start(item)
        else:
            for item in iterable(items):
                if calls.start(item) % _TURN == 0:
                    await asyncio.sleep(0)
    except Exception as error:  # noqa: BLE001 - raised below, once what was started has ended
        failure = error
    except asyncio.CancelledError:
        await calls.cancel()
        raise
    results = await calls.results(failure)
    check_cancellation()
    return results


class _Calls:
    """Calls in input order: results that were at hand, tasks for the others."""

    def __init__(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._fn = fn
        self._function = _memoized(fn)
        self._args = args
        self._kwargs = kwargs
        self._results: list[Any] = []
        self._failures: dict[int, BaseException] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """Those that have not ended."""

    def start(self, item: Any) -> int:
        """Start one more; how many there are."""
        check_cancellation()
        args = (item, *self._args)
        if self._function is None:
            self._run(partial(self._fn, *args, **self._kwargs))
            return len(self._results)
        try:
            found = start_async(self._function, args, self._kwargs)
        except Exception as error:  # noqa: BLE001 - of this call, as if it had run
            found = partial(_raise, error)
        if isinstance(found, AtHand):
            self._results.append(found.value)
        else:
            self._run(found)
        return len(self._results)

    def _run(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        index = len(self._results)
        self._tasks[index] = asyncio.create_task(self._one(index, call))
        self._results.append(None)

    async def _one(self, index: int, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            check_cancellation()
            self._results[index] = await call()
            check_cancellation()
        except (KeyboardInterrupt, SystemExit) as error:  # must not reach the event loop
            scope = current_or_none()
            if scope is None:
                raise
            scope.execution.run.cancel(error)
            self._failures[index] = asyncio.CancelledError()
        except BaseException as error:  # noqa: BLE001 - raised when all calls have ended
            self._failures[index] = error
        finally:
            self._tasks.pop(index, None)

    async def results(self, failure: BaseException | None) -> list[Any]:
        """Wait for all calls; raise ``failure`` or the first one of theirs."""
        try:
            await self._ended()
        except asyncio.CancelledError:
            await self.cancel()
            raise
        failures, self._failures = self._failures, {}
        if failure is None and failures:
            failure = failures[min(failures)]
        if failure is not None:
            raise failure
        return self._results

    async def cancel(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await self._ended()

    async def _ended(self) -> None:
        for index in list(self._tasks):
            # Calls that are made together end together: after the first most need no waiting.
            task = self._tasks.get(index)
            if task is None:
                continue
            await asyncio.wait((task,))
            if self._tasks.pop(index, None) is not None:
                self._failures[index] = asyncio.CancelledError()  # before it began


def _memoized(fn: Any) -> Function | None:
    function = function_of(fn) if callable(fn) else None
    return function if function is not None and function.memo and function.is_async else None


async def _raise(error: BaseException) -> None:
    raise error


def iterable(items: Any) -> Iterable[Any]:
    """``items``. Raises ``TypeError`` unless they can be iterated over."""
    if not isinstance(items, Iterable):
        hint = ": pass what its items() returns" if hasattr(items, "items") else ""
        raise UsageTypeError(f"items must be iterable, not {type(items).__name__}{hint}")
    return items

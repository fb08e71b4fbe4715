"""``coco.map``: many calls of one function at once, within the component."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

from cocoindex.core.deadline import check_cancellation
from cocoindex.engine.calls import find_or_run_async
from cocoindex.engine.function import Function, function_of
from cocoindex.engine.function_memos import MemoEntry
from cocoindex.engine.memo_call import MemoCall, look_up
from cocoindex.engine.scope import current_or_none
from cocoindex.errors import UsageTypeError

_TURN = 256
"""Calls that are started between two looks at what else the event loop has to do."""


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
    """Calls in input order: results that were at hand, futures of the others."""

    def __init__(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._fn = fn
        self._scope = current_or_none()
        self._function = None if self._scope is None else _memoized(fn)
        self._args = args
        self._kwargs = kwargs
        self._context = contextvars.copy_context()
        self._results: list[Any] = []
        self._failures: dict[int, BaseException] = {}
        self._running: dict[int, asyncio.Future[Any]] = {}

    def start(self, item: Any) -> int:
        """Start one more; how many there are."""
        check_cancellation()
        index = len(self._results)
        self._results.append(None)
        args = (item, *self._args)
        if self._scope is None or self._function is None:
            self._run(index, partial(self._fn, *args, **self._kwargs))
            return index + 1
        try:
            found = look_up(self._scope, self._function, args, self._kwargs)
            if isinstance(found, MemoEntry):
                self._results[index] = found.value
            else:
                self._run_memoized(index, found)
        except Exception as error:  # noqa: BLE001 - of this call, as if it had run
            self._failures[index] = error
        return index + 1

    def _run_memoized(self, index: int, call: MemoCall) -> None:
        future = call.run_apart()
        if future is None:
            self._run(index, partial(find_or_run_async, call))
        else:
            self._running[index] = future
            future.add_done_callback(partial(self._finish, index, call), context=self._context)

    def _run(self, index: int, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._running[index] = asyncio.create_task(self._one(index, call))

    async def _one(self, index: int, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            check_cancellation()
            self._results[index] = await call()
            check_cancellation()
        except BaseException as error:  # noqa: BLE001 - raised when all calls have ended
            self._fail(index, error)
        finally:
            self._running.pop(index, None)

    def _finish(self, index: int, call: MemoCall, future: asyncio.Future[Any]) -> None:
        try:
            self._results[index] = call.finish_apart(future)
            check_cancellation()
        except BaseException as error:  # noqa: BLE001 - raised when all calls have ended
            self._fail(index, error)
        finally:
            self._running.pop(index, None)

    def _fail(self, index: int, error: BaseException) -> None:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):  # must not reach the event loop
            if self._scope is None:
                raise error
            self._scope.execution.run.cancel(error)
            error = asyncio.CancelledError()
        self._failures[index] = error

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
        for future in list(self._running.values()):
            future.cancel()
        await self._ended()

    async def _ended(self) -> None:
        for index in list(self._running):
            # Calls that are made together end together: after the first most need no waiting.
            future = self._running.get(index)
            if future is None:
                continue
            await asyncio.wait((future,))
            if self._running.pop(index, None) is not None:
                self._failures[index] = asyncio.CancelledError()  # before it began


def _memoized(fn: Any) -> Function | None:
    function = function_of(fn) if callable(fn) else None
    return function if function is not None and function.memo and function.is_async else None


def iterable(items: Any) -> Iterable[Any]:
    """``items``. Raises ``TypeError`` unless they can be iterated over."""
    if not isinstance(items, Iterable):
        raise UsageTypeError(f"items must be iterable, not {type(items).__name__}{hint(items)}")
    return items


def hint(items: Any) -> str:
    """What to do about something that is no listing, but has one."""
    return f": pass what items() of {type(items).__name__} gives" if hasattr(items, "items") else ""

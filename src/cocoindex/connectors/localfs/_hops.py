"""Small blocking calls, many per trip to a worker thread.

A trip costs about as much as reading ten small files. Calls that are made in the same turn
of the event loop therefore share trips.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["in_thread"]

T = TypeVar("T")

_PER_TRIP: Final = 8
_TRIPS: Final = 4

_Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


async def in_thread(call: Callable[[], T]) -> T:
    """Run ``call`` on a worker thread, with others that are waiting now."""
    loop = asyncio.get_running_loop()
    hops = _hops.get(loop)
    if hops is None:
        hops = _hops[loop] = _Hops()
    result: T = await hops.add(loop, call)
    return result


class _Hops:
    """The calls that wait for the end of this turn of one loop."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[_Job] = []

    def add(self, loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> asyncio.Future[Any]:
        if not self._waiting:
            loop.call_soon(self._depart, loop)
        future = loop.create_future()
        self._waiting.append((call, future))
        return future

    def _depart(self, loop: asyncio.AbstractEventLoop) -> None:
        jobs, self._waiting = self._waiting, []
        size = max(_PER_TRIP, -(-len(jobs) // _TRIPS))
        for start in range(0, len(jobs), size):
            trip = jobs[start : start + size]
            calls = [call for call, _ in trip]
            running = loop.run_in_executor(None, _run_all, calls)
            running.add_done_callback(partial(_hand_out, trip))


def _run_all(calls: list[Callable[[], Any]]) -> list[tuple[Any, BaseException | None]]:
    outcomes: list[tuple[Any, BaseException | None]] = []
    for call in calls:
        try:
            outcomes.append((call(), None))
        except BaseException as e:  # noqa: BLE001 - handed to the caller that waits for it
            outcomes.append((None, e))
    return outcomes


def _hand_out(trip: list[_Job], running: asyncio.Future[Any]) -> None:
    failed = running.cancelled() or running.exception() is not None
    for at, (_, future) in enumerate(trip):
        if future.done():
            continue
        if failed:
            future.cancel()
            continue
        value, error = running.result()[at]
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


_hops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Hops] = WeakKeyDictionary()

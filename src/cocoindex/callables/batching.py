"""Batches: calls that come together run together.

An idle queue starts the first call at once. What arrives while a batch runs goes out as the next
one; a full batch doesn't wait. Bodies run detached from their callers.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any, TypeAlias

import msgspec

from cocoindex.errors import UsageTypeError, UsageValueError

__all__ = ["BatchBody", "BatchQueue", "RetryWithSmallerBatch", "run_in_halves"]


class RetryWithSmallerBatch(Exception):
    """Raised by the body of a batched function: split the batch in two and try again.

    Raise it ``from`` the actual error: a batch of one that still fails fails with that.
    """

    def __reduce__(self) -> tuple[Callable[..., RetryWithSmallerBatch], tuple[object, ...]]:
        return _rebuild_signal, (_picklable(self.__cause__ or self.__context__),)


def _picklable(cause: BaseException | None) -> BaseException | None:
    try:
        import pickle

        pickle.loads(pickle.dumps(cause))  # noqa: S301 - made on the spot
    except Exception:  # noqa: BLE001 - whatever the cause's own pickling raises
        return None
    return cause


def _rebuild_signal(cause: BaseException | None) -> RetryWithSmallerBatch:
    signal = RetryWithSmallerBatch()
    signal.__cause__ = cause
    return signal


class BatchBody(msgspec.Struct, frozen=True):
    """How the batches of one group run.

    Attributes:
        name: the function, for messages.
        run: takes the items of a batch, returns one result per item.
        parallel: whether two halves of a batch may run at the same time.
        max_size: largest batch, or None.
    """

    name: str
    run: Callable[[list[Any]], Awaitable[Any]]
    parallel: bool
    max_size: int | None


class _Failure(msgspec.Struct, frozen=True):
    error: BaseException


_Outcome: TypeAlias = Any  # a result, or a _Failure


async def run_in_halves(body: BatchBody, items: list[Any]) -> list[_Outcome]:
    """Run ``body`` over ``items``, in ever smaller parts while it asks for them."""
    try:
        return _checked(body, items, await body.run(items))
    except RetryWithSmallerBatch as signal:
        if len(items) == 1:
            return [_Failure(signal.__cause__ or signal.__context__ or signal)]
    except Exception as error:  # noqa: BLE001 - the body's error belongs to its callers
        return [_Failure(error)] * len(items)
    middle = len(items) // 2
    first, second = items[:middle], items[middle:]
    if body.parallel:
        done = await asyncio.gather(run_in_halves(body, first), run_in_halves(body, second))
        return done[0] + done[1]
    return await run_in_halves(body, first) + await run_in_halves(body, second)


def _checked(body: BatchBody, items: list[Any], results: Any) -> list[Any]:
    if isinstance(results, (str, bytes)) or not isinstance(results, Iterable):
        raise UsageTypeError(
            f"{body.name}() must return a list with one result per item, "
            f"not {type(results).__name__}"
        )
    found = list(results)
    if len(found) != len(items):
        raise UsageValueError(
            f"{body.name}() returned {len(found)} results for a batch of {len(items)} items"
        )
    return found


class _Call(asyncio.Future[Any]):
    """The result of one call, and the batch it has gone out with."""

    __slots__ = ("batch", "item")

    def __init__(self, item: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.item = item
        self.batch: _Batch | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        """Nobody waits for the result any more."""
        done = super().cancel(msg)
        if done and self.batch is not None:
            self.batch.miss()
        return done


class _Batch:
    """Calls that run together, as long as one of them is wanted."""

    __slots__ = ("task", "wanted")

    def __init__(self, task: asyncio.Task[None], calls: list[_Call]) -> None:
        self.task = task
        self.wanted = len(calls)
        for call in calls:
            call.batch = self

    def miss(self) -> None:
        """One call less that wants it."""
        self.wanted -= 1
        if self.wanted == 0:
            # Not at once: a task cancelled before its first step would never end its batch.
            self.task.get_loop().call_soon(self.task.cancel)


class _Group:
    """Calls that may share a batch."""

    __slots__ = ("body", "running", "waiting")

    def __init__(self, body: BatchBody) -> None:
        self.body = body
        self.waiting: list[_Call] = []
        self.running = 0

    def take(self) -> list[_Call]:
        size = self.body.max_size or len(self.waiting)
        batch, self.waiting = self.waiting[:size], self.waiting[size:]
        return batch


class _Lane:
    """The groups of one queue on one event loop; in order of their oldest waiting call."""

    __slots__ = ("groups", "loop", "running", "tasks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.groups: dict[Hashable, _Group] = {}
        self.running = 0
        self.tasks: set[asyncio.Task[None]] = set()


class BatchQueue:
    """Forms batches. An exclusive queue runs one at a time, whatever function it is of."""

    __slots__ = ("_exclusive", "_lanes")

    def __init__(self, *, exclusive: bool = False) -> None:
        self._exclusive = exclusive
        self._lanes: dict[int, _Lane] = {}

    def submit(
        self, key: Hashable, item: Any, make_body: Callable[[], BatchBody]
    ) -> asyncio.Future[Any]:
        """Result of ``item`` in a batch with other calls that have the same ``key``.

        ``make_body`` is called for the first of them.
        """
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(id(loop))
        if lane is None or lane.loop is not loop:
            lane = self._lanes[id(loop)] = _Lane(loop)
        group = lane.groups.get(key)
        if group is None:
            group = lane.groups[key] = _Group(make_body())
        call = _Call(item, loop)
        group.waiting.append(call)
        self._advance(lane, key, group)
        return call

    def _advance(self, lane: _Lane, key: Hashable, group: _Group) -> None:
        if self._exclusive:
            ready = lane.running == 0
        else:
            size = group.body.max_size
            ready = group.running == 0 or (size is not None and len(group.waiting) >= size)
        if ready:
            self._start(lane, key, group)

    def _start(self, lane: _Lane, key: Hashable, group: _Group) -> None:
        group.waiting = [call for call in group.waiting if not call.cancelled()]
        if not group.waiting:
            self._settle(lane, key, group)
            return
        calls = group.take()
        group.running += 1
        lane.running += 1
        # An empty context: the batch belongs to no single caller.
        task = lane.loop.create_task(
            self._run(lane, key, group, calls), context=contextvars.Context()
        )
        lane.tasks.add(task)
        task.add_done_callback(lane.tasks.discard)
        _Batch(task, calls)

    async def _run(self, lane: _Lane, key: Hashable, group: _Group, calls: list[_Call]) -> None:
        try:
            outcomes = await run_in_halves(group.body, [call.item for call in calls])
            for call, outcome in zip(calls, outcomes, strict=True):
                _resolve(call, outcome)
        except BaseException as error:  # noqa: BLE001 - carried to every caller
            # Not raised again: an interrupt would stop the event loop.
            for call in calls:
                _resolve(call, _Failure(error))
        finally:
            group.running -= 1
            lane.running -= 1
            self._finished(lane, key, group)

    def _finished(self, lane: _Lane, key: Hashable, group: _Group) -> None:
        self._settle(lane, key, group)
        if not self._exclusive:
            if group.waiting:
                self._start(lane, key, group)
            return
        for next_key, other in list(lane.groups.items()):
            if lane.running == 0 and other.waiting:
                self._start(lane, next_key, other)

    def _settle(self, lane: _Lane, key: Hashable, group: _Group) -> None:
        """Drop what is idle; put a group that ran last behind the others."""
        if lane.groups.get(key) is group:
            del lane.groups[key]
            if group.waiting or group.running:
                lane.groups[key] = group
        if not lane.groups and lane.running == 0 and self._lanes.get(id(lane.loop)) is lane:
            del self._lanes[id(lane.loop)]


def _resolve(call: _Call, outcome: _Outcome) -> None:
    call.batch = None
    if call.done():
        return
    if not isinstance(outcome, _Failure):
        call.set_result(outcome)
    elif isinstance(outcome.error, asyncio.CancelledError):
        call.cancel()
    else:
        _set_exception(call, outcome.error)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if isinstance(error, StopIteration):  # a future refuses it
        wrapper = RuntimeError("a batched function raised StopIteration")
        wrapper.__cause__ = error
        error = wrapper
    future.set_exception(error)
    with contextlib.suppress(Exception):
        future.exception()  # the caller may be gone by now; that is no unhandled error

"""Applying actions: one call of a sink at a time, carrying whatever has queued up meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from cocoindex.engine.faults import BEFORE_SINK, reach
from cocoindex.engine.providers import TargetStateProvider
from cocoindex.engine.stats import reporting_to
from cocoindex.engine.targets import ChildTargetDef, TargetActionSink, call_sink, plan_child
from cocoindex.engine.workers import worker_pool
from cocoindex.errors import (
    CocoIndexError,
    StoreError,
    TransientError,
    UsageError,
    UsageValueError,
)

if TYPE_CHECKING:
    from cocoindex.engine.context_values import ContextProvider
    from cocoindex.engine.stats import StatsGroup
    from cocoindex.engine.submission import SinkActions
    from cocoindex.state.base import Section

Sink = TargetActionSink[Any, Any]
Children = Sequence[ChildTargetDef[Any] | None]
Provider = TargetStateProvider[Any, Any, Any]

SYSTEM_ERRORS = (TransientError, ConnectionError, TimeoutError)
"""Errors about the system rather than about an action: calling again with fewer won't help."""


FIRST_CALL_ACTIONS = 64
MAX_CALL_ACTIONS = 16_384
SHORT_CALL, LONG_CALL = 0.1, 0.5
"""Seconds. Calls are merged up to a size at which one takes between these times: large enough
to be efficient, small enough that an interrupted run has committed what it did before."""
MAX_GROWTH = 16
"""How many times as much the next call may carry, however short one was."""


PATIENCE = 5.0
"""Seconds that a sink may take at the end before it is told."""

_logger = logging.getLogger("cocoindex.engine")


class Waiter(Protocol):
    """Whoever has actions applied by a sink."""

    @property
    def is_waiting(self) -> bool:
        """Whether the sink's answer still matters."""
        ...

    def answered(self, children: Children | None, error: BaseException | None) -> None:
        """The sink has succeeded, and maybe returned handlers for children; or it has failed."""
        ...


class _Request(msgspec.Struct, eq=False):
    """The actions of one component, waiting for the next call of their sink.

    Tracebacks of failures lead here, and from here to the run, which may keep a failure.
    """

    actions: list[Any]
    wants_child: Sequence[int]
    section: Section
    stats: StatsGroup
    where: object
    waiter: Waiter

    def may_go(self) -> bool:
        """Whether somebody waits for it and may still act; else it has failed."""
        if not self.waiter.is_waiting:
            return False
        try:
            self.section.check_lease()
            reach(BEFORE_SINK, self.where)
        except Exception as error:  # noqa: BLE001 - the failure of the component that waits
            self.fail(error)
            return False
        return True

    def succeed(self, children: Children | None) -> None:
        if self.waiter.is_waiting:
            self.waiter.answered(children, None)

    def fail(self, error: BaseException) -> None:
        if self.waiter.is_waiting:
            self.waiter.answered(None, error)


class SinkQueue:
    """Calls one sink; requests that arrive during a call go out together in the next one."""

    def __init__(
        self,
        sink: Sink,
        context_provider: ContextProvider,
        threads: CallsOnThreads,
        when_idle: Callable[[], object],
    ) -> None:
        self._sink = sink
        self._context_provider = context_provider
        self._threads = threads
        self._when_idle = when_idle
        self._waiting: list[_Request] = []
        self._called: list[_Request] = []
        """What the present call carries."""
        self._call_over: asyncio.Event | None = None
        """Made by the first who waits for its end."""
        self._task: asyncio.Task[None] | None = None
        self._call_actions = FIRST_CALL_ACTIONS
        self._seconds = 0.0
        """How long the sink has been at work in the present call."""

    def add(self, request: _Request) -> None:
        self._waiting.append(request)
        if self._task is None:
            # A fresh context: neither a component's scope nor its deadline applies inside.
            self._task = asyncio.get_running_loop().create_task(
                self._drain(), context=contextvars.Context()
            )
            self._task.add_done_callback(self._has_ended)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                durable = await self._flushed()
                while durable:
                    requests = self._next_requests(durable)
                    durable -= len(requests)
                    self._seconds = 0.0
                    self._called = requests
                    await self._call(requests)
                    self._end_call()
                    self._adapt(self._seconds, sum(len(r.actions) for r in requests))
        finally:
            self._end()

    def _end_call(self) -> None:
        self._called = []
        if self._call_over is not None:
            self._call_over.set()
            self._call_over = None

    async def let_finish(self) -> None:
        """Return when no call is in progress that carries actions of somebody who does not wait
        any more. Where nobody waits, and the sink is async, it is cancelled.
        """
        everybody = (*self._called, *self._waiting)
        nobody_waits = not any(request.waiter.is_waiting for request in everybody)
        if self._task is not None and self._called and nobody_waits and self._sink.is_async:
            self._task.cancel()
        while not all(request.waiter.is_waiting for request in self._called):
            if self._call_over is None:
                self._call_over = asyncio.Event()
            await self._call_over.wait()

    def _end(self) -> None:
        self._task = None
        self._end_call()
        self._when_idle()
        for request in self._waiting:
            request.fail(asyncio.CancelledError())

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:  # cancelled before its first step
            self._end()

    async def _flushed(self) -> int:
        """Make durable what the requests so far have written down; returns their number."""
        waiting = list(self._waiting)
        for section in {request.section for request in waiting}:
            try:
                await section.flushed()
            except CocoIndexError as error:
                for request in waiting:
                    if request.section is section:
                        request.fail(error)
        return len(waiting)

    def _next_requests(self, durable: int) -> list[_Request]:
        """The oldest of the ``durable`` first requests, up to the present size of a call."""
        actions, count = 0, 0
        for request in self._waiting[:durable]:
            actions += len(request.actions)
            if count and actions > self._call_actions:
                break
            count += 1
        requests, self._waiting = self._waiting[:count], self._waiting[count:]
        return requests

    def _adapt(self, seconds: float, actions: int) -> None:
        if seconds > LONG_CALL:
            self._call_actions = max(1, actions // 2)
        elif seconds < SHORT_CALL and actions * 2 > self._call_actions:
            growth = min(MAX_GROWTH, max(2, int(SHORT_CALL / max(seconds, 1e-6))))
            self._call_actions = min(MAX_CALL_ACTIONS, self._call_actions * growth)

    async def _call(self, requests: list[_Request]) -> None:
        requests = [request for request in requests if request.may_go()]
        if not requests:
            return
        try:
            children = await self._call_once(requests)
        except asyncio.CancelledError as error:
            if self._task is not None and not self._task.cancelling():
                await self._call_failed(requests, _stray_cancellation(self._sink, error))
                return
            for request in requests:
                request.fail(error)
            raise
        except BaseException as error:  # noqa: BLE001 - handed to the components that wait
            await self._call_failed(requests, error)
            return
        _hand_out(requests, children)

    async def _call_failed(self, requests: list[_Request], error: BaseException) -> None:
        """Isolate a failure by calling again with fewer components, if that may help."""
        if len(requests) == 1 or not _may_isolate(error):
            for request in requests:
                request.fail(error)
            return
        middle = len(requests) // 2
        await self._call(requests[:middle])
        await self._call(requests[middle:])

    async def _call_once(self, requests: list[_Request]) -> Children | None:
        actions: list[Any] = []
        wants_child: list[int] = []
        for request in requests:
            wants_child += [len(actions) + position for position in request.wants_child]
            actions += request.actions
        reporting_to.set(requests[0].stats)
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            children = await call_sink(
                self._sink, self._context_provider, actions, wants_child, self._run_on_worker
            )
        finally:
            if self._sink.is_async:
                self._seconds += clock() - started
        if children is not None and len(children) != len(actions):
            raise SinkResultError(
                f"sink {self._sink} returned {len(children)} results for {len(actions)} actions: "
                "return None, or one ChildTargetDef or None for each action"
            )
        return children

    async def _run_on_worker(self, call: Callable[[], Any]) -> Any:
        clock = asyncio.get_running_loop().time

        def timed() -> Any:  # here, since a busy loop may hear of the end much later
            started = clock()
            try:
                with self._threads.one():
                    return call()
            finally:
                self._seconds += clock() - started

        context = contextvars.Context()
        context.run(reporting_to.set, reporting_to.get())
        return await worker_pool().submit(context, timed)


class CallsOnThreads:
    """The sink calls that run on threads, for whoever must not get in their way."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._changed = threading.Condition()
        self._is_closed = False

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """A call on this thread.

        Raises:
            StoreError: there may be no more of them.
        """
        me = threading.get_ident()
        with self._changed:
            if self._is_closed:
                raise StoreError("the environment is closed; nothing is applied any more")
            self._running.add(me)
        try:
            yield
        finally:
            with self._changed:
                self._running.discard(me)
                self._changed.notify_all()

    def close(self) -> None:
        """Let no more calls begin, and wait for the end of those that run on other threads."""
        others = self._running
        with self._changed:
            self._is_closed = True
            own = {threading.get_ident()}
            if not self._changed.wait_for(lambda: others <= own, PATIENCE):
                _logger.warning("waiting for %d sink(s) to end before closing", len(others - own))
                self._changed.wait_for(lambda: others <= own)


class SinkResultError(UsageValueError):
    """A sink broke its contract; calling it again with fewer actions won't help."""


def _stray_cancellation(sink: Sink, cause: BaseException) -> UsageError:
    error = UsageError(f"sink {sink} raised CancelledError, but nothing was cancelled")
    error.__cause__ = cause
    return error


def _may_isolate(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, (*SYSTEM_ERRORS, SinkResultError))


def _hand_out(requests: list[_Request], children: Children | None) -> None:
    position = 0
    for request in requests:
        end = position + len(request.actions)
        request.succeed(None if children is None else children[position:end])
        position = end


class Sinks:
    """The sink queues of one environment."""

    def __init__(self, context_provider: ContextProvider) -> None:
        self._context_provider = context_provider
        self._threads = CallsOnThreads()
        self._queues: dict[object, SinkQueue] = {}

    def apply(
        self,
        actions: SinkActions,
        section: Section,
        stats: StatsGroup,
        where: object,
        waiter: Waiter,
    ) -> None:
        """Apply one component's actions for one sink; ``waiter`` gets the answer.

        First, what ``section`` has been given so far is made durable, once for all who wait.
        ``stats`` gets what the sink reports.
        """
        key = actions.sink.key
        queue = self._queues.get(key)
        if queue is None:
            idle = functools.partial(self._queues.pop, key, None)
            queue = self._queues[key] = SinkQueue(
                actions.sink, self._context_provider, self._threads, idle
            )
        queue.add(_Request(actions.actions, tuple(actions.children), section, stats, where, waiter))

    async def let_finish(self) -> None:
        """Return when no sink acts any more for somebody who does not wait for it."""
        for queue in list(self._queues.values()):
            await queue.let_finish()

    def close(self) -> None:
        """Call no sink on a thread any more, and wait for those that act on one. Blocking."""
        self._threads.close()

    def plan(self, actions: SinkActions) -> None:
        """Resolve child providers from the actions alone, for a preview.

        Raises:
            ValueError: the sink can hand out children only by running.
        """
        if not actions.children:
            return
        if actions.sink.child_handler is None:
            container = next(iter(actions.children.values()))
            raise UsageValueError(
                f"can't preview: the sink of {container} creates child target providers only by "
                "running; give it a child_handler factory (TargetActionSink.from_fn)"
            )
        children = [
            plan_child(actions.sink, self._context_provider, action)
            if position in actions.children
            else None
            for position, action in enumerate(actions.actions)
        ]
        resolve_children(actions, children)


def resolve_children(actions: SinkActions, children: Children | None) -> None:
    """Give every pending child provider the handler that its container's sink returned.

    Raises:
        ValueError: a handler is missing, or was returned where no children can be.
    """
    for position, child in enumerate(children or ()):
        if child is not None and position not in actions.children:
            raise UsageValueError(
                f"sink {actions.sink} returned a ChildTargetDef for action {position}, "
                "whose target state was not declared with children (or is being deleted)"
            )
    for position, provider in actions.children.items():
        found = None if children is None else children[position]
        if found is None:
            raise UsageValueError(
                f"expected the child provider of {provider} to be fulfilled: its sink "
                f"{actions.sink} returned no ChildTargetDef for it"
            )
        provider.resolve(found.handler)

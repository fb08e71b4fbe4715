"""Calling a decorated function: deadline, dependency frame, memo.

``call_async`` and ``call_sync`` are the same steps; only waiting differs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cocoindex.core.deadline import check_cancellation
from cocoindex.engine.dependencies import (
    NO_ANSWERS,
    StateAnswers,
    StateCheck,
    are_current,
    argument_checks,
    ask,
    ask_now,
    context_checks,
    first_checks,
)
from cocoindex.engine.frames import Frame
from cocoindex.engine.function_memos import MemoEntry
from cocoindex.engine.loops import running_loop
from cocoindex.engine.scope import ComponentContext, current_or_none, enter, leave
from cocoindex.engine.workers import on_worker
from cocoindex.errors import UsageError

if TYPE_CHECKING:
    from cocoindex.engine.function import Function
    from cocoindex.engine.function_memos import Reservation
    from cocoindex.engine.rows import FunctionMemoRow

Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]


async def call_async(function: Function, args: Args, kwargs: Kwargs) -> Any:
    """Call an async decorated function, inside a component or not."""
    check_cancellation()
    scope = current_or_none()
    if scope is None:
        result = await function.invoke(args, kwargs)
    elif function.memo:
        result = await _memoized_async(scope, function, args, kwargs)
    else:
        plain = _enter_plain(scope, function)
        token = enter(plain)
        try:
            result = await function.invoke(args, kwargs)
        finally:
            leave(token)
            _leave_plain(scope, function)
    check_cancellation()
    return result


def call_sync(function: Function, args: Args, kwargs: Kwargs) -> Any:
    """Call a sync decorated function, inside a component or not."""
    check_cancellation()
    scope = current_or_none()
    if scope is None:
        result = function.invoke(args, kwargs)
    elif function.memo:
        result = _memoized_sync(scope, function, args, kwargs)
    else:
        plain = _enter_plain(scope, function)
        token = enter(plain)
        try:
            result = function.invoke(args, kwargs)
        finally:
            leave(token)
            _leave_plain(scope, function)
    check_cancellation()
    return result


# --- calls that are not memoized -------------------------------------------------------------


def _enter_plain(scope: ComponentContext, function: Function) -> ComponentContext:
    """The callee's scope: its own logic filter, everything else shared with the caller."""
    if function.logic_tracking in ("full", "deep"):
        return scope
    own = function.logic()
    return scope.derive(frame=scope.frame.detached_logic(keeps_logic=False, own_logic=own))


def _leave_plain(scope: ComponentContext, function: Function) -> None:
    """Offer the callee's own logic to the caller."""
    if scope.frame.keeps_logic:
        own = function.logic()
        if own is not None:
            scope.frame.logic.add(own)


# --- memoized calls ----------------------------------------------------------------------------


class _MemoCall:
    """One memoized call, step by step."""

    def __init__(
        self, scope: ComponentContext, function: Function, args: Args, kwargs: Kwargs
    ) -> None:
        self.scope = scope
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.key = function.call_key(args, kwargs)
        self.memos = scope.execution.function_memos()
        self.answers: StateAnswers | None = None
        if self.key.fingerprint in scope.frame.calls_in_progress():
            raise UsageError(
                f"memoized {function.name}() calls itself with the same arguments: "
                "this would never end"
            )

    @cached_property
    def frame(self) -> Frame:
        """Made only if the body or a state function runs."""
        return Frame(
            self.scope.frame,
            keeps_logic=self.function.logic_tracking in ("full", "deep"),
            own_logic=self.function.logic(),
            in_memo_call=True,
            call_fingerprint=self.key.fingerprint,
        )

    def inner(self) -> ComponentContext:
        return self.scope.derive(frame=self.frame)

    def reuse_now(self) -> MemoEntry | None:
        """The result, if it is at hand without asking any state function."""
        entry = self.memos.reached(self.key.fingerprint)
        if entry is None and (row := self.candidate()) is not None and not self.checks(row):
            entry = self.accept(row, NO_ANSWERS)
        return entry

    def candidate(self) -> FunctionMemoRow | None:
        """A stored entry that may be reused if its state functions agree."""
        row = self.memos.candidate(self.key.fingerprint)
        if row is None or not are_current(
            self.scope.execution.run, row.deps, self.function.logic()
        ):
            return None
        return row

    def checks(self, row: FunctionMemoRow) -> list[StateCheck]:
        run = self.scope.execution.run
        return [
            *argument_checks(self.key.state_fns, row.states),
            *context_checks(run, row.context_states),
        ]

    def accept(self, row: FunctionMemoRow, answers: StateAnswers) -> MemoEntry | None:
        """Reuse ``row`` if every state function says so; remember changed states."""
        count = len(self.key.state_fns)
        if not answers.all_valid or len(row.states) != count:
            self.answers = StateAnswers(answers.outcomes[:count], answers.serialized[:count])
            return None
        changed = self._with_new_states(row, answers.serialized)
        return self.memos.hit(self.key.fingerprint, row, self.function, changed=changed)

    def _with_new_states(self, row: FunctionMemoRow, serialized: list[bytes]) -> bool:
        count = len(row.states)
        old = row.states + [state for _, states in row.context_states for state in states]
        if old == serialized:
            return False
        row.states = serialized[:count]
        rest = iter(serialized[count:])
        row.context_states = [
            (fingerprint, [next(rest, state) for state in states])
            for fingerprint, states in row.context_states
        ]
        return True

    def checks_after_run(self) -> list[StateCheck]:
        """State functions to call after the body: all on a first run, else those that ask."""
        if self.answers is None or len(self.answers.outcomes) != len(self.key.state_fns):
            return first_checks(self.key.state_fns)
        pairs = zip(self.key.state_fns, self.answers.outcomes, strict=True)
        return first_checks([fn for fn, outcome in pairs if outcome.recollect_after_run])

    def store(self, value: Any, after: StateAnswers) -> MemoEntry:
        states = after.serialized
        if self.answers is not None and len(self.answers.outcomes) == len(self.key.state_fns):
            fresh = iter(after.serialized)
            states = [
                next(fresh) if outcome.recollect_after_run else state
                for outcome, state in zip(
                    self.answers.outcomes, self.answers.serialized, strict=True
                )
            ]
        return self.memos.store(self.key, self.function, self.frame, value, states)

    def wait_for(self, other: Reservation) -> None:
        """Block until an equal call has ended."""
        if other.loop is not None and other.loop is running_loop():
            raise UsageError(
                f"{self.function.name}() is called on the event loop while an equal call is "
                "awaited there, which could not go on: await this one too (as_async)"
            )
        other.waiter().result()

    def finish(self, entry: MemoEntry) -> Any:
        """Hand the entry's dependencies to the caller, and its value out."""
        self.scope.frame.receive_call(entry.row.deps, self.key.fingerprint)
        return entry.value


async def _memoized_async(
    scope: ComponentContext, function: Function, args: Args, kwargs: Kwargs
) -> Any:
    call = _MemoCall(scope, function, args, kwargs)
    loop = asyncio.get_running_loop()
    entry = None
    while entry is None:
        while (other := call.memos.reserve(call.key.fingerprint, loop)) is not None:
            await asyncio.wrap_future(other.waiter())
        try:
            entry = call.reuse_now() or await _check_or_run_async(call)
        finally:
            call.memos.release(call.key.fingerprint)
        if entry is None:
            entry = await _run_on_thread(call, loop)
    return call.finish(entry)


async def _check_or_run_async(call: _MemoCall) -> MemoEntry | None:
    """None: it has to run on a thread."""
    token = enter(call.inner())
    try:
        entry = None
        if (row := call.candidate()) is not None and (checks := call.checks(row)):
            entry = call.accept(row, await ask(checks))
        if entry is None and not call.function.runs_on_thread:
            value = await call.function.invoke(call.args, call.kwargs)
            check_cancellation()  # nothing that comes too late is stored
            entry = call.store(value, await ask(call.checks_after_run()))
        return entry
    finally:
        leave(token)
        call.frame.has_ended = True


async def _run_on_thread(call: _MemoCall, loop: asyncio.AbstractEventLoop) -> MemoEntry | None:
    """Run a synchronous body; None: another call has just done that."""
    body = _ThreadedBody(call, loop)
    token = enter(call.inner())
    try:
        call.frame.has_ended = False
        value = await on_worker(body.run)
        if body.other is not None:
            await asyncio.wrap_future(body.other.waiter())
        if not body.has_run:
            return None
        check_cancellation()
        return call.store(value, await ask(call.checks_after_run()))
    finally:
        leave(token)
        call.frame.has_ended = True
        body.end()


class _ThreadedBody:
    """A body that takes the reservation on the thread on which it runs.

    Taken before there is a thread, all threads could be waiting for the call, and the call for
    one of them. An awaiting task that is cancelled leaves the body behind, which then holds the
    reservation until it ends.
    """

    def __init__(self, call: _MemoCall, loop: asyncio.AbstractEventLoop) -> None:
        self.other: Reservation | None = None
        self.has_run = False
        self._call = call
        self._loop = loop
        self._lock = threading.Lock()
        self._is_awaited = True
        self._has_ended = False

    def run(self) -> Any:
        """The body's result; nothing if an equal call runs, or has run meanwhile."""
        memos, fingerprint = self._call.memos, self._call.key.fingerprint
        self.other = memos.reserve(fingerprint, self._loop)
        if self.other is not None:
            return None
        try:
            if memos.reached(fingerprint) is not None:
                return None
            self.has_run = True
            return self._call.function.invoke_here(self._call.args, self._call.kwargs)
        finally:
            with self._lock:
                self._has_ended = True
                is_awaited = self._is_awaited
            if not is_awaited:
                memos.release(fingerprint)

    def end(self) -> None:
        """Release the reservation, or leave that to the body if it still runs."""
        with self._lock:
            self._is_awaited = False
            has_ended = self._has_ended
        if has_ended:
            self._call.memos.release(self._call.key.fingerprint)


def _memoized_sync(scope: ComponentContext, function: Function, args: Args, kwargs: Kwargs) -> Any:
    call = _MemoCall(scope, function, args, kwargs)
    fingerprint = call.key.fingerprint
    while (other := call.memos.reserve(fingerprint)) is not None:
        call.wait_for(other)
    try:
        entry = call.reuse_now() or _check_or_run_sync(call)
    finally:
        call.memos.release(fingerprint)
    return call.finish(entry)


def _check_or_run_sync(call: _MemoCall) -> MemoEntry:
    token = enter(call.inner())
    try:
        entry = None
        if (row := call.candidate()) is not None and (checks := call.checks(row)):
            entry = call.accept(row, ask_now(checks))
        if entry is None:
            value = call.function.invoke(call.args, call.kwargs)
            check_cancellation()
            entry = call.store(value, ask_now(call.checks_after_run()))
        return entry
    finally:
        leave(token)
        call.frame.has_ended = True

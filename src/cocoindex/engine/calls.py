"""Calling a decorated function: deadline, dependency frame, memo.

``call_async`` and ``call_sync`` are the same steps; only waiting differs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cocoindex.core.deadline import check_cancellation
from cocoindex.engine.dependencies import (
    NO_ANSWERS,
    StateAnswers,
    StateCheck,
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
    from cocoindex.engine.function import CallKey, Function
    from cocoindex.engine.function_memos import FunctionMemos, Reservation
    from cocoindex.engine.rows import FunctionMemoRow, Terms

Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]


async def call_async(function: Function, args: Args, kwargs: Kwargs) -> Any:
    """Call an async decorated function, inside a component or not."""
    check_cancellation()
    scope = current_or_none()
    if scope is None:
        result = await function.invoke(args, kwargs)
    elif function.memo:
        key, memos = function.call_key(args, kwargs), scope.execution.function_memos()
        entry = memos.at_hand(key, function)
        if entry is not None:
            result = _hand_over(entry, scope)
        else:
            result = await find_or_run_async(MemoCall(scope, function, args, kwargs, key, memos))
    elif _shares_frame(function):
        try:
            result = await function.invoke(args, kwargs)
        finally:
            _offer_logic(scope.frame, function)
    else:
        token = enter(_own_frame(scope, function))
        try:
            result = await function.invoke(args, kwargs)
        finally:
            leave(token)
            _offer_logic(scope.frame, function)
    check_cancellation()
    return result


class AtHand(NamedTuple):
    """The result of a call that need not run."""

    value: Any


def look_up(
    scope: ComponentContext, function: Function, args: Args, kwargs: Kwargs
) -> AtHand | MemoCall:
    """The result of a memoized call if it is at hand, else what can find or make it.

    Raises:
        TypeError: an argument can't be keyed.
    """
    key, memos = function.call_key(args, kwargs), scope.execution.function_memos()
    entry = memos.at_hand(key, function)
    if entry is None:
        return MemoCall(scope, function, args, kwargs, key, memos)
    return AtHand(_hand_over(entry, scope))


def _hand_over(entry: MemoEntry, scope: ComponentContext) -> Any:
    """The result of a memoized call, for a caller who now depends on what it depends on."""
    scope.frame.receive_call(entry.terms.deps, entry.row.fingerprint)
    return entry.value


def call_sync(function: Function, args: Args, kwargs: Kwargs) -> Any:
    """Call a sync decorated function, inside a component or not."""
    check_cancellation()
    scope = current_or_none()
    if scope is None:
        result = function.invoke(args, kwargs)
    elif function.memo:
        key, memos = function.call_key(args, kwargs), scope.execution.function_memos()
        entry = memos.at_hand(key, function)
        if entry is not None:
            result = _hand_over(entry, scope)
        else:
            result = _find_or_run_sync(MemoCall(scope, function, args, kwargs, key, memos))
    elif _shares_frame(function):
        try:
            result = function.invoke(args, kwargs)
        finally:
            _offer_logic(scope.frame, function)
    else:
        token = enter(_own_frame(scope, function))
        try:
            result = function.invoke(args, kwargs)
        finally:
            leave(token)
            _offer_logic(scope.frame, function)
    check_cancellation()
    return result


# --- calls that are not memoized -------------------------------------------------------------


def _shares_frame(function: Function) -> bool:
    """Whether everything the callee depends on counts for its caller."""
    return function.logic_tracking in ("full", "deep")


def _own_frame(scope: ComponentContext, function: Function) -> ComponentContext:
    """The callee's scope: its own logic filter, everything else shared with the caller."""
    frame = scope.frame.detached_logic(keeps_logic=False, own_logic=function.logic())
    return scope.with_frame(frame)


def _offer_logic(frame: Frame, function: Function) -> None:
    """Offer the callee's own logic to the caller."""
    if frame.keeps_logic:
        own = function.logic()
        if own is not None:
            frame.logic[own] = None


# --- memoized calls whose result is not at hand ------------------------------------------------


class MemoCall:
    """One memoized call, step by step."""

    __slots__ = (
        "_token",
        "answers",
        "args",
        "frame",
        "function",
        "key",
        "kwargs",
        "memos",
        "scope",
    )

    def __init__(
        self,
        scope: ComponentContext,
        function: Function,
        args: Args,
        kwargs: Kwargs,
        key: CallKey,
        memos: FunctionMemos,
    ) -> None:
        self.scope = scope
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.key = key
        self.memos = memos
        self.answers: StateAnswers | None = None
        self.frame: Frame | None = None
        self._token: Token[ComponentContext | None] | None = None
        if key.fingerprint in scope.frame.calls_in_progress():
            raise UsageError(
                f"memoized {function.name}() calls itself with the same arguments: "
                "this would never end"
            )

    @property
    def _needs_no_frame(self) -> bool:
        """Whether nothing of the user's runs here."""
        return self.function.runs_apart and not self.key.state_fns

    def enter(self) -> None:
        """Make a frame of its own the current one, for state functions and the body."""
        if self._needs_no_frame:
            return
        if self.frame is None:
            self.frame = self._new_frame()
        self.frame.has_ended = False
        self._token = enter(self.scope.with_frame(self.frame))

    def _new_frame(self) -> Frame:
        return Frame(
            self.scope.frame,
            keeps_logic=_shares_frame(self.function),
            own_logic=self.function.logic(),
            in_memo_call=True,
            call_fingerprint=self.key.fingerprint,
        )

    def leave(self) -> None:
        if self._token is not None:
            leave(self._token)
            self._token = None
        if self.frame is not None:
            self.frame.has_ended = True

    def checks(self, terms: Terms) -> list[StateCheck]:
        run = self.scope.execution.run
        return [
            *argument_checks(self.key.state_fns, terms.states),
            *context_checks(run, terms.context_states),
        ]

    def accept(self, row: FunctionMemoRow, terms: Terms, answers: StateAnswers) -> MemoEntry | None:
        """Reuse ``row`` if every state function says so; remember changed states."""
        count = len(self.key.state_fns)
        if not answers.all_valid or len(terms.states) != count:
            self.answers = StateAnswers(answers.outcomes[:count], answers.serialized[:count])
            return None
        entry = self.memos.hit(row, terms, self.function)
        if entry is not None and _states(terms) != answers.serialized:
            entry.renew(_with_states(terms, answers.serialized))
        return entry

    def checks_after_run(self) -> list[StateCheck]:
        """State functions to call after the body: all on a first run, else those that ask."""
        if not self.key.state_fns:
            return []
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
        frame = self.frame or self._new_frame()
        return self.memos.store(self.key, self.function, frame, value, states)

    def wait_for(self, other: Reservation) -> None:
        """Block until an equal call has ended."""
        if other.loop is not None and other.loop is running_loop():
            raise UsageError(
                f"{self.function.name}() is called on the event loop while an equal call is "
                "awaited there, which could not go on: await this one too (as_async)"
            )
        other.waiter().result()

    # Many calls of a batched function at once need no task each: nothing of theirs runs here.

    def run_apart(self) -> asyncio.Future[Any] | None:
        """Start the body in a batch; None if this call has to wait for anything else.

        Its end is to be followed by :meth:`finish_apart`.
        """
        fingerprint, memos = self.key.fingerprint, self.memos
        if not self._needs_no_frame or memos.candidate(self.key, self.function) is not None:
            return None
        if memos.reserve(fingerprint, asyncio.get_running_loop()) is not None:
            return None
        try:
            future: asyncio.Future[Any] = asyncio.ensure_future(
                self.function.invoke(self.args, self.kwargs)
            )
        except BaseException:
            memos.release(fingerprint)
            raise
        return future

    def finish_apart(self, future: asyncio.Future[Any]) -> Any:
        """What the body has returned, remembered."""
        try:
            value = future.result()
            check_cancellation()
            return _hand_over(self.store(value, NO_ANSWERS), self.scope)
        finally:
            self.memos.release(self.key.fingerprint)


def _states(terms: Terms) -> list[bytes]:
    """States of the arguments, then those of context values."""
    return [*terms.states, *(state for _, states in terms.context_states for state in states)]


def _with_states(terms: Terms, states: list[bytes]) -> Terms:
    count = len(terms.states)
    rest = iter(states[count:])
    context_states = [
        (fingerprint, [next(rest, state) for state in known])
        for fingerprint, known in terms.context_states
    ]
    return msgspec.structs.replace(
        terms, states=tuple(states[:count]), context_states=context_states
    )


async def find_or_run_async(call: MemoCall) -> Any:
    memos, fingerprint = call.memos, call.key.fingerprint
    loop = asyncio.get_running_loop()
    entry = None
    while entry is None:
        while (other := memos.reserve(fingerprint, loop)) is not None:
            await asyncio.wrap_future(other.waiter())
        try:
            call.enter()
            entry = memos.reached(fingerprint)
            if entry is None and (found := memos.candidate(call.key, call.function)) is not None:
                row, terms = found
                entry = call.accept(row, terms, await ask(call.checks(terms)))
            if entry is None and not call.function.runs_on_thread:
                value = await call.function.invoke(call.args, call.kwargs)
                check_cancellation()  # nothing that comes too late is stored
                checks = call.checks_after_run()
                entry = call.store(value, await ask(checks) if checks else NO_ANSWERS)
        finally:
            call.leave()
            memos.release(fingerprint)
        if entry is None:
            entry = await _run_on_thread(call, loop)
    return _hand_over(entry, call.scope)


async def _run_on_thread(call: MemoCall, loop: asyncio.AbstractEventLoop) -> MemoEntry | None:
    """Run a synchronous body; None: another call has just done that."""
    body = _ThreadedBody(call, loop)
    try:
        call.enter()
        value = await on_worker(body.run)
        if body.other is not None:
            await asyncio.wrap_future(body.other.waiter())
        if not body.has_run:
            return None
        check_cancellation()
        return call.store(value, await ask(call.checks_after_run()))
    finally:
        call.leave()
        body.end()


class _ThreadedBody:
    """A body that takes the reservation on the thread on which it runs.

    Taken before there is a thread, all threads could be waiting for the call, and the call for
    one of them. An awaiting task that is cancelled leaves the body behind, which then holds the
    reservation until it ends.
    """

    def __init__(self, call: MemoCall, loop: asyncio.AbstractEventLoop) -> None:
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


def _find_or_run_sync(call: MemoCall) -> Any:
    memos, fingerprint = call.memos, call.key.fingerprint
    while (other := memos.reserve(fingerprint)) is not None:
        call.wait_for(other)
    try:
        call.enter()
        entry = memos.reached(fingerprint)
        if entry is None and (found := memos.candidate(call.key, call.function)) is not None:
            row, terms = found
            entry = call.accept(row, terms, ask_now(call.checks(terms)))
        if entry is None:
            value = call.function.invoke(call.args, call.kwargs)
            check_cancellation()
            entry = call.store(value, ask_now(call.checks_after_run()))
    finally:
        call.leave()
        memos.release(fingerprint)
    return _hand_over(entry, call.scope)

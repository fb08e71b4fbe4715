"""Calling a decorated function: deadline, dependency frame, memo.

``call_async`` and ``call_sync`` are the same steps; only waiting differs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cocoindex.core.deadline import check_cancellation
from cocoindex.engine.dependencies import (
    NO_ANSWERS,
    ask,
    ask_now,
)
from cocoindex.engine.frames import Frame
from cocoindex.engine.function_memos import MemoEntry
from cocoindex.engine.memo_call import MemoCall, look_up, shares_frame
from cocoindex.engine.scope import ComponentContext, current_or_none, enter, leave
from cocoindex.engine.workers import on_worker

if TYPE_CHECKING:
    from cocoindex.engine.function import Function
    from cocoindex.engine.function_memos import Reservation

Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]


async def call_async(function: Function, args: Args, kwargs: Kwargs) -> Any:
    """Call an async decorated function, inside a component or not."""
    check_cancellation()
    scope = current_or_none()
    if scope is None:
        result = await function.invoke(args, kwargs)
    elif function.memo:
        found = look_up(scope, function, args, kwargs)
        result = found.value if isinstance(found, MemoEntry) else await find_or_run_async(found)
    elif shares_frame(function):
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


def call_sync(function: Function, args: Args, kwargs: Kwargs) -> Any:
    """Call a sync decorated function, inside a component or not."""
    check_cancellation()
    scope = current_or_none()
    if scope is None:
        result = function.invoke(args, kwargs)
    elif function.memo:
        found = look_up(scope, function, args, kwargs)
        result = found.value if isinstance(found, MemoEntry) else _find_or_run_sync(found)
    elif shares_frame(function):
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
    return call.hand_over(entry)


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
    return call.hand_over(entry)

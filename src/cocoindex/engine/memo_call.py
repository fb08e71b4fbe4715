"""One memoized call: looked up, or made step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Any

import msgspec

from cocoindex.core.deadline import check_cancellation
from cocoindex.engine.dependencies import (
    NO_ANSWERS,
    StateAnswers,
    StateCheck,
    argument_checks,
    context_checks,
    first_checks,
)
from cocoindex.engine.frames import Frame, one_blob
from cocoindex.engine.loops import running_loop
from cocoindex.engine.scope import ComponentContext, enter, leave
from cocoindex.errors import UsageError

if TYPE_CHECKING:
    from cocoindex.engine.function import CallKey, Function
    from cocoindex.engine.function_memos import FunctionMemos, MemoEntry, Reservation
    from cocoindex.engine.rows import FunctionMemoRow, Terms

Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]


def look_up(
    scope: ComponentContext, function: Function, args: Args, kwargs: Kwargs
) -> MemoEntry | MemoCall:
    """The memoized call if its result is at hand, else what can find or make it.

    Raises:
        TypeError: an argument can't be keyed.
    """
    key, memos = function.call_key(args, kwargs), scope.execution.function_memos()
    entry = memos.at_hand(key, function)
    if entry is None:
        return MemoCall(scope, function, args, kwargs, key, memos)
    hand_over(entry, scope)
    return entry


def hand_over(entry: MemoEntry, scope: ComponentContext) -> Any:
    """The result of a memoized call, for a caller who now depends on what it depends on."""
    scope.frame.receive_call(entry.terms.deps, entry.row.fingerprint)
    return entry.value


def shares_frame(function: Function) -> bool:
    """Whether everything the callee depends on counts for its caller."""
    return function.logic_tracking in ("full", "deep")


class MemoCall:
    """One memoized call, step by step."""

    __slots__ = (
        "_own_logic",
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
        self._own_logic: bytes | None = None
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
        self._own_logic = self.function.logic()  # as it is when the body starts
        if self._needs_no_frame:
            return
        if self.frame is None:
            self.frame = self._new_frame()
        self.frame.has_ended = False
        self._token = enter(self.scope.with_frame(self.frame))

    def _new_frame(self) -> Frame:
        return Frame(
            self.scope.frame,
            shares_frame(self.function),
            one_blob(self._own_logic),
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

    def hand_over(self, entry: MemoEntry) -> Any:
        """The result, for a caller who now depends on what it depends on."""
        return hand_over(entry, self.scope)

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
            self.enter()
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
            return self.hand_over(self.store(value, NO_ANSWERS))
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

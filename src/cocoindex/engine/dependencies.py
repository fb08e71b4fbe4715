"""Whether a stored memo's dependencies still hold."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from cocoindex.core import logic
from cocoindex.core.memo_key import StateFn
from cocoindex.core.sentinels import NON_EXISTENCE, MemoStateOutcome
from cocoindex.core.serde import serialize
from cocoindex.engine import rows
from cocoindex.engine.frames import split
from cocoindex.engine.loops import all_of
from cocoindex.errors import DeserializationError, UsageError

if TYPE_CHECKING:
    from cocoindex.engine.run import Run


def are_current(run: Run, deps: rows.Dependencies, own_logic: bytes | None) -> bool:
    """Logic, context values and provider generations are what they were.

    ``own_logic``: the memoized function's own fingerprint, which must be among the stored ones.
    """
    if not logic.are_current(deps.logic, own_logic):
        return False
    if deps.context and not all(run.context_provider.current(fp) for fp in split(deps.context)):
        return False
    for path, *generation in deps.providers:
        if run.generation_of(path) not in (None, tuple(generation)):
            return False
    return True


class StateCheck(msgspec.Struct, frozen=True):
    """One state function to call, with what it said last time."""

    state_fn: StateFn
    previous: bytes | None


class StateAnswers(msgspec.Struct, frozen=True):
    """What the state functions of one memo said."""

    outcomes: list[MemoStateOutcome]
    serialized: list[bytes]

    @property
    def all_valid(self) -> bool:
        for outcome in self.outcomes:  # noqa: SIM110 - a generator costs more than the loop
            if not outcome.memo_valid:
                return False
        return True


NO_ANSWERS = StateAnswers([], [])


def argument_checks(state_fns: Sequence[StateFn], stored: Sequence[bytes]) -> list[StateCheck]:
    """Checks against stored states; all from the start if their number has changed."""
    if len(stored) != len(state_fns):
        return first_checks(state_fns)
    return [StateCheck(fn, previous) for fn, previous in zip(state_fns, stored, strict=True)]


def first_checks(state_fns: Sequence[StateFn]) -> list[StateCheck]:
    return [StateCheck(fn, None) for fn in state_fns]


def context_checks(run: Run, stored: rows.ContextStates) -> list[StateCheck]:
    """Checks for the change-detected context values that a memo has used."""
    checks: list[StateCheck] = []
    for fingerprint, states in stored:
        provided = run.context_provider.current(fingerprint)
        if provided is not None:
            checks += argument_checks(provided.state_fns, states)
    return checks


def context_states(run: Run, blob: bytes) -> rows.ContextStates:
    """Provide-time states of the context values in ``blob``, to be stored with a memo."""
    if not blob:
        return []
    found = ((fp, run.context_provider.current(fp)) for fp in split(blob))
    return [(fp, list(value.states)) for fp, value in found if value is not None and value.states]


def _call(check: StateCheck) -> Any:
    previous: Any = NON_EXISTENCE
    if check.previous is not None:
        try:
            previous = check.state_fn.decode(check.previous)
        except DeserializationError:
            previous = NON_EXISTENCE
    return check.state_fn.call(previous)


def _answers(outcomes: list[Any]) -> StateAnswers:
    typed = [o if type(o) is MemoStateOutcome else MemoStateOutcome(*o) for o in outcomes]
    return StateAnswers(typed, [serialize(outcome.state) for outcome in typed])


def _must_wait(outcome: Any) -> bool:
    return type(outcome) is not MemoStateOutcome and inspect.isawaitable(outcome)


def call_all(checks: Sequence[StateCheck]) -> list[Any]:
    """Call every state function, once; some outcomes may have to be awaited."""
    return [_call(check) for check in checks]


def answers_now(outcomes: list[Any]) -> StateAnswers | None:
    """The answers, if none has to be awaited."""
    for outcome in outcomes:
        if _must_wait(outcome):
            return None
    return _answers(outcomes)


async def answers_of(outcomes: list[Any]) -> StateAnswers:
    """The answers, awaited together where they have to be."""
    waiting = [outcome for outcome in outcomes if _must_wait(outcome)]
    if len(waiting) == 1:  # no need for a task
        awaited_one = await waiting[0]
        outcomes = [awaited_one if o is waiting[0] else o for o in outcomes]
    elif waiting:
        awaited = iter(await all_of(waiting))
        outcomes = [next(awaited) if _must_wait(o) else o for o in outcomes]
    return _answers(outcomes)


async def ask(checks: Sequence[StateCheck]) -> StateAnswers:
    """Call every state function; awaitable outcomes are awaited."""
    return await answers_of(call_all(checks)) if checks else NO_ANSWERS


def ask_now(checks: Sequence[StateCheck]) -> StateAnswers:
    """Like :func:`ask`, from synchronous code.

    Raises:
        RuntimeError: a state function is async and a loop is running in this thread.
    """
    outcomes = call_all(checks)
    return _answers([_finish(o) if _must_wait(o) else o for o in outcomes])


def _finish(awaitable: Any) -> Any:
    async def wait() -> Any:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    raise UsageError(
        "a synchronous memoized function was called on the event loop with an argument whose "
        "memo-state function is async: decorate it with @coco.fn.as_async"
    )

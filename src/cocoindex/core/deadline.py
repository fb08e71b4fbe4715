"""Deadlines: an absolute instant that travels with the context, checked at checkpoints.

Nothing here preempts anything. Code that runs long calls :func:`check_cancellation`; the engine
does so around the bodies it runs.
"""

from __future__ import annotations

import os
import time
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cocoindex.errors import (
    DeadlineExceededError,
    UsageError,
    UsageTypeError,
    UsageValueError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

__all__ = [
    "DeadlineExceededError",
    "check_cancellation",
    "check_deadline",
    "current_deadline",
    "deadline_scope",
    "has_deadline",
    "is_expired",
    "remaining_seconds",
    "testing_advance_deadline_clock",
    "testing_disable_deadline_clock",
    "testing_reset_deadline_clock",
    "timeout",
    "without_deadline",
]

MAX_TIMEOUT: Final = timedelta(days=106_751)
"""About 292 years: what clocks and waits of the platform can represent."""

_deadline: ContextVar[float | None] = ContextVar("cocoindex_deadline", default=None)


class _Clock:
    """The clock of deadlines, in seconds: monotonic, or set by hand in tests."""

    __slots__ = ("now",)
    now: Callable[[], float]

    def __init__(self) -> None:
        self.now = time.monotonic


_clock: Final = _Clock()


class _Scope:
    """Sets the deadline while its block runs and restores the one before exactly."""

    __slots__ = ("_deadline_of", "_tokens")

    def __init__(self, deadline_of: Callable[[float | None], float | None]) -> None:
        self._deadline_of = deadline_of
        self._tokens: list[Token[float | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(_deadline.set(self._deadline_of(_deadline.get())))

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _deadline.reset(self._tokens.pop())


def timeout(duration: timedelta) -> _Scope:
    """Context manager: its block has ``duration`` from entry, or until the outer deadline.

    Zero is allowed: expired as soon as the clock moves.

    Raises:
        UsageTypeError: ``duration`` is no ``timedelta``.
        UsageValueError: ``duration`` is negative or longer than about 292 years.
    """
    if not isinstance(duration, timedelta):
        raise UsageTypeError(
            f"timeout() takes a datetime.timedelta, not {type(duration).__name__}: "
            f"{duration!r}. Write timeout(timedelta(seconds=…))."
        )
    if not timedelta(0) <= duration <= MAX_TIMEOUT:
        raise UsageValueError(
            f"timeout() takes a duration from zero to {MAX_TIMEOUT.days} days, not {duration!r}"
        )
    seconds = duration.total_seconds()

    def nearer(outer: float | None) -> float:
        own = _clock.now() + seconds
        return own if outer is None or own < outer else outer

    return _Scope(nearer)


def without_deadline() -> _Scope:
    """Context manager: its block has no deadline."""
    return _Scope(lambda _: None)


def deadline_scope(deadline: float | None) -> _Scope:
    """Context manager: its block has exactly this deadline, as :func:`current_deadline` gave it."""
    return _Scope(lambda _: deadline)


def current_deadline() -> float | None:
    """The deadline of the current context: an instant of the monotonic clock, in seconds."""
    return _deadline.get()


def has_deadline() -> bool:
    """Whether the current context has a deadline."""
    return _deadline.get() is not None


def remaining_seconds() -> float | None:
    """Seconds until the deadline, not below zero; ``None`` without one."""
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - _clock.now())


def is_expired() -> bool:
    """Whether the current deadline has passed: now is strictly after it."""
    deadline = _deadline.get()
    return deadline is not None and _clock.now() > deadline


def check_cancellation() -> None:
    """A checkpoint for user code that runs long.

    Raises:
        DeadlineExceededError: the deadline of the current scope has passed.
    """
    # Around every function call: one look at a context variable where there is no deadline.
    deadline = _deadline.get()
    if deadline is not None and _clock.now() > deadline:
        raise DeadlineExceededError


check_deadline: Final = check_cancellation
"""The same, where it is the deadline of an operation that counts."""


# --- A clock for tests --------------------------------------------------------------------


def testing_reset_deadline_clock() -> None:
    """Stop the clock of deadlines; it moves by :func:`testing_advance_deadline_clock` only.

    This and its siblings raise ``UsageError`` unless ``COCOINDEX_TESTING=1`` is set.
    """
    _require_testing()
    start = time.monotonic()
    _clock.now = lambda: start


def testing_advance_deadline_clock(ms: float) -> None:
    """Move the stopped clock forward by ``ms`` milliseconds."""
    _require_testing()
    if _clock.now is time.monotonic:
        raise UsageError("the deadline clock is not stopped: call testing_reset_deadline_clock()")
    moved = _clock.now() + ms / 1000
    _clock.now = lambda: moved


def testing_disable_deadline_clock() -> None:
    """Go back to the real clock."""
    _require_testing()
    _clock.now = time.monotonic


def _require_testing() -> None:
    if os.environ.get("COCOINDEX_TESTING") != "1":
        raise UsageError("the deadline clock can be set only with COCOINDEX_TESTING=1")

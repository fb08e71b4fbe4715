"""Trying again what failed for a reason that passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from cocoindex.core.retry import Backoff, exponential_backoff, retry_transient
from cocoindex.errors import TransientError

__all__ = ["ATTEMPTS", "default_backoff", "retrying"]

T = TypeVar("T")

ATTEMPTS: Final = 5


def default_backoff() -> Backoff:
    """0.1 s, doubled at each attempt up to 5 s, a third more or less at random."""
    return exponential_backoff(initial=0.1, multiplier=2.0, max_delay=5.0, jitter=0.33)


async def retrying(
    fn: Callable[[], Awaitable[T]],
    *,
    is_transient: Callable[[BaseException], bool],
    what: str,
    describe: Callable[[BaseException], str] = lambda error: type(error).__name__,
    attempts: int = ATTEMPTS,
    backoff: Callable[[], Backoff] = default_backoff,
) -> T:
    """The result of the first attempt at ``fn`` that does not fail for a passing reason.

    Args:
        fn: makes one attempt; must be safe to repeat.
        is_transient: whether an error may pass; the error's class should decide.
        what: what is tried, for messages (``"postgres table docs: writing 20 rows"``).
        describe: says what an error means without data or secrets in it.
        attempts: give up after so many.
        backoff: makes the schedule of waits.

    Raises:
        TransientError: the last attempt failed for a passing reason too; ``orig`` is its error.
    """

    async def attempt() -> T:
        try:
            return await fn()
        except Exception as error:
            if is_transient(error) and not isinstance(error, TransientError):
                raise _told(f"{what}: {describe(error)}", error) from None
            raise

    try:
        return await retry_transient(
            attempt,
            retry_on=TransientError,
            max_attempts=attempts,
            backoff=backoff(),
            operation_name=what,
        )
    except TransientError as error:
        if error.orig is None:
            raise
        message = f"{error} (gave up after {attempts} attempts)"
        raise _told(message, error.orig) from None


def _told(message: str, orig: BaseException) -> TransientError:
    """The driver's error is kept apart: its text may hold data."""
    error = TransientError(message)
    error.orig = orig
    return error

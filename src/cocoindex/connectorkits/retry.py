"""Trying again what failed for a reason that passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from cocoindex.core.retry import Backoff, exponential_backoff, retry_transient
from cocoindex.errors import TargetConnectionError, TransientError

__all__ = ["ATTEMPTS", "NotConnected", "default_backoff", "retrying"]

T = TypeVar("T")

ATTEMPTS: Final = 5


def default_backoff() -> Backoff:
    """0.1 s, doubled at each attempt up to 5 s, a third more or less at random."""
    return exponential_backoff(initial=0.1, multiplier=2.0, max_delay=5.0, jitter=0.33)


class NotConnected(Exception):
    """A connector's client could not reach its system: nothing was asked of it yet.

    Attributes:
        place: what could not be reached (``"Postgres at db.example.com:5432/docs"``).
        orig: the driver's error.
    """

    def __init__(self, place: str, orig: BaseException) -> None:
        super().__init__(place)
        self.place = place
        self.orig = orig


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
        what: what is tried, for messages (``"Postgres table docs: writing 20 rows"``).
        describe: says what an error means without data or secrets in it.
        attempts: give up after so many.
        backoff: makes the schedule of waits.

    Raises:
        TransientError: the last attempt failed for a passing reason too; ``orig`` is its error.
        TargetConnectionError: the system can't be reached, for a reason that does not pass.
    """

    async def attempt() -> T:
        try:
            return await fn()
        except TransientError:
            raise
        except NotConnected as error:
            told = f"can't connect to {error.place}: {describe(error.orig)}"
            if is_transient(error.orig):
                raise _Passing(told, error.orig, told) from None
            raise TargetConnectionError(told, error.orig) from None
        except Exception as error:
            if not is_transient(error):
                raise
            told = describe(error)
            raise _Passing(told, error, f"{what}: {told}") from None

    try:
        return await retry_transient(
            attempt,
            retry_on=TransientError,
            max_attempts=attempts,
            backoff=backoff(),
            operation_name=what,
        )
    except _Passing as error:
        final = TransientError(f"{error.in_full} (gave up after {attempts} attempts)")
        final.orig = error.orig
        raise final from None


class _Passing(TransientError):
    """One attempt's failure. The driver's error is kept apart: its text may hold data."""

    def __init__(self, told: str, orig: BaseException, in_full: str) -> None:
        super().__init__(told)
        self.orig = orig
        self.in_full = in_full

"""Retrying what may succeed the next time, within the current deadline."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from cocoindex.core.deadline import check_deadline, is_expired, remaining_seconds
from cocoindex.core.deadline import timeout as deadline_timeout
from cocoindex.errors import DeadlineExceededError, UsageValueError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Backoff", "RetryOn", "exponential_backoff", "retry_transient"]

T = TypeVar("T")

RetryOn: TypeAlias = "type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]"
"""The exceptions worth a retry: their classes, or a predicate."""

Backoff: TypeAlias = "Callable[[int], float]"
"""From the number of the failed attempt (from 0) to the seconds to wait."""

_logger = logging.getLogger(__name__)


def exponential_backoff(
    initial: float = 1.0, multiplier: float = 2.0, max_delay: float = 30.0, jitter: float = 0.0
) -> Backoff:
    """Delays that grow by ``multiplier`` at each call; make one per operation, it remembers.

    Args:
        initial: seconds before the first retry.
        multiplier: growth per retry, at least 1.
        max_delay: upper bound in seconds, before jitter.
        jitter: share of the delay (0 to 1) by which it varies at random, up or down.
    """
    if initial < 0 or multiplier < 1 or max_delay < 0 or not 0 <= jitter <= 1:
        raise UsageValueError(
            "exponential_backoff() takes initial >= 0, multiplier >= 1, max_delay >= 0 and "
            f"0 <= jitter <= 1, not {initial=}, {multiplier=}, {max_delay=}, {jitter=}"
        )
    upcoming = initial

    def next_delay(_attempt: int) -> float:
        nonlocal upcoming
        delay = min(upcoming, max_delay)
        upcoming = min(upcoming * multiplier, max_delay)
        return delay * (1 + jitter * random.uniform(-1, 1))  # noqa: S311 - spreads load, no secret

    return next_delay


async def retry_transient(
    fn: Callable[[], Awaitable[T]],
    *,
    retry_on: RetryOn,
    max_attempts: int | None = None,
    timeout: timedelta | None = None,  # noqa: ASYNC109 - a published name; nests as deadlines do
    backoff: Backoff | None = None,
    bound_attempt: bool = False,
    operation_name: str | None = None,
) -> T:
    """The result of the first attempt at ``fn`` that succeeds.

    Args:
        fn: makes one attempt.
        retry_on: which errors are worth another one; everything else propagates at once.
        max_attempts: give up after so many, with the last error; no limit by default.
        timeout: give up after so long; the deadline of the caller counts in any case.
        backoff: seconds to wait after the n-th attempt (from 0); exponential from 1 to 30 s by
            default. Waits are cut at the deadline.
        bound_attempt: cancel a running attempt at the deadline. Otherwise it runs to its end
            and a result that comes too late is not accepted.
        operation_name: what is retried, for the log.

    Raises:
        DeadlineExceededError: the deadline has passed.
        UsageValueError: ``max_attempts`` below 1, or ``timeout`` not positive.
    """
    if max_attempts is not None and max_attempts < 1:
        raise UsageValueError(f"max_attempts must be at least 1, not {max_attempts}")
    if timeout is not None and timeout <= timedelta(0):
        raise UsageValueError(f"timeout must be positive, not {timeout!r}")
    name = operation_name or str(getattr(fn, "__qualname__", type(fn).__qualname__))
    delay_after = backoff or exponential_backoff()
    with deadline_timeout(timeout) if timeout is not None else nullcontext():
        return await _attempts(fn, retry_on, max_attempts, delay_after, bound_attempt, name)


async def _attempts(
    fn: Callable[[], Awaitable[T]],
    retry_on: RetryOn,
    max_attempts: int | None,
    delay_after: Backoff,
    bound_attempt: bool,
    name: str,
) -> T:
    attempt = 0
    while True:
        check_deadline()
        try:
            result = await (_bounded(fn) if bound_attempt else fn())
        except Exception as error:
            attempt += 1
            if not _is_transient(error, retry_on) or attempt == max_attempts:
                raise
            failure = error
        else:
            check_deadline()
            return result
        await _pause(delay_after(attempt - 1), attempt, name, failure)


def _is_transient(error: Exception, retry_on: RetryOn) -> bool:
    if isinstance(error, DeadlineExceededError):
        return False
    if isinstance(retry_on, (type, tuple)):
        return isinstance(error, retry_on)
    return retry_on(error)


async def _bounded(fn: Callable[[], Awaitable[T]]) -> T:
    """One attempt, cancelled at the deadline; its own ``TimeoutError`` passes unchanged."""
    scope = asyncio.timeout(remaining_seconds())
    try:
        async with scope:
            return await fn()
    except TimeoutError as error:
        if scope.expired():
            raise DeadlineExceededError from error
        raise


async def _pause(delay: float, attempt: int, name: str, failure: Exception) -> None:
    if is_expired():
        raise DeadlineExceededError from failure
    left = remaining_seconds()
    clipped = delay if left is None else min(delay, left)
    _logger.warning(
        "%s failed with transient error on attempt %d; retrying in %.2f s: %s",
        name,
        attempt,
        clipped,
        failure,
    )
    await asyncio.sleep(clipped)
    if clipped < delay:
        raise DeadlineExceededError from failure

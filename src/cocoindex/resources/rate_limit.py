"""Limiting how often something happens, fairly, across tasks, loops and threads."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from concurrent.futures import Future
from operator import index
from typing import TYPE_CHECKING, Self

from cocoindex.errors import UsageTypeError, UsageValueError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["RateLimiter"]

_TOLERANCE = 1e-9
"""Of a token: what rounding may leave missing."""


def _now() -> float:
    """The clock of the running loop, so that a loop with virtual time is obeyed."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


class _Waiter:
    """One who waits for ``n`` tokens; the future is resolved when they are first in line."""

    __slots__ = ("n", "turn")

    def __init__(self, n: int) -> None:
        self.n = n
        self.turn: Future[None] = Future()


class RateLimiter:
    """A token bucket, full at the start. The object is the budget: share it to share the budget.

    Those who wait are served in the order in which they came, each one for all it asked for.
    ``async with limiter:`` takes one token.

    Args:
        max_rows_per_second: how fast the bucket fills, above zero.
        burst_window_secs: how many seconds' worth of tokens it holds, at least one token. Zero
            means strict spacing.

    Raises:
        UsageValueError: the rate is not a positive number, or the window is not a number.
    """

    def __init__(self, max_rows_per_second: float, burst_window_secs: float = 1.0) -> None:
        rate = float(max_rows_per_second)
        if not (rate > 0 and math.isfinite(rate)):
            raise UsageValueError(
                f"max_rows_per_second must be a positive number, not {max_rows_per_second!r}"
            )
        if not math.isfinite(burst_window_secs):
            raise UsageValueError(f"burst_window_secs must be a number, not {burst_window_secs!r}")
        self._rate = rate
        self._capacity = max(1, math.floor(rate * burst_window_secs))
        self._mutex = threading.Lock()
        self._level = float(self._capacity)
        self._as_of: float | None = None
        self._line: deque[_Waiter] = deque()

    def try_acquire(self, n: int = 1) -> bool:
        """Take ``n`` tokens if they are there and nobody waits; raises as :meth:`acquire` does."""
        count = _checked(n)
        with self._mutex:
            if count == 0:
                return True
            return not self._line and self._take(count, _now())

    async def acquire(self, n: int = 1) -> None:
        """Take ``n`` tokens, waiting as long as it takes; more than the bucket holds is fine.

        A wait that is cancelled takes nothing.

        Raises:
            UsageValueError: ``n`` is negative.
            UsageTypeError: ``n`` is no integer.
        """
        count = _checked(n)
        if count == 0 or self.try_acquire(count):
            return
        waiter = _Waiter(count)
        self._join(waiter)
        try:
            if not waiter.turn.done():
                # Shielded: a cancelled wait must not cancel what the one before will resolve.
                await asyncio.shield(asyncio.wrap_future(waiter.turn))
            await self._wait_for_tokens(count)
        finally:
            self._leave(waiter)

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def _join(self, waiter: _Waiter) -> None:
        with self._mutex:
            self._line.append(waiter)
            first = self._line[0] is waiter
        if first:
            waiter.turn.set_result(None)

    def _leave(self, waiter: _Waiter) -> None:
        with self._mutex:
            was_first = self._line[0] is waiter
            self._line.remove(waiter)
            heir = self._line[0] if was_first and self._line else None
        if heir is not None:
            heir.turn.set_result(None)

    async def _wait_for_tokens(self, n: int) -> None:
        """Being first in line: wait until ``n`` tokens are there, and take them."""
        while True:
            with self._mutex:
                now = _now()
                if self._take(n, now):
                    return
                missing = (n - self._level) / self._rate
            await asyncio.sleep(missing)
            with self._mutex:
                if self._take_as_due(n, now + missing, _now()):
                    return

    def _refill(self, now: float, limit: int) -> None:
        if self._as_of is not None:
            filled = self._level + (now - self._as_of) * self._rate
            self._level = min(max(self._level, filled), max(limit, self._capacity))
        self._as_of = now if self._as_of is None else max(now, self._as_of)

    def _take(self, n: int, now: float) -> bool:
        # Only who is first in line may let the bucket grow beyond its size, up to its own need.
        self._refill(now, n if self._line else 0)
        if self._level < n - _TOLERANCE:
            return False
        self._level = max(0.0, self._level - n)
        return True

    def _take_as_due(self, n: int, due: float, now: float) -> bool:
        """Take as of when the tokens were due: waking up late must not lower the rate."""
        return now >= due - _TOLERANCE and self._take(n, due)


def _checked(n: int) -> int:
    try:
        count = index(n)
    except TypeError:
        raise UsageTypeError(f"n must be an int, not {type(n).__name__}: {n!r}") from None
    if count < 0:
        raise UsageValueError(f"n must not be negative: {n}")
    return count

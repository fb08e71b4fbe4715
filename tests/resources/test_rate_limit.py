from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cocoindex.resources.rate_limit import RateLimiter


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events and timeout:
            self.loop.now += timeout
        return events


def virtually(scenario: Callable[[], Awaitable[Any]]) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario())  # type: ignore[arg-type]


def now() -> float:
    return round(asyncio.get_running_loop().time(), 6)


async def times(limiter: RateLimiter, *amounts: int) -> list[float]:
    """When each of several tasks, started in this order, gets its tokens."""

    async def one(n: int) -> float:
        await limiter.acquire(n)
        return now()

    return await asyncio.gather(*[one(n) for n in amounts])


@pytest.mark.parametrize("window", [0, -1])
def test_no_window_means_strict_spacing(window: float) -> None:
    got = virtually(lambda: times(RateLimiter(20, window), 1, 1, 1, 1))
    assert got == [0, 0.05, 0.10, 0.15]


def test_a_burst_up_to_the_capacity_is_free() -> None:
    assert virtually(lambda: times(RateLimiter(10), *[1] * 12)) == [0] * 10 + [0.1, 0.2]


def test_more_than_the_bucket_holds_waits_long_enough() -> None:
    assert virtually(lambda: times(RateLimiter(10), 25)) == [1.5]


def test_service_is_first_come_first_served_for_the_whole_amount() -> None:
    assert virtually(lambda: times(RateLimiter(10), 10, 20, 1)) == [0, 2.0, 2.1]


def test_a_slow_rate_has_room_for_one() -> None:
    assert virtually(lambda: times(RateLimiter(0.5), 1, 1)) == [0, 2.0]


def test_the_bucket_fills_while_idle_up_to_its_capacity() -> None:
    async def scenario() -> list[float]:
        limiter = RateLimiter(10)
        await times(limiter, 10)
        await asyncio.sleep(100)
        start = now()
        return [round(t - start, 6) for t in await times(limiter, 10, 1)]

    assert virtually(scenario) == [0, 0.1]


def test_waking_up_late_does_not_lower_the_rate() -> None:
    async def scenario() -> float:
        limiter = RateLimiter(10, 0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for _ in range(11):
            await limiter.acquire()
            loop.now += 0.03
        return now()

    assert virtually(scenario) == pytest.approx(1.03, abs=0.04)


def test_zero_tokens_cost_nothing() -> None:
    assert virtually(lambda: times(RateLimiter(1), 1, 0, 0)) == [0, 0, 0]


def test_a_cancelled_wait_takes_nothing() -> None:
    async def scenario() -> tuple[list[float], float]:
        limiter = RateLimiter(10)
        await limiter.acquire(10)
        first = asyncio.create_task(limiter.acquire(1000))
        middle = asyncio.create_task(limiter.acquire(500))
        last = asyncio.create_task(times(limiter, 5))
        await asyncio.sleep(0.2)
        middle.cancel()
        await asyncio.sleep(0.1)
        first.cancel()
        (served,) = await last
        assert limiter.try_acquire() is False
        return served

    assert virtually(scenario) == 0.5


def test_after_a_cancelled_large_wait_the_burst_is_bounded_again() -> None:
    async def scenario() -> list[float]:
        limiter = RateLimiter(10)
        waiting = asyncio.create_task(limiter.acquire(1000))
        await asyncio.sleep(50)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return await times(limiter, 10, 1)

    assert virtually(scenario) == [50, 50.1]


def test_trying_takes_what_is_there_and_never_overtakes() -> None:
    async def scenario() -> None:
        limiter = RateLimiter(10)
        assert limiter.try_acquire(0)
        assert limiter.try_acquire(10)
        assert not limiter.try_acquire()
        waiting = asyncio.create_task(limiter.acquire(5))
        await asyncio.sleep(0.3)
        assert not limiter.try_acquire(1)
        await waiting
        assert now() == 0.5

    virtually(scenario)


def test_it_is_an_async_context_manager() -> None:
    async def scenario() -> list[float]:
        limiter = RateLimiter(2, 0)
        entered = []
        for _ in range(3):
            async with limiter as entered_limiter:
                assert entered_limiter is limiter
                entered.append(now())
        return entered

    assert virtually(scenario) == [0, 0.5, 1.0]


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_the_rate_is_a_positive_number(rate: float) -> None:
    with pytest.raises(ValueError, match="max_rows_per_second"):
        RateLimiter(rate)


async def test_amounts_are_checked() -> None:
    limiter = RateLimiter(1)
    with pytest.raises(ValueError, match="negative"):
        await limiter.acquire(-1)
    with pytest.raises(TypeError, match="int"):
        await limiter.acquire(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        limiter.try_acquire(-1)


def test_one_budget_serves_several_loops_and_threads() -> None:
    limiter = RateLimiter(2000, 0.05)
    served: list[int] = []

    async def work() -> None:
        for _ in range(50):
            await limiter.acquire()
            served.append(1)

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(served) == 150

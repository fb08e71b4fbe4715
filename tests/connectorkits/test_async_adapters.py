from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from cocoindex.connectorkits.async_adapters import async_to_sync_iter, sync_to_async_iter

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")

PATIENCE = 20.0
"""Seconds after which a hanging test fails."""


async def happens(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, PATIENCE)


@pytest.mark.parametrize("size", [1, 2, 1024])
async def test_items_arrive_in_order(size: int) -> None:
    items = [
        item async for item in sync_to_async_iter(lambda: iter(range(500)), max_queue_size=size)
    ]
    assert items == list(range(500))


async def test_the_producer_runs_in_a_daemon_thread_with_the_callers_context() -> None:
    def produce() -> Iterator[object]:
        yield threading.current_thread().daemon
        yield threading.current_thread() is threading.main_thread()
        yield WHO.get()

    WHO.set("caller")
    items = sync_to_async_iter(produce)
    WHO.set("changed later")
    assert [item async for item in items] == [True, False, "caller"]


async def test_an_error_of_the_producer_is_raised_after_its_items() -> None:
    def produce() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    seen = []
    with pytest.raises(KeyError, match="broken"):
        async for item in sync_to_async_iter(produce):
            seen.append(item)  # noqa: PERF401 - what came before the error must be kept
    assert seen == [1]


async def test_an_error_before_the_first_item_is_raised() -> None:
    def produce() -> Iterator[int]:
        raise KeyError("no source")

    with pytest.raises(KeyError):
        async for _ in sync_to_async_iter(produce):
            pytest.fail("no item was produced")


async def test_the_producer_does_not_run_ahead_of_the_queue() -> None:
    made: list[int] = []
    ahead = threading.Event()

    def produce() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 3:
                ahead.set()
            yield number

    async with aclosing(sync_to_async_iter(produce, max_queue_size=2)) as items:
        assert await anext(items) == 0
        assert await happens(ahead)  # 0 was taken, 1 and 2 wait, 3 has no room yet
        assert made == [0, 1, 2, 3]
        assert await anext(items) == 1


async def test_leaving_early_stops_the_producer() -> None:
    closed = threading.Event()

    def produce() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    async with aclosing(sync_to_async_iter(produce, max_queue_size=2)) as items:
        async for item in items:
            if item == 3:
                break
    assert await happens(closed)


async def test_leaving_early_does_not_wait_for_a_producer_that_hangs() -> None:
    release = threading.Event()

    def produce() -> Iterator[int]:
        yield 1
        release.wait(PATIENCE)

    async with aclosing(sync_to_async_iter(produce)) as items:
        assert await anext(items) == 1
    release.set()


async def test_a_consumer_that_waits_does_not_block_the_loop() -> None:
    go = threading.Event()

    def produce() -> Iterator[str]:
        go.wait(PATIENCE)
        yield "late"

    items = sync_to_async_iter(produce)
    waiting = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    assert await waiting == "late"
    await items.aclose()


def counting(count: int) -> AsyncIterator[int]:
    async def produce() -> AsyncIterator[int]:
        for number in range(count):
            await asyncio.sleep(0)
            yield number

    return produce()


@pytest.mark.parametrize("size", [1, 2, 1024])
def test_async_items_arrive_in_order(size: int) -> None:
    assert list(async_to_sync_iter(lambda: counting(300), max_queue_size=size)) == list(range(300))


def test_an_async_error_is_raised_after_its_items() -> None:
    async def produce() -> AsyncIterator[int]:
        yield 1
        raise KeyError("broken")

    items = async_to_sync_iter(produce)
    assert next(items) == 1
    with pytest.raises(KeyError, match="broken"):
        next(items)


def test_the_async_producer_has_the_callers_context() -> None:
    async def produce() -> AsyncIterator[str]:
        yield WHO.get()

    token = WHO.set("sync caller")
    items = async_to_sync_iter(produce)
    WHO.reset(token)
    assert list(items) == ["sync caller"]


def test_leaving_early_cancels_the_async_producer() -> None:
    closed = threading.Event()

    async def produce() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    for _ in async_to_sync_iter(produce):
        break
    assert closed.wait(PATIENCE)


def test_the_async_producer_does_not_run_ahead_of_the_queue() -> None:
    made: list[int] = []
    ahead = threading.Event()

    async def produce() -> AsyncIterator[int]:
        for number in range(100):
            made.append(number)
            if number == 3:
                ahead.set()
            yield number

    items = async_to_sync_iter(produce, max_queue_size=2)
    assert next(items) == 0
    assert ahead.wait(PATIENCE)
    assert made == [0, 1, 2, 3]
    items.close()  # type: ignore[attr-defined]


async def test_blocking_a_running_loop_is_refused() -> None:
    with pytest.raises(RuntimeError, match="async for"):
        async_to_sync_iter(lambda: counting(1))


def test_the_queue_has_room_for_one_at_least() -> None:
    with pytest.raises(ValueError, match="max_queue_size"):
        sync_to_async_iter(lambda: iter(()), max_queue_size=0)
    with pytest.raises(ValueError, match="max_queue_size"):
        async_to_sync_iter(lambda: counting(1), max_queue_size=0)

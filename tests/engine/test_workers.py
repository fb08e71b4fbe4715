"""Threads for synchronous bodies: who runs, who waits, and when results arrive."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest

from cocoindex.engine.workers import StopIterationInWorker, WorkerPool

WAIT = 30.0
"""Seconds after which what should happen has not."""


@pytest.fixture
def make_pool() -> Iterator[Callable[[int], WorkerPool]]:
    pools: list[WorkerPool] = []

    def make(max_threads: int) -> WorkerPool:
        pools.append(WorkerPool(max_threads))
        return pools[-1]

    yield make
    for pool in pools:
        pool.stop()


def submit(pool: WorkerPool, call: Callable[[], Any]) -> asyncio.Future[Any]:
    return pool.submit(copy_context(), call)


def test_bodies_that_block_run_at_the_same_time_up_to_the_limit(make_pool):
    pool = make_pool(6)
    together = threading.Barrier(6)

    async def main():
        jobs = [submit(pool, lambda: together.wait(WAIT)) for _ in range(12)]
        return await asyncio.gather(*jobs)

    assert sorted(asyncio.run(main())) == sorted([*range(6)] * 2)


def test_no_more_bodies_than_the_limit_run_at_the_same_time(make_pool):
    pool = make_pool(2)
    now, most = set(), []
    lock = threading.Lock()

    def body():
        with lock:
            now.add(threading.get_ident())
            most.append(len(now))
        with lock:
            now.discard(threading.get_ident())

    async def main():
        await asyncio.gather(*(submit(pool, body) for _ in range(500)))

    asyncio.run(main())
    assert len(most) == 500
    assert max(most) <= 2


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_result_arrives_while_the_next_body_blocks(make_pool, threads):
    pool = make_pool(threads)

    async def main():
        seen = [threading.Event() for _ in range(9)]
        # Each body but the first waits until the loop has the results of all before it.
        first = submit(pool, lambda: True)
        jobs = [first, *(submit(pool, lambda e=e: e.wait(WAIT)) for e in seen)]
        for job, event in zip(jobs, seen, strict=False):
            await job
            event.set()
        return await asyncio.gather(*jobs)

    assert asyncio.run(main()) == [True] * 10


def test_a_body_submitted_while_all_threads_block_gets_a_thread_of_its_own(make_pool):
    pool = make_pool(3)

    async def main():
        go = threading.Event()
        blocked = []
        for _ in range(2):
            entered = threading.Event()
            blocked.append(submit(pool, lambda e=entered: (e.set(), go.wait(WAIT))))
            while not entered.is_set():
                await asyncio.sleep(0)
        await submit(pool, go.set)
        return await asyncio.gather(*blocked)

    assert asyncio.run(main()) == [(None, True)] * 2


def test_bodies_of_two_loops_may_wait_for_each_other(make_pool):
    pool = make_pool(2)
    here, there = threading.Event(), threading.Event()

    async def call(mine, other):
        await submit(pool, lambda: (mine.set(), other.wait(WAIT)))
        return await submit(pool, lambda: 1)

    results = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(call(there, here))))
    thread.start()
    results.append(asyncio.run(call(here, there)))
    thread.join()
    assert results == [1, 1]


def test_many_short_bodies_return_what_they_should_in_each_order_of_threads(make_pool):
    pool = make_pool(4)

    async def one(n):
        return [await submit(pool, lambda i=i: i) for i in range(n, n + 20)]

    async def main():
        return await asyncio.gather(*(one(n) for n in range(200)))

    assert asyncio.run(main()) == [[*range(n, n + 20)] for n in range(200)]


def test_errors_and_stop_iteration_reach_who_awaits(make_pool):
    pool = make_pool(1)

    def fail(error):
        raise error

    async def main():
        with pytest.raises(KeyError):
            await submit(pool, lambda: fail(KeyError(1)))
        with pytest.raises(StopIterationInWorker):
            await submit(pool, lambda: fail(StopIteration()))
        return await submit(pool, lambda: "still there")

    assert asyncio.run(main()) == "still there"


def test_a_cancelled_job_that_still_waits_does_not_run(make_pool):
    pool = make_pool(1)
    ran = []

    async def main():
        go = threading.Event()
        blocked = submit(pool, lambda: go.wait(WAIT))
        waiting = submit(pool, lambda: ran.append("cancelled"))
        waiting.cancel()
        last = submit(pool, lambda: ran.append("last"))
        go.set()
        await blocked
        await last

    asyncio.run(main())
    assert ran == ["last"]


def test_a_stopped_pool_leaves_no_threads(make_pool):
    pool = make_pool(3)
    together = threading.Barrier(3)
    found: list[threading.Thread] = []

    def body():
        found.append(threading.current_thread())
        together.wait(WAIT)

    async def main():
        await asyncio.gather(*(submit(pool, body) for _ in range(3)))

    asyncio.run(main())
    pool.stop()
    for thread in found:
        thread.join(WAIT)
    assert [thread.is_alive() for thread in found] == [False] * 3


def test_where_no_more_threads_can_be_started_those_that_are_there_do_everything(
    make_pool, monkeypatch
):
    pool = make_pool(8)
    start = threading.Thread.start
    started = []

    def start_two(thread):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    together = threading.Barrier(2)

    async def main():
        jobs = [submit(pool, lambda: together.wait(WAIT)) for _ in range(10)]
        return await asyncio.gather(*jobs)

    assert sorted(asyncio.run(main())) == sorted([0, 1] * 5)


def test_without_any_thread_the_caller_is_told(make_pool, monkeypatch):
    pool = make_pool(2)
    ran = []

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    async def main():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start"):
                await submit(pool, lambda: ran.append("refused"))
        await submit(pool, lambda: ran.append("next"))

    asyncio.run(main())
    assert ran == ["next"]


def test_loops_may_come_while_closed_ones_are_looked_for(make_pool):
    pool = make_pool(1)

    class Loop:
        """While it is asked whether it is closed, another thread brings another loop."""

        def __init__(self, *coming):
            self._coming = [*coming]

        def is_closed(self):
            while self._coming:
                pool._port_of(self._coming.pop())
            return True

    for loop in (Loop(), Loop(Loop(), Loop()), Loop(), Loop()):
        pool._port_of(loop)


def test_what_goes_wrong_at_the_end_of_one_job_is_no_matter_to_the_others(make_pool):
    pool = make_pool(1)
    raised: list[BaseException] = []

    class Job:
        is_wanted = True

        def __init__(self, number: int, ended: list[int], is_last: asyncio.Event) -> None:
            self.context = copy_context()
            self._number, self._ended, self._is_last = number, ended, is_last

        def run(self) -> int:
            return self._number

        def ended(self, value: Any, error: BaseException | None) -> None:
            assert error is None
            self._ended.append(value)
            if value == 4:
                self._is_last.set()
            if value % 2:
                raise KeyError(value)

    async def main() -> list[int]:
        ended: list[int] = []
        is_last = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: raised.append(context["exception"]))
        for number in range(5):
            pool.start(Job(number, ended, is_last))
        await asyncio.wait_for(is_last.wait(), WAIT)
        return ended

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert [error.args for error in raised] == [(1,), (3,)]

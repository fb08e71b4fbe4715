"""Components with synchronous bodies, mounted in the background: no task waits while they run."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import cocoindex as coco
from cocoindex._internal.core import cancel_all, reset_global_cancellation
from cocoindex.core.deadline import remaining_seconds, timeout
from cocoindex.engine.workers import MAX_THREADS

sub = coco.component_subpath
MANY = 200
WAIT = 30.0
"""Seconds after which what should happen has not."""

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def each(fn: Any, count: int = MANY) -> None:
    await coco.mount_each(sub("e"), fn, [(n, n) for n in range(count)])


@pytest.fixture(params=["sync", "awaited"])
def decorated(request) -> Callable[..., Any]:
    return coco.fn if request.param == "sync" else coco.fn.as_async


@pytest.fixture
def errors(bench) -> list[BaseException]:
    """What the exception handler of the environment gets."""
    errors: list[BaseException] = []
    bench.exception_handler = lambda error, _context: errors.append(error)
    return errors


class TestContext:
    async def test_it_is_one_of_the_body_alone_with_what_was_set_at_its_mount(
        self, bench, decorated
    ):
        seen: dict[int, str] = {}

        @decorated
        def body(n: int) -> None:
            seen[n] = colour.get()
            colour.set("set by a body")

        async def main() -> None:
            for n in range(20):
                colour.set(f"for {n}")
                await coco.mount(sub(n), body, n)

        await bench.run(main)
        assert seen == {n: f"for {n}" for n in range(20)}

    async def test_exception_handlers_know_it_too(self, bench, decorated):
        seen: set[tuple[str, str]] = set()

        async def handler(error: BaseException, context: coco.ExceptionContext) -> None:
            await asyncio.sleep(0)
            seen.add((str(error), colour.get()))

        @decorated
        def body(n: int) -> None:
            raise ValueError(f"no {n}")

        async def main() -> None:
            colour.set("red")
            async with coco.exception_handler(handler):
                await each(body, 3)

        await bench.run(main)
        assert seen == {(f"no {n}", "red") for n in range(3)}

    async def test_the_deadline_of_whoever_mounts_is_not_in_it(self, bench, decorated):
        left: list[float | None] = []

        @decorated
        def body(_n: int) -> None:
            left.append(remaining_seconds())

        async def main() -> None:
            with timeout(timedelta(hours=1)):
                await each(body, 3)

        await bench.run(main)
        assert left == [None] * 3


class TestThreads:
    async def test_bodies_that_block_hold_nobody_up(self, bench, decorated):
        others = threading.Barrier(MANY // 20)
        ran: list[int] = []

        @decorated
        def body(n: int) -> None:
            if n % 20 == 0:
                others.wait(WAIT)
            ran.append(n)

        await bench.run(lambda: each(body))
        assert sorted(ran) == list(range(MANY))

    async def test_a_body_may_wait_for_what_it_has_the_loop_do(self, bench, decorated):
        loop = asyncio.get_running_loop()

        @decorated
        def body(n: int) -> None:
            seen.append(asyncio.run_coroutine_threadsafe(double(n), loop).result(WAIT))

        async def double(n: int) -> int:
            await asyncio.sleep(0)
            return 2 * n

        seen: list[int] = []
        await bench.run(lambda: each(body))
        assert sorted(seen) == [2 * n for n in range(MANY)]

    async def test_what_a_body_mounts_through_the_loop_is_waited_for(self, bench, table):
        loop = asyncio.get_running_loop()

        async def child(n: int) -> None:
            await asyncio.sleep(0)
            table.declare(n, "child")

        def body(n: int) -> None:
            mounting = coco.mount(sub("child"), child, n)
            asyncio.run_coroutine_threadsafe(mounting, loop).result(WAIT)

        await bench.run(lambda: each(body, 5))
        assert table.rows == dict.fromkeys(range(5), "child")
        await bench.run(lambda: each(body, 3))
        assert table.rows == dict.fromkeys(range(3), "child")


class TestEnds:
    @pytest.mark.parametrize("error", [StopIteration, asyncio.CancelledError, KeyError])
    async def test_whatever_a_body_raises_is_its_failure_alone(
        self, bench, table, errors, decorated, error
    ):
        @decorated
        def body(n: int) -> None:
            table.declare(n, "x")
            if n == 3:
                raise error("of the body")

        await bench.run(lambda: each(body, 5))
        assert table.rows == dict.fromkeys([0, 1, 2, 4], "x")
        (failure,) = errors
        assert error in (type(failure), type(failure.__cause__))

    async def test_an_error_without_a_text_is_one_all_the_same(self, bench, errors, decorated):
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        @decorated
        def body(n: int) -> None:
            raise Mute

        await asyncio.wait_for(bench.run(lambda: each(body, 3)), WAIT)
        assert [type(error) for error in errors] == [Mute] * 3

    async def test_a_value_that_cannot_be_looked_at_is_a_failure(self, bench, errors):
        class Proxy:
            @property
            def __class__(self) -> type:
                raise RuntimeError("nothing behind it")

        def body(n: int) -> Proxy:
            return Proxy()

        await asyncio.wait_for(bench.run(lambda: each(body, 3)), WAIT)
        assert [str(error) for error in errors] == ["nothing behind it"] * 3

    async def test_a_mount_that_is_not_awaited_is_noticed(self, bench, errors):
        def child() -> None: ...

        def body(_n: int) -> None:
            coco.mount(sub("child"), child).close()

        await bench.run(lambda: each(body, 1))
        assert "without awaiting it" in str(errors[0])

    async def test_what_a_plain_wrapper_returns_is_awaited(self, bench, table):
        async def real(n: int) -> None:
            await asyncio.sleep(0)
            table.declare(n, colour.get())
            await coco.mount(sub("child"), table.declare, -n, "child")

        def main() -> Any:
            colour.set("red")
            return each(lambda n: real(n + 1), 3)

        await bench.run(main)
        assert table.rows == {1: "red", 2: "red", 3: "red"} | dict.fromkeys([-1, -2, -3], "child")

    async def test_a_body_that_is_left_behind_declares_nothing_more(self, bench, table, decorated):
        running, go, told = threading.Event(), threading.Event(), threading.Event()
        refusals: list[str] = []

        @decorated
        def body(n: int) -> None:
            table.declare(n, "before")
            running.set()
            go.wait(WAIT)
            try:
                table.declare(-n, "after")
            except RuntimeError as error:
                refusals.append(str(error))
            told.set()

        run = asyncio.ensure_future(bench.start(lambda: each(body, 1)).result())
        await asyncio.to_thread(running.wait, WAIT)
        cancel_all()
        try:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(run, WAIT)
        finally:
            reset_global_cancellation()
        go.set()
        assert await asyncio.to_thread(told.wait, WAIT)
        assert "has returned" in refusals[0]
        assert table.rows == {}

    async def test_bodies_that_wait_for_a_thread_when_all_is_cancelled_never_run(self, bench):
        running, go = threading.Semaphore(0), threading.Event()
        ran: list[int] = []

        def body(n: int) -> None:
            ran.append(n)
            running.release()
            go.wait(WAIT)

        def all_threads_run() -> bool:
            return all(running.acquire(timeout=WAIT) for _ in range(MAX_THREADS))

        run = asyncio.ensure_future(bench.start(lambda: each(body)).result())
        assert await asyncio.to_thread(all_threads_run)
        cancel_all()
        try:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(run, WAIT)
        finally:
            reset_global_cancellation()
        go.set()
        await bench.run(lambda: each(lambda n: None, MANY))
        assert len(ran) == MAX_THREADS


class TestMemos:
    async def test_one_runs_again_only_with_other_arguments(self, bench, table, ran, decorated):
        @decorated(memo=True)
        def body(_n: int, value: str) -> None:
            ran(value)
            table.declare("k", value)

        async def main(value: str) -> None:
            await coco.mount_each(sub("e"), body, [(0, 0)], value)

        for value in ("a", "a", "b", "b"):
            await bench.run(lambda v=value: main(v))
        assert ran.take() == ["a", "b"]
        assert table.rows == {"k": "b"}

    async def test_one_that_is_memoized_no_more_is_forgotten(self, bench, ran):
        @coco.fn(memo=True)
        def memoized(_n: int) -> None:
            ran("memoized")

        @coco.fn
        def plain(_n: int) -> None:
            ran("plain")

        for body in (memoized, memoized, plain, memoized, memoized):
            await bench.run(lambda b=body: each(b, 1))
        assert ran.take() == ["memoized", "plain", "memoized"]

    async def test_state_functions_may_be_awaited_after_the_body(self, bench, ran, decorated):
        class File:
            def __coco_memo_key__(self) -> str:
                return "file"

            async def __coco_memo_state__(self, prev: Any) -> coco.MemoStateOutcome:
                await asyncio.sleep(0)
                ran("state")
                return coco.MemoStateOutcome(state=1, memo_valid=prev == 1)

        @decorated(memo=True)
        def body(_file: Any) -> None:
            ran("body")

        async def main() -> None:
            await coco.mount_each(sub("e"), body, [(0, File())])

        await bench.run(main)
        await bench.run(main)
        assert ran.take() == ["body", "state", "state"]

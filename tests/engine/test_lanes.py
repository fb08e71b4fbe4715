"""Components share tasks: to a body, its task and its context are its own all the same."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

import cocoindex as coco
from cocoindex._internal.core import cancel_all, reset_global_cancellation

sub = coco.component_subpath
MANY = 300

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def each(fn: Any, count: int = MANY) -> None:
    await coco.mount_each(sub("e"), fn, [(n, n) for n in range(count)])


class TestContext:
    async def test_what_a_body_sets_is_unknown_to_those_after_it(self, bench):
        seen: set[str] = set()

        async def body(n: int) -> None:
            seen.add(colour.get())
            colour.set(f"set by {n}")
            if n % 3 == 0:
                await asyncio.sleep(0)
            assert colour.get() == f"set by {n}"

        await bench.run(lambda: each(body))
        assert seen == {"none"}

    async def test_a_body_sees_what_was_set_when_it_was_mounted(self, bench):
        seen: dict[int, str] = {}

        async def body(n: int) -> None:
            seen[n] = colour.get()

        async def main() -> None:
            for n in range(20):
                colour.set(f"for {n}")
                await coco.mount(sub(n), body, n)

        await bench.run(main)
        assert seen == {n: f"for {n}" for n in range(20)}

    async def test_exception_handlers_see_it_too_when_a_sink_has_failed(self, bench, table):
        seen: set[str] = set()

        async def handler(error: BaseException, context: coco.ExceptionContext) -> None:
            await asyncio.sleep(0)
            seen.add(colour.get())

        async def body(n: int) -> None:
            table.declare(n, "x")

        async def main() -> None:
            colour.set("red")
            async with coco.exception_handler(handler):
                await (await coco.mount_each(sub("e"), body, [(n, n) for n in range(5)])).ready()

        with table.failing():
            await bench.run(main)
        assert seen == {"red"}


class TestTasks:
    async def test_a_body_that_waits_holds_nobody_up(self, bench):
        last_has_run = asyncio.Event()

        async def body(n: int) -> None:
            if n == MANY - 1:
                last_has_run.set()
            elif n % 2 == 0:
                await last_has_run.wait()

        await asyncio.wait_for(bench.run(lambda: each(body)), 60)

    async def test_bodies_that_do_not_wait_share_a_task(self, bench):
        tasks: set[Any] = set()

        async def body(_n: int) -> None:
            tasks.add(asyncio.current_task())

        await bench.run(lambda: each(body))
        assert len(tasks) < MANY / 4

    async def test_a_timeout_inside_of_a_body_ends_only_what_it_is_around(self, bench):
        timed_out: list[int] = []

        async def body(n: int) -> None:
            if n % 50 == 0:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await asyncio.Event().wait()
                timed_out.append(n)

        await bench.run(lambda: each(body))
        assert sorted(timed_out) == list(range(0, MANY, 50))

    async def test_a_task_group_inside_of_a_body_works(self, bench):
        sums: list[int] = []

        async def add(n: int) -> int:
            await asyncio.sleep(0)
            return n

        async def body(n: int) -> None:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(add(k)) for k in range(n % 4)]
            sums.append(sum(task.result() for task in tasks))

        await bench.run(lambda: each(body))
        assert len(sums) == MANY

    @pytest.mark.parametrize("waits", [False, True])
    async def test_a_body_that_cancels_its_own_task_cancels_no_other(self, bench, waits):
        ran: list[int] = []

        async def body(n: int) -> None:
            ran.append(n)
            if n % 10 == 0:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                if waits:
                    await asyncio.sleep(0)

        await bench.run(lambda: each(body))
        assert sorted(ran) == list(range(MANY))

    async def test_an_update_cancelled_while_components_wait_for_a_sink_ends(self, bench, table):
        async def body(n: int) -> None:
            table.declare(n, "x")

        async def main() -> None:
            await each(body, 5)

        with table.held() as gate:
            run = asyncio.ensure_future(bench.start(main).result())
            await gate.entered.wait()
            cancel_all()
            try:
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(run, 30)
            finally:
                reset_global_cancellation()
        await bench.run(main)
        assert table.rows == dict.fromkeys(range(5), "x")


class TestPermits:
    @pytest.mark.parametrize("limit", [1, 2, 7])
    async def test_everybody_gets_one_however_many_compete(self, bench, limit):
        bench.app_options = {"max_inflight_components": limit}
        ran: list[tuple[int, int]] = []
        running = most = 0

        async def leaf(n: int, parent: int) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            ran.append((parent, n))

        async def branch(parent: int) -> None:
            await coco.mount_each(sub("leaf"), leaf, [(n, n) for n in range(7)], parent)

        await bench.run(lambda: each(branch, 30))
        assert sorted(ran) == [(parent, n) for parent in range(30) for n in range(7)]
        assert most <= limit

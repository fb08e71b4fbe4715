"""Cooperative deadlines, with the test clock: §E14."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

import cocoindex as coco

sub = coco.component_subpath
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def advance():
    """A stopped clock, and the function that moves it by seconds."""
    from cocoindex._internal import core

    core.testing_reset_deadline_clock()
    return lambda seconds: core.testing_advance_deadline_clock(int(seconds * 1000))


def exceeded():
    return pytest.raises(coco.DeadlineExceededError, match="deadline exceeded")


def is_expired() -> bool:
    try:
        coco.check_cancellation()
    except coco.DeadlineExceededError:
        return True
    return False


class TestScope:
    def test_expired_means_strictly_after(self, advance):
        with coco.timeout(SECOND):
            advance(1)
            assert not is_expired()
            advance(0.001)
            assert is_expired()
        assert not is_expired()

    def test_nesting_takes_the_minimum_and_leaving_restores(self, advance):
        with coco.timeout(SECOND):
            with coco.timeout(SECOND * 5):
                advance(2)
                assert is_expired()
            assert is_expired()
        assert not is_expired()
        with coco.timeout(SECOND * 5):
            with coco.timeout(SECOND):
                advance(2)
                assert is_expired()
            assert not is_expired()

    def test_zero_expires_as_soon_as_the_clock_moves(self, advance):
        with coco.timeout(timedelta(0)):
            assert not is_expired()
            advance(0.001)
            assert is_expired()

    def test_wrong_durations_are_refused(self):
        with pytest.raises(TypeError), coco.timeout(1):
            pass
        for wrong in (timedelta(seconds=-1), timedelta.max):
            with pytest.raises(ValueError), coco.timeout(wrong):
                pass

    def test_it_is_a_timeout_error(self):
        assert issubclass(coco.DeadlineExceededError, TimeoutError)
        assert issubclass(coco.DeadlineExceededError, coco.CocoIndexError)

    async def test_what_counts_is_the_scope_of_the_task(self, bench, advance):
        async def work(limit):
            with coco.timeout(limit):
                await moved.wait()
                return is_expired()

        moved = asyncio.Event()

        async def main():
            tasks = [asyncio.create_task(work(SECOND * n)) for n in (1, 10)]
            await asyncio.sleep(0)
            advance(5)
            moved.set()
            return await asyncio.gather(*tasks)

        assert await bench.run(main) == [True, False]


class TestFunctions:
    async def test_a_call_checks_before_its_body_and_before_returning(self, bench, advance, ran):
        @coco.fn
        async def call(seconds):
            ran("call")
            advance(seconds)

        async def main():
            with coco.timeout(SECOND):
                with exceeded():
                    await call(2)
                with exceeded():
                    await call(0)

        await bench.run(main)
        assert ran.take() == ["call"]

    async def test_a_memo_hit_checks_too_and_nothing_late_is_stored(self, bench, advance, ran):
        @coco.fn(memo=True)
        async def call(late: bool) -> None:
            ran(f"call{late}")
            if late:
                advance(2)

        async def main():
            await call(False)
            with coco.timeout(SECOND):
                with exceeded():
                    await call(True)
                with exceeded():
                    await call(False)

        await bench.run(main)
        await bench.run(main)
        assert ran.take() == ["callFalse", "callTrue", "callTrue"]


class TestComponents:
    async def test_use_mount_inherits_and_mount_is_isolated(self, bench, advance):
        async def probe():
            advance(2)
            return is_expired()

        seen = []

        async def background():
            seen.append(await probe())

        async def main():
            with coco.timeout(SECOND):
                handle = await coco.mount(sub("m"), background)
                await asyncio.sleep(0)
            await handle.ready()
            with coco.timeout(SECOND), exceeded():
                seen.append(await coco.use_mount(sub("u"), probe))

        await bench.run(main)
        assert seen == [False]

    async def test_mounts_check_at_entry(self, bench, advance, ran):
        async def main():
            with coco.timeout(SECOND):
                advance(2)
                for mount in (coco.mount, coco.use_mount):
                    with exceeded():
                        await mount(sub("a"), lambda: ran("child"))
                with exceeded():
                    await coco.mount_each(sub("e"), lambda v: ran("item"), [(1, 1)])

        await bench.run(main)
        assert ran.take() == []

    async def test_a_late_body_applies_and_memoizes_nothing(self, bench, advance, ran, table):
        @coco.fn(memo=True)
        async def late() -> None:
            ran("late")
            table.declare("late", 1)
            advance(2)

        async def main():
            await coco.mount(sub("sibling"), table.declare, "sibling", 1)
            with coco.timeout(SECOND), exceeded():
                await coco.use_mount(sub("late"), late)

        for _ in range(2):
            await bench.run(main)
        assert table.take() == [("put", "sibling", 1)]
        assert ran.take() == ["late", "late"]

    async def test_sink_and_commit_complete_and_only_the_observer_gets_the_error(
        self, bench, advance, table
    ):
        async def main():
            with coco.timeout(SECOND), exceeded():
                await coco.use_mount(sub("a"), table.declare, "k", 1)

        with table.injected("before", lambda: advance(2)):
            await bench.run(main)
        assert table.rows == {"k": 1}
        table.take()

        async def unhurried():
            await coco.use_mount(sub("a"), table.declare, "k", 1)

        await bench.run(unhurried)
        assert table.take() == []

    async def test_ready_checks_and_can_be_awaited_again(self, bench, advance):
        go = asyncio.Event()

        async def child():
            await go.wait()

        async def main():
            handle = await coco.mount(sub("a"), child)
            with coco.timeout(SECOND):
                advance(2)
                with exceeded():
                    await handle.ready()
            go.set()
            await handle.ready()

        await bench.run(main)


class TestMap:
    async def test_started_items_finish_and_no_more_are_scheduled(self, bench, advance, ran):
        async def item(n):
            ran(f"start{n}")
            await asyncio.sleep(0)
            ran(f"end{n}")

        def items():
            yield 0
            advance(2)
            yield 1

        async def main():
            with coco.timeout(SECOND), exceeded():
                await coco.map(item, items())

        await bench.run(main)
        names = ran.take()
        assert "start1" not in names
        assert names in ([], ["start0", "end0"])


class TestUpdate:
    async def test_the_deadline_is_captured_at_the_call(self, bench, advance, table):
        with coco.timeout(SECOND):
            handle = bench.start(lambda: table.declare("k", 1))
        advance(2)
        with exceeded():
            await handle
        assert table.calls == []

    async def test_a_deadline_around_the_wait_alone_does_not_stop_the_run(self, bench, advance):
        async def main():
            return is_expired()

        handle = bench.start(main)
        with coco.timeout(SECOND):
            advance(0.5)
            assert await handle is False

    async def test_drop_ignores_the_deadline(self, bench, advance, table):
        await bench.run(lambda: table.declare("k", 1))
        with coco.timeout(SECOND):
            advance(2)
            await bench.app.drop()
        assert table.rows == {}

    async def test_sinks_run_without_a_deadline(self, bench, table):
        from cocoindex._internal.deadline import has_deadline

        seen = []
        with (
            table.injected("before", lambda: seen.append(has_deadline())),
            coco.timeout(SECOND * 100),
        ):
            await bench.run(lambda: table.declare("k", 1))
        assert seen == [False]

    async def test_id_allocation_checks_before_allocating(self, bench, advance):
        from cocoindex._internal.component_ctx import next_id

        async def main():
            with coco.timeout(SECOND):
                advance(2)
                with exceeded():
                    await next_id()
            return await next_id()

        assert await bench.run(main) == 1

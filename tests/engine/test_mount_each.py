"""Many children at once, and many calls at once: ``mount_each`` and ``map``, §E3.1, §A5.1."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.testing.targets import InjectedFailure

sub = coco.component_subpath


class TestMountEach:
    async def test_it_takes_async_iterables_and_extra_arguments(self, bench, table):
        async def items():
            for key in "ab":
                yield key, key.upper()

        async def body():
            handle = await coco.mount_each(
                sub("e"), lambda v, *, tail: table.declare(v, tail), items(), tail="!"
            )
            await handle.ready()
            return dict(table.rows)

        assert await bench.run(body) == {"A": "!", "B": "!"}

    async def test_items_before_a_failing_generator_are_mounted(self, bench, table):
        def items():
            yield "a", "a"
            raise ZeroDivisionError

        async def body():
            with pytest.raises(ZeroDivisionError):
                await coco.mount_each(sub("e"), lambda v: table.declare(v, 1), items())

        await bench.run(body)
        assert table.rows == {"a": 1}

    async def test_one_failing_sink_fails_one_item(self, bench, table):
        async def body():
            await coco.mount_each(
                sub("e"), lambda v: table.declare(v, v), [(n, n) for n in range(9)]
            )

        with table.failing(key=4, error=InjectedFailure()):
            await bench.run(body)
        assert sorted(table.rows) == [0, 1, 2, 3, 5, 6, 7, 8]

        table.take()
        await bench.run(body)
        assert table.take() == [("put", 4, 4)]

    async def test_one_argument_without_a_memo_key_fails_one_item(self, bench, ran):
        @coco.fn(memo=True)
        async def body(value: memoryview) -> None:
            ran(value.tobytes().decode())

        async def main():
            views = [memoryview(text) for text in (b"a", b"b", b"c")]
            views[1].release()
            await coco.mount_each(sub("e"), body, enumerate(views))

        failed: list[str] = []
        bench.exception_handler = lambda _, context: failed.append(context.stable_path)
        await bench.run(main)
        assert ran.take() == ["a", "c"]
        assert failed == ['/"e"/1']


class TestMap:
    async def test_results_come_in_input_order(self, bench):
        async def double(n: int, plus: int) -> int:
            await asyncio.sleep(0)
            return 2 * n + plus

        async def stream():
            for n in range(3):
                yield n

        async def body():
            return (
                await coco.map(double, range(3), 1),
                await coco.map(double, stream(), plus=0),
                await coco.map(double, [], 0),
            )

        assert await bench.run(body) == ([1, 3, 5], [0, 2, 4], [])

    async def test_the_first_failure_in_input_order_is_raised_after_all_ended(self, bench, ran):
        async def item(n: int) -> Any:
            for _ in range(5 - n):
                await asyncio.sleep(0)
            ran(str(n))
            if n in (1, 3):
                raise ValueError(n)
            return ValueError("a plain value")

        async def body():
            with pytest.raises(ValueError, match="1"):
                await coco.map(item, range(5))
            return sorted(ran.take())

        assert await bench.run(body) == ["0", "1", "2", "3", "4"]

    async def test_only_what_is_new_runs_and_the_order_stays(self, bench, ran):
        @coco.fn(memo=True)
        async def double(n: int, plus: int) -> int:
            ran(str(n))
            return 2 * n + plus

        await bench.run(lambda: coco.map(double, [1, 3], 0))
        assert await bench.run(lambda: coco.map(double, [3, 2, 1, 2], plus=0)) == [6, 4, 2, 4]
        assert ran.take() == ["1", "3", "3", "2", "1"]
        assert await bench.run(lambda: coco.map(double, [2, 4, 3], plus=0)) == [4, 8, 6]
        assert ran.take() == ["4"]

    async def test_an_item_that_cannot_be_keyed_fails_in_its_turn(self, bench, ran):
        class Unkeyable(coco.NotMemoKeyable):
            pass

        @coco.fn(memo=True)
        async def check(item: Any) -> None:
            ran(str(item))
            if item == 2:
                raise ValueError(item)

        async def body():
            with pytest.raises(TypeError, match="Unkeyable"):
                await coco.map(check, [1, Unkeyable(), 2])
            with pytest.raises(ValueError, match="2"):
                await coco.map(check, [2, Unkeyable(), 3])

        await bench.run(body)
        assert ran.take() == ["1", "2", "2", "3"]

    async def test_calls_end_when_the_map_is_cancelled_while_it_lists(self, bench, ran):
        async def wait(_: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ran("ended")

        async def endless():
            yield 1
            await asyncio.Event().wait()

        async def body():
            mapping = asyncio.create_task(coco.map(wait, endless()))
            for _ in range(3):
                await asyncio.sleep(0)
            mapping.cancel()
            await asyncio.wait([mapping])
            return ran.take()

        assert await bench.run(body) == ["ended"]


class TestMapOfBatchedCalls:
    """Calls of a memoized and batched function go into its batches without a task each."""

    @pytest.fixture
    def length(self, ran):
        @coco.fn.as_async(memo=True, batching=True)
        async def length(texts: list[str]) -> list[int]:
            ran(*texts)
            await asyncio.sleep(0)
            if "" in texts:
                raise ValueError("an empty text")
            return [len(text) for text in texts]

        return length

    async def test_equal_items_run_once_and_are_remembered(self, bench, ran, length):
        async def body():
            return await coco.map(length, ["a", "bb", "a", "ccc"])

        assert await bench.run(body) == [1, 2, 1, 3]
        assert ran.counted() == {"a": 1, "bb": 1, "ccc": 1}
        bench.reopen()
        assert await bench.run(body) == [1, 2, 1, 3]
        assert ran.take() == []

    async def test_a_result_is_there_before_all_items_are_listed(self, bench, ran, length):
        async def texts():
            yield "a"
            yield "b" * await length("a")

        assert await bench.run(lambda: coco.map(length, texts())) == [1, 1]
        assert ran.take() == ["a", "b"]

    async def test_a_failed_batch_is_not_remembered(self, bench, ran, length):
        async def body():
            with pytest.raises(ValueError, match="an empty text"):
                await coco.map(length, [""])
            return await coco.map(length, ["a"])

        assert await bench.run(body) == [1]
        assert ran.take() == ["", "a"]

    async def test_after_a_cancelled_map_the_calls_can_be_made_again(self, bench, ran):
        may_end = asyncio.Event()

        @coco.fn.as_async(memo=True, batching=True)
        async def length(texts: list[str]) -> list[int]:
            ran(*texts)
            await may_end.wait()
            return [len(text) for text in texts]

        async def body():
            mapping = asyncio.create_task(coco.map(length, ["a"]))
            while not ran.take():
                await asyncio.sleep(0)
            mapping.cancel()
            await asyncio.wait([mapping])
            may_end.set()
            return mapping.cancelled(), await length("a")

        assert await bench.run(body) == (True, 1)
        assert ran.take() == ["a"]


class TestUnlisted:
    """Keys that the source could not list are kept: §E8.1."""

    @pytest.fixture
    def listing(self, table, ran):
        from cocoindex.connectorkits.sources import Unlisted

        async def item(key):
            ran(key)
            table.declare(key, 1)

        @coco.fn(memo=True)
        async def listing(keys: tuple[str, ...], hidden: str) -> None:
            ran("list")
            items: list[Any] = [(key, key) for key in keys]
            if hidden:
                items.append(Unlisted(lambda key: key.startswith(hidden)))
            await coco.mount_each(sub("e"), item, items)

        async def body(*keys, hidden=""):
            await coco.mount(sub("listing"), listing, keys, hidden)

        return body

    async def test_they_stay_and_nothing_of_them_runs(self, bench, table, ran, listing):
        await bench.run(lambda: listing("a1", "a2", "b1", "b2"))
        table.take()
        ran.take()

        await bench.run(lambda: listing("b1", hidden="a"))

        assert ran.take() == ["list", "b1"]
        assert table.take() == [("delete", "b2", None)]
        assert sorted(table.rows) == ["a1", "a2", "b1"]
        assert '/"listing"/"e"/"a1"' in await bench.paths()

    async def test_the_parent_lists_again_and_the_next_complete_listing_decides(
        self, bench, table, ran, listing
    ):
        await bench.run(lambda: listing("a1", "b1"))
        for _ in range(2):
            await bench.run(lambda: listing("b1", hidden="a"))
        assert ran.take() == ["list", "a1", "b1", "list", "b1", "list", "b1"]

        await bench.run(lambda: listing("b1"))

        assert table.rows == {"b1": 1}


@pytest.mark.parametrize("kind", ["iterable", "async iterable"])
async def test_a_listing_that_fails_loses_nothing_even_if_the_error_is_caught(bench, table, kind):
    items, unreadable = ["a", "b", "c"], None

    def listing():
        for item in items:
            if item == unreadable:
                raise OSError(item)
            yield item, item

    async def listing_async():
        for pair in listing():
            yield pair

    async def main():
        with contextlib.suppress(OSError):
            await coco.mount_each(
                lambda value: table.declare(value, value),
                listing() if kind == "iterable" else listing_async(),
            )

    await bench.run(main)
    unreadable = "b"
    await bench.run(main)
    assert set(table.rows) == {"a", "b", "c"}
    items, unreadable = ["a"], None
    await bench.run(main)
    assert set(table.rows) == {"a"}

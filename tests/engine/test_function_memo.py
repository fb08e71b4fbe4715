"""Memoized calls inside a component: §E9.1, §E9.2, §E9.8, §E9.9, §E9.11, §E9.12."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import cocoindex as coco

sub = coco.component_subpath


@pytest.fixture
def call(ran, table):
    """A memoized async function that declares one row per call."""

    @coco.fn(memo=True)
    async def call(key: str, value: int = 0) -> str:
        ran(f"{key}{value}")
        table.declare(key, value)
        return f"{key}={value}"

    return call


async def test_an_equal_call_in_the_next_run_is_a_hit_and_keeps_its_rows(bench, call, ran, table):
    async def body():
        return await call("a", 1)

    assert await bench.run(body) == "a=1"
    bench.reopen()
    assert await bench.run(body) == "a=1"

    assert ran.take() == ["a1"]
    assert table.take() == [("put", "a", 1)]


async def test_changed_arguments_run_the_body_and_update_the_rows(bench, call, ran, table):
    await bench.run(lambda: call("a", 1))
    await bench.run(lambda: call("a", 2))

    assert ran.take() == ["a1", "a2"]
    assert table.take() == [("put", "a", 1), ("put", "a", 2)]


async def test_a_call_no_longer_made_loses_its_rows_and_its_entry(bench, call, ran, table):
    async def body(*keys):
        for key in keys:
            await call(key)

    await bench.run(lambda: body("a", "b"))
    await bench.run(lambda: body("b"))
    assert table.take() == [("put", "a", 0), ("put", "b", 0), ("delete", "a", None)]
    await bench.run(lambda: body("a", "b"))

    assert ran.take() == ["a0", "b0", "a0"]
    assert table.rows == {"a": 0, "b": 0}


async def test_positional_and_keyword_are_different_calls(bench, call, ran):
    await bench.run(lambda: call("a", 1))
    await bench.run(lambda: call("a", value=1))
    assert ran.take() == ["a1", "a1"]


async def test_entries_belong_to_one_component(bench, call, ran):
    async def child():
        await call("a")

    async def body(path):
        await coco.mount(sub(path), child)

    await bench.run(lambda: body("x"))
    await bench.run(lambda: body("y"))
    await bench.run(lambda: body("y"))
    assert ran.take() == ["a0", "a0"]


async def test_none_is_a_cached_result(bench, ran):
    @coco.fn(memo=True)
    async def nothing() -> None:
        ran("nothing")

    await bench.run(nothing)
    assert await bench.run(nothing) is None
    assert ran.take() == ["nothing"]


async def test_outside_a_component_the_body_runs_every_time(ran):
    @coco.fn(memo=True)
    async def plain(n: int) -> int:
        ran("plain")
        return n

    @coco.fn(memo=True)
    def sync(n: int) -> int:
        ran("sync")
        return n

    assert [await plain(1), await plain(1), sync(2), sync(2)] == [1, 1, 2, 2]
    assert ran.take() == ["plain", "plain", "sync", "sync"]


async def test_sync_functions_are_memoized_too(bench, ran, table):
    @coco.fn(memo=True)
    def call(key: str) -> str:
        ran(key)
        table.declare(key, 1)
        return key.upper()

    for _ in range(2):
        assert await bench.run(lambda: call("a")) == "A"
    assert ran.take() == ["a"]

    def threaded():
        return call("b")

    async def body():
        return await coco.use_mount(sub("t"), threaded)

    for _ in range(2):
        assert await bench.run(body) == "B"
    assert ran.take() == ["b"]


@pytest.mark.filterwarnings("ignore:.*annotat")
async def test_the_unannotated_result_is_generic_later(bench):
    @coco.fn(memo=True)
    async def unannotated():
        return {"a": (1, 2)}

    @coco.fn(memo=True)
    async def annotated() -> dict[str, tuple[int, int]]:
        return {"a": (1, 2)}

    async def body():
        return await unannotated(), await annotated()

    assert await bench.run(body) == ({"a": (1, 2)}, {"a": (1, 2)})
    assert await bench.run(body) == ({"a": [1, 2]}, {"a": (1, 2)})


async def test_within_the_run_the_original_object_is_returned(bench):
    original = [object]

    @coco.fn(memo=True)
    async def call() -> Any:
        original[0] = ["fresh"]
        return original[0]

    async def body():
        return await call() is original[0] and await call() is original[0]

    assert await bench.run(body)


async def test_concurrent_equal_calls_run_the_body_once(bench, ran):
    @coco.fn(memo=True)
    async def slow(n: int) -> int:
        ran("slow")
        for _ in range(5):
            await asyncio.sleep(0)
        return n + 1

    async def body():
        return await asyncio.gather(*(slow(1) for _ in range(5)))

    assert await bench.run(body) == [2] * 5
    assert ran.take() == ["slow"]
    assert await bench.run(body, full_reprocess=True) == [2] * 5
    assert ran.take() == ["slow"]


async def test_instances_with_equal_keys_share_a_result(bench, ran):
    class Model:
        def __init__(self, name):
            self.name = name

        def __coco_memo_key__(self):
            return self.name

        @coco.fn(memo=True)
        async def run(self, n: int) -> int:
            ran(self.name)
            return n

    async def body():
        await asyncio.gather(Model("m").run(1), Model("m").run(1), Model("other").run(1))

    await bench.run(body)
    await bench.run(body)
    assert sorted(ran.take()) == ["m", "other"]


class TestNested:
    @pytest.fixture
    def calls(self, ran, table):
        @coco.fn(memo=True)
        async def inner(n: int) -> int:
            ran(f"inner{n}")
            table.declare(f"inner{n}", 1)
            return n

        @coco.fn(memo=True)
        async def outer(n: int, tag: str) -> int:
            ran(f"outer{tag}")
            table.declare(f"outer{n}", 1)
            return await inner(n)

        return outer, inner

    async def test_a_hit_contains_the_rows_of_the_calls_it_made(self, bench, calls, ran, table):
        outer, _ = calls
        for _ in range(3):
            assert await bench.run(lambda: outer(1, "x")) == 1
        assert ran.take() == ["outerx", "inner1"]
        assert table.rows == {"outer1": 1, "inner1": 1}
        assert table.take() == [("put", "outer1", 1), ("put", "inner1", 1)]

    async def test_an_inner_entry_survives_as_long_as_a_hit_refers_to_it(
        self, bench, calls, ran, table
    ):
        outer, inner = calls
        await bench.run(lambda: outer(1, "x"))
        await bench.run(lambda: outer(1, "y"))
        await bench.run(lambda: outer(1, "y"))
        await bench.run(lambda: inner(1))
        assert ran.take() == ["outerx", "inner1", "outery"]
        assert table.rows == {"inner1": 1}

    async def test_rows_of_plain_helpers_count_as_those_of_the_caller(self, bench, ran, table):
        @coco.fn
        async def helper(key):
            table.declare(key, 1)

        @coco.fn(memo=True)
        async def outer() -> None:
            ran("outer")
            await helper("h")

        for _ in range(2):
            await bench.run(outer)
        assert ran.take() == ["outer"]
        assert table.rows == {"h": 1}


async def test_a_memoized_call_must_not_mount(bench, ran):
    @coco.fn(memo=True)
    async def mounts() -> None:
        with pytest.raises(ValueError, match="memo=True mounted child components"):
            await coco.mount(sub("a"), lambda: ran("child"))
        raise ZeroDivisionError

    assert isinstance(await bench.fails(lambda: mounts()), ZeroDivisionError)
    assert ran.take() == []


async def test_a_row_both_contained_and_declared_is_reconciled_as_declared(bench, call, ran, table):
    await bench.run(lambda: call("a", 1))
    table.take()

    async def body():
        await call("a", 1)
        table.declare("a", 2)

    await bench.run(body)
    assert table.take() == [("put", "a", 2)]


class TestFullReprocess:
    async def test_every_body_runs_and_the_new_entries_hit_afterwards(
        self, bench, call, ran, table
    ):
        await bench.run(lambda: call("a"))
        await bench.run(lambda: call("a"), full_reprocess=True)
        await bench.run(lambda: call("a"))
        assert ran.take() == ["a0", "a0"]
        assert table.take() == [("put", "a", 0), ("put", "a", 0)]


async def test_memo_key_drops_and_replaces_arguments(bench, ran):
    @coco.fn(memo=True, memo_key={"noise": None, "text": str.lower})
    async def call(text: str, noise: object, *, n: int = 0) -> None:
        ran(text)

    await bench.run(lambda: call("A", object()))
    await bench.run(lambda: call("a", object()))
    await bench.run(lambda: call("b", object()))
    assert ran.take() == ["A", "b"]


async def test_memo_key_is_checked_at_decoration():
    with pytest.raises(ValueError, match="Unknown memo_key parameter"):
        coco.fn(memo=True, memo_key={"other": None})(lambda a: a)
    with pytest.raises(TypeError):
        coco.fn(memo=True, memo_key={"a": 1})(lambda a: a)


async def test_an_argument_without_a_canonical_form_is_refused(bench, ran):
    import threading

    @coco.fn(memo=True)
    async def call(x: object) -> None:
        ran("call")

    error = await bench.fails(lambda: call(threading.Lock()))
    assert isinstance(error, TypeError)
    assert "Unsupported type for memoization key" in str(error)

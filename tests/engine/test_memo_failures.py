"""Memoized calls and things that go wrong: §E5.7, §E9.11, §E4.5."""

from __future__ import annotations

from typing import Any

import pytest

import cocoindex as coco
from cocoindex.testing.targets import InjectedFailure


@pytest.fixture
def call(ran, table):
    """A memoized async function that declares one row per call."""

    @coco.fn(memo=True)
    async def call(key: str, value: int = 0) -> str:
        ran(f"{key}{value}")
        table.declare(key, value)
        return f"{key}={value}"

    return call


class TestUnsettledItems:
    async def test_a_memo_over_an_unsettled_item_is_no_hit(self, bench, ran, table):
        """Run 2 wrote and failed; run 3 goes back to the inputs of run 1."""

        @coco.fn(memo=True)
        async def call(value: str) -> None:
            ran(value)
            table.declare("k", value)

        await bench.run(lambda: call("A"))
        with table.failing("after"), pytest.raises(InjectedFailure):
            await bench.run(lambda: call("B"))
        assert table.rows == {"k": "B"}
        ran.take()

        await bench.run(lambda: call("A"))

        assert ran.take() == ["A"]
        assert table.rows == {"k": "A"}

    async def test_a_failing_component_leaves_its_entries_as_they_were(
        self, bench, call, ran, table
    ):
        async def body(fail):
            await call("a")
            if fail:
                raise ZeroDivisionError

        await bench.run(lambda: body(False))
        await bench.fails(lambda: body(True))
        await bench.run(lambda: body(False))
        assert ran.take() == ["a0"]
        assert table.take() == [("put", "a", 0)]


class Source:
    """An argument whose memo is valid or not, as told."""

    valid = True

    def __coco_memo_key__(self):
        return "source"

    def __coco_memo_state__(self, prev: Any) -> coco.MemoStateOutcome:
        return coco.MemoStateOutcome(state=1, memo_valid=self.valid)


class Switch:
    fail = False


@pytest.fixture(params=["sync", "async"])
def failing(request, ran, table):
    """(an async callable around one memoized call, its source, a switch that makes it fail)"""
    switch, source = Switch(), Source()

    def work() -> None:
        ran("work")
        if switch.fail:
            raise ZeroDivisionError
        table.declare("k", 1)

    @coco.fn(memo=True)
    def call(source: Source) -> None:
        work()

    @coco.fn(memo=True)
    async def call_async(source: Source) -> None:
        work()

    async def run():
        try:
            call(source) if request.param == "sync" else await call_async(source)
        except ZeroDivisionError:
            return "caught"

    return run, source, switch


class TestExceptions:
    async def test_an_exception_is_never_cached(self, bench, ran, failing):
        run, _, switch = failing
        switch.fail = True
        assert [await bench.run(run), await bench.run(run)] == ["caught", "caught"]
        assert ran.take() == ["work", "work"]

    async def test_a_caught_failure_of_an_invalid_entry_undeclares_its_rows(
        self, bench, ran, table, failing
    ):
        run, source, switch = failing
        await bench.run(run)
        switch.fail, source.valid = True, False
        await bench.run(run)
        assert table.take() == [("put", "k", 1), ("delete", "k", None)]
        switch.fail, source.valid = False, True
        await bench.run(run)
        assert ran.take() == ["work", "work", "work"]
        assert table.rows == {"k": 1}


async def test_an_unserializable_result_fails_before_any_sink(bench, table):
    @coco.fn(memo=True)
    async def produces() -> Any:
        return object()

    async def body():
        table.declare("k", 1)
        await produces()

    error = await bench.fails(body)
    assert isinstance(error, TypeError)
    assert "produces" in str(error)
    assert table.calls == []

"""Memo states of arguments and of context values: §E9.7."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import cocoindex as coco

sub = coco.component_subpath
_keys = itertools.count()


class File:
    """Like a file: ``mtime`` is cheap to look at, ``content`` decides."""

    def __init__(self, seen: list[Any]) -> None:
        self.mtime, self.content = 1, "one"
        self.seen = seen

    def __coco_memo_key__(self):
        return "file"

    def __coco_memo_state__(self, prev: Any) -> coco.MemoStateOutcome:
        self.seen.append(prev)
        new = [self.mtime, self.content]
        if coco.is_non_existence(prev):
            return coco.MemoStateOutcome(state=new)
        return coco.MemoStateOutcome(state=new, memo_valid=prev[1] == self.content)


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture(params=["called", "mounted", "called sync"])
def process(request, ran, table):
    """Runs one memoized function over a file, in one of three ways."""

    @coco.fn(memo=True)
    async def work(file: Any) -> str:
        ran("work")
        table.declare("k", file.content)
        return file.content

    @coco.fn(memo=True)
    def work_sync(file: Any) -> str:
        ran("work")
        table.declare("k", file.content)
        return file.content

    async def run(file):
        if request.param == "called":
            return await work(file)
        if request.param == "called sync":
            return work_sync(file)
        return await coco.use_mount(sub("c"), work, file)

    return run


NONE = coco.NON_EXISTENCE


async def test_the_first_state_is_taken_after_the_body(bench, process, seen, ran):
    file = File(seen)
    await bench.run(lambda: process(file))
    assert seen == [NONE]


async def test_an_equal_state_is_a_hit(bench, process, seen, ran):
    file = File(seen)
    await bench.run(lambda: process(file))
    bench.reopen()
    assert await bench.run(lambda: process(file)) == "one"
    assert ran.take() == ["work"]
    assert seen == [NONE, [1, "one"]]


async def test_a_valid_but_new_state_is_stored_without_running_the_body(
    bench, process, seen, ran, table
):
    file = File(seen)
    await bench.run(lambda: process(file))
    file.mtime = 2
    await bench.run(lambda: process(file))
    await bench.run(lambda: process(file))
    assert ran.take() == ["work"]
    assert seen == [NONE, [1, "one"], [2, "one"]]
    assert table.take() == [("put", "k", "one")]


async def test_an_invalid_state_runs_the_body_and_is_not_asked_again(
    bench, process, seen, ran, table
):
    file = File(seen)
    await bench.run(lambda: process(file))
    file.mtime, file.content = 2, "two"
    assert await bench.run(lambda: process(file)) == "two"
    assert seen == [NONE, [1, "one"]]
    await bench.run(lambda: process(file))
    assert seen == [NONE, [1, "one"], [2, "two"]]
    assert ran.take() == ["work", "work"]
    assert table.rows == {"k": "two"}


async def test_rows_no_longer_declared_after_an_invalid_state_are_deleted(bench, seen, table):
    @coco.fn(memo=True)
    async def work(file: Any) -> None:
        table.declare(file.content, 1)

    file = File(seen)
    await bench.run(lambda: work(file))
    file.content = "two"
    await bench.run(lambda: work(file))
    assert table.take() == [("put", "one", 1), ("put", "two", 1), ("delete", "one", None)]


async def test_nested_states_are_asked_in_the_order_met(bench, seen, ran):
    class Tagged(File):
        def __init__(self, tag):
            super().__init__(seen)
            self.tag = tag

        def __coco_memo_key__(self):
            return self.tag

        def __coco_memo_state__(self, prev: Any) -> coco.MemoStateOutcome:
            seen.append(self.tag)
            return coco.MemoStateOutcome(state=self.tag, memo_valid=True)

    @coco.fn(memo=True)
    async def work(first: Any, *, named: Any) -> None:
        ran("work")

    arguments = [{"x": Tagged("a"), "y": (Tagged("b"),)}]
    for _ in range(2):
        await bench.run(lambda: work(arguments, named=Tagged("c")))
    assert seen == ["a", "b", "c"] * 2
    assert ran.take() == ["work"]


async def test_a_state_may_be_awaited(bench, ran):
    class Remote:
        def __coco_memo_key__(self):
            return "remote"

        async def __coco_memo_state__(self, prev: Any) -> coco.MemoStateOutcome:
            return coco.MemoStateOutcome(state=1, memo_valid=prev == 1)

    @coco.fn(memo=True)
    async def work(remote: Any) -> None:
        ran("work")

    @coco.fn(memo=True)
    def blocking(remote: Any) -> None:
        ran("blocking")

    async def body():
        await work(Remote())
        await coco.use_mount(sub("thread"), lambda: blocking(Remote()))
        with pytest.raises(RuntimeError, match="as_async"):
            blocking(Remote())

    await bench.run(body)
    ran.take()
    await bench.run(body)
    assert "work" not in ran.take()


async def test_a_registered_state_function_works_like_the_method(bench, ran):
    class Foreign:
        version = 1

    coco.register_memo_key_function(
        Foreign,
        lambda _foreign: "foreign",
        state_fn=lambda foreign, prev: coco.MemoStateOutcome(
            state=foreign.version, memo_valid=prev == foreign.version
        ),
    )

    @coco.fn(memo=True)
    async def work(foreign: Any) -> None:
        ran("work")

    foreign = Foreign()
    for version in (1, 1, 2, 2):
        foreign.version = version
        await bench.run(lambda: work(foreign))
    assert ran.take() == ["work", "work"]


async def test_a_typed_previous_state_is_decoded_to_its_type(bench, seen):
    class Typed:
        def __coco_memo_key__(self):
            return "typed"

        def __coco_memo_state__(
            self, prev: tuple[int, str] | coco.NonExistenceType
        ) -> coco.MemoStateOutcome:
            seen.append(prev)
            return coco.MemoStateOutcome(state=(1, "a"), memo_valid=True)

    @coco.fn(memo=True)
    async def work(x: Any) -> None:
        pass

    await bench.run(lambda: work(Typed()))
    bench.reopen()
    await bench.run(lambda: work(Typed()))
    assert seen == [NONE, (1, "a")]


async def test_recollect_after_run_asks_once_more(bench, seen, ran):
    class Moving:
        calls = 0

        def __coco_memo_key__(self):
            return "moving"

        def __coco_memo_state__(self, prev: Any) -> coco.MemoStateOutcome:
            seen.append(prev)
            Moving.calls += 1
            return coco.MemoStateOutcome(Moving.calls, False, recollect_after_run=True)

    @coco.fn(memo=True)
    async def work(x: Any) -> None:
        ran("work")

    for _ in range(3):
        await bench.run(lambda: work(Moving()))
    assert seen == [NONE, 1, NONE, 3, NONE]
    assert ran.take() == ["work"] * 3


async def test_memo_valid_is_false_unless_said(bench, ran):
    class Careless:
        def __coco_memo_key__(self):
            return "careless"

        def __coco_memo_state__(self, prev: Any) -> coco.MemoStateOutcome:
            return coco.MemoStateOutcome(state=1)

    @coco.fn(memo=True)
    async def work(x: Any) -> None:
        ran("work")

    for _ in range(2):
        await bench.run(lambda: work(Careless()))
    assert ran.take() == ["work", "work"]


async def test_state_functions_may_use_the_context(bench, ran):
    key = coco.ContextKey[str](f"test/memo_states/{next(_keys)}")
    bench.context = coco.ContextProvider()
    bench.context.provide(key, "value")

    class Uses:
        def __coco_memo_key__(self):
            return "uses"

        def __coco_memo_state__(self, prev: Any) -> coco.MemoStateOutcome:
            value = coco.use_context(key)
            return coco.MemoStateOutcome(state=value, memo_valid=prev == value)

    @coco.fn(memo=True)
    async def work(x: Any) -> None:
        ran("work")

    for _ in range(2):
        await bench.run(lambda: work(Uses()))
    assert ran.take() == ["work"]


class TestContextValues:
    """A change-detected context value with a state of its own."""

    def _provide(self, bench, key, file):
        bench.close()
        bench.context = coco.ContextProvider()
        bench.context.provide(key, file)

    async def test_its_state_is_taken_at_provide_and_validated_at_the_probe(
        self, bench, process, seen, ran
    ):
        key = coco.ContextKey[Any](f"test/memo_states/{next(_keys)}", detect_change=True)
        file = File(seen)

        @coco.fn(memo=True)
        async def work() -> str:
            ran("work")
            return coco.use_context(key).content

        async def body():
            return await work(), await coco.use_mount(sub("c"), work)

        self._provide(bench, key, file)
        assert seen == [NONE]
        assert await bench.run(body) == ("one", "one")
        assert seen == [NONE]

        file.mtime = 2
        self._provide(bench, key, file)
        seen.clear()
        assert await bench.run(body) == ("one", "one")
        assert seen == [[1, "one"]] * 2
        assert ran.take() == ["work", "work"]

        file.content = "two"
        self._provide(bench, key, file)
        assert await bench.run(body) == ("two", "two")
        assert ran.take() == ["work", "work"]
        assert await bench.run(body) == ("two", "two")
        assert ran.take() == []

    async def test_a_value_without_a_canonical_form_is_refused_at_provide(self):
        import threading

        key = coco.ContextKey[Any](f"test/memo_states/{next(_keys)}", detect_change=True)
        with pytest.raises(TypeError):
            coco.ContextProvider().provide(key, threading.Lock())

    async def test_an_async_state_at_provide_is_refused_inside_a_loop(self):
        class Remote:
            def __coco_memo_key__(self):
                return "remote"

            async def __coco_memo_state__(self, prev: Any) -> coco.MemoStateOutcome:
                return coco.MemoStateOutcome(state=1)

        key = coco.ContextKey[Any](f"test/memo_states/{next(_keys)}", detect_change=True)
        with pytest.raises(RuntimeError):
            coco.ContextProvider().provide(key, Remote())

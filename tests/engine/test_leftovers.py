"""What a run decides at its end: failures, merging, and what else may happen meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.testing.targets import MemoryTarget, MemoryTree

sub = coco.component_subpath


class Box:
    """Hands a provider from one component to another; opaque to memos."""

    __slots__ = ("provider",)

    def __init__(self) -> None:
        self.provider: Any = None


@pytest.fixture
def tree():
    return MemoryTree()


def bodies(tree, count):
    """Main bodies: with a row in each of ``count`` components, and without, where nobody has
    seen the container when the rows' components end."""
    box = Box()

    async def rows(key, *, wanted):
        if wanted:
            coco.declare_target_state(box.provider.target_state(key, 1))

    async def before():
        box.provider = await coco.mount_target(tree.container("T", 1))
        for number in range(count):
            await coco.mount(sub("rows", number), rows, str(number), wanted=True)

    async def after():
        for number in range(count):
            await (await coco.mount(sub("rows", number), rows, str(number), wanted=False)).ready()
        await coco.mount_target(tree.container("T", 1))

    return before, after


async def test_a_leftover_that_fails_is_its_components_failure_and_tried_again(bench, tree):
    seen = []

    async def handler(error, context):
        seen.append((str(error), context.stable_path))

    bench.exception_handler = handler
    before, after = bodies(tree, 2)
    await bench.run(before)
    with tree.failing("before", key=("T", "0")):
        await bench.run(after)
    assert seen == [("injected before", '/"rows"/0')]
    assert tree.rows == {("T",): 1, ("T", "0"): 1}

    await bench.run(after)

    assert tree.rows == {("T",): 1}


async def test_leftovers_of_many_components_go_out_together(bench, tree):
    before, after = bodies(tree, 300)
    await bench.run(before)
    calls = len(tree.calls)

    await bench.run(after)

    assert tree.rows == {("T",): 1}
    assert len(tree.calls) - calls < 20


class Source:
    """An argument whose state is asked for on the loop, and may have to wait."""

    def __init__(self, state, asked=None, answer=None):
        self.state, self.asked, self.answer = state, asked, answer

    def __coco_memo_key__(self):
        return "source"

    async def __coco_memo_state__(self, prev):
        if self.asked is not None:
            self.asked.set()
            await self.answer.wait()
        return coco.MemoStateOutcome(state=self.state, memo_valid=not coco.is_non_existence(prev))


async def test_a_memo_that_lost_an_item_while_its_states_were_asked_for_is_not_reused(bench, ran):
    target = MemoryTarget()
    asked, answer = asyncio.Event(), asyncio.Event()

    @coco.fn(memo=True)
    async def owner(_source):
        ran("owner")
        target.declare("x", "owner")

    async def other():
        target.declare("x", "other")

    async def contested():
        await coco.mount(sub("owner"), owner, Source(2, asked, answer))
        await asked.wait()
        await coco.use_mount(sub("other"), other)
        answer.set()

    await bench.run(lambda: coco.mount(sub("owner"), owner, Source(1)))
    await bench.run(contested)
    await bench.run(lambda: coco.mount(sub("owner"), owner, Source(2)))

    assert target.rows == {"x": "owner"}


CONTEXT = coco.ContextKey("leftovers/state", detect_change=True)


class Contextual:
    def __init__(self, state):
        self.state = state

    def __coco_memo_key__(self):
        return "contextual"

    def __coco_memo_state__(self, prev):
        coco.use_context(CONTEXT)
        return coco.MemoStateOutcome(state=self.state, memo_valid=prev == self.state)


@pytest.mark.parametrize("kind", ["mount", "mount_each", "use_mount"])
async def test_context_that_a_state_function_used_is_a_dependency_however_it_was_asked(
    bench, ran, kind
):
    @coco.fn(memo=True)
    async def consume(source):
        ran(str(source.state))

    def update(state, context):
        bench.close()
        bench.context = coco.ContextProvider()
        bench.context.provide(CONTEXT, context)

        async def main():
            if kind == "mount_each":
                await coco.mount_each(sub("a"), consume, [("k", Contextual(state))])
            else:
                await getattr(coco, kind)(sub("a"), consume, Contextual(state))

        return bench.run(main)

    await update(1, "old")
    await update(1, "old")
    await update(2, "old")
    assert ran.take() == ["1", "2"]
    await update(2, "new")
    assert ran.take() == ["2"]


async def test_a_body_that_ends_before_its_mount_each_fails_and_deletes_nothing(bench, table):
    more, left = asyncio.Event(), []

    async def items():
        yield "a", "a"
        await more.wait()
        yield "b", "b"

    async def listing():
        left.append(asyncio.create_task(coco.mount_each(sub("x"), declare, items())))
        await asyncio.sleep(0)

    async def declare(key):
        table.declare(key, "v")

    async def whole():
        await coco.mount_each(sub("x"), declare, [("a", "a"), ("b", "b")])

    await bench.run(whole)
    error = await bench.fails(listing)
    assert "without awaiting it to the end" in str(error)
    assert set(table.rows) == {"a", "b"}
    more.set()
    with pytest.raises(RuntimeError, match="has finished"):
        await left[0]


async def test_reused_children_let_the_loop_go_on(bench):
    @coco.fn(memo=True)
    async def leaf(number):
        return number

    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def main():
        counting = asyncio.create_task(count())
        for number in range(1000):
            await coco.mount(sub(number), leaf, number)
        counting.cancel()

    await bench.run(main)
    turns = 0
    await bench.run(main)
    assert turns >= 2


async def test_a_mapping_refused_by_mount_each_deletes_nothing_even_if_that_is_caught(bench, table):
    async def main(items):
        try:
            await coco.mount_each(lambda value: table.declare(value, "v"), items)
        except TypeError:
            pass

    await bench.run(lambda: main([("a", "a")]))
    await bench.run(lambda: main({"a": "a"}))
    assert set(table.rows) == {"a"}


async def test_a_state_function_sees_the_same_path_however_it_was_asked(bench):
    seen = []

    class Placed:
        def __coco_memo_key__(self):
            return "placed"

        def __coco_memo_state__(self, prev):
            seen.append(str(coco.get_component_context()))
            return coco.MemoStateOutcome(state=1, memo_valid=prev == 1)

    @coco.fn(memo=True)
    async def leaf(_placed):
        pass

    async def main():
        await coco.mount_each(sub("a"), leaf, [("k", Placed())])
        await coco.mount(sub("b"), leaf, Placed())

    await bench.run(main)
    first = sorted(seen)
    seen.clear()
    await bench.run(main)
    assert sorted(seen) == first == ['/"a"/"k"', '/"b"']


async def test_a_deletion_that_is_answered_with_a_record_leaves_no_owner_behind(bench):
    async def apply(_context, _actions):
        pass

    class Handler:
        sink = coco.TargetActionSink.from_async_fn(apply)

        def reconcile(self, key, desired, _prev, _missing, /):
            record = "gone" if coco.is_non_existence(desired) else "there"
            return coco.TargetReconcileOutput((key, desired), self.sink, record)

    provider = coco.register_root_target_states_provider("leftovers/answers", Handler())

    async def leaf():
        coco.declare_target_state(provider.target_state("x", 1))

    await bench.run(lambda: coco.mount(sub("a"), leaf))
    await bench.run(lambda: None)
    assert await bench.owners() == {}


@pytest.mark.parametrize("kind", ["mount", "use_mount"])
async def test_a_memo_whose_result_cannot_be_read_is_not_reused(bench, ran, kind):
    def leaf(returns):
        async def leaf():
            ran(returns.__name__)
            return returns()

        leaf.__annotations__["return"] = returns
        return coco.fn(memo=True, version=1)(leaf)

    for returns in (list, int, int):
        function = leaf(returns)
        await bench.run(lambda function=function: getattr(coco, kind)(sub("a"), function))
    assert ran.take() == ["list", "int"]

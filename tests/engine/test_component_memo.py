"""Memoized components: §E9.10."""

from __future__ import annotations

import pytest

import cocoindex as coco
from cocoindex.testing.targets import InjectedFailure

sub = coco.component_subpath


@pytest.fixture
def page(ran, table):
    @coco.fn(memo=True)
    async def page(key: str, value: str) -> str:
        ran(f"{key}={value}")
        table.declare(key, value)
        return value.lower()

    return page


def pages(page, **values):
    async def body():
        return [await coco.use_mount(sub(key), page, key, value) for key, value in values.items()]

    return body


async def test_only_changed_components_run(bench, page, ran, table):
    assert await bench.run(pages(page, a="A", b="B")) == ["a", "b"]
    assert ran.take() == ["a=A", "b=B"]
    bench.reopen()
    assert await bench.run(pages(page, a="A", b="X")) == ["a", "x"]
    assert ran.take() == ["b=X"]
    assert table.take() == [("put", "a", "A"), ("put", "b", "B"), ("put", "b", "X")]


async def test_going_back_executes_again(bench, page, ran):
    for value in "ABA":
        await bench.run(pages(page, a=value))
    assert ran.take() == ["a=A", "a=B", "a=A"]


async def test_a_hit_skips_the_whole_subtree(bench, ran, table):
    @coco.fn(memo=True)
    async def parent() -> None:
        ran("parent")
        await coco.mount(sub("x"), child)

    async def child():
        ran("child")
        table.declare("x", 1)

    async def body():
        await coco.mount(sub("p"), parent)

    await bench.run(body)
    await bench.run(body)
    assert ran.take() == ["parent", "child"]
    assert table.rows == {"x": 1}


async def test_a_memoized_main_function_makes_an_unchanged_app_do_nothing(bench, ran):
    @coco.fn(memo=True)
    async def main() -> int:
        ran("main")
        return 7

    app = bench.new_app("memo", main)
    assert [await app.update(), await app.update()] == [7, 7]
    assert ran.take() == ["main"]


async def test_a_killed_run_leaves_no_memo_of_the_old_inputs(bench, page, ran, table):
    """§E23 6: the memo went before run 2's body, so run 3 executes."""
    await bench.run(pages(page, a="A"))
    with table.failing("after"), pytest.raises(InjectedFailure):
        await bench.run(pages(page, a="B"))
    ran.take()

    await bench.run(pages(page, a="A"))

    assert ran.take() == ["a=A"]
    assert table.rows == {"a": "A"}


async def test_removing_memo_for_one_run_executes_in_all_three(bench, ran):
    def make(memo):
        @coco.fn(memo=memo, version=1)
        async def page() -> None:
            ran("memo" if memo else "plain")

        return page

    for memo in (True, False, True):
        await bench.run(pages_of(make(memo)))
    assert ran.take() == ["memo", "plain", "memo"]


def pages_of(function):
    async def body():
        await coco.mount(sub("p"), function)

    return body


class TestErrorsBelow:
    """No descendant error, however handled, leaves a memo above it."""

    @pytest.fixture
    def tree(self, ran, table):
        class Tree:
            fail = True
            catch = False

        @coco.fn(memo=True)
        async def parent() -> None:
            ran("parent")
            if Tree.catch:
                with pytest.raises(ZeroDivisionError):
                    await coco.use_mount(sub("child"), child)
            else:
                await coco.mount(sub("child"), child)

        @coco.fn(memo=True)
        async def child() -> None:
            ran("child")
            table.declare("k", 1)
            if Tree.fail:
                raise ZeroDivisionError

        @coco.fn(memo=True)
        async def grandparent() -> None:
            ran("grandparent")
            await coco.mount(sub("parent"), parent)

        Tree.body = staticmethod(pages_of(grandparent))
        return Tree

    async def test_a_failing_child_is_retried_until_it_works(self, bench, ran, table, tree):
        for _ in range(2):
            await bench.run(tree.body)
            assert ran.take() == ["grandparent", "parent", "child"]
        tree.fail = False
        await bench.run(tree.body)
        assert ran.take() == ["grandparent", "parent", "child"]
        await bench.run(tree.body)
        assert ran.take() == []
        assert table.take() == [("put", "k", 1)]

    async def test_also_when_the_body_caught_it(self, bench, ran, tree):
        tree.catch = True
        for _ in range(2):
            await bench.run(tree.body)
            assert ran.take() == ["grandparent", "parent", "child"]

    async def test_also_when_a_handler_swallowed_it(self, tmp_path, bench, ran, tree):
        bench.exception_handler = lambda error, context: None
        for _ in range(2):
            await bench.run(tree.body)
            assert ran.take() == ["grandparent", "parent", "child"]

    async def test_also_when_only_its_sink_failed(self, bench, ran, table, tree):
        tree.fail = False
        with table.failing():
            await bench.run(tree.body)
        ran.take()
        await bench.run(tree.body)
        assert ran.take() == ["grandparent", "parent", "child"]


async def test_a_failed_delete_below_is_retried_although_the_parent_is_memoized(bench, ran, table):
    class World:
        keys = ["a", "b"]

    @coco.fn(memo=True)
    async def parent(n: int) -> None:
        ran(f"parent{n}")
        for key in World.keys:
            await coco.mount(sub(key), table.declare, key, 1)

    async def body(n):
        await coco.mount(sub("p"), parent, n)

    await bench.run(lambda: body(1))
    World.keys = ["b"]
    with table.failing(key="a"):
        await bench.run(lambda: body(2))
    assert table.rows == {"a": 1, "b": 1}

    await bench.run(lambda: body(2))

    assert table.rows == {"b": 1}
    assert ran.take() == ["parent1", "parent2", "parent2"]


async def test_full_reprocess_deletes_the_memo_before_the_body(bench, page, ran, table):
    await bench.run(pages(page, a="A"))
    with table.failing("after"), pytest.raises(InjectedFailure):
        await bench.run(pages(page, a="A"), full_reprocess=True)
    ran.take()

    await bench.run(pages(page, a="A"))
    assert ran.take() == ["a=A"]


async def test_full_reprocess_reaches_every_component(bench, page, ran, table):
    await bench.run(pages(page, a="A", b="B"))
    await bench.run(pages(page, a="A", b="B"), full_reprocess=True)
    assert ran.take() == ["a=A", "b=B"] * 2
    await bench.run(pages(page, a="A", b="B"))
    assert ran.take() == []


async def test_a_deleted_component_forgets_its_memo(bench, page, ran, table):
    await bench.run(pages(page, a="A"))
    await bench.run(pages(page))
    await bench.run(pages(page, a="A"))
    assert ran.take() == ["a=A", "a=A"]
    assert table.rows == {"a": "A"}


@pytest.mark.parametrize(("before", "kind"), [("text", str), (None, None)])
async def test_an_undecodable_result_is_a_miss_with_a_warning(bench, ran, caplog, before, kind):
    class Answer:
        value: object = before

    def make(annotation):
        async def page():
            ran("page")
            return Answer.value

        page.__annotations__["return"] = annotation
        return coco.fn(memo=True, version=1)(page)

    async def body(page):
        return await coco.use_mount(sub("p"), page)

    assert await bench.run(lambda: body(make(kind))) == before
    Answer.value = 1
    assert await bench.run(lambda: body(make(int))) == 1
    assert ran.take() == ["page", "page"]
    assert "WARNING" in {record.levelname for record in caplog.records}


async def test_a_memoized_component_calls_use_state_freely(bench, ran):
    @coco.fn(memo=True)
    async def counting(tag: str) -> int:
        ran("counting")
        state = coco.use_state("n", 0)
        state.value += 1
        return state.value

    async def body(tag):
        return await coco.use_mount(sub("c"), counting, tag)

    assert [await bench.run(lambda t=t: body(t)) for t in "aabb"] == [1, 1, 2, 2]
    assert ran.take() == ["counting", "counting"]

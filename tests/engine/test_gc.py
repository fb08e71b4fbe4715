"""Deletion of what is no longer mounted: §E8."""

from __future__ import annotations

from datetime import timedelta

import pytest

import cocoindex as coco
from cocoindex.testing.targets import InjectedFailure

sub = coco.component_subpath


def mounting(table, *paths):
    """A main body that mounts a component at each path; each declares its path as a row."""

    async def body():
        for path in paths:
            keys = tuple(path.split("/"))
            await coco.mount(sub(*keys), table.declare, path, "v")

    return body


TRANSITIONS = {
    "a child goes": (["a", "b"], ["a"], [("delete", "b", None)]),
    "all children go": (["a", "b/c"], [], [("delete", "a", None), ("delete", "b/c", None)]),
    "a directory goes": (
        ["d/a", "d/b", "e"], ["e"], [("delete", "d/a", None), ("delete", "d/b", None)],
    ),
    "one leaf of a directory goes": (["d/a", "d/b"], ["d/b"], [("delete", "d/a", None)]),
    "component becomes directory": (["a"], ["a/b"], [("delete", "a", None), ("put", "a/b", "v")]),
    "directory becomes component": (
        ["a/x", "a/y"],
        ["a"],
        [("delete", "a/x", None), ("delete", "a/y", None), ("put", "a", "v")],
    ),
    "nothing changes": (["a", "b/c"], ["a", "b/c"], []),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSITIONS)
async def test_what_is_no_longer_mounted_is_deleted(bench, table, name):
    before, after, actions = TRANSITIONS[name]
    await bench.run(mounting(table, *before))
    assert set(table.rows) == set(before)
    table.take()

    await bench.run(mounting(table, *after))

    assert sorted(table.take(), key=str) == sorted(actions, key=str)
    assert set(table.rows) == set(after)
    directories = {path.split("/")[0] for path in after}
    expected = {"/" + "/".join(f'"{k}"' for k in path.split("/")) for path in after}
    assert set(await bench.paths()) == expected | {f'/"{d}"' for d in directories} | {"/"}
    await bench.run(mounting(table, *after))
    assert table.take() == []


async def test_demotion_leaves_components_below_alone(bench, table):
    async def nested():
        table.declare("own", 1)
        await coco.mount(sub("b"), table.declare, "below", 1)

    async def before():
        await coco.mount(sub("a"), nested)

    async def after():
        await coco.mount(sub("a", "b"), table.declare, "below", 1)

    await bench.run(before)
    table.take()

    await bench.run(after)

    assert table.take() == [("delete", "own", None)]
    assert table.rows == {"below": 1}


async def test_promotion_deletes_what_is_not_mounted_now(bench, table):
    async def nested():
        await coco.mount(sub("x"), table.declare, "x", 1)

    async def after():
        await coco.mount(sub("a"), nested)

    await bench.run(mounting_rows(table, ("a", "x"), ("a", "y")))
    table.take()

    await bench.run(after)

    assert table.take() == [("delete", "y", None)]


def mounting_rows(table, *paths):
    async def body():
        for path in paths:
            await coco.mount(sub(*path), table.declare, path[-1], 1)

    return body


async def test_own_items_go_before_the_children(bench, table):
    async def nested():
        table.declare("own", 1)
        await coco.mount(sub("b"), table.declare, "below", 1)

    async def before():
        await coco.mount(sub("a"), nested)

    await bench.run(before)
    table.take()

    await bench.run(lambda: None)

    assert table.take() == [("delete", "own", None), ("delete", "below", None)]
    assert await bench.paths() == ["/"]


class TestFailedDelete:
    async def _failed(self, bench, table):
        await bench.run(mounting(table, "a", "b"))
        table.take()
        with table.failing("before", key="a"):
            await bench.run(mounting(table, "b"))
        assert table.rows == {"a": "v", "b": "v"}
        table.take()

    async def test_it_is_retried_by_the_next_commit_of_the_parent(self, bench, table):
        await self._failed(bench, table)
        assert '/"a"' in await bench.paths()

        await bench.run(mounting(table, "b"))

        assert table.reconciled[-1] == ("a", coco.NON_EXISTENCE, ("v",), True)
        assert table.take() == [("delete", "a", None)]
        assert await bench.paths() == ["/", '/"b"']

    async def test_mounting_the_path_again_makes_it_an_update(self, bench, table):
        await self._failed(bench, table)

        await bench.run(mounting(table, "a", "b"))

        assert ("a", "v", ("v",), True) in table.reconciled
        assert table.take() == [("put", "a", "v")]
        await bench.run(mounting(table, "a", "b"))
        assert table.take() == []

    async def test_it_is_logged_and_the_update_succeeds(self, bench, table, caplog):
        await self._failed(bench, table)

        assert [r.levelname for r in caplog.records if r.exc_info] == ["ERROR"]

    async def test_a_failure_deep_down_keeps_the_ancestors_tombstones(self, bench, table):
        async def nested():
            await coco.mount(sub("x"), table.declare, "x", 1)
            await coco.mount(sub("y"), table.declare, "y", 1)

        async def before():
            await coco.mount(sub("a"), nested)

        await bench.run(before)
        table.take()
        with table.failing(key="x"):
            await bench.run(lambda: None)
        assert table.rows == {"x": 1}
        table.take()

        await bench.run(lambda: None)

        assert table.take() == [("delete", "x", None)]
        assert await bench.paths() == ["/"]
        assert await bench.owners() == {}


async def test_a_failing_parent_deletes_nothing(bench, table):
    async def body():
        await coco.mount(sub("b"), table.declare, "b", "v")
        raise ZeroDivisionError

    await bench.run(mounting(table, "a", "b"))
    table.take()

    await bench.fails(body)

    assert table.take() == []
    assert table.rows == {"a": "v", "b": "v"}


async def test_children_of_a_memo_hit_are_not_touched(bench, table, ran):
    @coco.fn(memo=True)
    async def parent():
        ran("parent")
        await coco.mount(sub("x"), table.declare, "x", 1)

    async def body():
        await coco.mount(sub("p"), parent)

    await bench.run(body)
    await bench.run(body)

    assert ran.take() == ["parent"]
    assert table.take() == [("put", "x", 1)]


async def test_gc_runs_without_a_deadline(bench, table):
    await bench.run(mounting(table, "a"))

    async def body():
        with coco.timeout(timedelta(hours=1)):
            pass

    with coco.timeout(timedelta(hours=1)):
        await bench.run(body)
    assert table.rows == {}


async def test_tombstones_left_by_a_kill_are_swept(bench, table):
    """Killed after the parent's commit, while a child's delete ran."""
    copies = []

    def die():
        copies.append(bench.copy_store())
        raise InjectedFailure

    await bench.run(mounting(table, "a"))
    with table.injected("before", die, key="a"):
        await bench.run(lambda: None)
    bench.reopen(copies[-1])
    table.take()

    await bench.run(lambda: None)

    assert table.take() == [("delete", "a", None)]
    assert await bench.paths() == ["/"]


async def test_a_deep_tree_is_deleted_completely(bench, table):
    async def level(n):
        table.declare(n, n)
        if n:
            await coco.mount(sub("down"), level, n - 1)

    async def body():
        await coco.mount(sub("top"), level, 60)

    await bench.run(body)
    assert len(table.rows) == 61

    await bench.run(lambda: None)

    assert table.rows == {}
    assert await bench.paths() == ["/"]


async def test_a_directory_without_components_is_removed_by_the_next_update(bench):
    """A process may die after a directory was noted and before a component stood in it."""
    from cocoindex.engine import rows
    from cocoindex.engine.rows import Node, NodeKind

    async def child():
        pass

    async def main():
        await coco.mount(coco.component_subpath("stays"), child)

    await bench.run(main)
    state = bench.env.app_state(bench.app)
    section, outer, inner = state.section, state.new_node_id(), state.new_node_id()
    place, below = rows.existence_key(rows.ROOT_ID, b"0dir\0"), rows.existence_key(outer, b"0in\0")
    section.write(
        [
            (place, Node(NodeKind.DIRECTORY, outer, True).encode()),
            (rows.node_key(outer), rows.pack_id(rows.ROOT_ID) + b"0dir\0"),
            (below, Node(NodeKind.DIRECTORY, inner, False).encode()),
        ]
    )
    await section.flushed()

    await bench.run(main)

    assert await bench.paths() == ["/", '/"stays"']
    assert section.get_many([place, below, rows.node_key(outer)]) == [None] * 3

"""Rows whose container was not applied, failed, or is kept by a memo: §E5, §E6."""

from __future__ import annotations

from typing import Any

import pytest

import cocoindex as coco
from cocoindex.testing.scripted import InjectedFailure
from cocoindex.testing.targets import MemoryTree

sub = coco.component_subpath


class Box:
    """Hands a provider from one component to another; opaque to memos."""

    __slots__ = ("provider",)

    def __init__(self) -> None:
        self.provider: Any = None


@pytest.fixture
def tree():
    return MemoryTree()


async def row(provider, value=1):
    coco.declare_target_state(provider.target_state("r", value))


async def row_or_fail(provider):
    if provider is None:
        raise RuntimeError("fails, and so keeps what it tracks")
    await row(provider)


async def container_with_row(tree, value=1):
    provider = await coco.mount_target(tree.container("T", value))
    await coco.mount(sub("row"), row, provider)


async def test_a_row_dropped_while_its_containers_sink_fails_is_deleted_later(bench, tree):
    box = Box()

    async def user():
        box.provider = await coco.mount_target(tree.container("T", 1))

    async def with_row():
        await coco.use_mount(sub("user"), user)
        await coco.mount(sub("row"), row, box.provider)

    async def without_row():
        await coco.mount(sub("user"), user)

    await bench.run(with_row)
    with tree.failing("before", key=("T",)):
        await bench.run(without_row)
    assert tree.rows == {("T",): 1, ("T", "r"): 1}

    await bench.run(without_row)

    assert tree.rows == {("T",): 1}


async def test_a_row_whose_write_fails_after_a_lossy_change_is_written_later(bench, tree):
    await bench.run(lambda: container_with_row(tree, 1))
    tree.invalidations[("T",)] = "lossy"
    with tree.failing("before", key=("T", "r")):
        await bench.run(lambda: container_with_row(tree, 2))
    assert tree.rows[("T", "r")] != 1

    await bench.run(lambda: container_with_row(tree, 2))

    assert tree.rows == {("T",): 2, ("T", "r"): 1}


async def test_a_row_is_deleted_although_another_container_of_its_component_goes_too(bench, tree):
    async def container(key):
        return await coco.mount_target(tree.container(key, 1))

    async def rows(*providers):
        for provider in providers:
            await row(provider)

    def body(*keys, rows_in=()):
        async def main():
            providers = {k: await coco.use_mount(sub("mid", k), container, k) for k in keys}
            if rows_in:
                await coco.mount(sub("rows"), rows, *(providers[k] for k in rows_in))

        return main

    await bench.run(body("B", rows_in="B"))
    await bench.run(body("B", "A", rows_in="AB"))
    assert len(tree.rows) == 4

    await bench.run(body("B"))

    assert tree.rows == {("B",): 1}


async def test_a_row_is_written_again_after_its_containers_deletion_was_applied_but_failed(
    bench, tree
):
    async def on():
        provider = await coco.mount_target(tree.container("T", 1))
        await coco.mount(sub("row"), row_or_fail, provider)

    async def off():
        await coco.mount(sub("row"), row_or_fail, None)

    await bench.run(on)
    with tree.failing("after", key=("T",)):
        await bench.run(off)
    assert tree.rows == {}

    await bench.run(on)

    assert tree.rows == {("T",): 1, ("T", "r"): 1}


async def test_rows_that_a_failed_deletion_took_over_go_when_only_the_container_comes_back(bench):
    tree = MemoryTree(children_first=True, handlers_from="factory")

    async def only_container():
        await coco.mount_target(tree.container("T", 1))

    await bench.run(lambda: container_with_row(tree))
    with tree.failing("before", key=("T", "r")):
        await bench.run(lambda: None)
    assert tree.rows == {("T",): 1, ("T", "r"): 1}

    await bench.run(only_container)

    assert tree.rows == {("T",): 1}
    assert list((await bench.owners()).values()) != []
    await bench.run(lambda: None)
    assert tree.rows == {}


async def test_rows_that_a_failed_deletion_took_over_stay_when_they_are_declared_again(bench):
    tree = MemoryTree(children_first=True, handlers_from="factory")
    await bench.run(lambda: container_with_row(tree))
    with tree.failing("before", key=("T", "r")):
        await bench.run(lambda: None)

    await bench.run(lambda: container_with_row(tree))

    assert tree.rows == {("T",): 1, ("T", "r"): 1}
    await bench.run(lambda: None)
    assert tree.rows == {}


async def test_a_removed_row_is_deleted_although_its_containers_memo_was_reused(bench, ran):
    """Only the container's component, executed again, has a handler for the row."""
    tree, box = MemoryTree(handlers_from="factory"), Box()

    @coco.fn(memo=True)
    async def setup() -> None:
        ran("setup")
        box.provider = await coco.mount_target(tree.container("T", 1))

    async def with_row():
        await coco.use_mount(sub("setup"), setup)
        await coco.mount(sub("row"), row, box.provider)

    async def without_row():
        await coco.use_mount(sub("setup"), setup)

    await bench.run(with_row)
    assert ran.take() == ["setup"]

    await bench.run(without_row)

    assert tree.rows == {("T",): 1}
    assert ran.take() == ["setup"]
    await bench.run(without_row)
    assert ran.take() == []


async def container(tree):
    return await coco.mount_target(tree.container("T", 1))


@pytest.mark.parametrize("names", [("box", "rows"), ("rows", "box")], ids="-".join)
async def test_rows_stay_tracked_while_their_containers_deletion_has_only_failed(
    bench, tree, names
):
    """The two components go in one sweep, in whatever order."""
    box, rows = names

    async def both():
        provider = await coco.use_mount(sub(box), container, tree)
        await coco.mount(sub(rows), row, provider)

    await bench.run(both)
    with tree.failing("before", key=("T",)):
        await bench.run(lambda: None)
    assert tree.rows == {("T",): 1, ("T", "r"): 1}

    await bench.run(lambda: coco.use_mount(sub(box), container, tree))

    assert tree.rows == {("T",): 1}


@pytest.mark.parametrize("depth", [1, 3])
async def test_everything_goes_in_one_run_when_deletions_have_to_wait_for_each_other(
    bench, tree, depth
):
    async def deep(level, provider):
        if level:
            await coco.mount(sub("down"), deep, level - 1, provider)
        else:
            await row(provider)

    async def both():
        provider = await coco.use_mount(sub("z"), container, tree)
        await coco.mount(sub("a"), deep, depth, provider)

    await bench.run(both)
    await bench.run(lambda: None)
    assert tree.rows == {}
    assert list((await bench.owners()).values()) == []


async def test_rows_go_when_their_container_moves_to_where_they_cannot_see_it(bench, tree):
    async def rows(provider):
        if provider is not None:
            await row(provider)

    async def before():
        provider = await coco.mount_target(tree.container("T", 1))
        await coco.mount(sub("rows"), rows, provider)

    async def after():
        await coco.mount(sub("rows"), rows, None)
        await coco.mount(sub("z"), container, tree)

    await bench.run(before)
    await bench.run(after)

    assert tree.rows == {("T",): 1}


async def test_removed_rows_go_when_their_container_moves_to_a_later_component(bench, tree):
    async def before():
        provider = await coco.mount_target(tree.container("T", 1))
        await coco.mount(sub("a"), parent, provider)

    async def parent(provider):
        if provider is not None:
            await coco.mount(sub("rows"), row, provider)

    async def after():
        await (await coco.mount(sub("a"), parent, None)).ready()
        await coco.mount(sub("z"), container, tree)

    await bench.run(before)
    await bench.run(after)

    assert tree.rows == {("T",): 1}


async def test_a_drop_keeps_rows_tracked_whose_container_could_not_be_deleted(bench, tree):
    async def both():
        provider = await coco.use_mount(sub("a"), container, tree)
        await coco.mount(sub("rows"), row, provider)

    await bench.run(both)
    with tree.failing("before", key=("T",)), pytest.raises(InjectedFailure):
        await bench.app.drop()

    await bench.run(lambda: coco.use_mount(sub("a"), container, tree))

    assert tree.rows == {("T",): 1}


async def _ignore(_provider, _actions):
    pass


_rows_sink = coco.TargetActionSink.from_async_fn(_ignore)


class _Rows:
    def reconcile(self, key, desired, _records, missing, /):
        if coco.is_non_existence(desired):
            return coco.TargetReconcileOutput(("delete", key), _rows_sink, coco.NON_EXISTENCE)
        return coco.TargetReconcileOutput(("put", key), _rows_sink, 1) if missing else None


async def _make(_provider, actions):
    return [coco.ChildTargetDef(_Rows()) if kind == "box" else None for _, kind in actions]


_boxes_sink = coco.TargetActionSink.from_async_fn(_make)


class _Boxes:
    """Containers whose rows can be deleted only once the sink has handed out their handler."""

    def reconcile(self, key, desired, _records, _missing, /):
        if coco.is_non_existence(desired):
            return coco.TargetReconcileOutput((key, "gone"), _boxes_sink, coco.NON_EXISTENCE)
        return coco.TargetReconcileOutput((key, desired), _boxes_sink, desired)

    def reconcile_children_on_delete(self, _key, _record, /):
        return True


async def test_a_new_component_that_ends_a_container_still_waits_for_what_is_below_it(bench, ran):
    boxes = coco.register_root_target_states_provider("tests/ended_container", _Boxes())

    def box(key):
        return coco.declare_target_state_with_child(boxes.target_state(key, "box"))

    def rows(provider):
        for key in range(3):
            coco.declare_target_state(provider.target_state(key, "v"))

    @coco.fn(memo=True)
    async def new():
        ran("new")
        coco.declare_target_state(boxes.target_state("C", "leaf"))
        box("D")

    async def before():
        await coco.mount(sub("rows"), rows, await coco.use_mount(sub("old"), box, "C"))

    async def after():
        await coco.mount(sub("new"), new)

    await bench.run(before)
    await bench.run(after)
    await bench.run(after)
    below = [path for path in await bench.owners() if '"C"/' in path]
    assert not below or ran.take() == ["new", "new"], "memoized over rows that are to be deleted"

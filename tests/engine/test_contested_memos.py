"""A memo is not stored, or not reused, once another component has what it stands for: §E7, §E8."""

from __future__ import annotations

import pytest

import cocoindex as coco
from cocoindex.testing.targets import Gate, MemoryTarget

sub = coco.component_subpath


class Box:
    """Holds the gate of the current run, if any; opaque to memos."""

    __slots__ = ("gate",)

    def __init__(self) -> None:
        self.gate: Gate | None = None


@pytest.fixture
def slow():
    """A second target, with a sink of its own."""
    return MemoryTarget(record=lambda value: value)


async def test_a_component_robbed_while_its_sink_runs_stores_no_memo(
    bench, table, slow, ran, caplog
):
    @coco.fn(memo=True)
    async def owner(value: int) -> None:
        ran("owner")
        table.declare("x", 1)
        slow.declare("y", value)

    async def thief():
        table.declare("x", 1)

    async def contested():
        await coco.mount(sub("owner"), owner, 2)
        await gate.entered.wait()
        await coco.use_mount(sub("thief"), thief)
        gate.open()

    await bench.run(lambda: coco.mount(sub("owner"), owner, 1))
    with slow.held(key="y") as gate:
        await bench.run(contested)
    assert "is declared by two components in one run" in caplog.text
    ran.take()

    await bench.run(lambda: coco.mount(sub("owner"), owner, 2))

    assert ran.take() == ["owner"]
    assert table.rows == {"x": 1}
    assert slow.rows == {"y": 2}
    await bench.run(lambda: coco.mount(sub("owner"), owner, 2))
    assert ran.take() == []


async def test_a_component_above_a_robbed_one_stores_no_memo(bench, table, ran):
    box = Box()

    async def leaf():
        table.declare("x", 1)

    @coco.fn(memo=True)
    async def middle() -> None:
        ran("middle")
        await coco.mount(sub("leaf"), leaf)

    @coco.fn(memo=True)
    async def top(_value: int) -> None:
        ran("top")
        await coco.use_mount(sub("middle"), middle)
        if box.gate is not None:
            await box.gate.passage()

    async def contested():
        await coco.mount(sub("top"), top, 2)
        await box.gate.entered.wait()
        await coco.use_mount(sub("thief"), leaf)
        box.gate.open()

    await bench.run(lambda: coco.mount(sub("top"), top, 1))
    assert ran.take() == ["top", "middle"]
    box.gate = Gate()
    await bench.run(contested)
    box.gate = None
    assert ran.take() == ["top"]

    await bench.run(lambda: coco.mount(sub("top"), top, 2))

    assert ran.take() == ["top", "middle"]
    assert table.rows == {"x": 1}
    assert await bench.owners() != {}
    await bench.run(lambda: coco.mount(sub("top"), top, 2))
    assert ran.take() == []


async def test_a_memo_is_not_reused_after_a_failed_run_made_its_component_a_directory(
    bench, table, ran
):
    @coco.fn(memo=True)
    def component() -> None:
        ran("component")
        table.declare("a", 1)

    def below():
        table.declare("ab", 1)

    async def as_directory():
        await coco.use_mount(sub("a", "b"), below)
        raise RuntimeError("the root fails")

    await bench.run(lambda: coco.mount(sub("a"), component))
    await bench.fails(as_directory)
    assert ran.take() == ["component"]

    await bench.run(lambda: coco.mount(sub("a"), component))

    assert ran.take() == ["component"]
    assert table.rows == {"a": 1}
    await bench.run(lambda: coco.mount(sub("a"), component))
    assert ran.take() == []

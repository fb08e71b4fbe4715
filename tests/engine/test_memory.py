"""What a run leaves in memory: nothing, also after a failure."""

from __future__ import annotations

import gc
import weakref

import pytest

import cocoindex as coco

sub = coco.component_subpath


class Value:
    """A declared value that leads back to the component that has declared it."""

    def __init__(self) -> None:
        self.context = coco.get_component_context()


@pytest.mark.parametrize("where", ["root", "child"])
async def test_a_failed_run_keeps_no_value_that_it_had_declared(bench, table, where):
    kept: list[weakref.ref[Value]] = []

    def declaring():
        value = Value()
        kept.append(weakref.ref(value))
        table.declare("k", value)
        raise ZeroDivisionError

    async def body():
        await coco.use_mount(sub("child"), declaring)

    for _ in range(3):
        await bench.fails(declaring if where == "root" else body)
    gc.collect()
    assert [ref() for ref in kept[:-1]] == [None, None]  # the last error is still being told

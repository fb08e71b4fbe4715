"""What a run leaves in memory: nothing, also after a failure."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest

import cocoindex as coco
from cocoindex.testing.targets import InjectedFailure

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


async def test_changed_memo_states_of_reused_components_do_not_pile_up(bench):
    limit, most, run = 50_000, 0, 0
    bench.app_options["limits"] = coco.Limits(bytes_in_flight=limit)

    class File:
        def __init__(self, key: int) -> None:
            self.key = key

        def __coco_memo_key__(self) -> int:
            return self.key

        def __coco_memo_state__(self, previous: object) -> coco.MemoStateOutcome:
            nonlocal most
            most = max(most, bench.env.app_state(bench.app).section.pending_bytes)
            state = [run, "x" * 2000]
            return coco.MemoStateOutcome(state, memo_valid=not coco.is_non_existence(previous))

    @coco.fn(memo=True)
    async def page(_file: File) -> None: ...

    async def body() -> None:
        await coco.mount_each(page, ((key, File(key)) for key in range(3000)))

    await bench.run(body)
    run, most = 1, 0
    await bench.run(body)
    assert limit < most < 2_000_000  # of six million


@pytest.mark.parametrize("fails", [False, True])
async def test_a_drop_leaves_nothing_of_itself(bench, table, fails):
    kept: list[weakref.ref[object]] = []

    async def body():
        await coco.mount_each(sub("e"), table.declare, [(n, n) for n in range(3)], 1)

    for _ in range(3):
        await bench.run(body)
        drop = bench.app.start_drop()
        with table.failing() if fails else contextlib.nullcontext():
            with contextlib.suppress(InjectedFailure):
                await drop.result()
        kept.append(weakref.ref(drop._run))
        del drop
    gc.collect()
    assert [ref() for ref in kept[:-1]] == [None, None]  # the last error is still being told

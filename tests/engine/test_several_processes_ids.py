"""Ids and states when processes take turns on one store, or its disk fails: §E21, §E22."""

from __future__ import annotations

import json

import pytest

import cocoindex as coco
from cocoindex.errors import StoreFullError
from cocoindex.testing import fsck
from cocoindex.testing.targets import MemoryTarget

sub = coco.component_subpath

TARGET = "tests/several_processes_ids"

OTHER = f"""
    import json, sys
    import cocoindex as coco
    from cocoindex._internal.component_ctx import next_id
    from cocoindex.testing.targets import MemoryTarget

    path, what, rows, ids = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
    table = MemoryTarget("{TARGET}", record=lambda value: value)
    table.rows = dict(rows)

    async def main():
        for key, value in json.loads(what):
            await coco.mount(coco.component_subpath(key), table.declare, key, value)
        return [await next_id() for _ in range(ids)]

    env = coco.Environment(coco.Settings(db_path=path))
    app = coco.App(coco.AppConfig("bench", env), main)
    result = app.drop_blocking() if what == "drop" else app.update_blocking()
    seen = {{call.key: call.prev for call in table.reconciled}}
    print(json.dumps([list(table.rows.items()), list(seen.items()), result]))
    env.close()
"""


@pytest.fixture(scope="module")
def module_table():
    return MemoryTarget(TARGET, record=lambda value: value)


@pytest.fixture
def table(module_table):
    """The target that both processes write to; each test finds it empty."""
    module_table.rows = {}
    module_table.take()
    return module_table


@pytest.fixture
def other(bench, table, script):
    """Let another process declare ``rows`` (None: drop the app); what its handlers saw."""

    def run(rows, ids=0):
        what = "drop" if rows is None else json.dumps(list(rows.items()))
        world = json.dumps(list(table.rows.items()))
        output = script(OTHER, str(bench.path), what, world, str(ids), name="other.py").stdout
        world, seen, result = json.loads(output)
        table.rows = dict(world)
        return {key: tuple(prev) for key, prev in seen}, result

    return run


@pytest.fixture
def declare(table):
    """A main body with one component per row, which returns ``ids`` new ids."""

    def make(rows, *, ids=0, fails=False):
        async def main():
            from cocoindex._internal.component_ctx import next_id

            for key, value in rows.items():
                await coco.use_mount(sub(key), table.declare, key, value)
            if fails:
                raise RuntimeError("the root fails")
            return [await next_id() for _ in range(ids)]

        return main

    return make


def numbered(count):
    return dict.fromkeys(range(count), 1)


async def test_what_a_failed_run_has_done_is_stored_before_another_process_may_run(
    bench, table, declare, other
):
    await bench.run(declare({"k": 1}))
    await bench.fails(declare({"k": 2}, fails=True))

    seen, _ = other({"k": 3})

    assert seen == {"k": (2,)}
    bench.reopen()
    table.take()
    await bench.run(declare({"k": 2}))
    assert table.reconciled == [("k", 2, (3,), False)]
    assert table.rows == {"k": 2}


async def test_components_keep_apart_after_another_process_has_dropped_the_app(
    bench, table, declare, other
):
    await bench.run(declare(numbered(3)))
    other(None)
    assert table.rows == {}
    await bench.run(declare(numbered(3)))
    assert table.rows == numbered(3)

    other(numbered(10))

    assert table.rows == numbered(10)
    assert fsck(bench.env, "bench") == []
    await bench.run(declare(numbered(12)))
    assert table.rows == numbered(12)
    assert fsck(bench.env, "bench") == []
    assert len(await bench.owners()) == 12
    await bench.run(declare({}))
    assert table.rows == {}


async def test_processes_that_take_turns_keep_their_components_apart(bench, table, declare, other):
    for count in (2, 6):
        await bench.run(declare(numbered(count)))
        other(numbered(count + 2))
        assert table.rows == numbered(count + 2)
        assert fsck(bench.env, "bench") == []


async def test_no_id_is_given_twice_after_another_process_has_dropped_the_app(
    bench, declare, other
):
    await bench.run(declare({}, ids=2))
    other(None)
    _, theirs = other({}, ids=3)

    ours = await bench.run(declare({}, ids=3))

    assert set(theirs).isdisjoint(ours)
    _, theirs_again = other({}, ids=3)
    assert len({*theirs, *ours, *theirs_again}) == 9


async def test_no_id_is_given_twice_after_the_disk_was_full(bench, table, declare, monkeypatch):
    def full(_store, _work):
        raise StoreFullError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("cocoindex.state.lmdb_store.LmdbStore._apply", full)
        await bench.fails(declare(numbered(3), ids=3))
    table.rows = {}

    first = await bench.run(declare(numbered(3), ids=3))
    bench.reopen()
    second = await bench.run(declare(numbered(20), ids=3))

    assert set(first).isdisjoint(second)
    assert table.rows == numbered(20)
    assert fsck(bench.env, "bench") == []
    assert len(await bench.owners()) == 20

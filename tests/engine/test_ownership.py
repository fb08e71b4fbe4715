"""Target states that move between components: §E7."""

from __future__ import annotations

import asyncio

import pytest

import cocoindex as coco
from cocoindex.errors import StoreError
from cocoindex.state.buffered import BufferedSection
from cocoindex.testing.targets import InjectedFailure, MemoryTarget

sub = coco.component_subpath


def declaring(table, **values):
    """A main body with one component per name; None: mounted without a declaration."""

    async def body():
        for name, value in values.items():
            await coco.mount(sub(name), one, table, value)

    return body


async def one(table, value):
    if value is not None:
        table.declare("k", value)


MOVES = {
    "to a sibling, new value": (dict(a=1), dict(b=2), [("put", "k", 2)]),
    "to a sibling, same value": (dict(a=1), dict(b=1), []),
    "to an earlier sibling": (dict(b=1), dict(a=2), [("put", "k", 2)]),
}


@pytest.mark.parametrize("name", MOVES)
async def test_a_move_between_siblings_is_no_delete(bench, table, name):
    before, after, actions = MOVES[name]
    await bench.run(declaring(table, **before))
    table.take()

    await bench.run(declaring(table, **after))

    assert table.take() == actions
    assert table.rows == {"k": after.get("a") or after.get("b")}
    (owner,) = (await bench.owners()).values()
    assert owner == f'/"{next(iter(after))}"'
    await bench.run(declaring(table, **after))
    assert table.take() == []


async def test_the_new_owner_sees_the_states_of_the_old_one(bench, table):
    await bench.run(declaring(table, a="A"))
    with table.failing("after"):
        await bench.run(declaring(table, a="B"))
    table.take()

    await bench.run(declaring(table, b="C"))

    assert table.reconciled == [("k", "C", ("A", "B"), False)]
    assert table.rows == {"k": "C"}


async def test_a_failed_take_over_stays_with_the_new_owner(bench, table):
    await bench.run(declaring(table, a="A"))
    with table.failing("after"):
        await bench.run(declaring(table, b="B"))
    table.take()

    await bench.run(lambda: None)

    assert table.reconciled == [("k", coco.NON_EXISTENCE, ("A", "B"), False)]
    assert table.rows == {}
    assert await bench.owners() == {}


@pytest.mark.parametrize("first", ["old", "new"])
async def test_order_between_branches_does_not_matter(bench, table, first):
    """The old owner stays mounted but stops declaring."""

    async def after():
        bodies = [("old", None), ("new", 2)] if first == "old" else [("new", 2), ("old", None)]
        for name, value in bodies:
            await (await coco.mount(sub(name), one, table, value)).ready()

    await bench.run(declaring(table, old=1))
    table.take()

    await bench.run(after)

    assert table.rows == {"k": 2}
    assert table.take() == (
        [("delete", "k", None), ("put", "k", 2)] if first == "old" else [("put", "k", 2)]
    )


async def test_a_chain_of_owners_over_several_runs(bench, table):
    for name, value in [("a", 1), ("b", 2), ("c", 3)]:
        await bench.run(declaring(table, **{name: value}))
    assert table.take() == [("put", "k", 1), ("put", "k", 2), ("put", "k", 3)]


async def test_renaming_a_subtree_moves_every_item_without_deletes(bench, table):
    async def leaf(key):
        table.declare(key, 1)

    async def tree():
        table.declare("own", 1)
        for key in "xy":
            await coco.mount(sub(key), leaf, key)

    def body(name):
        async def main():
            await coco.mount(sub(name), tree)

        return main

    await bench.run(body("old"))
    table.take()

    await bench.run(body("new"))

    assert table.take() == []
    assert set((await bench.owners()).values()) == {'/"new"', '/"new"/"x"', '/"new"/"y"'}


@pytest.mark.parametrize("fails", [False, True])
async def test_a_claim_waits_for_the_owner_in_flight(bench, table, fails):
    await bench.run(declaring(table, a="A"))
    table.take()

    async def body():
        await coco.mount(sub("a"), one, table, "B")
        await coco.mount(sub("b"), claimant)

    async def claimant():
        await gate.entered.wait()
        table.declare("k", "C")
        declared.set()

    def fail_once():
        if fails and not struck:
            struck.append(True)
            raise InjectedFailure

    declared, struck = asyncio.Event(), []
    with table.held() as gate, table.injected("after", fail_once):
        run = asyncio.ensure_future(bench.start(body).result())
        await declared.wait()
        for _ in range(50):  # let the claimant get as far as it can
            await asyncio.sleep(0)
        assert len(table.calls) == 1
        gate.open()
        await run

    assert table.reconciled[-1] == ("k", "C", ("A", "B") if fails else ("B",), False)
    assert table.rows == {"k": "C"}
    assert set((await bench.owners()).values()) == {'/"b"'}


async def test_a_settled_item_of_a_busy_owner_is_taken_at_once(bench, table):
    busy = MemoryTarget(record=str)

    async def owner(keep):
        if keep:
            table.declare("k", 1)
        busy.declare("slow", str(keep))

    async def claimant():
        await gate.entered.wait()
        table.declare("k", 2)

    async def before():
        await coco.mount(sub("a"), owner, True)

    async def after():
        # The owner still declares the item, unchanged, so it is settled while the sink is slow.
        await coco.mount(sub("a"), owner_after)
        handle = await coco.mount(sub("b"), claimant)
        await handle.ready()
        taken.append(dict(table.rows))
        gate.open()

    async def owner_after():
        table.declare("k", 1)
        busy.declare("slow", "changed")

    taken = []
    await bench.run(before)
    with busy.held() as gate:
        await bench.run(after)

    assert taken == [{"k": 2}]


async def test_two_components_swapping_items_do_not_wait_for_ever(bench, table):
    def swapping(a, b):
        async def declare(key, value):
            table.declare(key, value)

        async def main():
            await coco.mount(sub("a"), declare, a, "a")
            await coco.mount(sub("b"), declare, b, "b")

        return main

    await bench.run(swapping("x", "y"))
    await asyncio.wait_for(bench.run(swapping("y", "x")), 30)
    assert table.rows == {"y": "a", "x": "b"}
    table.take()

    await bench.run(swapping("y", "x"))
    assert table.take() == []


class TestMemosOfTheOldOwner:
    def _bodies(self, table, ran):
        @coco.fn(memo=True)
        async def old():
            ran("old")
            table.declare("k", "A")

        async def new():
            table.declare("k", "B")

        return old, new

    async def test_a_memoized_owner_creates_again_what_was_taken(self, bench, table, ran):
        old, new = self._bodies(table, ran)

        async def alone():
            await coco.mount(sub("old"), old)

        async def both():
            await (await coco.mount(sub("old"), old)).ready()
            await (await coco.mount(sub("new"), new)).ready()

        await bench.run(alone)
        assert ran.take() == ["old"]
        await bench.run(both)
        assert (ran.take(), table.rows) == ([], {"k": "B"})

        # One clean run puts the old owner in charge again, whatever the order of the delete.
        await bench.run(alone)
        await bench.run(alone)

        assert "old" in ran.take()
        assert table.rows == {"k": "A"}

    async def test_a_called_memo_of_the_old_owner_is_not_a_hit(self, bench, table, ran):
        @coco.fn(memo=True)
        async def call():
            ran("call")
            table.declare("k", "A")

        async def old():
            await call()

        async def new():
            table.declare("k", "B")

        async def alone():
            await coco.mount(sub("old"), old)

        async def both():
            await (await coco.mount(sub("old"), old)).ready()
            await (await coco.mount(sub("new"), new)).ready()

        await bench.run(alone)
        await bench.run(both)
        assert ran.take() == ["call"]

        await bench.run(alone)
        await bench.run(alone)

        assert ran.take() == ["call"]
        assert table.rows == {"k": "A"}


KILLED = """
    import asyncio, json, os, pathlib, sys
    import cocoindex as coco
    from cocoindex.testing.targets import MemoryTarget

    table = MemoryTarget("killed", record=lambda v: v)
    outside = pathlib.Path("outside.json")
    if outside.exists():
        table.rows.update(json.loads(outside.read_text()))
    plan = json.loads(sys.argv[1])

    async def main():
        for name, value in plan["declare"].items():
            await coco.mount(coco.component_subpath(name), table.declare, "k", value)

    def save():
        outside.write_text(json.dumps(table.rows))
        if plan["dies"]:
            os._exit(9)

    env = coco.Environment(coco.Settings(db_path="store"))
    app = coco.App(coco.AppConfig("app", env), main)
    with table.injected(plan.get("point", "after"), save):
        app.update_blocking()
    print(json.dumps([r.prev for r in table.reconciled]), json.dumps(table.rows))
"""


def test_a_claim_after_a_kill_takes_over_what_the_dead_process_left(script):
    import json

    def run(dies, **declare):
        plan = {"declare": declare, "dies": dies}
        return script(KILLED, json.dumps(plan), exit_code=9 if dies else 0).stdout.strip()

    run(False, a="A")
    run(True, a="B")
    assert run(False, b="C") == '[["A", "B"]] {"k": "C"}'
    assert run(False, b="C") == '[["C"]] {"k": "C"}'


def test_a_kill_during_a_take_over_leaves_the_item_with_the_new_owner(script):
    import json

    def run(dies, **declare):
        plan = {"declare": declare, "dies": dies, "point": "before"}
        return script(KILLED, json.dumps(plan), exit_code=9 if dies else 0).stdout.strip()

    run(False, a="A")
    run(True, b="B")
    assert run(False) == '[["A", "B"]] {}'


async def test_a_failed_run_lets_the_item_be_claimed_in_the_same_process(bench, table):
    """The token of a failed owner must not block claimants."""
    with table.failing("before", error=InjectedFailure()):
        await bench.run(declaring(table, a="A"))

    await asyncio.wait_for(bench.run(declaring(table, b="B")), 30)

    assert table.rows == {"k": "B"}


@coco.fn
async def half(number, table):
    table.declare(f"k{number // 2}", number)


async def test_of_new_components_that_come_together_one_owns_what_two_declare(bench, table):
    async def body(numbers):
        await coco.mount_each(half, ((n, n) for n in numbers), table)

    await bench.run(lambda: body(range(40)))

    owners = {key: path.rsplit("/", 1)[1] for key, path in (await bench.owners()).items()}
    assert len(owners) == 20
    assert sorted(table.rows) == sorted(f"k{n}" for n in range(20))
    assert all(str(number) in owners.values() for number in table.rows.values())
    losers = {number for number in range(40) if str(number) not in owners.values()}
    await bench.run(lambda: body(sorted(losers)))
    assert set(table.rows.values()) == losers


async def declares_all(table, value, *keys):
    for key in keys:
        table.declare(key, value)


@pytest.mark.parametrize("count", [1, 2000])
async def test_one_owns_what_a_new_component_and_one_of_another_kind_declare(
    bench, table, caplog, count
):
    """Of a kind whose owner rows are not read with those of the others: known, or large."""
    known = count == 1
    keys = [f"k{n}" for n in range(count)]

    async def first():
        if known:
            await coco.mount(sub("old"), declares_all, table, 1, "own")

    async def both():
        await coco.mount(sub("old"), declares_all, table, 1, "own", *keys)
        await coco.mount(sub("new"), declares_all, table, 2, keys[-1])

    await bench.run(first)
    await bench.run(both)

    assert "is declared by two components in one run" in caplog.text
    assert table.rows[keys[-1]] == 2
    await bench.run(lambda: coco.mount(sub("new"), declares_all, table, 2, keys[-1]))
    assert table.rows == {keys[-1]: 2}


async def test_a_store_that_cannot_tell_owners_fails_the_components_that_ask(
    bench, table, monkeypatch, caplog
):
    async def body():
        await coco.mount_each(half, ((n, n) for n in range(10)), table)

    def unreadable(_self, _keys):
        raise StoreError("can't read")

    with monkeypatch.context() as patch:
        patch.setattr(BufferedSection, "get_many", unreadable)
        await bench.run(body)
    assert caplog.text.count("failed: can't read") == 10
    assert table.rows == {}
    await bench.run(body)
    assert len(table.rows) == 5

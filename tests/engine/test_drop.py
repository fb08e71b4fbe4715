"""Dropping an app: what goes, what stays, and what an interruption leaves to the next operation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.engine import dropping
from cocoindex.engine.faults import FaultPoint
from cocoindex.state.memory import MemoryStore
from cocoindex.testing import Severity, fsck
from cocoindex.testing.simulation import Fault, MemoryDisk, Outcome, SimulatedProcess
from cocoindex.testing.targets import InjectedFailure, MemoryTarget, MemoryTree

sub = coco.component_subpath
APP = "dropped"


@coco.fn(memo=True)
async def leaf(name: str, flat: Any, children: Any) -> None:
    coco.use_state("n", 0)
    flat.declare(f"{name}.flat", 1)
    coco.declare_target_state(children.target_state(name, 1))


class World:
    """An app with components on several levels, a container, memos and states; its disk, and what
    it has made outside.
    """

    def __init__(self, *, children_first: bool) -> None:
        self.disk = MemoryDisk()
        self.flat = MemoryTarget()
        self.tree = MemoryTree(handlers_from="factory", children_first=children_first)

    async def main(self) -> None:
        self.flat.declare("root", 0)
        children = await coco.mount_target(self.tree.container("T"))
        await coco.mount(sub("a"), leaf, "a", self.flat, children)
        await coco.mount(sub("d", "b"), self._branch, children)

    async def _branch(self, children: Any) -> None:
        self.flat.declare("b", 1)
        for name in ("x", "y"):
            await coco.mount(sub(name), leaf, name, self.flat, children)

    def run(self, what: str, *faults: Fault, **options: Any) -> Outcome:
        """One operation in a process of its own."""
        process = SimulatedProcess(self.disk, seed=5)
        app = coco.App(coco.AppConfig(APP, process.environment), self.main)
        start = app.start_drop if what == "drop" else lambda: app.update(**options)
        outcome = process.run(start, faults)
        if outcome.kind != "killed":
            process.settle()
            process.end()
        return outcome

    def outside(self) -> dict[Any, Any]:
        return {**self.flat.rows, **self.tree.rows}

    def save(self) -> Any:
        return deepcopy((self.disk, self.flat.rows, self.tree.rows))

    def restore(self, saved: Any) -> None:
        self.disk, self.flat.rows, self.tree.rows = deepcopy(saved)

    def stored(self) -> dict[bytes, bytes | None]:
        return self.disk.rows(APP).rows

    def findings(self) -> list[Any]:
        return fsck(MemoryStore(self.disk), APP)

    def interruptions(self, kind: Any, what: str = "drop") -> Iterator[Outcome]:
        """Start from here again and again, with a fault at each point in turn."""
        saved, at = self.save(), 0
        while True:
            self.restore(saved)
            outcome = self.run(what, Fault(at, kind))
            if not outcome.plan.struck:
                return
            yield outcome
            at += 1


@pytest.fixture(
    params=[(False, 1), (True, 1), (True, -1)],
    ids=["containers", "children first", "each chunk noted"],
)
def world(request, monkeypatch):
    children_first, write_seconds = request.param
    monkeypatch.setattr(dropping, "WRITE_SECONDS", write_seconds)
    world = World(children_first=children_first)
    assert world.run("update").kind == "done"
    return world


class TestInterrupted:
    """At each fault point in turn."""

    @pytest.mark.parametrize("kind", ["kill", "cancel", "full", "raise"])
    def test_the_next_drop_finishes(self, world, kind):
        seen = set()
        for outcome in world.interruptions(kind):
            seen.update(point for point, _, _ in outcome.plan.struck)
            assert not [f for f in world.findings() if f.severity is Severity.VIOLATION]
            assert world.run("drop").kind == "done"
            assert world.outside() == {}
            assert world.stored() == {}
        assert FaultPoint.INSIDE_SINK not in seen  # that is for sinks of simulated systems
        assert {FaultPoint.BEFORE_SINK, FaultPoint.AFTER_SINK, FaultPoint.AFTER_COMMIT} <= seen

    @pytest.mark.parametrize("kind", ["kill", "cancel", "full", "raise"])
    def test_the_next_update_puts_back_what_is_missing_and_leaves_nothing_open(self, world, kind):
        complete = world.outside()
        for _ in world.interruptions(kind):
            assert world.run("update").kind == "done"
            assert world.outside() == complete
            assert world.findings() == []

    def test_taking_stock_may_be_interrupted_as_well(self, world):
        complete = world.outside()
        self._cut_short(world)
        seen = set()
        for outcome in world.interruptions("kill", "update"):
            seen.update(point for point, _, _ in outcome.plan.struck)
            assert not [f for f in world.findings() if f.severity is Severity.VIOLATION]
            assert world.run("update").kind == "done"
            assert world.outside() == complete
            assert world.findings() == []
        assert FaultPoint.TAKING_STOCK in seen

    def test_what_may_be_gone_is_told_to_handlers_so(self, world):
        self._cut_short(world)
        world.flat.take()
        world.run("drop")
        assert world.flat.reconciled
        assert all(asked.may_be_missing for asked in world.flat.reconciled)

    def test_what_is_noted_as_done_is_not_done_again(self, world, monkeypatch):
        monkeypatch.setattr(dropping, "CHUNK", 1)
        monkeypatch.setattr(dropping, "WRITE_SECONDS", -1)
        for outcome in world.interruptions("kill"):
            (struck,) = outcome.plan.struck
            gone = {"root", "b", "a.flat", "x.flat", "y.flat"} - world.flat.rows.keys()
            if struck[0] == FaultPoint.BEFORE_SINK and len(gone) == 4:
                break
        world.flat.reconciled.clear()
        world.run("drop")
        asked = {asked.key for asked in world.flat.reconciled}
        assert asked >= world.flat.rows.keys()
        assert not asked >= gone
        assert world.outside() == {}

    def test_an_orderly_drop_knows_what_is_there(self, world):
        world.flat.reconciled.clear()
        world.run("drop")
        assert {asked.key for asked in world.flat.reconciled} == {
            "root",
            "b",
            "a.flat",
            "x.flat",
            "y.flat",
        }
        assert not any(asked.may_be_missing for asked in world.flat.reconciled)

    def test_a_check_of_the_store_says_so_and_mends_nothing(self, world):
        self._cut_short(world)
        found = world.findings()
        assert [(f.where, f.severity) for f in found] == [("/", Severity.UNFINISHED)]
        assert "drop" in found[0].problem

    def test_a_preview_counts_on_nothing_and_writes_nothing(self, world):
        self._cut_short(world)
        before = world.save()
        outcome = world.run("update", preview=True)
        assert outcome.kind == "done"
        assert {action.key for action in outcome.value} >= set(world.flat.rows)
        assert world.stored() == before[0].rows(APP).rows

    def _cut_short(self, world: World) -> None:
        """Kill a drop when some components are done and others are not."""
        everything = world.outside()
        for outcome in world.interruptions("kill"):
            (struck,) = outcome.plan.struck
            if struck[0] == FaultPoint.AFTER_COMMIT and 0 < len(world.outside()) < len(everything):
                return
        raise AssertionError("no drop was cut short")


class TestFailing:
    async def test_only_what_could_not_be_deleted_stays(self, bench):
        flat = MemoryTarget()

        async def main():
            flat.declare("root", 1)
            for name in ("a", "b", "c"):
                await coco.mount(sub("d", name), flat.declare, name, 1)
            await coco.mount(sub("e", "deep"), nested)

        async def nested():
            flat.declare("deep", 1)
            await coco.mount(sub("x"), flat.declare, "x", 1)

        await bench.run(main)
        with flat.failing(key="b"), pytest.raises(InjectedFailure):
            await bench.app.drop()

        assert flat.rows == {"b": 1}
        assert list((await bench.owners()).values()) == ['/"d"/"b"']
        assert await bench.paths() == ["/", '/"d"', '/"d"/"b"']
        assert {f.severity for f in fsck(bench.env, "bench")} == {Severity.UNFINISHED}

        handle = bench.app.start_drop()
        await handle
        assert flat.rows == {}
        assert handle.stats().total.num_deletes == 2  # the root is counted each time
        assert await bench.paths() == []

    async def test_an_update_afterwards_makes_everything_anew(self, bench):
        flat = MemoryTarget()

        @coco.fn(memo=True)
        async def memoized(name):
            flat.declare(name, 1)

        async def main():
            for name in ("a", "b", "c"):
                await coco.mount(sub(name), memoized, name)

        await bench.run(main)
        with flat.failing(key="b"), pytest.raises(InjectedFailure):
            await bench.app.drop()
        await bench.run(main)
        assert flat.rows == {"a": 1, "b": 1, "c": 1}
        assert fsck(bench.env, "bench") == []

    async def test_each_component_is_counted_with_how_it_ended(self, bench):
        flat = MemoryTarget()

        async def row(name):
            flat.declare(name, 1)

        async def main():
            await coco.mount_each(row, [(name, name) for name in ("a", "b", "c")])

        await bench.run(main)
        handle = bench.app.start_drop()
        with flat.failing(key="b"), pytest.raises(InjectedFailure):
            await handle
        (rows,) = [s for name, s in handle.stats().by_component.items() if name.endswith("row")]
        assert (rows.num_execution_starts, rows.num_deletes, rows.num_errors) == (3, 2, 1)
        assert handle.stats().total.num_in_progress == 0

    async def test_children_of_a_component_that_fails_are_deleted(self, bench):
        flat, other = MemoryTarget(), MemoryTarget()

        async def parent():
            flat.declare("p", 1)
            await coco.mount(sub("x"), other.declare, "x", 1)

        await bench.run(lambda: coco.mount(sub("p"), parent))
        with flat.failing(key="p"), pytest.raises(InjectedFailure):
            await bench.app.drop()
        assert (flat.rows, other.rows) == ({"p": 1}, {})

    async def test_a_component_whose_records_are_damaged_is_left_alone(self, bench):
        flat = MemoryTarget()

        async def main():
            for name in ("a", "b"):
                await coco.mount(sub(name), flat.declare, name, 1)

        await bench.run(main)
        section = bench.env.store.section("bench")
        damaged = [key for key, _ in section.scan(b"K")][-1]
        section.write([(damaged, b"\xc1")])
        with pytest.raises(coco.errors.StoreFormatError):
            await bench.app.drop()
        assert len(flat.rows) == 1
        assert [key for key, _ in section.scan(b"K")] == [damaged]


class TestHandlers:
    """What they may answer besides an action and nothing to remember."""

    async def test_one_that_remembers_a_deletion_is_told_of_it_if_that_fails(self, bench):
        asked, failing = [], []

        def apply(_context, _actions):
            if failing:
                raise InjectedFailure("down")

        sink = coco.TargetActionSink.from_fn(apply)

        class Handler:
            def reconcile(self, key, desired, previous: list[str], may_be_missing, /):
                asked.append((coco.is_non_existence(desired), list(previous), may_be_missing))
                record = "deleting" if coco.is_non_existence(desired) else "made"
                return coco.TargetReconcileOutput(key, sink, record)

        provider = coco.register_root_target_states_provider("test_drop/remembers", Handler())
        await bench.run(lambda: coco.declare_target_state(provider.target_state("a", 1)))
        failing.append(True)
        with pytest.raises(InjectedFailure):
            await bench.app.drop()
        asked.clear()
        failing.clear()
        await bench.app.drop()
        assert asked[-1] == (True, ["made", "deleting"], False)
        assert await bench.paths() == []

    async def test_records_that_cannot_be_read_any_more_count_as_missing(self, bench, caplog):
        asked = []

        class Handler:
            def __init__(self, sink):
                self._sink = sink

            def reconcile(self, key, desired, previous: list[int], may_be_missing, /):
                if not coco.is_non_existence(desired):
                    return coco.TargetReconcileOutput(key, self._sink, "no number")
                asked.append((list(previous), may_be_missing))
                return coco.TargetReconcileOutput(key, self._sink, coco.NON_EXISTENCE)

        sink = coco.TargetActionSink.from_fn(lambda _context, _actions: None)
        provider = coco.register_root_target_states_provider("test_drop/renewed", Handler(sink))
        await bench.run(lambda: coco.declare_target_state(provider.target_state("a", 1)))
        await bench.app.drop()
        assert asked == [([], True)]
        assert "can't be read any more" in caplog.text

    async def test_one_whose_deletion_has_nothing_to_do_is_forgotten(self, bench):
        class Handler:
            def reconcile(self, key, desired, previous, may_be_missing, /):
                if coco.is_non_existence(desired):
                    return None
                return coco.TargetReconcileOutput(key, sink, 1)

        calls = []
        sink = coco.TargetActionSink.from_fn(lambda _context, actions: calls.append(actions))
        provider = coco.register_root_target_states_provider("test_drop/leaves", Handler())
        await bench.run(lambda: coco.declare_target_state(provider.target_state("a", 1)))
        await bench.app.drop()
        assert calls == [["a"]]
        assert await bench.paths() == []


class TestOrder:
    async def test_a_component_goes_before_its_children_also_where_sinks_differ(self, bench):
        upper, lower = MemoryTarget(), MemoryTarget()

        async def parent(number):
            upper.declare(number, 1)
            await coco.mount(sub("x"), lower.declare, number, 1)

        async def main():
            for number in range(5):
                await coco.mount(sub(number), parent, number)

        await bench.run(main)
        lower.take()
        with upper.held() as gate:
            drop = asyncio.ensure_future(bench.app.drop())
            await gate.entered.wait()
            for _ in range(20):  # whatever else waits for a sink by now is called meanwhile
                await asyncio.sleep(0)
            assert lower.calls == []
        await drop
        assert (upper.rows, lower.rows) == ({}, {})

    async def test_many_components_go_out_together(self, bench):
        flat = MemoryTarget()

        async def main():
            for number in range(1500):
                await coco.mount(sub(number), flat.declare, number, 1)

        await bench.run(main)
        calls = len(flat.calls)
        await bench.app.drop()
        assert flat.rows == {}
        assert len(flat.calls) - calls < 20


async def test_others_on_the_loop_have_their_turn_during_a_drop(bench):
    tree = MemoryTree()

    async def child(rows, number):
        coco.declare_target_state(rows.target_state(number, 1))

    async def main():
        rows = await coco.mount_target(tree.container("T"))
        for number in range(5000):  # gone with their container: there is no sink to wait for
            await coco.mount(sub(number), child, rows, number)

    await bench.run(main)
    drop, seen = bench.app.start_drop(), set()

    async def watch():
        while True:
            await asyncio.sleep(0)
            stats = drop.stats()
            seen.add(0 if stats is None else stats.total.num_deletes)

    watching = asyncio.ensure_future(watch())
    await drop.result()
    watching.cancel()
    assert len([count for count in seen if count > 2]) > 5000 // dropping.CHUNK

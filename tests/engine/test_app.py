"""Update, drop, preview: §E11; the concurrency limit: §E12."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

import cocoindex as coco
from cocoindex.testing.targets import InjectedFailure, MemoryTree

sub = coco.component_subpath


class TestUpdate:
    async def test_arguments_are_bound_and_the_result_is_the_return_value(self, bench):
        async def main(a, *, name):
            return a, name

        app = coco.App(coco.AppConfig("args", bench.env), main, 1, name="x")
        assert await app.update() == (1, "x")

    async def test_nothing_starts_until_the_handle_is_awaited(self, bench, ran):
        handle = bench.start(lambda: ran("main"))
        await asyncio.sleep(0)
        assert ran.take() == []
        assert handle.stats() is None
        await handle
        assert ran.take() == ["main"]

    async def test_a_handle_can_be_awaited_again_and_concurrently(self, bench, ran):
        async def main():
            ran("main")
            return object()

        handle = bench.start(main)
        first, second = await asyncio.gather(
            asyncio.ensure_future(handle), asyncio.ensure_future(handle)
        )
        assert first is second is await handle is await handle.result()
        assert ran.take() == ["main"]

    async def test_a_failed_handle_raises_the_same_error_again(self, bench):
        async def main():
            raise ZeroDivisionError

        handle = bench.start(main)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await handle

    async def test_an_unused_handle_makes_no_noise(self, bench):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            bench.start(lambda: None)
            gc.collect()

    async def test_two_concurrent_updates_are_both_answered(self, bench, table):
        async def main():
            await asyncio.sleep(0)
            table.declare("k", 1)
            return 1

        first, second = bench.start(main), bench.start(main)
        assert await asyncio.gather(first.result(), second.result()) == [1, 1]
        assert table.take() == [("put", "k", 1)]
        assert first.stats().total.num_adds == 1
        assert second.stats().total.num_reprocesses == 1

    async def test_a_background_failure_does_not_fail_the_update(self, bench):
        async def child():
            raise ZeroDivisionError

        async def main():
            await coco.mount(sub("a"), child)
            return "fine"

        assert await bench.run(main) == "fine"

    async def test_a_duplicate_name_is_refused_until_the_app_is_gone(self, bench):
        app = bench.new_app("one", lambda: None)
        with pytest.raises(ValueError, match=r"An app named 'one' is already registered"):
            bench.new_app("one", lambda: None)
        del app
        gc.collect()
        bench.new_app("one", lambda: None)

    @pytest.mark.parametrize("options", [{"name": ""}, {"name": "x", "max_inflight_components": 0}])
    def test_a_senseless_config_is_refused(self, options):
        with pytest.raises(ValueError):
            coco.App(coco.AppConfig(**options), lambda: None)


def planting(table, *keys):
    async def main():
        table.declare("root", len(keys))
        for key in keys:
            await coco.mount(sub("d", key), table.declare, key, 1)

    return main


class TestDrop:
    async def test_it_deletes_everything_and_forgets_the_app(self, bench, table):
        await bench.run(planting(table, "a", "b"))
        table.take()
        await bench.app.drop()
        actions = table.take()
        assert actions[0] == ("delete", "root", None)
        assert sorted(actions) == [("delete", key, None) for key in ("a", "b", "root")]
        assert await bench.paths() == []
        assert await bench.owners() == {}

    async def test_dropping_an_app_that_never_ran_succeeds(self, bench):
        await bench.app.drop()
        await bench.app.drop()

    async def test_the_app_can_be_updated_again_from_nothing(self, bench, table, ran):
        @coco.fn(memo=True)
        async def child() -> None:
            ran("child")
            table.declare("k", 1)

        async def main():
            await coco.mount(sub("c"), child)
            return coco.use_state("n", 0).value

        await bench.run(main)
        await bench.app.drop()
        await bench.run(main)
        assert ran.take() == ["child", "child"]
        assert table.take() == [("put", "k", 1), ("delete", "k", None), ("put", "k", 1)]

    async def test_a_failing_delete_deep_down_raises_and_a_second_drop_finishes(self, bench, table):
        async def nested():
            await coco.mount(sub("x"), table.declare, "x", 1)
            await coco.mount(sub("y"), table.declare, "y", 1)

        async def main():
            await coco.mount(sub("p"), nested)
            await coco.mount(sub("q"), table.declare, "q", 1)

        await bench.run(main)
        with table.failing(key="x"), pytest.raises(InjectedFailure):
            await bench.app.drop()
        assert table.rows == {"x": 1}
        assert len(await bench.owners()) == 1
        await bench.app.drop()
        assert table.rows == {}
        assert await bench.paths() == []

    async def test_it_cancels_an_update_in_flight(self, bench, table, ran):
        started = asyncio.Event()

        async def main():
            table.declare("k", 1)
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ran("cancelled")
                raise

        run = asyncio.ensure_future(bench.start(main))
        await started.wait()
        await asyncio.wait_for(bench.app.drop(), 30)
        with pytest.raises((asyncio.CancelledError, Exception)):
            await run
        assert ran.take() == ["cancelled"]
        assert table.calls == []

    async def test_start_drop_hands_out_a_handle_with_stats(self, bench, table):
        await bench.run(planting(table, "a"))
        handle = bench.app.start_drop()
        assert await handle is None
        assert handle.stats().total.num_deletes == 2


class TestPreview:
    async def test_it_lists_the_actions_and_changes_nothing(self, bench, table, ran):
        await bench.run(planting(table, "a", "b"))
        before = await bench.owners(), await bench.paths()
        table.take()

        plan = await bench.run(planting(table, "b", "c", "d"), preview=True)

        assert sorted(plan) == [
            ("delete", "a", None),
            ("put", "c", 1),
            ("put", "d", 1),
            ("put", "root", 3),
        ]
        assert table.calls == []
        assert (await bench.owners(), await bench.paths()) == before

    async def test_the_update_afterwards_is_as_if_it_never_happened(self, bench, table, ran):
        @coco.fn(memo=True)
        async def call(n: int) -> None:
            ran(f"call{n}")
            table.declare("k", n)

        await bench.run(lambda: call(1))
        for _ in range(2):
            assert await bench.run(lambda: call(2), preview=True) == [("put", "k", 2)]
        assert await bench.run(lambda: call(1), preview=True) == []
        assert await bench.run(lambda: call(1)) is None
        assert ran.take() == ["call1", "call2", "call2"]
        table.take()
        await bench.run(lambda: call(2))
        assert table.take() == [("put", "k", 2)]

    async def test_deletes_of_a_whole_subtree_are_planned(self, bench, table):
        async def nested():
            table.declare("own", 1)
            await coco.mount(sub("x"), table.declare, "x", 1)

        async def main():
            await coco.mount(sub("p"), nested)

        await bench.run(main)
        plan = await bench.run(lambda: None, preview=True)
        assert plan == [("delete", "own", None), ("delete", "x", None)]
        assert table.rows == {"own": 1, "x": 1}

    async def test_containers_with_a_factory_are_planned_through(self, bench):
        tree = MemoryTree(handlers_from="factory")

        async def main():
            provider = await coco.mount_target(tree.container("D", 1))
            coco.declare_target_state(provider.target_state("a", 1))

        plan = await bench.run(main, preview=True)
        assert plan == [("put", ("D",), 1), ("put", ("D", "a"), 1)]
        assert tree.rows == {}

    async def test_containers_without_a_factory_can_not(self, bench):
        tree = MemoryTree(handlers_from="sink")

        async def main():
            await coco.mount_target(tree.container("D", 1))

        handle = bench.start(main, preview=True)
        with pytest.raises(ValueError, match="child target providers"):
            await handle

    async def test_it_can_neither_be_watched_nor_live(self, bench):
        handle = bench.start(lambda: None, preview=True)
        with pytest.raises(TypeError, match=r"watch\(\) is not supported when preview=True"):
            async for _ in handle.watch():
                pass
        with pytest.raises(ValueError):
            await bench.run(lambda: None, preview=True, live=True)

    async def test_a_preview_of_an_app_that_never_ran_leaves_nothing(self, bench, table):
        assert await bench.run(planting(table), preview=True) == [("put", "root", 0)]
        assert await bench.paths() == []


class TestLimit:
    @pytest.fixture
    def gauge(self):
        class Gauge:
            now = most = 0

            async def __call__(self, *_args):
                self.now += 1
                self.most = max(self.most, self.now)
                for _ in range(5):
                    await asyncio.sleep(0)
                self.now -= 1

        return Gauge()

    @pytest.mark.parametrize(("limit", "most"), [(1, 1), (3, 3), (None, 20)])
    async def test_it_bounds_how_many_leaves_execute(self, bench, gauge, limit, most):
        bench.app_options = {"max_inflight_components": limit}

        async def main():
            await coco.mount_each(sub("e"), gauge, [(n, n) for n in range(20)])

        await bench.run(main)
        assert gauge.most == most

    async def test_it_comes_from_the_environment_variable(self, bench, gauge, monkeypatch):
        monkeypatch.setenv("COCOINDEX_MAX_INFLIGHT_COMPONENTS", "2")

        async def main():
            await coco.mount_each(sub("e"), gauge, [(n, n) for n in range(9)])

        await bench.run(main)
        assert gauge.most == 2

    async def test_one_permit_is_enough_for_any_nesting(self, bench, ran):
        bench.app_options = {"max_inflight_components": 1}

        async def level(n):
            ran(str(n))
            if n:
                await coco.use_mount(sub("use"), level, n - 1)
                await coco.mount(sub("mount"), level, n - 1)

        await asyncio.wait_for(bench.run(lambda: level(3)), 30)
        assert len(ran.take()) == 15

    async def test_mounting_waits_while_the_limit_is_reached(self, bench):
        bench.app_options = {"max_inflight_components": 2}
        started, release = [], asyncio.Event()

        async def leaf(n):
            started.append(n)
            await release.wait()

        async def main():
            for n in range(6):
                await coco.mount(sub(n), leaf, n)
                mounted.append(n)

        mounted: list[int] = []
        run = asyncio.ensure_future(bench.start(main))
        while len(started) < 2:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert (started, len(mounted)) == ([0, 1], 2)
        release.set()
        await run
        assert started == list(range(6))

"""Mount kinds, paths, collisions, the order of the lifecycle: §E3, §E4."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from typing import Any

import pytest

import cocoindex as coco
from cocoindex import errors
from cocoindex.connectors import localfs
from cocoindex.testing.targets import MemoryTarget

sub = coco.component_subpath


def here() -> str:
    return str(coco.get_component_context())


class TestPaths:
    async def test_the_root_is_a_slash_and_children_extend_the_path(self, bench):
        async def child():
            return here(), await coco.use_mount(sub("b", 1), lambda: here())

        async def body():
            return here(), await coco.use_mount(sub("a"), child)

        assert await bench.run(body) == ("/", ('/"a"', '/"a"/"b"/1'))

    async def test_a_with_block_prefixes_mounts(self, bench):
        async def body():
            with sub("outer"):
                with sub("inner", True):
                    first = await coco.use_mount(sub("x"), here)
                second = await coco.use_mount(sub("x"), here)
            with sub():
                third = await coco.use_mount(sub("x"), here)
            return [first, second, third]

        assert await bench.run(body) == ['/"outer"/"inner"/true/"x"', '/"outer"/"x"', '/"x"']

    async def test_one_subpath_object_can_be_entered_again(self, bench):
        async def body():
            block = sub("b")
            with block, block:
                first = await coco.use_mount(sub("x"), here)
            with block:
                second = await coco.use_mount(sub("x"), here)
            return [first, second, await coco.use_mount(sub("x"), here)]

        assert await bench.run(body) == ['/"b"/"b"/"x"', '/"b"/"x"', '/"x"']

    async def test_an_omitted_subpath_is_named_by_the_function(self, bench):
        def plain() -> str:
            return here()

        @coco.fn
        async def decorated() -> str:
            return here()

        class Holder:
            def method(self) -> str:
                return here()

        def renamed() -> str:
            return here()

        renamed.__coco_subpath_name__ = "new name"  # type: ignore[attr-defined]

        async def body():
            functions: list[Any] = [plain, decorated, Holder().method, renamed]
            return [await coco.use_mount(function) for function in functions]

        assert await bench.run(body) == ["/@plain", "/@decorated", "/@method", "/@new name"]

    async def test_a_callable_without_a_name_needs_a_subpath(self, bench):
        async def body():
            with pytest.raises(TypeError, match="requires a ComponentSubpath"):
                await coco.mount(functools.partial(here))
            return await coco.use_mount(sub("p"), functools.partial(here))

        assert await bench.run(body) == '/"p"'

    async def test_mount_each_appends_the_item_key(self, bench):
        paths = []

        async def body():
            await coco.mount_each(
                sub("each"), lambda _v: paths.append(here()), [("a", 0), (("t", 2), 0)]
            )

        await bench.run(body)

        assert sorted(paths) == ['/"each"/"a"', '/"each"/["t",2]']

    async def test_keys_of_different_types_are_different_components(self, bench, table):
        keys = [1, True, "1", b"1", coco.Symbol("1"), (1,), None]

        async def body():
            await coco.mount_each(
                sub("k"), lambda n: table.declare(n, here()), [(k, i) for i, k in enumerate(keys)]
            )

        await bench.run(body)

        assert list(dict(sorted(table.rows.items())).values()) == [
            '/"k"/1', '/"k"/true', '/"k"/"1"', '/"k"/b"1"', '/"k"/@1', '/"k"/[1]', '/"k"/null',
        ]  # fmt: skip

    async def test_listing_is_depth_first_in_key_order(self, bench):
        keys = [(1,), b"b", "b", "a", 10, 9, -1, True, False, coco.Symbol("s"), None]

        async def body():
            for key in keys:
                await coco.mount(sub(key), lambda: None)
            await coco.mount(sub("a2", "x"), lambda: None)

        await bench.run(body)

        assert await bench.paths() == [
            "/", "/null", "/@s", "/false", "/true", "/-1", "/9", "/10", '/"a"', '/"a2"',
            '/"a2"/"x"', '/"b"', '/b"b"', "/[1]",
        ]  # fmt: skip


def nothing() -> None:
    pass


async def _mount(*keys):
    await coco.mount(sub(*keys), nothing)


async def _use_mount(*keys):
    await coco.use_mount(sub(*keys), nothing)


async def _mount_each(*keys):
    await coco.mount_each(sub(*keys[:-1]), lambda _v: None, [(keys[-1], 0)])


class TestCollisions:
    @pytest.mark.parametrize("second", [_mount, _use_mount, _mount_each])
    @pytest.mark.parametrize("first", [_mount, _use_mount, _mount_each])
    async def test_the_same_path_twice(self, bench, first, second):
        async def body():
            await first("a")
            with pytest.raises(ValueError, match="already exists"):
                await second("a")

        await bench.run(body)

    @pytest.mark.parametrize("mount", [_mount, _use_mount])
    async def test_below_a_component_of_this_execution(self, bench, mount):
        async def body():
            await mount("a")
            with pytest.raises(ValueError, match="is not a directory"):
                await mount("a", "b")

        await bench.run(body)

    @pytest.mark.parametrize("mount", [_mount, _use_mount])
    async def test_at_a_directory_of_this_execution(self, bench, mount):
        async def body():
            await mount("a", "b")
            await mount("a", "c")
            with pytest.raises(ValueError, match="already exists"):
                await mount("a")

        await bench.run(body)

    @pytest.mark.parametrize("mount", [coco.mount, coco.use_mount])
    async def test_an_empty_path(self, bench, mount):
        async def body():
            with pytest.raises(ValueError, match="Path is empty"):
                await mount(sub(), nothing)

        await bench.run(body)

    async def test_a_path_is_free_again_in_the_next_execution(self, bench):
        for _ in range(2):
            await bench.run(lambda: _mount("a"))

    async def test_outside_a_component_nothing_can_be_mounted_or_declared(self, table):
        for attempt in (coco.mount(sub("a"), nothing), coco.use_mount(sub("a"), nothing)):
            with pytest.raises(RuntimeError, match="No ComponentContext available"):
                await attempt
        with pytest.raises(RuntimeError, match="No ComponentContext available"):
            table.declare("k", 1)


class TestOrder:
    async def test_children_are_applied_before_their_parent(self, bench, table):
        async def child():
            table.declare("leaf", 1)

        async def middle():
            table.declare("middle", 1)
            await coco.mount(sub("leaf"), child)

        async def body():
            table.declare("root", 1)
            await coco.mount(sub("middle"), middle)

        await bench.run(body)

        assert [key for _, key, _ in table.take()] == ["leaf", "middle", "root"]

    async def test_use_mount_returns_after_the_child_is_committed(self, bench, table):
        async def body():
            await coco.use_mount(sub("a"), lambda: table.declare("k", 1))
            return dict(table.rows)

        assert await bench.run(body) == {"k": 1}

    async def test_all_reconciles_come_before_any_sink_and_all_sinks_before_commit(self, bench):
        first, second = MemoryTarget(), MemoryTarget()

        def body(value):
            first.declare("k", value)
            second.declare("k", value)

        with first.injected("before", lambda: seen.append(len(second.reconciled))):
            seen: list[int] = []
            await bench.run(lambda: body(1))
        assert seen == [1]

    async def test_a_body_runs_once_per_execution(self, bench, ran):
        async def body():
            ran("root")
            await coco.mount(sub("a"), lambda: ran("a"))

        await bench.run(body)
        assert ran.take() == ["root", "a"]

    async def test_a_sync_body_runs_on_a_worker_without_a_running_loop(self, bench):
        def child():
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return threading.current_thread()

        async def body():
            return await coco.use_mount(sub("a"), child)

        assert await bench.run(body) is not threading.current_thread()

    async def test_mounted_children_survive_the_failure_of_their_parent(self, bench, table):
        async def child(key):
            table.declare(key, 1)

        async def good():
            table.declare("own", 1)
            await coco.mount(sub("a"), child, "a")
            await coco.mount(sub("b"), child, "b")

        async def bad():
            table.declare("own", 2)
            await coco.mount(sub("c"), child, "c")
            raise ZeroDivisionError

        await bench.run(good)
        table.take()

        assert isinstance(await bench.fails(bad), ZeroDivisionError)

        assert table.take() == [("put", "c", 1)]
        assert table.rows == {"own": 1, "a": 1, "b": 1, "c": 1}
        await bench.run(good)
        assert table.take() == [("delete", "c", None)]

    async def test_a_failing_child_keeps_what_it_had_and_its_parent_goes_on(self, bench, table):
        async def child(fail):
            table.declare("child", 2 if fail else 1)
            if fail:
                raise ZeroDivisionError

        async def body(fail, own):
            await coco.mount(sub("a"), child, fail)
            table.declare("own", own)

        await bench.run(lambda: body(False, 1))
        await bench.run(lambda: body(True, 2))
        assert table.rows == {"child": 1, "own": 2}
        table.take()

        await bench.run(lambda: body(False, 2))
        assert table.take() == []

    async def test_a_caught_use_mount_failure_lets_the_parent_commit(self, bench, table):
        async def child():
            raise ZeroDivisionError

        async def body():
            with pytest.raises(ZeroDivisionError):
                await coco.use_mount(sub("a"), child)
            table.declare("own", 1)

        await bench.run(body)
        assert table.rows == {"own": 1}

    async def test_the_original_error_object_crosses_use_mount(self, bench):
        error = KeyError("mine")

        async def child():
            raise error

        async def body():
            await coco.use_mount(sub("a"), child)

        assert await bench.fails(body) is error

    async def test_ready_waits_for_everything_beneath(self, bench, table):
        async def child():
            await coco.mount(sub("leaf"), lambda: table.declare("k", 1))

        async def body():
            handle = await coco.mount(sub("a"), child)
            await asyncio.gather(handle.ready(), handle.ready())
            await handle.ready()
            return dict(table.rows)

        assert await bench.run(body) == {"k": 1}

    async def test_two_components_declaring_one_target_state_are_named_in_a_warning(
        self, bench, table, caplog
    ):
        async def body():
            await coco.use_mount(sub("a"), lambda: table.declare("k", 1))
            await coco.use_mount(sub("b"), lambda: table.declare("k", 2))

        await bench.run(body)

        assert table.rows == {"k": 2}
        texts = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert len(texts) == 1
        assert '/"a"' in texts[0]
        assert '/"b"' in texts[0]


@pytest.mark.parametrize("name", ["mount", "use_mount", "mount_each", "mount_target"])
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_a_mount_that_is_never_awaited_fails_the_component_and_deletes_nothing(
    bench, table, name
):
    async def child(key):
        table.declare(key, 1)

    async def good():
        await coco.mount_each(sub("rows"), child, [("a", "a"), ("b", "b")])

    async def forgetful():
        arguments = {
            "mount": (sub("x"), child, "a"),
            "use_mount": (sub("x"), child, "a"),
            "mount_each": (sub("rows"), child, [("a", "a"), ("b", "b")]),
            "mount_target": (table.provider.target_state("t", 1),),
        }
        getattr(coco, name)(*arguments[name])

    await bench.run(good)
    table.take()
    with pytest.raises(
        RuntimeError, match=rf" {name}\(\.\.\.\) without .*test_mounting.py, line \d"
    ):
        await bench.run(forgetful)
    assert table.rows == {"a": 1, "b": 1}
    assert table.take() == []


@pytest.mark.parametrize("name", ["mount", "use_mount", "mount_each"])
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_an_argument_that_was_not_awaited_fails_the_one_who_mounts(bench, table, name):
    """However a connector mounts its container: what it used to mount stays."""

    async def container():
        table.declare("t", 1)

    async def mount_table():
        await coco.use_mount(sub("t"), container)

    async def child(value, _target):
        table.declare(value, 1)

    items = ([("a", "a")],) if name == "mount_each" else ("a",)

    async def main(*, forgets):
        target = mount_table() if forgets else await mount_table()
        await getattr(coco, name)(sub("rows"), child, *items, target)

    await bench.run(lambda: main(forgets=False))
    with pytest.raises(TypeError, match=r"a coroutine of .*mount_table\(\.\.\.\): put 'await'"):
        await bench.run(lambda: main(forgets=True))
    gc.collect()  # while the warning is expected
    assert table.rows == {"a": 1, "t": 1}


async def test_a_container_mounted_twice_is_told_by_its_name(bench, tmp_path):
    async def main():
        await localfs.mount_dir_target(tmp_path / "pages")
        await localfs.mount_dir_target(tmp_path / "pages")

    with pytest.raises(
        errors.DuplicateError, match=r"pages.* is mounted twice at /: mount it once"
    ):
        await bench.run(main)


async def test_a_new_component_that_fails_before_it_has_declared_anything_leaves_no_trace(bench):
    failing = True

    async def leaf(_value):
        if failing:
            raise ZeroDivisionError

    async def body():
        await coco.mount_each(sub("d"), leaf, [("a", 1)])

    await bench.run(body)
    assert await bench.paths() == ["/"]
    failing = False
    await bench.run(body)
    assert '/"d"/"a"' in await bench.paths()

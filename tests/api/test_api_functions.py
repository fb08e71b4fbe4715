"""Functions, deadlines and what may be called inside a component."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[coco.Environment]:
    environment = coco.Environment(coco.Settings(db_path=tmp_path / "db"))
    yield environment
    environment.close()


@pytest.fixture
def make_app(environment: coco.Environment) -> Callable[..., Any]:
    def make(main: Callable[..., Any], *args: Any, name: str = "app", **kwargs: Any) -> Any:
        return coco.App(coco.AppConfig(name, environment), main, *args, **kwargs)

    return make


@coco.fn
def decorated(value: int, *, factor: int = 2) -> int:
    """Documentation."""
    return value * factor


@coco.fn(memo=True)
async def decorated_async(value: int) -> int:
    return value * 2


class TestFunctions:
    def test_outside_a_component_the_raw_function_runs(self) -> None:
        assert decorated(3, factor=3) == 9

    async def test_async_stays_async(self) -> None:
        assert await decorated_async(3) == 6
        call = decorated_async(3)
        assert asyncio.iscoroutine(call)
        await call

    def test_the_wrapper_looks_like_the_function(self) -> None:
        import inspect

        assert decorated.__name__ == "decorated"
        assert decorated.__qualname__ == "decorated"
        assert decorated.__doc__ == "Documentation."
        assert decorated.__module__ == __name__
        assert inspect.isfunction(decorated.__wrapped__)
        assert list(inspect.signature(decorated).parameters) == ["value", "factor"]

    def test_copies_are_the_same_object(self) -> None:
        assert copy.copy(decorated) is decorated
        assert copy.deepcopy([decorated])[0] is decorated

    def test_it_pickles_by_name(self) -> None:
        assert pickle.loads(pickle.dumps(decorated)) is decorated

    async def test_as_async_runs_a_sync_function_in_a_thread(self) -> None:
        import threading

        @coco.fn
        def where() -> int:
            return threading.get_ident()

        assert await where.as_async() != threading.get_ident()
        assert await decorated.as_async(3, factor=1) == 3

    async def test_fn_as_async_makes_a_sync_body_async(self) -> None:
        @coco.fn.as_async
        def plain(value: int) -> int:
            return value + 1

        @coco.fn.as_async(memo=True)
        def memoized(value: int) -> int:
            return value + 1

        assert await asyncio.gather(plain(1), memoized(2)) == [2, 3]

    def test_methods_of_every_kind_can_be_decorated(self) -> None:
        class Thing:
            factor = 3

            @coco.fn
            def method(self, value: int) -> int:
                return value * self.factor

            @staticmethod
            @coco.fn
            def under_static(value: int) -> int:
                return value

            @coco.fn
            @staticmethod
            def over_static(value: int) -> int:
                return value

            @classmethod
            @coco.fn
            def under_class(cls, value: int) -> int:
                return value * cls.factor

            @coco.fn
            @classmethod
            def over_class(cls, value: int) -> int:
                return value * cls.factor

        thing = Thing()
        assert thing.method(2) == Thing.method(thing, 2) == 6
        assert thing.under_static(2) == thing.over_static(2) == Thing.over_static(2) == 2
        assert thing.under_class(2) == thing.over_class(2) == Thing.over_class(2) == 6


class TestFingerprint:
    def test_it_has_16_bytes_in_three_forms(self) -> None:
        fp = coco.memo_fingerprint({"a": [1, 2.5, None]})
        assert len(fp.as_bytes()) == 16
        assert bytes(fp) == fp.as_bytes()
        assert str(fp) == "#" + fp.as_bytes().hex()
        import base64

        assert base64.b64decode(fp.to_base64()) == fp.as_bytes()
        assert fp == coco.memo_fingerprint({"a": (1, 2.5, None)})
        assert hash(fp) == hash(coco.memo_fingerprint({"a": [1, 2.5, None]}))


class TestDeadline:
    @pytest.mark.parametrize("value", [5, 1.5, None, "1s"])
    def test_only_a_timedelta_is_a_duration(self, value: Any) -> None:
        with pytest.raises(TypeError):
            with coco.timeout(value):
                pass

    def test_a_negative_duration_is_refused(self) -> None:
        with pytest.raises(ValueError):
            with coco.timeout(timedelta(seconds=-1)):
                pass

    def test_within_the_deadline_a_checkpoint_passes(self) -> None:
        coco.check_cancellation()
        with coco.timeout(timedelta(hours=1)):
            coco.check_cancellation()


class TestComponents:
    def test_mount_target_map_and_each_inside_a_component(self, make_app: Any) -> None:
        ran: list[Any] = []

        async def double(value: int, *, by: int = 2) -> int:
            return value * by

        def item(value: str, suffix: str) -> None:
            ran.append(value + suffix)

        async def pairs() -> AsyncIterator[tuple[str, str]]:
            yield "k3", "c"

        async def main() -> list[int]:
            handle = await coco.mount_each(item, [("k1", "a"), ("k2", "b")], "!")
            assert isinstance(handle, coco.ComponentMountHandle)
            await asyncio.gather(handle.ready(), handle.ready())
            await handle.ready()
            await (await coco.mount_each(coco.component_subpath("x"), item, pairs(), "?")).ready()
            assert await coco.map(double, []) == []
            return await coco.map(double, [1, 2, 3], by=3)

        assert make_app(main).update_blocking() == [3, 6, 9]
        assert sorted(ran) == ["a!", "b!", "c?"]

    def test_map_raises_the_first_failure_in_input_order_after_all_ended(
        self, make_app: Any
    ) -> None:
        ended: list[int] = []

        async def work(value: int) -> Any:
            if value == 1:
                await asyncio.sleep(0)
                raise LookupError("one")
            if value == 2:
                raise LookupError("two")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ended.append(value)
            return LookupError("a value")

        async def main() -> None:
            with pytest.raises(LookupError, match="one"):
                await coco.map(work, [0, 1, 2, 3])
            assert sorted(ended) == [0, 3]
            [returned] = await coco.map(work, [0])
            assert isinstance(returned, LookupError)

        make_app(main).update_blocking()

    def test_the_context_shows_its_path_and_attaches_elsewhere(self, make_app: Any) -> None:
        from concurrent.futures import ThreadPoolExecutor

        def leaf() -> str:
            context = coco.get_component_context()
            assert isinstance(context, coco.ComponentContext)

            def elsewhere() -> str:
                with pytest.raises(RuntimeError):
                    coco.get_component_context()
                with context.attach():
                    return str(coco.get_component_context())

            with ThreadPoolExecutor(1) as pool:
                return pool.submit(elsewhere).result()

        async def main() -> str:
            return await coco.use_mount(coco.component_subpath("a", 1), leaf)

        assert make_app(main).update_blocking() == '/"a"/1'

    def test_state_is_kept_between_runs(self, make_app: Any) -> None:
        def main() -> int:
            state = coco.use_state("count", 0)
            assert isinstance(state, coco.StateHandle)
            state.value += 1
            return state.value

        app = make_app(main)
        assert [app.update_blocking() for _ in range(3)] == [1, 2, 3]

    def test_state_misuse_is_a_runtime_error(self, make_app: Any) -> None:
        def main() -> None:
            coco.use_state("twice")
            with pytest.raises(RuntimeError):
                coco.use_state("twice")
            with coco.component_subpath("x"), pytest.raises(RuntimeError):
                coco.use_state("inside")

        make_app(main).update_blocking()

    def test_a_scoped_handler_gets_failures_of_mounts_with_their_context(
        self, make_app: Any
    ) -> None:
        caught: list[tuple[BaseException, coco.ExceptionContext]] = []
        error = LookupError("mine")

        def failing() -> None:
            raise error

        async def main() -> None:
            async with coco.exception_handler(lambda e, c: caught.append((e, c))):
                await coco.mount(coco.component_subpath("x"), failing)

        make_app(main).update_blocking()
        [(found, context)] = caught
        assert found is error
        assert context.stable_path == '/"x"'
        assert context.parent_stable_path == "/"
        assert (context.mount_kind, context.source) == ("mount", "component")
        assert context.processor_name is not None
        assert context.processor_name.endswith("failing")
        assert context.is_background
        assert context.original_exception is None

    def test_stats_groups_count_what_is_mounted_inside(self, make_app: Any) -> None:
        def leaf() -> None: ...

        async def main() -> Any:
            with coco.stats_group("group") as group:
                assert isinstance(group, coco.StatsGroupHandle)
                assert group.stats() is None
                await coco.mount(coco.component_subpath("x"), leaf)
            snapshots = [snapshot async for snapshot in group.watch()]
            assert snapshots[-1].status is coco.UpdateStatus.READY
            return group.stats()

        stats = make_app(main).update_blocking()
        assert stats.total.num_adds == 1

    def test_stable_ids_of_equal_content_stay(self, make_app: Any) -> None:
        from cocoindex.resources.id import IdGenerator, UuidGenerator, generate_id, generate_uuid

        async def main() -> list[Any]:
            ids, uuids = IdGenerator(), UuidGenerator(deps="u")
            return [
                await generate_id("x"), await generate_id(dep="y"), generate_uuid("x"),
                await ids.next_id("x"), await ids.next_id("x"), uuids.next_uuid(dep="x"),
            ]  # fmt: skip

        app = make_app(main)
        first = app.update_blocking()
        assert len(set(first)) == len(first)
        assert app.update_blocking() == first

    def test_a_generated_uuid_may_also_be_awaited(self, make_app: Any) -> None:
        from cocoindex.resources.id import generate_uuid

        async def main() -> bool:
            return bool(await generate_uuid("x") == generate_uuid("x"))

        assert make_app(main).update_blocking() is True

"""Environments, loops, blocking entry points: §E2, §A2."""

from __future__ import annotations

import asyncio
import threading

import pytest

import cocoindex as coco

sub = coco.component_subpath


def environment(path, **options):
    return coco.Environment(coco.Settings(db_path=path), **options)


class TestEager:
    def test_a_location_is_required_and_the_variable_does_not_count(self, monkeypatch, tmp_path):
        monkeypatch.setenv("COCOINDEX_DB", str(tmp_path))
        with pytest.raises(ValueError, match="db_path must be provided"):
            coco.Environment(coco.Settings())

    async def test_one_store_has_one_holder_and_the_message_says_who(self, tmp_path):
        first = environment(tmp_path / "store", name="holder")
        with pytest.raises((RuntimeError, ValueError)) as caught:
            environment(tmp_path / "store", name="second")
        assert "holder" in str(caught.value)
        assert str(tmp_path / "store") in str(caught.value)
        first.close()
        environment(tmp_path / "store").close()

    async def test_the_directory_is_created_with_its_parents(self, tmp_path):
        environment(tmp_path / "a" / "b" / "store").close()
        assert (tmp_path / "a" / "b" / "store").is_dir()

    async def test_several_environments_live_side_by_side(self, tmp_path, table):
        key = coco.ContextKey[str]("test/environments/side by side")
        results = []
        environments = []
        for name in ("one", "two"):
            provider = coco.ContextProvider()
            provider.provide(key, name)
            environments.append(environment(tmp_path / name, context_provider=provider))
            app = coco.App(coco.AppConfig("app", environments[-1]), lambda: coco.use_context(key))
            results.append(await app.update())
        assert results == ["one", "two"]
        assert [env.get_context(key) for env in environments] == ["one", "two"]
        for env in environments:
            env.close()

    async def test_closing_twice_is_fine_and_using_it_afterwards_is_not(self, tmp_path):
        env = environment(tmp_path / "store")
        app = coco.App(coco.AppConfig("app", env), lambda: 1)
        assert await app.update() == 1
        env.close()
        env.close()
        with pytest.raises(RuntimeError):
            await app.update()

    async def test_it_keeps_what_it_was_given(self, tmp_path):
        settings, handler = coco.Settings(db_path=tmp_path / "s"), lambda error, context: None
        env = coco.Environment(settings, name="mine", exception_handler=handler)
        assert (env.name, env.settings, env.exception_handler) == ("mine", settings, handler)
        assert env.event_loop is asyncio.get_running_loop()
        with pytest.raises(KeyError):
            env.get_context(coco.ContextKey("test/environments/absent"))
        env.close()


class TestLoops:
    async def test_blocking_calls_on_the_loop_thread_are_refused(self, bench):
        for call in (bench.app.update_blocking, bench.app.drop_blocking):
            with pytest.raises(RuntimeError, match="await"):
                call()

    async def test_blocking_calls_work_from_any_other_thread(self, bench):
        app = bench.new_app("app", lambda: 5)
        assert await asyncio.to_thread(app.update_blocking) == 5
        await asyncio.to_thread(app.drop_blocking)

    def test_without_a_loop_everything_runs_on_a_background_loop(self, tmp_path):
        env = environment(tmp_path / "store")

        async def main():
            await asyncio.sleep(0)
            return threading.current_thread()

        app = coco.App(coco.AppConfig("app", env), main)
        thread = app.update_blocking()
        assert thread is not threading.current_thread()
        assert thread.daemon
        assert app.update_blocking() is thread
        app.drop_blocking()
        env.close()

    def test_an_update_can_be_awaited_on_another_loop(self, tmp_path):
        env = environment(tmp_path / "store")
        app = coco.App(coco.AppConfig("app", env), lambda: 3)

        async def elsewhere():
            return await app.update()

        assert [asyncio.run(elsewhere()), asyncio.run(elsewhere())] == [3, 3]
        env.close()

    def test_a_given_loop_that_does_not_run_is_run(self, tmp_path):
        loop = asyncio.new_event_loop()
        env = environment(tmp_path / "store", event_loop=loop)

        async def main():
            return asyncio.get_running_loop()

        assert coco.App(coco.AppConfig("app", env), main).update_blocking() is loop
        env.close()
        loop.call_soon_threadsafe(loop.stop)

    async def test_bodies_run_on_the_loop_and_sync_ones_may_block_on_it(self, bench):
        def blocking():
            future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "fine"), loop)
            return future.result(10)

        loop = asyncio.get_running_loop()

        async def main():
            assert asyncio.get_running_loop() is loop
            return await coco.use_mount(sub("a"), blocking)

        assert await bench.run(main) == "fine"


class TestContext:
    async def test_it_follows_tasks_and_threads_but_not_pools(self, bench):
        from concurrent.futures import ThreadPoolExecutor

        def here():
            return str(coco.get_component_context())

        async def async_here():
            return here()

        async def child():
            context = coco.get_component_context()

            def attached():
                with context.attach():
                    return here()

            with ThreadPoolExecutor(1) as pool:
                with pytest.raises(RuntimeError, match="No ComponentContext available"):
                    pool.submit(here).result()
                pooled = pool.submit(attached).result()
            return [
                here(),
                await asyncio.create_task(async_here()),
                await asyncio.to_thread(here),
                await coco.fn(here).as_async(),
                pooled,
            ]

        assert await bench.run(lambda: coco.use_mount(sub("a"), child)) == ['/"a"'] * 5

    async def test_declaring_from_several_threads_of_one_component_is_safe(self, bench, table):
        async def main():
            await asyncio.gather(*(asyncio.to_thread(table.declare, n, n) for n in range(200)))

        await bench.run(main)
        assert len(table.rows) == 200


@pytest.fixture
def default(monkeypatch, tmp_path):
    """The default environment, as new."""
    from cocoindex._internal.environment import reset_default_env_for_tests

    reset_default_env_for_tests()
    yield lambda: monkeypatch.setenv("COCOINDEX_DB", str(tmp_path / "default"))
    coco.stop_blocking()
    reset_default_env_for_tests()


class TestDefault:
    def test_without_a_location_it_does_not_start(self, default):
        with pytest.raises(ValueError, match=r"(?s)db_path.*COCOINDEX_DB|COCOINDEX_DB.*db_path"):
            coco.start_blocking()

    def test_a_lifespan_provides_values_between_start_and_stop(self, default, ran):
        default()
        key = coco.ContextKey[str]("test/environments/lifespan")

        @coco.lifespan
        def _lifespan(builder):
            ran("start")
            builder.provide(key, "value")
            yield
            ran("tail")

        app = coco.App("lifespan app", lambda: coco.use_context(key))
        assert ran.take() == []
        assert app.update_blocking() == "value"
        coco.stop_blocking()
        coco.stop_blocking()
        assert ran.take() == ["start", "tail"]
        assert app.update_blocking() == "value"
        assert ran.take() == ["start"]

    def test_a_failing_start_unwinds_and_can_be_tried_again(self, default, ran):
        from contextlib import contextmanager

        default()
        key = coco.ContextKey[str]("test/environments/failing start")
        fail = [True]

        @contextmanager
        def resource(name):
            ran(f"enter {name}")
            yield name
            ran(f"exit {name}")

        @coco.lifespan
        async def _lifespan(builder):
            builder.provide_with(key, resource("r"))
            if fail:
                raise ZeroDivisionError(fail.pop())
            yield

        with pytest.raises(ZeroDivisionError):
            coco.start_blocking()
        assert ran.take() == ["enter r", "exit r"]
        coco.start_blocking()
        coco.stop_blocking()
        assert ran.take() == ["enter r", "exit r"]

    def test_a_second_lifespan_replaces_the_first_with_a_warning(self, default):
        coco.lifespan(lambda builder: iter([None]))
        with pytest.warns(UserWarning, match="lifespan"):
            coco.lifespan(lambda builder: iter([None]))

    async def test_concurrent_starters_share_one_start(self, default, ran):
        default()

        @coco.lifespan
        async def _lifespan(builder):
            ran("start")
            yield

        environments = await asyncio.gather(*(coco.default_env() for _ in range(5)))
        assert len(set(map(id, environments))) == 1
        assert ran.take() == ["start"]
        await coco.stop()

    async def test_an_app_binds_to_the_new_environment_after_a_restart(self, default, table):
        default()
        app = coco.App("restarted app", lambda: table.declare("k", 1))
        for _ in range(2):
            await coco.start()
            await app.update()
            await coco.stop()
        assert table.take() == [("put", "k", 1)]

    async def test_runtime_is_a_context_manager_of_both_kinds(self, default):
        default()
        async with coco.runtime():
            assert await coco.App("runtime app", lambda: 1).update() == 1
        with pytest.raises(RuntimeError, match="Cannot use sync 'with"):
            coco.runtime().__enter__()

    def test_short_lived_loops_leave_nothing_bound_to_a_dead_one(self, default):
        default()
        app = coco.App("loops app", lambda: 1)

        async def once():
            result = await app.update()
            await coco.stop()
            return result

        assert [asyncio.run(once()) for _ in range(3)] == [1, 1, 1]

"""Apps, handles, environments, settings and context values as the interface describes them."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import pickle
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco


def nothing() -> None: ...


async def answer() -> int:
    return 42


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


class TestApp:
    @pytest.mark.parametrize("name", ["", None])
    def test_a_config_needs_a_name(self, name: Any) -> None:
        with pytest.raises((ValueError, TypeError)):
            coco.AppConfig(name)

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_limit_below_one_is_refused(self, limit: int, environment: coco.Environment) -> None:
        with pytest.raises(ValueError, match="max_inflight_components"):
            coco.App(coco.AppConfig("a", environment, limit), nothing)

    def test_a_limit_of_the_environment_that_is_no_number_is_refused(
        self, make_app: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COCOINDEX_MAX_INFLIGHT_COMPONENTS", "many")
        with pytest.raises(ValueError, match=r"COCOINDEX_MAX_INFLIGHT_COMPONENTS.*many"):
            make_app(nothing)

    def test_a_name_is_free_again_once_its_app_is_gone(self, make_app: Any) -> None:
        app = make_app(nothing)
        del app
        gc.collect()
        make_app(nothing)

    def test_arguments_are_bound_and_the_result_returned(self, make_app: Any) -> None:
        def main(a: int, *, b: int) -> tuple[int, int]:
            return a, b

        assert make_app(main, 1, b=2).update_blocking() == (1, 2)

    @pytest.mark.parametrize("kind", ["sync", "async", "lambda", "partial", "object", "method"])
    def test_any_callable_is_a_main_function(self, make_app: Any, kind: str) -> None:
        import functools

        class Callable_:
            def __call__(self) -> int:
                return 42

            def method(self) -> int:
                return 42

        def give(value: int) -> int:
            return value

        main: dict[str, Any] = {
            "sync": lambda: give(42),
            "async": answer,
            "lambda": lambda: 42,
            "partial": functools.partial(give, 42),
            "object": Callable_(),
            "method": Callable_().method,
        }
        assert make_app(main[kind]).update_blocking() == 42

    def test_a_missing_argument_is_the_functions_own_error(self, make_app: Any) -> None:
        def main(a: int) -> None: ...

        with pytest.raises(TypeError, match="a"):
            make_app(main).update_blocking()

    def test_the_error_of_the_main_function_crosses_unchanged(self, make_app: Any) -> None:
        error = LookupError("mine")

        def main() -> None:
            raise error

        with pytest.raises(LookupError) as caught:
            make_app(main).update_blocking()
        assert caught.value is error

    async def test_drop_is_a_coroutine_and_may_be_a_task(self, make_app: Any) -> None:
        app = make_app(nothing)
        await app.update()
        assert await asyncio.create_task(app.drop()) is None
        assert await app.drop() is None

    async def test_an_app_can_be_updated_after_drop(self, make_app: Any) -> None:
        app = make_app(answer)
        await app.update()
        await app.drop()
        assert await app.update() == 42

    async def test_blocking_variants_on_the_loop_refuse_instead_of_hanging(
        self, tmp_path: Path
    ) -> None:
        environment = coco.Environment(coco.Settings(db_path=tmp_path / "loop"))
        try:
            app: Any = coco.App(coco.AppConfig("a", environment), nothing)
            with pytest.raises(RuntimeError, match=r"await app\.update\(\)"):
                app.update_blocking()
            with pytest.raises(RuntimeError, match=r"await app\.drop\(\)"):
                app.drop_blocking()
        finally:
            environment.close()

    async def test_live_and_preview_exclude_each_other(self, make_app: Any) -> None:
        with pytest.raises(ValueError, match="preview"):
            await make_app(nothing).update(live=True, preview=True)

    async def test_two_concurrent_updates_both_answer(self, make_app: Any) -> None:
        app = make_app(answer)
        assert await asyncio.gather(app.update(), app.update()) == [42, 42]


class TestHandle:
    async def test_nothing_runs_before_the_handle_is_awaited(self, make_app: Any) -> None:
        ran: list[str] = []
        handle = make_app(lambda: ran.append("main")).update()
        await asyncio.sleep(0)
        assert (ran, handle.stats()) == ([], None)
        await handle
        assert ran == ["main"]

    async def test_it_is_awaited_repeatedly_and_concurrently(self, make_app: Any) -> None:
        ran: list[str] = []

        def main() -> int:
            ran.append("main")
            return 42

        handle = make_app(main).update()
        assert await asyncio.gather(handle.result(), handle.result()) == [42, 42]
        assert (await handle, await handle.result(), ran) == (42, 42, ["main"])

    async def test_the_same_error_is_raised_each_time(self, make_app: Any) -> None:
        def main() -> None:
            raise LookupError("mine")

        handle = make_app(main).update()
        errors: list[BaseException] = []
        for _ in range(2):
            with pytest.raises(LookupError) as caught:
                await handle
            errors.append(caught.value)
        assert errors[0] is errors[1]

    async def test_it_is_an_awaitable_but_no_coroutine(self, make_app: Any) -> None:
        handle = make_app(answer).update()
        assert isinstance(handle, coco.UpdateHandle)
        assert not asyncio.iscoroutine(handle)
        assert await asyncio.ensure_future(handle) == 42

    def test_dropped_unused_it_warns_nobody(self, make_app: Any) -> None:
        app = make_app(answer)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            app.update()
            gc.collect()

    async def test_stats_stay_after_the_end(self, make_app: Any) -> None:
        handle = make_app(answer).update()
        await handle
        stats = handle.stats()
        assert stats.by_component == {"answer": coco.ComponentStats(1, 0, 1, 0, 0, 0)}
        assert stats.total.num_in_progress == 0

    async def test_watching_ends_with_a_ready_snapshot_with_the_result(self, make_app: Any) -> None:
        handle = make_app(answer).update()
        snapshots = [snapshot async for snapshot in handle.watch()]
        assert all(isinstance(snapshot, coco.UpdateSnapshot) for snapshot in snapshots)
        assert snapshots[-1].status is coco.UpdateStatus.READY
        assert snapshots[-1].result == 42
        assert snapshots[-1].stats == handle.stats()
        assert await handle == 42

    async def test_watching_raises_the_error_of_the_run(self, make_app: Any) -> None:
        def main() -> None:
            raise LookupError("mine")

        with pytest.raises(LookupError):
            async for _ in make_app(main).update().watch():
                pass

    async def test_a_preview_cannot_be_watched(self, make_app: Any) -> None:
        handle = make_app(answer).update(preview=True)
        with pytest.raises(TypeError, match=r"watch\(\) is not supported when preview=True"):
            async for _ in handle.watch():
                pass

    async def test_a_preview_returns_the_actions(self, make_app: Any, register: Any) -> None:
        applied: list[Any] = []
        sink = coco.TargetActionSink.from_fn(lambda provider, acts: applied.extend(acts))

        class Handler:
            def reconcile(self, key: str, desired: Any, prev: Any, missing: bool, /) -> Any:
                return coco.TargetReconcileOutput(("upsert", key), sink, b"r")

        provider = register(Handler())

        def main() -> None:
            coco.declare_target_state(provider.target_state("a", 1))

        app = make_app(main)
        assert await app.update(preview=True) == [("upsert", "a")]
        assert applied == []
        assert await app.update() is None
        assert applied == [("upsert", "a")]

    async def test_show_progress_returns_the_result(
        self, make_app: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await coco.show_progress(make_app(answer).update()) == 42

    async def test_a_report_shows_a_line_per_processor(
        self, make_app: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await make_app(answer).update(report_to_stdout=True) == 42
        out = capsys.readouterr().out
        assert "[Stats]" in out
        assert "answer" in out
        assert "(terminated)" in out

    async def test_start_drop_gives_a_handle(self, make_app: Any) -> None:
        app = make_app(answer)
        await app.update()
        handle = app.start_drop()
        assert isinstance(handle, coco.DropHandle)
        snapshots = [snapshot async for snapshot in handle.watch()]
        assert snapshots[-1].status is coco.UpdateStatus.READY
        assert await handle is None
        assert await handle.result() is None
        assert handle.stats().by_component["answer"].num_deletes == 1


class TestEnvironment:
    def test_it_shows_what_it_was_made_of(self, tmp_path: Path) -> None:
        settings = coco.Settings(db_path=tmp_path / "db")
        context = coco.ContextProvider()
        environment = coco.Environment(settings, name="mine", context_provider=context)
        try:
            assert environment.name == "mine"
            assert environment.settings is settings
            assert environment.context_provider is context
            assert isinstance(environment.event_loop, asyncio.AbstractEventLoop)
            assert environment.exception_handler is None
        finally:
            environment.close()

    def test_its_name_is_empty_by_default(self, environment: coco.Environment) -> None:
        assert environment.name == ""

    async def test_it_binds_to_the_running_loop(self, tmp_path: Path) -> None:
        environment = coco.Environment(coco.Settings(db_path=tmp_path / "db"))
        try:
            assert environment.event_loop is asyncio.get_running_loop()
        finally:
            environment.close()

    def test_values_are_found_by_key(self, environment: coco.Environment) -> None:
        key: coco.ContextKey[int] = coco.ContextKey("api-apps/environment")
        with pytest.raises(KeyError):
            environment.get_context(key)
        environment.context_provider.provide(key, 5)
        assert environment.get_context(key) == 5

    def test_closing_frees_the_path_and_may_be_repeated(self, tmp_path: Path) -> None:
        for _ in range(2):
            environment = coco.Environment(coco.Settings(db_path=tmp_path / "db"))
            app: Any = coco.App(coco.AppConfig("a", environment), nothing)
            app.update_blocking()
            environment.close()
            environment.close()
            with pytest.raises(RuntimeError):
                app.update_blocking()

    def test_one_path_opened_twice_names_the_holder(self, tmp_path: Path) -> None:
        settings = coco.Settings(db_path=tmp_path / "db")
        first = coco.Environment(settings, name="holder")
        try:
            with pytest.raises((RuntimeError, ValueError), match="holder") as caught:
                coco.Environment(coco.Settings(db_path=tmp_path / "db"))
            assert str(tmp_path / "db") in str(caught.value)
        finally:
            first.close()

    def test_missing_directories_are_made(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "er" / "db"
        coco.Environment(coco.Settings(db_path=path)).close()
        assert path.is_dir()

    def test_a_builder_hands_back_what_it_is_given(self, tmp_path: Path) -> None:
        builder = coco.EnvironmentBuilder(coco.Settings(db_path=tmp_path))
        key: coco.ContextKey[str] = coco.ContextKey("api-apps/builder")
        assert builder.provide(key, "value") == "value"
        assert builder.provide_with(key, contextlib.nullcontext("entered")) == "entered"
        assert builder.settings.db_path == tmp_path

    def test_a_builder_takes_its_settings_from_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COCOINDEX_LMDB_MAX_DBS", "7")
        assert coco.EnvironmentBuilder().settings.lmdb_max_dbs == 7


_LIFESPAN = """
import asyncio, contextlib, sys
from pathlib import Path
import cocoindex as coco

log = []
KEY = coco.ContextKey("pool")

@contextlib.contextmanager
def pool():
    log.append("enter")
    yield "the pool"
    log.append("exit")

@coco.lifespan
def lifespan(builder):
    builder.settings.db_path = Path(sys.argv[1])
    builder.provide_with(KEY, pool())
    log.append("up")
    yield
    log.append("down")

def main():
    log.append(coco.use_context(KEY))

app = coco.App("default-app", main)
"""


class TestDefaultEnvironment:
    def test_values_live_from_start_to_stop(
        self, run_python: Callable[..., str], tmp_path: Path
    ) -> None:
        code = _LIFESPAN + (
            "coco.start_blocking(); app.update_blocking(); coco.stop_blocking()\n"
            "coco.stop_blocking()\n"
            "with coco.runtime():\n    app.update_blocking()\n"
            "print(log)"
        )
        once = ["enter", "up", "the pool", "down", "exit"]
        assert run_python(code, str(tmp_path / "db")).strip() == str(once * 2)

    def test_async_control_does_the_same(
        self, run_python: Callable[..., str], tmp_path: Path
    ) -> None:
        code = _LIFESPAN + (
            "async def run():\n"
            "    async with coco.runtime():\n"
            "        await app.update()\n"
            "        assert isinstance(await coco.default_env(), coco.Environment)\n"
            "        try:\n"
            "            with coco.runtime(): pass\n"
            "        except RuntimeError as error:\n"
            "            log.append(str(error)[:36])\n"
            "    await coco.start()\n"
            "    await asyncio.create_task(coco.stop())\n"
            "asyncio.run(run())\nprint(log)"
        )
        refused = "Cannot use sync 'with coco.runtime()'"[:36]
        expected = ["enter", "up", "the pool", refused, "down", "exit"]
        expected += ["enter", "up", "down", "exit"]
        assert run_python(code, str(tmp_path / "db")).strip() == str(expected)

    def test_an_update_starts_it_and_the_location_may_be_a_variable(
        self, run_python: Callable[..., str], tmp_path: Path
    ) -> None:
        code = (
            "import cocoindex as coco\n"
            "app = coco.App('a', lambda: 'ran')\n"
            "print(app.update_blocking())"
        )
        assert run_python(code, COCOINDEX_DB=str(tmp_path / "db")).strip() == "ran"
        assert (tmp_path / "db").is_dir()

    def test_another_lifespan_warns_and_replaces(self, run_python: Callable[..., str]) -> None:
        code = (
            "import warnings, cocoindex as coco\n"
            "@coco.lifespan\ndef one(builder):\n    yield\n"
            "with warnings.catch_warnings(record=True) as caught:\n"
            "    warnings.simplefilter('always')\n"
            "    @coco.lifespan()\n"
            "    def two(builder):\n        yield\n"
            "print([w.category.__name__ for w in caught], one.__name__, two.__name__)"
        )
        assert run_python(code).strip() == "['UserWarning'] one two"


class TestSettings:
    def test_lmdb_settings_read_and_write_through(self) -> None:
        settings = coco.Settings(lmdb_max_dbs=5, lmdb_map_size=2**20)
        assert (settings.db_settings.max_dbs, settings.db_settings.map_size) == (5, 2**20)
        settings.lmdb_max_dbs = 6
        settings.lmdb_map_size = 2**21
        assert settings.db_settings == coco.LmdbSettings(6, 2**21)
        assert (settings.lmdb_max_dbs, settings.lmdb_map_size) == (6, 2**21)

    def test_both_forms_at_once_are_refused(self) -> None:
        with pytest.raises(ValueError, match="not both"):
            coco.Settings(db_settings=coco.LmdbSettings(), lmdb_max_dbs=5)

    def test_it_is_mutable(self, tmp_path: Path) -> None:
        settings = coco.Settings()
        settings.db_path = tmp_path
        assert settings.db_path == tmp_path
        assert settings.global_execution_options is None

    def test_the_environment_gives_sizes_but_no_path(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("COCOINDEX_DB", "/ignored")
        monkeypatch.setenv("COCOINDEX_LMDB_MAX_DBS", "9")
        monkeypatch.setenv("COCOINDEX_LMDB_MAP_SIZE", "1048576")
        settings = coco.Settings.from_env()
        assert settings.db_path is None
        assert (settings.lmdb_max_dbs, settings.lmdb_map_size) == (9, 1048576)
        assert coco.Settings.from_env(tmp_path).db_path == tmp_path

    @pytest.mark.parametrize("name", ["COCOINDEX_LMDB_MAX_DBS", "COCOINDEX_LMDB_MAP_SIZE"])
    def test_a_variable_that_is_no_number_is_named(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv(name, "lots")
        with pytest.raises(ValueError, match=f"{name}.*lots"):
            coco.Settings.from_env()

    @pytest.mark.parametrize("settings", [{"lmdb_max_dbs": 0}, {"lmdb_map_size": 0}])
    def test_impossible_sizes_are_refused(self, tmp_path: Path, settings: Any) -> None:
        with pytest.raises(ValueError):
            coco.Environment(coco.Settings(db_path=tmp_path / "db", **settings))


class TestContext:
    def test_a_key_shows_its_name_and_flag(self) -> None:
        key: coco.ContextKey[int] = coco.ContextKey("api-apps/shown", detect_change=True)
        assert (key.key, key.detect_change) == ("api-apps/shown", True)
        plain: coco.ContextKey[int] = coco.ContextKey("api-apps/plain")
        assert not plain.detect_change
        assert key != plain
        assert len({key, plain}) == 2

    def test_its_memo_key_is_its_name(self) -> None:
        one: coco.ContextKey[int] = coco.ContextKey("api-apps/one")
        two: coco.ContextKey[int] = coco.ContextKey("api-apps/two")
        assert coco.memo_fingerprint(one) == coco.memo_fingerprint(one)
        assert coco.memo_fingerprint(one) != coco.memo_fingerprint(two)

    async def test_a_provider_stores_and_closes_in_reverse_order(self) -> None:
        log: list[str] = []
        a: coco.ContextKey[str] = coco.ContextKey("api-apps/a")
        b: coco.ContextKey[str] = coco.ContextKey("api-apps/b")

        @contextlib.contextmanager
        def resource(name: str) -> Iterator[str]:
            yield name
            log.append(name)

        @contextlib.asynccontextmanager
        async def async_resource(name: str) -> AsyncIterator[str]:
            yield name
            log.append(name)

        provider = coco.ContextProvider()
        assert provider.provide_with(a, resource("a")) == "a"
        assert await provider.provide_async_with(b, async_resource("b")) == "b"
        assert (provider.get(a), provider.get("api-apps/b")) == ("a", "b")
        await provider.aclose()
        assert log == ["b", "a"]

    def test_absent_values_are_key_errors_with_a_plain_message(self) -> None:
        key: coco.ContextKey[str] = coco.ContextKey("api-apps/absent")
        provider = coco.ContextProvider()
        for get in (lambda: provider.get(key), lambda: provider.get("api-apps/absent")):
            with pytest.raises(KeyError) as caught:
                get()
            assert isinstance(caught.value, coco.CocoIndexError)
            assert "api-apps/absent" in str(caught.value)
            assert not str(caught.value).startswith(("'", '"'))

    def test_only_change_detected_values_have_a_fingerprint(self) -> None:
        watched: coco.ContextKey[Any] = coco.ContextKey("api-apps/watched", detect_change=True)
        plain: coco.ContextKey[Any] = coco.ContextKey("api-apps/unwatched")
        provider = coco.ContextProvider()
        provider.provide(watched, {"v": 1})
        provider.provide(plain, 1)
        first = provider.get_fingerprint(watched)
        with pytest.raises(KeyError):
            provider.get_fingerprint(plain)
        provider.provide(watched, {"v": 2})
        assert provider.get(watched) == {"v": 2}
        assert provider.get_fingerprint(watched) != first

    def test_a_change_detected_value_must_be_fingerprintable(self) -> None:
        import threading

        key: coco.ContextKey[Any] = coco.ContextKey("api-apps/lock", detect_change=True)
        with pytest.raises(TypeError, match="Unsupported type for memoization key"):
            coco.ContextProvider().provide(key, threading.Lock())


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

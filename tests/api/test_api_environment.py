"""Environments, settings and context values, as the interface describes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco


def nothing() -> None: ...


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[coco.Environment]:
    environment = coco.Environment(coco.Settings(db_path=tmp_path / "db"))
    yield environment
    environment.close()


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

    def test_a_lifespan_without_yield_is_called_by_its_name(
        self, run_python: Callable[..., str]
    ) -> None:
        code = (
            "import cocoindex as coco\n"
            "@coco.lifespan\ndef settings(builder):\n    pass\n"
            "try:\n    coco.start_blocking()\nexcept RuntimeError as error:\n    print(error)"
        )
        assert run_python(code).startswith("lifespan function settings must be a generator")


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

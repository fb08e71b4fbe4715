"""Apps and the handles of their runs, as the interface describes them."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterator
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
        with pytest.raises(ValueError):
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


@pytest.mark.parametrize("own_loop", [False, True])
def test_the_interpreter_exits_silently_after_an_update(
    run_python: Callable[..., str], tmp_path: Path, own_loop: bool
) -> None:
    code = "import asyncio, cocoindex as coco\n"
    if own_loop:
        code += "asyncio.set_event_loop(loop := asyncio.new_event_loop())\n"
    code += "print(coco.App('a', lambda: 'ran').update_blocking())\n"
    if own_loop:
        code += "loop.close()\n"
    assert run_python(code, COCOINDEX_DB=str(tmp_path / "db")).strip() == "ran"

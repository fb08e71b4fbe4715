"""Pinned error messages: what programs and people search for."""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco


class _Nothing:
    """A handler with one target that does nothing."""

    sink = coco.TargetActionSink.from_fn(lambda context_provider, actions: None)

    def reconcile(self, key: Any, desired: Any, prev: Any, missing: bool, /) -> Any:
        return coco.TargetReconcileOutput("action", self.sink, None)


class _Container:
    def __init__(self) -> None:
        self.sink = coco.TargetActionSink.from_fn(
            lambda context_provider, actions: [coco.ChildTargetDef(_Nothing()) for _ in actions]
        )

    def reconcile(self, key: Any, desired: Any, prev: Any, missing: bool, /) -> Any:
        return coco.TargetReconcileOutput("action", self.sink, None)


nothing = coco.register_root_target_states_provider("api-messages/nothing", _Nothing())
container = coco.register_root_target_states_provider("api-messages/container", _Container())
key: coco.ContextKey[int] = coco.ContextKey("api-messages/key")


def leaf() -> None: ...


@contextlib.contextmanager
def raises(error: type[Exception], text: str) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """The error has the pinned type and text, and belongs to the product's tree."""
    with pytest.raises(error, match=text) as caught:
        yield caught
    assert isinstance(caught.value, coco.CocoIndexError)


@pytest.mark.parametrize(
    "call",
    [
        lambda: coco.get_component_context(),
        lambda: coco.use_context(key),
        lambda: coco.use_state("k"),
        lambda: coco.declare_target_state(nothing.target_state("a", 1)),
        lambda: coco.declare_target_state_with_child(nothing.target_state("a", 1)),
    ],
    ids=["context", "use_context", "use_state", "declare", "declare_with_child"],
)
def test_no_component_context(call: Callable[[], Any]) -> None:
    with raises(RuntimeError, "No ComponentContext available"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: coco.mount(leaf),
        lambda: coco.use_mount(leaf),
        lambda: coco.mount_each(leaf, []),
        lambda: coco.mount_target(container.target_state("a", 1)),
    ],
    ids=["mount", "use_mount", "mount_each", "mount_target"],
)
async def test_no_component_context_for_a_mount(call: Callable[[], Any]) -> None:
    with raises(RuntimeError, "No ComponentContext available"):
        await call()


async def test_no_component_context_for_a_scoped_handler() -> None:
    with raises(RuntimeError, "No ComponentContext available"):
        async with coco.exception_handler(lambda error, context: None):
            pass


@pytest.mark.parametrize("first", [coco.mount, coco.use_mount])
@pytest.mark.parametrize("second", [coco.mount, coco.use_mount])
def test_duplicate_path(host: Any, first: Any, second: Any) -> None:
    async def main() -> None:
        await first(coco.component_subpath("x"), leaf)
        with raises(ValueError, "already exists"):
            await second(coco.component_subpath("x"), leaf)

    host.update(main)


def test_duplicate_path_of_a_directory(host: Any) -> None:
    async def main() -> None:
        await coco.mount(coco.component_subpath("x", "y"), leaf)
        with raises(ValueError, "already exists"):
            await coco.mount(coco.component_subpath("x"), leaf)

    host.update(main)


def test_mount_below_a_component(host: Any) -> None:
    async def main() -> None:
        await coco.mount(coco.component_subpath("x"), leaf)
        with raises(ValueError, "is not a directory"):
            await coco.mount(coco.component_subpath("x", "y"), leaf)

    host.update(main)


def test_empty_path(host: Any) -> None:
    async def main() -> None:
        for mount in (coco.mount, coco.use_mount):
            with raises(ValueError, "Path is empty"):
                await mount(coco.component_subpath(), leaf)

    host.update(main)


def test_duplicate_declaration(host: Any) -> None:
    def main() -> None:
        coco.declare_target_state(nothing.target_state("a", 1))
        with raises(ValueError, "already declared"):
            coco.declare_target_state(nothing.target_state("a", 2))

    host.update(main)


def test_a_memoized_call_that_mounts(host: Any) -> None:
    ran: list[str] = []

    @coco.fn(memo=True)
    async def mounting() -> None:
        await coco.mount(coco.component_subpath("x"), lambda: ran.append("child"))

    async def main() -> None:
        with raises(ValueError, "memo=True mounted child components"):
            await mounting()

    host.update(main)
    assert ran == []


def test_an_unsupported_key_type(host: Any) -> None:
    def main() -> None:
        for bad in (1.5, object(), ("a", {"b": 1})):
            with raises(TypeError, "Unsupported StableKey Python type"):
                nothing.target_state(bad, 1)
            with raises(TypeError, "Unsupported StableKey Python type"):
                coco.component_subpath(bad)
            with raises(TypeError, "Unsupported StableKey Python type"):
                coco.use_state(bad)

    host.update(main)


def test_an_unfingerprintable_value() -> None:
    for value in (threading.Lock(), [(x for x in ())], {"k": threading.Lock()}):
        with raises(TypeError, "Unsupported type for memoization key"):
            coco.memo_fingerprint(value)


def test_an_unfingerprintable_argument_of_a_memoized_call(host: Any) -> None:
    @coco.fn(memo=True)
    def memoized(value: object) -> None: ...

    def main() -> None:
        with raises(TypeError, "Unsupported type for memoization key"):
            memoized(threading.Lock())

    host.update(main)


def test_a_value_that_forbids_being_a_key() -> None:
    class Handle(coco.NotMemoKeyable):
        __slots__ = ()

    class Registered: ...

    coco.register_not_memo_keyable(Registered)
    for value in (Handle(), [Handle()], Registered(), {"nested": (Registered(),)}):
        with raises(TypeError, "cannot be used as a memoization key"):
            coco.memo_fingerprint(value)


def test_an_unsupported_attachment(host: Any) -> None:
    def main() -> None:
        with raises(ValueError, "does not support attachment type.*vector_index"):
            nothing.attachment("vector_index")

    host.update(main)


def test_preview_over_a_container_without_factory(host: Any) -> None:
    async def main() -> None:
        await coco.mount_target(container.target_state("a", 1))

    with raises(ValueError, "child target providers"):
        host.update(main, preview=True)


def test_mount_of_something_without_a_name(host: Any) -> None:
    class Nameless:
        def __call__(self) -> None: ...

    async def main() -> None:
        for mount in (coco.mount, coco.use_mount):
            with raises(TypeError, "requires a ComponentSubpath"):
                await mount(Nameless())

    host.update(main)


class _Evil:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("true",)


def test_a_forbidden_unpickle() -> None:
    from cocoindex._internal.serde import DeserializationError, deserialize

    with raises(ValueError, "Failed to deserialize pickle") as caught:
        deserialize(pickle.dumps(_Evil(), protocol=5))
    assert isinstance(caught.value, DeserializationError)
    cause = caught.value.__cause__
    assert isinstance(cause, pickle.UnpicklingError)
    assert "Forbidden global during unpickling" in str(cause)
    assert "system" in str(cause)


def test_an_environment_without_location(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("COCOINDEX_DB", str(tmp_path / "ignored"))
    with raises(ValueError, "db_path must be provided"):
        coco.Environment(coco.Settings())


def test_the_default_environment_without_location(run_python: Callable[..., str]) -> None:
    out = run_python(
        "import cocoindex as coco\n"
        "try:\n    coco.start_blocking()\n"
        "except ValueError as error:\n"
        "    print(isinstance(error, coco.CocoIndexError), error)\n"
    )
    assert out.startswith("True")
    assert "COCOINDEX_DB" in out
    assert "db_path" in out


def test_batching_on_a_sync_function() -> None:
    with raises(ValueError, "as_async"):

        @coco.fn(batching=True)
        def body(items: list[int]) -> list[int]:
            return items


def test_a_passed_deadline() -> None:
    with coco.timeout(timedelta(0)):
        with raises(TimeoutError, "deadline exceeded") as caught:
            for _ in range(10_000_000):  # expires as soon as the clock moves
                coco.check_cancellation()
    assert isinstance(caught.value, coco.DeadlineExceededError)


def test_a_second_watch() -> None:
    from cocoindex.connectorkits import SingleWatcherGuard

    guard = SingleWatcherGuard("folder")
    with guard:
        with raises(RuntimeError, r"supports a single active watch\(\)"):
            with guard:
                pass
    with guard:
        pass


def test_a_second_app_of_one_name(tmp_path: Path) -> None:
    environment = coco.Environment(coco.Settings(db_path=tmp_path / "db"))
    try:
        first = coco.App(coco.AppConfig("twice", environment), leaf)
        with raises(ValueError, "An app named 'twice' is already registered in this environment"):
            coco.App(coco.AppConfig("twice", environment), leaf)
        del first
    finally:
        environment.close()


def test_a_root_provider_of_the_same_name() -> None:
    class Other(_Nothing): ...

    with raises(ValueError, "already registered"):
        coco.register_root_target_states_provider("api-messages/nothing", Other())


def test_a_context_key_of_the_same_name() -> None:
    with raises(ValueError, "Context key .*api-messages/key.* already used"):
        coco.ContextKey("api-messages/key", detect_change=True)


def test_deps_without_logic_tracking() -> None:
    with raises(ValueError, "deps= requires"):

        @coco.fn(memo=True, logic_tracking=None, deps={"a": 1})
        def body() -> None: ...


def test_an_unknown_memo_key_parameter() -> None:
    with raises(ValueError, r"Unknown memo_key parameter\(s\) for .*body"):

        @coco.fn(memo=True, memo_key={"nope": None})
        def body(value: int) -> None: ...


def test_a_memo_key_that_is_neither_callable_nor_none() -> None:
    with raises(TypeError, "value"):

        @coco.fn(memo=True, memo_key={"value": 3})  # type: ignore[dict-item]
        def body(value: int) -> None: ...


@pytest.mark.parametrize("interval", [timedelta(0), timedelta(seconds=-1)])
def test_a_report_interval_that_is_not_positive(host: Any, interval: timedelta) -> None:
    with raises(ValueError, "positive duration"):
        host.update(leaf, report_to_stdout=interval)

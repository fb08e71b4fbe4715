"""The authoring contract row by row: sinks.

Deliberately without ``from __future__ import annotations``: authors' annotations are evaluated.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from contract_handlers import Annotated, Container, declare, fill

import cocoindex as coco
from cocoindex._internal.context_keys import ContextProvider


class TestSinks:
    """Row 9: a shared function or a bound method, sync or async; one call per batch."""

    @pytest.fixture
    def batches(self) -> list[list[Any]]:
        return []

    def handlers(self, make_sink: Callable[[], Any]) -> Any:
        class Handler:
            def reconcile(self, key: str, desired: Any, prev: Any, missing: bool, /) -> Any:
                return coco.TargetReconcileOutput(key, make_sink(), b"r")

        return Handler()

    @pytest.mark.parametrize("is_async", [False, True])
    def test_09_one_call_takes_all_actions_of_the_component(
        self, host: Any, register: Any, batches: list[list[Any]], is_async: bool
    ) -> None:
        def apply(context_provider: ContextProvider, actions: Sequence[str]) -> None:
            assert isinstance(context_provider, coco.ContextProvider)
            batches.append(list(actions))

        async def apply_async(context_provider: ContextProvider, actions: Sequence[str]) -> None:
            apply(context_provider, actions)

        shared = (
            coco.TargetActionSink.from_async_fn(apply_async)
            if is_async
            else coco.TargetActionSink.from_fn(apply)
        )
        provider = register(self.handlers(lambda: shared))
        host.update(declare, provider, {"c": 1, "a": 1, "b": 1})
        assert batches == [["c", "a", "b"]]

    def test_09_sinks_built_anew_from_one_function_are_one_sink(
        self, host: Any, register: Any, batches: list[list[Any]]
    ) -> None:
        def apply(context_provider: ContextProvider, actions: Sequence[str]) -> None:
            batches.append(list(actions))

        provider = register(self.handlers(lambda: coco.TargetActionSink.from_fn(apply)))
        host.update(declare, provider, {"a": 1, "b": 1})
        assert batches == [["a", "b"]]

    def test_09_bound_methods_of_two_instances_are_two_sinks(
        self, host: Any, register: Any
    ) -> None:
        one, two = Annotated(), Annotated()
        first, second = register(one), register(two)

        def main() -> None:
            declare(first, {"a": b"1"})
            declare(second, {"b": b"1"})
            declare(first, {"c": b"1"})

        host.update(main)
        assert one.applied == [[("upsert", "a"), ("upsert", "c")]]
        assert two.applied == [[("upsert", "b")]]

    def test_09_a_sync_sink_sees_no_running_loop(self, host: Any, register: Any) -> None:
        import asyncio

        found: list[str] = []

        def apply(context_provider: ContextProvider, actions: Sequence[str]) -> None:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            found.append("no loop")

        sink = coco.TargetActionSink.from_fn(apply)
        host.update(declare, register(self.handlers(lambda: sink)), {"a": 1})
        assert found == ["no loop"]

    def test_09_a_coroutine_function_as_sync_sink_is_refused(self) -> None:
        async def apply(context_provider: Any, actions: Any) -> None: ...

        with pytest.raises(TypeError, match="from_async_fn"):
            coco.TargetActionSink.from_fn(apply)

    def test_09_an_async_sink_may_be_any_callable_that_returns_an_awaitable(
        self, host: Any, register: Any, batches: list[list[Any]]
    ) -> None:
        async def apply(context_provider: Any, actions: Any) -> None:
            batches.append(list(actions))

        sink = coco.TargetActionSink.from_async_fn(lambda provider, acts: apply(provider, acts))
        host.update(declare, register(self.handlers(lambda: sink)), {"a": 1})
        assert batches == [["a"]]

    def test_09_an_async_sink_that_returns_something_else_fails_at_the_call(
        self, host: Any, register: Any
    ) -> None:
        sink = coco.TargetActionSink.from_async_fn(cast("Any", lambda provider, actions: None))
        with pytest.raises(TypeError):
            host.update(declare, register(self.handlers(lambda: sink)), {"a": 1})

    def test_a_last_sink_runs_after_the_others(
        self, host: Any, register: Any, batches: list[list[Any]]
    ) -> None:
        def early(context_provider: Any, actions: Any) -> None:
            batches.append(["early", *actions])

        def late(context_provider: Any, actions: Any) -> None:
            batches.append(["late", *actions])

        last = coco.TargetActionSink.from_fn(late, last=True)
        normal = coco.TargetActionSink.from_fn(early)
        first, second = (
            register(self.handlers(lambda: last)),
            register(self.handlers(lambda: normal)),
        )

        def main() -> None:
            declare(first, {"a": 1})
            declare(second, {"b": 1})

        host.update(main)
        assert batches == [["early", "b"], ["late", "a"]]


def _module_level(context_provider: ContextProvider, actions: Sequence[str]) -> None: ...


_module_sink = coco.TargetActionSink[str, None].from_fn(_module_level)


def test_10_a_subscripted_sink_class_builds_sinks_at_module_level() -> None:
    assert isinstance(_module_sink, coco.TargetActionSink)


def test_20_a_sink_gets_connections_from_the_provider_by_name_and_type(
    register: Any, host: Any
) -> None:
    class Pool: ...

    pool, found = Pool(), []

    class Handler(Annotated):
        def apply(self, context_provider: ContextProvider, actions: Sequence[Any]) -> None:
            found.append(context_provider.get("api/contract/pool", Pool))
            found.append(context_provider.get("api/contract/pool"))
            found.append(context_provider.get(key))
            with pytest.raises(KeyError):
                context_provider.get("api/contract/nothing")
            with pytest.raises(TypeError, match=r"api/contract/pool.*int.*Pool"):
                context_provider.get("api/contract/pool", int)

    key: coco.ContextKey[Pool] = coco.ContextKey("api/contract/pool")
    context = ContextProvider()
    context.provide(key, pool)
    with host.app(declare, register(Handler()), {"a": b"1"}, context_provider=context) as app:
        app.update_blocking()
    assert found == [pool, pool, pool]


def test_a_child_handler_factory_replaces_what_the_sink_returns(
    host: Any, register: Any, container: Container
) -> None:
    applied: list[Any] = []

    def apply(context_provider: ContextProvider, actions: Sequence[Any]) -> None:
        applied.extend(actions)

    container.sink = coco.TargetActionSink.from_fn(
        apply, child_handler=lambda context_provider, action: container.children
    )
    host.update(fill, register(container), "x", {"f": b"1"})
    assert applied == [("ensure", ("x",))]
    assert container.children.actions() == [("upsert", "f")]


def test_an_async_child_handler_factory_is_refused() -> None:
    async def factory(context_provider: Any, action: Any) -> Any: ...

    with pytest.raises(TypeError):
        coco.TargetActionSink.from_fn(lambda provider, actions: None, child_handler=factory)


def test_the_slot_form_works_and_warns(host: Any, register: Any, container: Container) -> None:
    def apply(context_provider: Any, actions: Sequence[Any], child_slots: Any) -> None:
        assert list(child_slots) == [0]
        child_slots[0].fulfill(container.children)

    with pytest.warns(DeprecationWarning, match="child_handler"):
        container.sink = coco.TargetActionSink.from_fn_with_children(apply)
    host.update(fill, register(container), "x", {"f": b"1"})
    assert container.children.actions() == [("upsert", "f")]

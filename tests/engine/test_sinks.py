"""The contract of sinks: identity, merging, isolation, order: §E5.8, §A4.6."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.testing.targets import InjectedFailure, MemoryTarget

sub = coco.component_subpath


class Rows:
    """A handler whose ``sink`` is made anew for every reconcile, by ``make``."""

    def __init__(self, make) -> None:
        self.make = make

    def reconcile(self, key, desired, prev, missing, /):
        record = desired if coco.is_non_existence(desired) else "r"
        return coco.TargetReconcileOutput(key, self.make(), record)


def provider_of(make, request) -> Any:
    return coco.register_root_target_states_provider(request.node.nodeid, Rows(make))


def declaring(provider, *keys):
    def body():
        for key in keys:
            coco.declare_target_state(provider.target_state(key, 1))

    return body


class Apply:
    def __init__(self) -> None:
        self.calls: list[list[Any]] = []

    def sync(self, _provider, actions):
        self.calls.append(list(actions))

    async def asynchronous(self, _provider, actions):
        self.calls.append(list(actions))


@pytest.mark.parametrize("kind", ["sync", "asynchronous"])
async def test_sinks_made_from_one_bound_method_are_one_sink(bench, request, kind):
    apply = Apply()

    def make():
        if kind == "sync":
            return coco.TargetActionSink.from_fn(apply.sync)
        return coco.TargetActionSink.from_async_fn(apply.asynchronous)

    await bench.run(declaring(provider_of(make, request), "a", "b"))

    assert apply.calls == [["a", "b"]]


async def test_actions_arrive_in_the_order_of_declarations_whatever_their_provider(bench, request):
    apply = Apply()
    providers = [
        coco.register_root_target_states_provider(
            f"{request.node.nodeid}/{i}", Rows(lambda: coco.TargetActionSink.from_fn(apply.sync))
        )
        for i in range(2)
    ]

    def body():
        for number in range(6):
            coco.declare_target_state(providers[number // 2 % 2].target_state(number, 1))

    await bench.run(body)

    assert apply.calls == [[0, 1, 2, 3, 4, 5]]


async def test_methods_of_two_instances_are_two_sinks(bench, request):
    applies = [Apply(), Apply()]
    order = iter([0, 1, 0])
    provider = provider_of(
        lambda: coco.TargetActionSink.from_fn(applies[next(order)].sync), request
    )
    await bench.run(declaring(provider, "a", "b", "c"))
    assert [apply.calls for apply in applies] == [[["a", "c"]], [["b"]]]


async def test_a_sync_sink_runs_on_a_worker_and_an_async_one_on_the_loop(bench, request):
    threads = []

    def sync(_provider, actions):
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        threads.append(threading.current_thread())

    async def asynchronous(_provider, actions):
        assert asyncio.get_running_loop() is loop
        threads.append(threading.current_thread())

    loop = asyncio.get_running_loop()
    sinks = {
        "sync": coco.TargetActionSink.from_fn(sync),
        "async": coco.TargetActionSink.from_async_fn(asynchronous),
    }

    class Handler:
        def reconcile(self, key, desired, prev, missing, /):
            return coco.TargetReconcileOutput(key, sinks[key], "r")

    provider = coco.register_root_target_states_provider(request.node.nodeid, Handler())
    await bench.run(declaring(provider, "sync", "async"))
    assert threads[0] is not threading.current_thread()
    assert threads[1] is threading.current_thread()


async def test_sinks_run_in_order_of_their_first_action_and_last_ones_last(bench, request):
    calls = []

    def sink(name, **options):
        async def apply(_provider, actions):
            calls.append((name, list(actions)))

        return coco.TargetActionSink.from_async_fn(apply, **options)

    sinks = {"x": sink("x", last=True), "b": sink("b"), "a": sink("a")}

    class Handler:
        def reconcile(self, key, desired, prev, missing, /):
            return coco.TargetReconcileOutput(key, sinks[key[0]], "r")

    provider = coco.register_root_target_states_provider(request.node.nodeid, Handler())
    await bench.run(declaring(provider, "x1", "b1", "a1", "b2"))
    assert calls == [("b", ["b1", "b2"]), ("a", ["a1"]), ("x", ["x1"])]


async def test_the_sink_gets_the_context_provider_of_its_environment(bench, request):
    key = coco.ContextKey[str](request.node.nodeid)
    bench.context = coco.ContextProvider()
    bench.context.provide(key, "value")
    seen = []

    def apply(context_provider, actions):
        seen.extend([context_provider.get(key), context_provider.get(key.key, str)])

    provider = provider_of(lambda: coco.TargetActionSink.from_fn(apply), request)
    await bench.run(declaring(provider, "a"))
    assert seen == ["value", "value"]


async def test_a_leaf_sink_may_return_a_list_of_none(bench, request):
    provider = provider_of(
        lambda: coco.TargetActionSink.from_fn(lambda _p, actions: [None] * len(actions)), request
    )
    await bench.run(declaring(provider, "a", "b"))
    assert len(await bench.owners()) == 2


def test_from_fn_refuses_a_coroutine_function_and_an_async_factory():
    async def apply(_provider, _actions):
        pass

    with pytest.raises(TypeError):
        coco.TargetActionSink.from_fn(apply)
    with pytest.raises(TypeError):
        coco.TargetActionSink.from_async_fn(apply, child_handler=apply)


async def test_from_async_fn_takes_whatever_returns_an_awaitable(bench, request):
    apply = Apply()
    forms = [lambda p, a: apply.asynchronous(p, a), functools.partial(apply.asynchronous)]
    for n, form in enumerate(forms):
        sink = coco.TargetActionSink[Any, None].from_async_fn(form)
        provider = coco.register_root_target_states_provider(
            f"{request.node.nodeid}{n}", Rows(lambda sink=sink: sink)
        )
        await bench.run(declaring(provider, n))
    assert [0] in apply.calls
    wrong = coco.TargetActionSink.from_async_fn(lambda _p, _a: None)
    provider = provider_of(lambda: wrong, request)
    assert isinstance(await bench.fails(declaring(provider, "x")), TypeError)


async def test_the_slot_form_works_and_is_deprecated(bench, request):
    rows = MemoryTarget(record=str)

    def apply(_provider, actions, slots):
        for slot in slots.values():
            slot.fulfill(rows)

    with pytest.warns(DeprecationWarning, match="slot"):
        sink = coco.TargetActionSink.from_fn_with_children(apply)
    provider = provider_of(lambda: sink, request)

    async def body():
        child = await coco.mount_target(provider.target_state("D", 1))
        coco.declare_target_state(child.target_state("row", 1))

    await bench.run(body)
    assert rows.rows == {"row": 1}


def each(target, keys):
    async def body():
        await coco.mount_each(
            sub("e"), lambda key: target.declare(key, 1), [(key, key) for key in keys]
        )

    return body


class TestMergedCalls:
    """Concurrent components share calls of one sink."""

    async def _run(self, bench, target, count):
        """All others get ready while the call of component 0 is held."""

        async def component(key):
            if key:
                await gate.entered.wait()
            target.declare(key, 1)

        async def body():
            await coco.mount_each(sub("e"), component, [(key, key) for key in range(count)])

        with target.held(key=0) as gate:
            run = asyncio.ensure_future(bench.start(body).result())
            while len(target.reconciled) < count:
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            gate.open()
            await run

    def _batches(self, target):
        """Sizes of the calls. The call that found the sink idle may have gone out alone."""
        sizes = [len(call) for call in target.calls]
        return sizes[1:] if sizes[:2] == [1, 1] else sizes

    async def test_groups_queue_while_a_call_is_in_flight_and_go_out_together(self, bench):
        target = MemoryTarget()
        await self._run(bench, target, 6)
        assert self._batches(target) in ([1, 5], [1, 4])
        assert sorted(target.rows) == list(range(6))

    async def test_one_poisonous_action_fails_only_its_component(self, bench):
        target = MemoryTarget()
        errors = []
        bench.exception_handler = lambda error, context: errors.append(
            (type(error), context.stable_path)
        )
        with target.failing(key=6):
            await self._run(bench, target, 9)
        assert sorted(target.rows) == [0, 1, 2, 3, 4, 5, 7, 8]
        assert errors == [(InjectedFailure, '/"e"/6')]
        assert len([call for call in target.calls if ("put", 6, 1) in call]) <= 4
        assert len(target.calls) <= 9

    @pytest.mark.parametrize(
        "error", [coco.TransientError("busy"), ConnectionError("gone"), TimeoutError("slow")]
    )
    async def test_errors_of_the_system_are_not_split(self, bench, error):
        target = MemoryTarget()
        errors = []
        bench.exception_handler = lambda error, context: errors.append(type(error))
        with target.failing(key=6, error=error):
            await self._run(bench, target, 9)
        (failed,) = [call for call in target.calls if ("put", 6, 1) in call]
        assert len(failed) >= 7
        assert errors == [type(error)] * len(failed)
        assert sorted(target.rows) == sorted(set(range(9)) - {action.key for action in failed})

    async def test_every_component_of_a_thousand_is_applied_once(self, bench):
        target = MemoryTarget()

        async def body():
            await coco.mount_each(
                sub("e"), lambda key: target.declare(key, 1), [(key, key) for key in range(1000)]
            )

        await bench.run(body)
        assert sorted(target.rows) == list(range(1000))
        assert len(target.actions) == 1000


class Reporting(Apply):
    def sync(self, _provider, actions):
        coco.report_target_stats("notes", rows_upserted=len(actions), seconds=0.5)

    async def asynchronous(self, _provider, actions):
        self.sync(_provider, actions)


@pytest.mark.parametrize("kind", ["sync", "asynchronous"])
async def test_what_a_sink_reports_is_told_with_the_statistics(bench, request, kind):
    apply = Reporting()

    def make():
        if kind == "sync":
            return coco.TargetActionSink.from_fn(apply.sync)
        return coco.TargetActionSink.from_async_fn(apply.asynchronous)

    provider = provider_of(make, request)

    async def main():
        for name in "ab":
            handle = await coco.mount(sub(name), declaring(provider, name, name * 2))
            await handle.ready()

    handle = bench.start(main)
    await handle
    assert handle.stats().by_target == {"notes": coco.TargetStats(4, seconds=1.0)}
    handle = bench.start(main)
    await handle
    assert handle.stats().by_target == {"notes": coco.TargetStats(4, seconds=1.0)}


def test_a_report_outside_of_a_sink_counts_nowhere():
    coco.report_target_stats("notes", rows_upserted=1)


async def test_a_sink_that_cannot_be_compared_fails_its_component_alone(bench, request):
    class Incomparable:
        def __init__(self, number):
            self.number = number

        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise ZeroDivisionError

        async def __call__(self, _provider, _actions):
            await asyncio.sleep(0)

    failed: list[BaseException] = []
    bench.exception_handler = lambda error, _context: failed.append(error)
    fns = iter([Incomparable(1), Incomparable(2)])
    provider = provider_of(lambda: coco.TargetActionSink.from_async_fn(next(fns)), request)

    async def main():
        await coco.mount_each(
            sub("e"), lambda n: declaring(provider, n)(), [(n, n) for n in range(2)]
        )

    await asyncio.wait_for(bench.run(main), 30)
    assert [type(error) for error in failed] == [ZeroDivisionError]
    assert bench.env.app_state(bench.app).in_flight == {}

"""Sinks that are still at work when an update is cancelled, or its environment closed."""

from __future__ import annotations

import asyncio
import threading
import uuid

import pytest

import cocoindex as coco


class World:
    """What a sink has written, as slowly as it is let."""

    def __init__(self):
        self.value = None
        self.begun = threading.Event()
        self.may_go_on = threading.Event()
        self.was_cancelled = False

    def write(self, _context, actions):
        self.begun.set()
        assert self.may_go_on.wait(30)
        self.value = actions[-1]

    async def write_async(self, _context, actions):
        self.begun.set()
        try:
            if not self.may_go_on.is_set():
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        self.value = actions[-1]


class Handler:
    def __init__(self, apply, kind):
        self.sink = getattr(coco.TargetActionSink, kind)(apply)

    def reconcile(self, key, desired, previous, may_be_missing, /):
        if coco.is_non_existence(desired):
            return coco.TargetReconcileOutput(None, self.sink, coco.NON_EXISTENCE)
        if not may_be_missing and all(known == desired for known in previous):
            return None
        return coco.TargetReconcileOutput(desired, self.sink, desired)


def declaring(world, kind="from_fn"):
    """A main function that declares what it is given, in a component of its own."""
    apply = world.write if kind == "from_fn" else world.write_async
    name = f"tests/at_the_end/{uuid.uuid4()}"
    provider = coco.register_root_target_states_provider(name, Handler(apply, kind))

    async def one(value):
        coco.declare_target_state(provider.target_state("key", value))

    async def main(value):
        await coco.mount(coco.component_subpath("one"), one, value)

    return main


async def begun(world):
    assert await asyncio.to_thread(world.begun.wait, 30)


async def test_a_cancelled_update_ends_after_the_sink_that_acts_for_it(bench):
    world = World()
    main = declaring(world)
    handle = bench.start(lambda: main("old"))
    result = asyncio.ensure_future(handle.result())
    await begun(world)
    handle.cancel()
    next_update = asyncio.ensure_future(bench.run(lambda: main("new")))
    await asyncio.wait((result, next_update), timeout=0.2)
    assert not result.done()
    assert not next_update.done()

    world.may_go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await result
    await next_update
    assert world.value == "new"


async def test_an_async_sink_is_cancelled_with_the_only_update_that_waits_for_it(bench):
    world = World()
    main = declaring(world, "from_async_fn")
    handle = bench.start(lambda: main("old"))
    result = asyncio.ensure_future(handle.result())
    await begun(world)

    handle.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(result, 30)
    assert world.was_cancelled
    world.may_go_on.set()
    await bench.run(lambda: main("new"))
    assert world.value == "new"


async def test_closing_an_environment_waits_for_the_sink_that_acts_on_a_thread(bench, tmp_path):
    world = World()
    main = declaring(world)
    env = coco.Environment(coco.Settings(db_path=tmp_path / "closed"))
    app = coco.App(coco.AppConfig("app", environment=env), main, "old")
    update = app.update()
    result = asyncio.ensure_future(update.result())
    await begun(world)
    threading.Timer(0.2, world.may_go_on.set).start()

    env.close()

    assert world.value == "old"
    with pytest.raises(Exception, match="closed"):
        await result
    again = coco.Environment(coco.Settings(db_path=tmp_path / "closed"))
    await coco.App(coco.AppConfig("app", environment=again), main, "new").update()
    assert world.value == "new"
    again.close()

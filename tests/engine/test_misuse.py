"""What user code gets wrong is either understood or named: §E1, §E4, §A."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import itertools

import pytest

import cocoindex as coco
from cocoindex.testing.targets import MemoryTree

sub = coco.component_subpath
_names = itertools.count()


# --- bodies -------------------------------------------------------------------------------------


def through_a_decorator(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return fn(*args)

    return wrapper


def through_a_lambda(fn):
    return lambda *args: fn(*args)


@pytest.mark.parametrize("wrap", [through_a_decorator, through_a_lambda])
@pytest.mark.parametrize("mount", [coco.mount, coco.use_mount])
async def test_an_async_body_behind_a_plain_wrapper_is_awaited(bench, table, wrap, mount):
    async def body(value):
        await asyncio.sleep(0)
        table.declare("k", value)

    await bench.run(lambda: mount(sub("c"), wrap(body), 1))

    assert table.rows == {"k": 1}


async def test_a_new_app_of_the_same_name_gets_the_concurrency_it_asks_for(bench):
    running, peaks = [], []

    async def leaf():
        running.append(None)
        peaks.append(len(running))
        for _ in range(20):  # let the others start
            await asyncio.sleep(0)
        running.pop()

    async def main():
        for key in range(5):
            await coco.mount(sub(key), leaf)

    async def peak(limit):
        peaks.clear()
        await bench.new_app("app", main, max_inflight_components=limit).update()
        gc.collect()
        return max(peaks)

    assert [await peak(1), await peak(5), await peak(2)] == [1, 5, 2]


# --- cancellations that nobody asked for --------------------------------------------------------


async def test_a_sink_that_raises_cancelled_error_fails_its_component_only(bench, table):
    async def main():
        for key in range(4):
            await coco.mount(sub(key), table.declare, key, key)

    with table.failing(key=1, error=asyncio.CancelledError()):
        handle = bench.start(main)
        await handle

    assert table.rows == {0: 0, 2: 2, 3: 3}
    count, (failure,) = handle.failures
    assert (count, failure.path) == (1, "/1")
    assert "raised CancelledError, but nothing was cancelled" in failure.message
    await bench.run(main)
    assert table.rows == {0: 0, 1: 1, 2: 2, 3: 3}


async def test_a_body_that_raises_cancelled_error_is_a_failure(bench):
    seen = []

    async def stray():
        raise asyncio.CancelledError

    async def main():
        async with coco.exception_handler(lambda error, _context: seen.append(error)):
            await coco.mount(sub("s"), stray)

    handle = bench.start(main)
    await handle

    count, (failure,) = handle.failures
    assert (count, failure.path) == (1, '/"s"')
    assert isinstance(seen[0], RuntimeError | ValueError)
    assert "raised CancelledError, but nothing was cancelled" in str(seen[0])


# --- providers, environments --------------------------------------------------------------------


async def test_a_container_provider_of_an_earlier_run_is_refused(bench):
    tree, kept = MemoryTree(), []

    async def declared():
        kept.append(await coco.mount_target(tree.container("T", 1)))
        await coco.mount(sub("r"), row, 1)

    def row(value):
        coco.declare_target_state(kept[-1].target_state("row", value))

    async def stale():
        await coco.use_mount(sub("r"), row, 2)

    await bench.run(declared)
    error = await bench.fails(stale)

    assert isinstance(error, RuntimeError)
    assert '"T"/"row" comes from an earlier run' in str(error)
    await bench.run(declared)
    assert tree.rows == {("T",): 1, ("T", "row"): 1}


async def test_an_environment_that_was_dropped_unclosed_frees_its_store(db_path):
    async def main():
        return 1

    async def use():
        env = coco.Environment(coco.Settings(db_path=db_path), name="lost")
        result = await coco.App(coco.AppConfig("app", env), main).update()
        gc.collect()
        return result

    assert await use() == 1
    gc.collect()
    assert await use() == 1


# --- messages -----------------------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class Connector:
    """A target whose sink and handler return what they are told to."""

    from_sink: object = None
    from_reconcile: object = None
    password: str = "hunter2"

    def apply(self, _provider, _actions):
        return self.from_sink

    def reconcile(self, _key, _desired, _prev, _may_be_missing, /):
        if self.from_reconcile is not None:
            return self.from_reconcile
        return coco.TargetReconcileOutput(1, coco.TargetActionSink.from_fn(self.apply), 1)

    def declare(self):
        provider = coco.register_root_target_states_provider(f"misuse/{next(_names)}", self)
        return lambda: coco.declare_target_state(provider.target_state("k", 1))


WRONG_RETURNS = {
    "too many results": (Connector([None] * 3), Exception, "3 results for 1 actions"),
    "a number": (Connector(5), TypeError, "not int"),
    "a bool": (Connector(True), TypeError, "not bool"),
    "a string": (Connector("x"), TypeError, "not str"),
    "no child definition": (Connector([7]), TypeError, "returned int where a ChildTargetDef"),
    "a tuple": (
        Connector(from_reconcile=(1, 2)),
        TypeError,
        "must return None or a TargetReconcileOutput, not tuple",
    ),
    "a plain value": (
        Connector(from_reconcile=5),
        TypeError,
        "must return None or a TargetReconcileOutput, not int",
    ),
}


@pytest.mark.parametrize("name", WRONG_RETURNS)
async def test_what_a_connector_wrongly_returns_is_named_without_its_instance(bench, name):
    connector, kind, words = WRONG_RETURNS[name]
    error = await bench.fails(connector.declare())
    assert isinstance(error, kind)
    assert words in str(error)
    assert ("Connector.apply" in str(error)) == (connector.from_reconcile is None)
    assert connector.password not in str(error)


def process(_value):
    pass


WRONG_MOUNTS = {
    "items that are no pairs": (
        lambda: coco.mount_each(process, [1, 2]),
        TypeError,
        "takes (key, value) pairs; got int",
    ),
    "a key twice": (
        lambda: coco.mount_each(process, [("a", 1), ("a", 2)]),
        ValueError,
        '"a" already exists',
    ),
    "a float key": (lambda: coco.mount_each(process, [(1.5, 1)]), TypeError, "float"),
    "a huge key": (lambda: coco.mount_each(process, [(2**70, 1)]), Exception, "is outside"),
    "no function": (
        lambda: coco.mount(sub("x"), None),
        TypeError,
        "must be callable, not NoneType",
    ),
    "too many arguments": (
        lambda: coco.use_mount(sub("x"), process, 1, 2, 3),
        TypeError,
        "process() takes 1 positional argument but 3 were given",
    ),
}


@pytest.mark.parametrize("name", WRONG_MOUNTS)
async def test_a_wrong_mount_is_named(bench, name):
    mount, kind, words = WRONG_MOUNTS[name]
    error = await bench.fails(mount)
    assert isinstance(error, kind)
    assert words in str(error)


async def test_mount_each_over_a_mapping_is_refused_before_anything_is_mounted(bench, ran):
    def note(value):
        ran(value)

    error = await bench.fails(lambda: coco.mount_each(note, {"ab": 1, "cd": 2}))
    assert isinstance(error, TypeError)
    assert "pass mapping.items()" in str(error)
    assert ran.take() == []

"""Who hears about failures: §E13."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import traceback
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.testing.targets import InjectedFailure

sub = coco.component_subpath


class Failure(Exception):
    pass


async def fails(error=None):
    raise error or Failure("boom")


class Handler:
    """Notes what it is given; raises ``error`` if it has one."""

    def __init__(self, error=None):
        self.error = error
        self.seen: list[tuple[BaseException, coco.ExceptionContext]] = []

    def __call__(self, error, context):
        self.seen.append((error, context))
        if self.error is not None:
            raise self.error

    @property
    def errors(self) -> list[Any]:
        return [error for error, _ in self.seen]


class AsyncHandler(Handler):
    async def __call__(self, error, context):
        Handler.__call__(self, error, context)


@pytest.mark.parametrize("kind", [Handler, AsyncHandler])
async def test_the_global_handler_gets_the_original_error_and_where(bench, kind):
    handler = bench.exception_handler = kind()
    error = Failure("mine")

    async def main():
        handle = await coco.mount(sub("a"), fails, error)
        await handle.ready()

    await bench.run(main)

    assert handler.errors == [error]
    assert "fails" in "".join(traceback.format_exception(error))
    context = handler.seen[0][1]
    assert context == coco.ExceptionContext(
        env_name="bench",
        stable_path='/"a"',
        processor_name="fails",
        mount_kind="mount",
        parent_stable_path="/",
        is_background=True,
        source="component",
        original_exception=None,
    )


async def test_without_any_handler_it_is_logged_with_its_traceback(bench, caplog):
    async def main():
        handle = await coco.mount(sub("a"), fails)
        await handle.ready()

    with caplog.at_level(logging.ERROR):
        await bench.run(main)
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert record.exc_info[0] is Failure
    assert '"a"' in record.getMessage()


async def test_the_innermost_scoped_handler_comes_first_and_may_swallow(bench):
    inner, outer = Handler(), Handler()
    top = bench.exception_handler = Handler()

    async def main():
        async with coco.exception_handler(outer), coco.exception_handler(inner):
            await coco.mount(sub("a"), fails)
        await coco.mount(sub("b"), fails)

    await bench.run(main)
    assert [len(h.seen) for h in (inner, outer, top)] == [1, 0, 1]
    assert top.seen[0][1].stable_path == '/"b"'


async def test_a_raising_handler_hands_its_error_to_the_next(bench):
    first, second = Failure("first"), Failure("second")
    inner, outer = Handler(second), Handler()
    bench.exception_handler = outer

    async def main():
        async with coco.exception_handler(inner):
            await (await coco.mount(sub("a"), fails, first)).ready()

    await bench.run(main)
    assert outer.errors == [second]
    context = outer.seen[0][1]
    assert (context.source, context.original_exception) == ("handler", first)


async def test_if_every_handler_raises_only_an_awaited_ready_raises(bench):
    last = Failure("last")
    bench.exception_handler = Handler(last)

    async def main(wait):
        handle = await coco.mount(sub("a"), fails)
        if wait:
            await handle.ready()

    await bench.run(lambda: main(False))
    assert await bench.fails(lambda: main(True)) is last


async def test_the_chain_is_the_one_of_the_mount_call(bench):
    handler = Handler()

    async def main():
        async with coco.exception_handler(handler):
            handle = await coco.mount(sub("a"), fails)
        await handle.ready()

    await bench.run(main)
    assert len(handler.seen) == 1


async def test_a_grandchild_asks_its_parents_chain_then_the_scoped_then_the_global(bench):
    order = []

    def named(name):
        def handler(error, context):
            order.append((name, context.source))
            raise Failure(name)

        return handler

    bench.exception_handler = named("global")

    async def child():
        async with coco.exception_handler(named("child")):
            await coco.mount(sub("grandchild"), fails)

    async def main():
        async with coco.exception_handler(named("scoped")):
            await coco.mount(sub("child"), child)

    await bench.run(main)
    assert order == [("child", "component"), ("scoped", "handler"), ("global", "handler")]


async def test_a_scoped_handler_covers_what_descendants_mount(bench):
    handler = Handler()

    async def child():
        await coco.mount(sub("grandchild"), fails)

    async def main():
        async with coco.exception_handler(handler):
            await coco.mount(sub("child"), child)

    await bench.run(main)
    assert [context.stable_path for _, context in handler.seen] == ['/"child"/"grandchild"']


async def test_items_of_mount_each_are_reported_one_by_one(bench):
    handler = bench.exception_handler = Handler()

    async def item(n):
        if n % 2:
            raise Failure(n)

    async def main():
        await coco.mount_each(sub("e"), item, [(n, n) for n in range(4)])

    await bench.run(main)
    assert sorted((e.args[0], c.stable_path, c.mount_kind) for e, c in handler.seen) == [
        (1, '/"e"/1', "mount_each"),
        (3, '/"e"/3', "mount_each"),
    ]


async def test_a_failing_use_mount_goes_to_its_caller_only(bench):
    handler = bench.exception_handler = Handler()

    async def main():
        with pytest.raises(Failure):
            await coco.use_mount(sub("a"), fails)

    await bench.run(main)
    assert handler.seen == []


async def test_a_failing_sink_is_reported_too(bench, table):
    handler = bench.exception_handler = Handler()

    async def main():
        await coco.mount(sub("a"), table.declare, "k", 1)

    with table.failing():
        await bench.run(main)
    assert [type(error) for error in handler.errors] == [InjectedFailure]


async def test_a_failing_orphan_delete_goes_to_the_chain_of_the_sweeping_component(bench, table):
    handler = Handler()

    async def parent(keys):
        for key in keys:
            await coco.mount(sub(key), table.declare, key, 1)

    async def main(keys):
        async with coco.exception_handler(handler):
            await coco.mount(sub("p"), parent, keys)

    await bench.run(lambda: main("ab"))
    with table.failing(key="a"):
        await bench.run(lambda: main("b"))
    assert [type(error) for error in handler.errors] == [InjectedFailure]
    assert handler.seen[0][1].mount_kind == "mount"


async def test_a_handler_scope_needs_a_component():
    with pytest.raises(RuntimeError, match="No ComponentContext available"):
        async with coco.exception_handler(Handler()):
            pass


async def test_mount_raises_nothing_for_the_failure_of_the_work(bench):
    async def main():
        for key in "ab":
            await coco.mount(sub(key), fails)
        return "done"

    assert await bench.run(main) == "done"


class Wordless(Exception):
    """An error of a class that fails to say what it is."""

    def __str__(self):
        raise Failure("no words")


def fails_wordlessly(_table):
    raise Wordless


async def fails_wordlessly_later(_table):
    raise Wordless


async def declares_wordlessly(table):
    table.declare("k", 1)


@pytest.mark.parametrize("body", [fails_wordlessly, fails_wordlessly_later, declares_wordlessly])
async def test_an_error_without_a_text_fails_its_component_and_nothing_else(bench, table, body):
    handler = bench.exception_handler = Handler()

    async def main():
        await coco.mount(sub("a"), body, table)

    with table.failing("before", error=Wordless()):
        update = bench.start(main)
        await asyncio.wait_for(update.result(), 30)

    assert [type(error) for error in handler.errors] == [Wordless]
    count, failures = update.failures
    assert count == 1
    assert failures[0].message == "Wordless (its text can't be had: Failure)"


task: contextvars.ContextVar[str] = contextvars.ContextVar("task", default="none")


def fails_at_once(_table):
    raise Failure


async def fails_later(_table):
    raise Failure


async def declares_what_has_no_record(table):
    table.declare("k", object())


async def declares(table):
    table.declare("k", 1)


@pytest.mark.parametrize(
    "body", [fails_at_once, fails_later, declares_what_has_no_record, declares]
)
async def test_what_is_logged_knows_the_context_of_the_update(bench, table, body):
    seen: list[str] = []

    def note(record):
        if record.levelno == logging.ERROR:
            seen.append(task.get())
        return True

    logger = logging.getLogger("cocoindex.engine")
    logger.addFilter(note)
    token = task.set("nightly")
    try:
        with table.failing("before"):
            await bench.run(lambda: coco.mount(sub("a"), body, table))
    finally:
        task.reset(token)
        logger.removeFilter(note)
    assert seen == ["nightly"]


async def test_a_failure_that_many_share_has_one_traceback_in_the_log(bench, caplog):
    def fail(_context, _actions):
        raise ConnectionError("the server is gone")

    sink = coco.TargetActionSink.from_fn(fail)

    class Handler:
        def reconcile(self, key, desired, previous, may_be_missing, /):
            return coco.TargetReconcileOutput(key, sink, 1)

    provider = coco.register_root_target_states_provider("tests/shared_failure", Handler())

    async def one(key):
        coco.declare_target_state(provider.target_state(key, 1))

    async def main():
        await coco.mount_each(one, ((key, key) for key in range(20)))

    await bench.run(main)

    assert caplog.text.count("failed: the server is gone") == 20
    assert caplog.text.count("Traceback") < 5

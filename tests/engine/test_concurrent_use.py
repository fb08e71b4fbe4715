"""Threads, loops, and calls that overlap or outlive each other: §E11, §E15, §A5."""

from __future__ import annotations

import ast
import asyncio
import contextvars
import importlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import cocoindex as coco

sub = coco.component_subpath


class Switch:
    """Tells a memoized body what to do; opaque to memos."""

    __slots__ = ("event", "on", "task")

    def __init__(self, *, on: bool = True) -> None:
        self.on = on
        self.event = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


# --- threads of one body ------------------------------------------------------------------------

THREADS = 8


@pytest.fixture
def together():
    """Call a function with 0, 1, ... on as many threads, all at once; returns the results."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    barrier = threading.Barrier(THREADS)

    def call(function, i):
        barrier.wait(30)
        return function(i)

    async def run(function):
        loop = asyncio.get_running_loop()
        calls = [(contextvars.copy_context().run, call, function, i) for i in range(THREADS)]
        return await asyncio.gather(*(loop.run_in_executor(pool, *one) for one in calls))

    with ThreadPoolExecutor(THREADS) as pool:
        yield run
    sys.setswitchinterval(before)


async def test_no_memo_is_lost_when_the_first_memoized_calls_come_from_many_threads(
    bench, table, ran, together
):
    @coco.fn(memo=True)
    def one(i: int) -> int:
        ran(str(i))
        table.declare(i, i)
        return i

    await bench.run(lambda: one(0))
    assert ran.take() == ["0"]
    for n in range(20):
        assert await bench.run(lambda: together(one)) == list(range(THREADS))
        assert len(table.rows) == THREADS
        assert len(ran.take()) == (THREADS - 1 if n == 0 else 0)


# Whether a function works on its mutable default is asked of its source, before anything else.
MODULE = """
import cocoindex as coco

ran = None

@coco.fn(memo=True)
def one(i: int, options: list[int] = [1]) -> int:
    ran(str(i))
    return i
"""


async def test_a_call_while_another_thread_reads_the_functions_source_keeps_its_memo(
    bench, ran, tmp_path, monkeypatch
):
    (tmp_path / "threads_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("threads_module")
    module.ran = ran
    parse, others = ast.parse, []

    def parse_while_another_calls(text, *args, **kwargs):
        if not others and "def one(" in text:
            call = contextvars.copy_context().run
            others.append(threading.Thread(target=call, args=(module.one, 2)))
            others[0].start()
            others[0].join(1)  # it may have to wait for this thread, but not the reverse
        return parse(text, *args, **kwargs)

    async def main():
        module.one(1)
        for other in others:
            other.join()
        module.one(2)

    with monkeypatch.context() as patch:
        patch.setattr(ast, "parse", parse_while_another_calls)
        await bench.run(main)
    assert others
    assert sorted(ran.take()) == ["1", "2"]

    await bench.run(main)

    assert ran.take() == []


async def test_no_user_state_is_lost_when_it_is_first_used_from_many_threads(bench, together):
    def count(i):
        handle = coco.use_state(f"k{i}", 0)
        handle.value += 1
        return handle.value

    for n in range(1, 21):
        assert await bench.run(lambda: together(count)) == [n] * THREADS


async def test_of_threads_that_declare_the_same_state_exactly_one_succeeds(bench, table, together):
    def declare(i):
        try:
            table.declare("k", i)
        except ValueError:
            return None
        return i

    for _ in range(20):
        (winner,) = [i for i in await bench.run(lambda: together(declare)) if i is not None]
        assert table.rows == {"k": winner}


# --- giving up ------------------------------------------------------------------------------------


async def test_a_mount_that_gave_up_waiting_for_its_turn_keeps_its_parent_unmemoized(
    bench, table, ran
):
    bench.app_options = {"max_inflight_components": 1}
    impatient = Switch()

    async def slow():
        await impatient.event.wait()

    @coco.fn(memo=True)
    async def parent() -> None:
        ran("parent")
        await coco.mount(sub("slow"), slow)
        try:
            async with asyncio.timeout(0 if impatient.on else None):
                await coco.mount(sub("leaf"), table.declare, "leaf", 1)
        except TimeoutError:
            ran("timeout")
        impatient.event.set()

    await bench.run(lambda: coco.mount(sub("p"), parent))
    assert ran.take() == ["parent", "timeout"]
    impatient.on = False

    await bench.run(lambda: coco.mount(sub("p"), parent))

    assert ran.take() == ["parent"]
    assert table.rows == {"leaf": 1}


STARTERS = """
    import asyncio
    import cocoindex as coco

    entered, go = asyncio.Event(), asyncio.Event()

    @coco.lifespan
    async def lifespan(builder):
        entered.set()
        await go.wait()
        yield

    async def main():
        first = asyncio.ensure_future(coco.start())
        await entered.wait()
        second = asyncio.ensure_future(coco.default_env())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        go.set()
        print(first.cancelled(), type(await second).__name__)
        await coco.stop()

    asyncio.run(main())
"""


def test_a_starter_that_is_cancelled_does_not_stop_the_others(script):
    assert script(STARTERS, COCOINDEX_DB="store").stdout == "True Environment\n"


# --- overlapping and late use -------------------------------------------------------------------


def test_overlapping_updates_work_on_a_second_loop(db_path):
    async def body():
        await asyncio.sleep(0)
        return 1

    async def twice(app):
        return await asyncio.gather(app.update().result(), app.update().result())

    async def first():
        env = coco.Environment(coco.Settings(db_path=db_path), name="loops")
        app = coco.App(coco.AppConfig("app", env), body)
        return env, app, await twice(app)

    env, app, results = asyncio.run(first())
    assert results == [1, 1]
    assert asyncio.run(twice(app)) == [1, 1]
    env.close()


@pytest.mark.parametrize("operation", ["update", "drop"])
async def test_an_operation_on_an_app_from_inside_its_own_run_is_refused(bench, operation):
    async def main():
        await getattr(bench.app, operation)()

    error = await bench.fails(main)

    assert isinstance(error, RuntimeError)
    assert "from inside its own run" in str(error)
    assert "'bench'" in str(error)
    assert await bench.run(lambda: "again") == "again"


async def test_a_task_that_outlives_its_memoized_call_can_not_declare(bench, table):
    switch = Switch()

    async def late() -> None:
        await switch.event.wait()
        table.declare("late", 1)

    @coco.fn(memo=True)
    async def call() -> int:
        switch.task = asyncio.ensure_future(late())
        return 1

    async def main():
        await call()
        switch.event.set()
        await switch.task

    error = await bench.fails(main)

    assert isinstance(error, RuntimeError)
    assert "a task it left behind can't declare" in str(error)
    assert table.rows == {}


@pytest.mark.parametrize("tracking", ["full", "self"])
async def test_a_task_left_behind_by_a_call_can_not_declare_after_the_component(
    bench, table, tracking
):
    tasks = []
    ended = asyncio.Event()

    async def late():
        await ended.wait()
        table.declare("late", 1)

    @coco.fn(logic_tracking=tracking)
    async def call():
        tasks.append(asyncio.create_task(late()))

    async def body():
        await call()

    await bench.run(body)
    ended.set()
    with pytest.raises(RuntimeError, match="can't declare anything any more"):
        await tasks[0]
    assert table.rows == {}

"""One function called on threads and awaited at the same time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest

import cocoindex as coco

PROGRAM = """
    import asyncio, faulthandler, sys, tempfile, threading
    from concurrent.futures import ThreadPoolExecutor
    import cocoindex as coco

    faulthandler.dump_traceback_later(60, exit=True)  # instead of hanging
    ran = []

    @coco.fn(memo=True)
    def inner(n: int) -> int:
        ran.append(n)
        return n

    app = coco.App(
        coco.AppConfig("threads", coco.Environment(coco.Settings(db_path=tempfile.mkdtemp()))),
        lambda: main(),
    )
"""


@pytest.fixture
def run() -> Callable[[str], str]:
    def run_program(text: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM) + textwrap.dedent(text)],
            capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_program


def test_a_call_that_waits_for_a_thread_does_not_keep_the_threads_waiting(run):
    printed = run("""
        go = threading.Event()
        busy = []

        @coco.fn.as_async
        def outer(n):
            busy.append(n)
            go.wait()
            return inner(1)

        async def main():
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
            calls = [asyncio.create_task(outer(n)) for n in range(2)]
            while len(busy) < 2:  # no thread is left
                await asyncio.sleep(0)
            calls.append(asyncio.create_task(inner.as_async(1)))
            for _ in range(10):
                await asyncio.sleep(0)
            go.set()
            print(await asyncio.gather(*calls), ran)

        asyncio.run(app.update().result())
    """)
    assert printed == "[1, 1, 1] [1]\n"


def test_many_equal_calls_of_both_kinds_run_the_body_once(run):
    printed = run("""
        sys.setswitchinterval(1e-6)

        @coco.fn.as_async
        def outer(n):
            return inner(n % 3)

        async def main():
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4))
            mixed = [f(n % 3) for n in range(100) for f in (outer, inner.as_async)]
            print(sum(await asyncio.gather(*mixed)), sorted(ran))

        for _ in range(2):
            asyncio.run(app.update().result())
    """)
    assert printed == "198 [0, 1, 2]\n198 [0, 1, 2]\n"


def test_a_call_on_the_loop_that_could_only_wait_for_the_loop_is_refused(run):
    printed = run("""
        started, go = threading.Event(), threading.Event()

        @coco.fn(memo=True)
        def slow(n: int) -> int:
            started.set()
            go.wait()
            return n

        async def main():
            awaited = asyncio.create_task(slow.as_async(1))
            await asyncio.to_thread(started.wait)
            try:
                slow(1)
            except RuntimeError as error:
                print(error)
            go.set()
            print(await awaited, slow(1))

        asyncio.run(app.update().result())
    """)
    assert printed.startswith("slow() is called on the event loop while an equal call is awaited")
    assert printed.endswith("1 1\n")


async def test_a_cancelled_call_leaves_its_body_behind_and_the_next_one_waits_for_it(env):
    import threading

    started, go = threading.Event(), threading.Event()
    running, most, ran = 0, 0, 0

    @coco.fn(memo=True)
    def slow(n: int) -> int:
        nonlocal running, most, ran
        running, ran = running + 1, ran + 1
        most = max(most, running)
        started.set()
        go.wait()
        running -= 1
        return n

    async def main() -> int:
        first = asyncio.create_task(slow.as_async(1))
        await asyncio.to_thread(started.wait)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = asyncio.create_task(slow.as_async(1))
        for _ in range(10):
            await asyncio.sleep(0)
        go.set()
        return await second

    app = coco.App(coco.AppConfig("cancelled", environment=env), main)
    assert await app.update() == 1
    assert (most, ran) == (1, 2)
    assert await app.update() == 1


async def test_states_that_need_a_thread_do_not_queue_behind_bodies_that_wait_for_them(env):
    class Source:
        def __coco_memo_key__(self) -> str:
            return "source"

        async def __coco_memo_state__(self, prev: int) -> coco.MemoStateOutcome:
            await asyncio.to_thread(int)
            return coco.MemoStateOutcome(state=1, memo_valid=prev == 1)

    @coco.fn(memo=True)
    def inner(_source: Source) -> int:
        return 1

    @coco.fn.as_async
    def outer(source: Source, _number: int) -> int:
        return inner(source)

    async def main() -> int:
        source = Source()
        calls = [outer(source, number) for number in range(100)]
        return sum(await asyncio.gather(inner.as_async(source), *calls))

    app = coco.App(coco.AppConfig("states", environment=env), main)
    assert [await app.update(), await app.update()] == [101, 101]

"""Interrupts and cancellations at awkward moments end the run, and nothing else: §E15."""

from __future__ import annotations

import asyncio

import pytest

import cocoindex as coco

sub = coco.component_subpath


async def test_an_interrupt_before_the_next_sibling_starts_does_not_hang(bench):
    async def interrupts():
        raise KeyboardInterrupt

    async def sibling():
        await asyncio.sleep(0)

    async def main():
        await coco.mount(sub("a"), interrupts)
        await coco.mount(sub("b"), sibling)
        await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        await bench.start(main)
    assert await bench.run(lambda: "again") == "again"


async def test_a_body_that_mounts_while_it_is_cancelled_does_not_hang(bench, ran):
    started = asyncio.Event()

    async def late():
        ran("late")

    async def main():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await coco.mount(sub("late"), late)

    handle = bench.start(main)
    result = asyncio.ensure_future(handle.result())
    await started.wait()
    handle.cancel()

    with pytest.raises(asyncio.CancelledError):
        await result
    assert ran.take() == []
    assert await bench.run(lambda: "again") == "again"


INTERRUPTED = """
    import asyncio, os, sys, threading
    import cocoindex as coco
    from cocoindex.testing.targets import MemoryTarget

    sub = coco.component_subpath
    # The loop's thread must outlive the interrupt; else whoever waits for it hangs.
    threading.excepthook = lambda args: (sys.__excepthook__(*args[:3]), os._exit(7))
    table = MemoryTarget("interrupted")

    async def interrupts(*args):
        raise KeyboardInterrupt

    async def in_gather():
        await asyncio.gather(coco.use_mount(sub("a"), interrupts), asyncio.Event().wait())

    @coco.fn(batching=True)
    async def batch(items: list[int]) -> list[int]:
        raise KeyboardInterrupt

    async def in_batch():
        await batch(1)

    async def below(declares):
        if declares:
            await coco.mount(sub("leaf"), table.declare, "k", 1)

    def handler(error, context):
        raise KeyboardInterrupt

    async def in_handler_of_a_deletion(declares=False):
        async with coco.exception_handler(handler):
            await coco.mount(sub("below"), below, declares)

    async def main():
        return await body()

    env = coco.Environment(coco.Settings(db_path="store"))
    app = coco.App(coco.AppConfig("app", env), main)
    body = lambda: in_handler_of_a_deletion(True)
    app.update_blocking()
    body = globals()[sys.argv[1]]
    with table.failing():
        try:
            app.update_blocking()
        except KeyboardInterrupt:
            print("interrupted", flush=True)

    async def fine():
        return "again"

    body = fine
    print(app.update_blocking(), flush=True)
"""


@pytest.mark.parametrize("place", ["in_gather", "in_batch", "in_handler_of_a_deletion"])
def test_an_interrupt_leaves_the_background_loop_running(script, place):
    assert script(INTERRUPTED, place).stdout == "interrupted\nagain\n"

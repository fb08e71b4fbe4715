"""Cancellation and interrupts: §E15."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import cocoindex as coco

sub = coco.component_subpath


@pytest.fixture(autouse=True)
def _no_global_cancellation_afterwards():
    from cocoindex._internal.core import reset_global_cancellation

    yield
    reset_global_cancellation()


def cancel_all():
    from cocoindex._internal.core import cancel_all, reset_global_cancellation

    cancel_all()
    return reset_global_cancellation


class Waiting:
    """A tree whose leaves wait for ever, and note when they are cancelled."""

    def __init__(self, ran, table):
        self.ran, self.table = ran, table
        self.started = asyncio.Event()
        self.forever = True

    async def leaf(self, key):
        self.table.declare(key, 1)
        self.started.set()
        try:
            if self.forever:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ran(f"cancelled {key}")
            raise

    async def main(self):
        self.table.declare("root", 1)
        for key in "ab":
            await coco.mount(sub(key), self.leaf, key)


async def cancelled_run(bench, waiting):
    handle = bench.start(waiting.main)
    run = asyncio.ensure_future(handle.result())
    await waiting.started.wait()
    await asyncio.sleep(0)
    reset = cancel_all()
    with pytest.raises((asyncio.CancelledError, Exception)):
        await asyncio.wait_for(run, 30)
    reset()
    return handle


async def test_every_async_body_is_cancelled_and_nothing_is_submitted(bench, ran, table):
    heard = []
    bench.exception_handler = lambda error, context: heard.append(error)
    waiting = Waiting(ran, table)

    await cancelled_run(bench, waiting)

    assert set(ran.take()) <= {"cancelled a", "cancelled b"}
    assert table.calls == []
    assert heard == []


async def test_a_new_update_works_after_a_cancel(bench, ran, table):
    bench.app_options = {"max_inflight_components": 2}
    waiting = Waiting(ran, table)
    for _ in range(3):
        waiting.started.clear()
        await cancelled_run(bench, waiting)

    waiting.forever = False
    await asyncio.wait_for(bench.run(waiting.main), 30)

    assert table.rows == {"root": 1, "a": 1, "b": 1}


async def test_nothing_is_in_progress_once_a_cancelled_update_ended(bench, ran, table):
    handle = await cancelled_run(bench, Waiting(ran, table))
    assert handle.stats().total.num_in_progress == 0


async def test_cancelling_the_waiting_task_does_not_cancel_the_run(bench, table):
    gate = asyncio.Event()

    async def main():
        await gate.wait()
        table.declare("k", 1)
        return "done"

    handle = bench.start(main)
    waiter = asyncio.create_task(handle.result())
    for _ in range(5):
        await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    gate.set()
    assert await handle.result() == "done"
    assert table.rows == {"k": 1}


async def test_a_memo_reservation_is_free_again_after_a_cancelled_call(bench, ran):
    @coco.fn(memo=True)
    async def slow(n: int) -> int:
        ran("slow")
        await asyncio.sleep(0)
        return n

    async def main():
        task = asyncio.create_task(slow(1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await asyncio.wait_for(slow(1), 30)

    assert await bench.run(main) == 1


async def test_a_sink_call_in_flight_leaves_possible_states(bench, table):
    async def main():
        table.declare("k", 1)

    with table.held() as gate:
        run = asyncio.ensure_future(bench.start(main).result())
        await gate.entered.wait()
        reset = cancel_all()
        with pytest.raises((asyncio.CancelledError, Exception)):
            await asyncio.wait_for(run, 30)
        reset()
    table.take()

    await bench.run(main)

    assert table.reconciled == [("k", 1, (1,), True)]
    assert table.rows == {"k": 1}


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", ["root", "async child", "sync child", "sink", "handler"])
async def test_an_interrupt_of_user_code_cancels_the_run_and_is_raised(
    bench, ran, table, place, interrupt
):
    heard = []

    def handler(error, context):
        heard.append(error)
        if place == "handler":
            raise interrupt

    bench.exception_handler = handler

    async def waits():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ran("cancelled")
            raise

    async def async_child():
        raise interrupt if place == "async child" else ZeroDivisionError

    def sync_child():
        raise interrupt

    async def main():
        if place == "root":
            raise interrupt
        await coco.mount(sub("waits"), waits)
        if place == "sink":
            await coco.mount(sub("sink"), table.declare, "k", 1)
        else:
            child = sync_child if place == "sync child" else async_child
            await coco.mount(sub("child"), child)
        await asyncio.Event().wait()

    # No wait_for(): its task would hand the interrupt to the event loop.
    with table.failing(error=interrupt()), pytest.raises(interrupt):
        async with asyncio.timeout(30):
            await bench.start(main)

    assert ran.take() in (["cancelled"], [])
    assert [error for error in heard if isinstance(error, interrupt)] == []
    assert await bench.run(lambda: "again") == "again"


async def test_cancelled_siblings_resolve_after_an_interrupt(bench, ran, table):
    waiting = Waiting(ran, table)

    async def interrupts():
        await waiting.started.wait()
        raise KeyboardInterrupt

    async def main():
        await coco.mount(sub("x"), interrupts)
        await waiting.main()

    with pytest.raises(KeyboardInterrupt):
        async with asyncio.timeout(30):
            await bench.start(main)
    assert table.calls == []


async def test_a_cancellation_that_a_body_swallows_leaves_nothing_in_flight(bench, table):
    started = asyncio.Event()

    async def stubborn():
        table.declare("k", 1)
        started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async def main():
        await coco.mount(sub("a"), stubborn)

    run = asyncio.ensure_future(bench.start(main).result())
    await started.wait()
    await asyncio.sleep(0)
    reset = cancel_all()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(run, 30)
    reset()
    assert bench.env.app_state(bench.app).in_flight == {}


async def test_cancelling_an_update_that_waits_for_another_does_nothing_to_that(bench, table):
    heard = []
    bench.exception_handler = lambda error, context: heard.append(error)

    async def main():
        await coco.mount_each(sub("e"), table.declare, [(n, n) for n in range(3)], 1)

    with table.held() as gate:
        first = asyncio.ensure_future(bench.start(main).result())
        await gate.entered.wait()
        waiting = bench.app.update()
        second = asyncio.ensure_future(waiting.result())
        for _ in range(10):
            await asyncio.sleep(0)
        waiting.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
    await asyncio.wait_for(first, 30)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(second, 30)
    assert heard == []
    assert table.rows == dict.fromkeys(range(3), 1)


@pytest.mark.parametrize("turns", range(1, 16))
def test_a_loop_that_cancels_all_its_tasks_ends(tmp_path, table, turns):
    """As ``asyncio.run`` does at its end, whatever the tasks of the update are about to do."""
    began, ended = 0, False

    async def leaf(n):
        nonlocal began
        began += not ended
        table.declare(n, 1)
        await asyncio.sleep(3600)

    async def main():
        await coco.mount_each(sub("e"), leaf, [(n, n) for n in range(300)])

    async def program():
        nonlocal ended
        environment = coco.Environment(coco.Settings(db_path=tmp_path / "db"))
        app = coco.App(coco.AppConfig("app", environment), main)
        run = asyncio.ensure_future(app.update().result())
        for _ in range(turns):
            await asyncio.sleep(0)
        ended = True
        return environment, run

    environment, run = asyncio.run(program())
    assert run.cancelled()
    assert table.calls == []
    environment.close()


@pytest.mark.parametrize("memo", [False, True])
async def test_a_body_that_cancels_its_own_task_is_a_failure(bench, table, caplog, memo):
    selfish = True

    @coco.fn(memo=memo)
    async def one(key):
        if selfish and key == 1:
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        table.declare(key, 1)

    async def main():
        await coco.mount_each(one, ((key, key) for key in range(3)))

    handle = bench.start(main)
    await handle.result()

    assert handle.failures[0] == 1
    assert handle.stats().total.num_errors == 1
    assert "its task was cancelled, though the update was not" in caplog.text
    selfish = False
    await bench.run(main)
    assert set(table.rows) == {0, 1, 2}

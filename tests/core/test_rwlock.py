from __future__ import annotations

import asyncio
import threading

import pytest

from cocoindex.core.rwlock import RWLock


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Bench:
    """Tasks that take the lock and hold it until told."""

    def __init__(self) -> None:
        self.lock = RWLock()
        self.log: list[str] = []
        self.release: dict[str, asyncio.Event] = {}

    async def _hold(self, name: str) -> None:
        async with self.lock.write() if name.startswith("w") else self.lock.read():
            self.log.append(f"+{name}")
            await self.release[name].wait()
            self.log.append(f"-{name}")

    async def start(self, name: str) -> asyncio.Task[None]:
        self.release[name] = asyncio.Event()
        task = asyncio.create_task(self._hold(name))
        await settle()
        return task

    async def stop(self, *names: str) -> None:
        for name in names:
            self.release[name].set()
            await settle()


async def test_readers_share_and_a_writer_is_alone() -> None:
    bench = Bench()
    for name in ("r1", "r2", "w1"):
        await bench.start(name)
    assert bench.log == ["+r1", "+r2"]
    await bench.stop("r1")
    assert bench.log == ["+r1", "+r2", "-r1"]
    await bench.stop("r2")
    assert bench.log[3:] == ["-r2", "+w1"]
    await bench.stop("w1")


async def test_a_reader_that_comes_after_a_writer_waits_its_turn() -> None:
    bench = Bench()
    for name in ("r1", "w1", "r2", "r3", "w2"):
        await bench.start(name)
    await bench.stop("r1", "w1", "r2", "r3", "w2")
    assert bench.log == [
        "+r1", "-r1", "+w1", "-w1", "+r2", "+r3", "-r2", "-r3", "+w2", "-w2",
    ]  # fmt: skip


async def test_a_cancelled_waiter_leaves_the_line() -> None:
    bench = Bench()
    await bench.start("r1")
    writer = await bench.start("w1")
    await bench.start("r2")
    writer.cancel()
    await settle()
    assert bench.log == ["+r1", "+r2"]
    await bench.stop("r1", "r2")
    await bench.start("w2")
    assert bench.log[-1] == "+w2"
    await bench.stop("w2")


async def test_a_waiter_cancelled_as_it_gets_the_lock_gives_it_back() -> None:
    bench = Bench()
    await bench.start("w1")
    second = await bench.start("w2")
    bench.release["w1"].set()
    await asyncio.sleep(0)
    second.cancel()
    await settle()
    await bench.start("w3")
    assert bench.log[-1] == "+w3"
    await bench.stop("w3")


async def test_an_error_in_the_block_releases_the_lock() -> None:
    lock = RWLock()
    with pytest.raises(KeyError):
        async with lock.write():
            raise KeyError
    with pytest.raises(KeyError), lock.read():
        raise KeyError
    with lock.write():
        pass


async def test_threads_and_tasks_share_one_lock() -> None:
    lock = RWLock()
    log: list[str] = []
    entered = threading.Event()
    leave = threading.Event()

    def thread() -> None:
        with lock.write():
            log.append("thread")
            entered.set()
            leave.wait(10)

    running = asyncio.create_task(asyncio.to_thread(thread))
    await asyncio.to_thread(entered.wait, 10)
    reader = asyncio.create_task(_read(lock, log))
    await settle()
    assert log == ["thread"]
    leave.set()
    await asyncio.gather(running, reader)
    assert log == ["thread", "reader"]


async def _read(lock: RWLock, log: list[str]) -> None:
    async with lock.read():
        log.append("reader")


def test_no_update_is_lost_between_threads() -> None:
    lock = RWLock()
    total = 0

    def work() -> None:
        nonlocal total
        for _ in range(300):
            with lock.write():
                seen = total
                total = seen + 1
            with lock.read():
                assert total >= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total == 1200

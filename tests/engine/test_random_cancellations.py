"""Whatever is cancelled and whenever: each run ends, and leaves nothing that the next waits for."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.testing.targets import MemoryTarget, MemoryTree

sub = coco.component_subpath


class World:
    """A tree whose bodies fail, wait, cancel themselves and swallow cancellations at random."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.is_wild = True
        self.flat, self.sync = MemoryTarget(), MemoryTarget(sync=True)
        self.tree = MemoryTree(handlers_from=dice.choice(["factory", "sink"]))

    async def waits(self) -> None:
        for _ in range(self.dice.randrange(4)):
            await asyncio.sleep(0)

    async def handler(self, _error: BaseException, _context: Any) -> None:
        await self.waits()
        if self.dice.random() < 0.2:
            raise ValueError

    async def leaf(self, key: str, rows: Any) -> None:
        await self.waits()
        self.flat.declare(key, 1)
        if self.dice.random() < 0.5:
            self.sync.declare(key, 1)
        if rows is not None:
            coco.declare_target_state(rows.target_state(key, 1))
        if self.is_wild:
            await self._be_wild()

    async def _be_wild(self) -> None:
        choice = self.dice.randrange(20)
        if choice < 2:
            raise ZeroDivisionError
        if choice == 2:
            raise asyncio.CancelledError
        if choice == 3:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        if choice > 16:
            with contextlib.suppress(asyncio.CancelledError):
                await self.waits()

    async def branch(self, key: str, rows: Any) -> None:
        await self.waits()
        handle = await coco.mount_each(
            sub("e"), self.leaf, [(n, f"{key}.{n}") for n in range(self.dice.randrange(6))], rows
        )
        with contextlib.suppress(ZeroDivisionError):
            await coco.use_mount(sub("u"), self.leaf, f"{key}.u", rows)
        if self.dice.random() < 0.5:
            with contextlib.suppress(Exception):
                await handle.ready()

    async def main(self) -> None:
        rows = None
        if self.dice.random() < 0.7:
            rows = await coco.mount_target(self.tree.container("T"))
        await coco.mount_each(sub("b"), self.branch, [(n, str(n)) for n in range(8)], rows)


def cancellations(operation: Any, run: asyncio.Future[Any]) -> Iterator[Any]:
    """Ways to cancel an operation, or not to."""
    yield operation.cancel

    def cancel_all_tasks() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task(), run}:
            task.cancel()

    yield cancel_all_tasks
    yield lambda: None


@pytest.mark.parametrize("seed", range(60))
async def test_every_run_ends_and_leaves_nothing_in_the_way_of_the_next(bench, seed):
    dice = random.Random(seed)
    world, limits = World(dice), coco.Limits(bytes_in_flight=dice.choice([1, 500, 10_000_000]))
    bench.exception_handler = world.handler
    bench.app_options = {"max_inflight_components": dice.choice([1, 2, 3, 50]), "limits": limits}
    for _ in range(4):
        is_drop = dice.random() < 0.2
        operation = bench.app.start_drop() if is_drop else bench.start(world.main)
        run = asyncio.ensure_future(operation.result())
        for _ in range(dice.randrange(80)):
            await asyncio.sleep(0)
        dice.choice(list(cancellations(operation, run)))()
        done, _ = await asyncio.wait((run,), timeout=30)
        assert done
        if not run.cancelled():
            run.exception()  # expected: bodies fail
        state = bench.env.app_state(bench.app)
        assert state.in_flight == {}
        assert state.limiter.is_idle
        stats = operation.stats()
        assert stats is None or stats.total.num_in_progress == 0
    world.is_wild = False
    await asyncio.wait_for(bench.run(world.main), 30)
    await asyncio.wait_for(bench.app.drop(), 30)
    assert (world.flat.rows, world.sync.rows, world.tree.rows) == ({}, {}, {})

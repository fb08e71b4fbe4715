"""What every target does: rows appear, change, go, and nothing is done twice."""

# ruff: noqa: D102 - the name of a test says what it is about

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cocoindex.testing.connectors.adapter import Container, TargetAdapter, World

__all__ = ["Item", "RowConformance", "items"]

MANY = 57
"""Rows that would show if there was a request for each."""


@dataclass
class Item:
    """The rows of most tests."""

    id: int
    text: str


def items(count: int, text: str = "text") -> list[dict[str, Any]]:
    """Rows of :class:`Item`."""
    return [{"id": i, "text": f"{text} {i}"} for i in range(count)]


def by_key(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What is expected to stand in the container."""
    return {(row["id"],): row for row in rows}


class SuiteBase(ABC):
    """What the suites share: an adapter and a world for each test."""

    def __init_subclass__(cls) -> None:
        """Mark coroutine tests, so that they run whatever pytest-asyncio's mode is."""
        super().__init_subclass__()
        for name, test in vars(cls).items():
            if name.startswith("test_") and inspect.iscoroutinefunction(test):
                pytest.mark.asyncio(test)

    @abstractmethod
    def adapter_for_test(self, request: pytest.FixtureRequest) -> Any:
        """The adapter of one test, or an async iterator that yields it and cleans up after it.

        ``request.getfixturevalue`` gives the fixtures of the test.
        """

    @pytest_asyncio.fixture
    async def adapter(self, request: pytest.FixtureRequest) -> AsyncIterator[TargetAdapter]:
        """The adapter of one test."""
        made = self.adapter_for_test(request)
        if isinstance(made, TargetAdapter):
            yield made
            return
        async for adapter in made:
            yield adapter

    @pytest.fixture
    def world(self, adapter: TargetAdapter, tmp_path: Path) -> World:
        """A program without containers."""
        return World(adapter, tmp_path)


class RowConformance(SuiteBase):
    """Rows and their container, for every connector."""

    async def test_declared_rows_appear(self, world: World) -> None:
        world.containers["t"] = Container(Item, items(3))
        await world.update()
        assert await world.adapter.read("t") == by_key(items(3))

    async def test_a_container_without_rows_is_there(self, world: World) -> None:
        world.containers["t"] = Container(Item, [])
        await world.update()
        assert await world.adapter.read("t") == {}

    async def test_an_update_with_nothing_to_do_sends_nothing(self, world: World) -> None:
        world.containers["t"] = Container(Item, items(3))
        await world.update()
        assert await world.update() == 0

    async def test_a_changed_row_is_written(self, world: World) -> None:
        rows = items(3)
        world.containers["t"] = Container(Item, rows)
        await world.update()
        rows[1]["text"] = "changed"
        trips = await world.update()
        assert await world.adapter.read("t") == by_key(rows)
        assert 0 < trips <= world.adapter.trips_per_chunk

    async def test_only_what_changed_is_written(self, world: World) -> None:
        """Nobody repairs what another program did to a row that did not change."""
        rows = items(3)
        world.containers["t"] = Container(Item, rows)
        await world.update()
        await world.update()
        rows[1]["text"] = "changed"
        actions = [action for action in await world.preview() if "keep" not in str(action)]
        assert len(actions) == 1

    async def test_an_undeclared_row_goes_and_the_others_stay(self, world: World) -> None:
        rows = items(5)
        world.containers["t"] = Container(Item, rows)
        await world.update()
        del rows[2]
        await world.update()
        assert await world.adapter.read("t") == by_key(rows)

    async def test_a_key_is_what_it_was_when_it_is_deleted(self, world: World) -> None:
        """Also by a process that has never seen the row declared."""
        world.containers["t"] = Container(Item, items(2), spread="each")
        await world.update()
        world.containers["t"] = Container(Item, [], spread="each")
        await world.update()
        assert await world.adapter.read("t") == {}

    async def test_an_undeclared_container_goes_with_its_rows(self, world: World) -> None:
        world.containers["t"] = Container(Item, items(3))
        world.containers["u"] = Container(Item, items(2))
        await world.update()
        del world.containers["t"]
        await world.update()
        assert await world.adapter.read("t") is None
        assert await world.adapter.read("u") == by_key(items(2))

    async def test_a_container_declared_again_has_its_rows(self, world: World) -> None:
        container = Container(Item, items(3), spread="memo")
        for declared in (True, False, True):
            world.containers = {"t": container} if declared else {}
            await world.update()
        assert await world.adapter.read("t") == by_key(items(3))

    async def test_dropping_the_app_leaves_nothing(self, world: World) -> None:
        world.containers["t"] = Container(Item, items(3), spread="each")
        await world.update()
        await world.drop()
        assert await world.adapter.read("t") is None
        await world.update()
        assert await world.adapter.read("t") == by_key(items(3))

    async def test_a_row_may_move_to_another_component(self, world: World) -> None:
        world.containers["t"] = Container(Item, items(3), spread="each")
        await world.update()
        world.containers["t"] = Container(Item, items(3), spread="together")
        await world.update()
        assert await world.adapter.read("t") == by_key(items(3))
        assert await world.update() == 0

    async def test_everything_is_written_again_when_asked_to(self, world: World) -> None:
        world.containers["t"] = Container(Item, items(3), spread="memo")
        await world.update()
        await world.update(full_reprocess=True)
        assert await world.adapter.read("t") == by_key(items(3))
        assert await world.update() == 0

    @pytest.mark.parametrize("spread", ["together", "each", "memo"])
    async def test_requests_grow_with_chunks_and_not_with_rows(
        self, world: World, spread: Any
    ) -> None:
        adapter = world.adapter
        world.containers["t"] = Container(Item, items(MANY), spread=spread)
        trips = await world.update()
        assert await adapter.read("t") == by_key(items(MANY))
        # Components that are ready at different moments may need a few calls.
        calls = 1 if spread == "together" else 4
        assert trips <= adapter.trips_per_container + calls * adapter.trips_per_chunk
        world.containers["t"].rows = items(1)
        trips = await world.update()
        assert await adapter.read("t") == by_key(items(1))
        assert trips <= calls * adapter.trips_per_chunk

    @pytest.mark.parametrize("spread", ["together", "each"])
    async def test_requests_do_not_grow_with_rows_when_a_container_goes(
        self, world: World, spread: Any
    ) -> None:
        adapter = world.adapter
        world.containers["t"] = Container(Item, items(MANY), spread=spread)
        await world.update()
        world.containers.clear()
        trips = await world.update()
        assert await adapter.read("t") is None
        assert trips <= 3 * adapter.trips_per_container

    async def test_more_rows_than_fit_into_one_request(self, world: World) -> None:
        world.containers["t"] = Container(Item, items(MANY))
        with world.adapter.small_chunks(10):
            await world.update()
            assert await world.adapter.read("t") == by_key(items(MANY))
            world.containers["t"].rows = items(MANY, "changed")[5:]
            await world.update()
        assert await world.adapter.read("t") == by_key(items(MANY, "changed")[5:])

    async def test_a_preview_needs_no_client_and_does_nothing(self, world: World) -> None:
        world.containers["t"] = Container(Item, items(3))
        planned = await world.preview()
        assert len(planned) == 1 + 3
        assert all(str(action) for action in planned)
        assert await world.adapter.read("t") is None

    async def test_a_missing_client_is_named(self, world: World) -> None:
        world.containers["t"] = Container(Item, items(1))
        async with world._app(with_client=False) as app:  # noqa: SLF001 - of this suite
            with pytest.raises(KeyError, match=world.adapter.key.key):
                await app.update()

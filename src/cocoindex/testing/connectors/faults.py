"""What happens when connections break, programs are killed, and rows are refused."""

# ruff: noqa: D102 - the name of a test says what it is about
# ruff: noqa: S311 - seeded, so that a failure can be repeated

from __future__ import annotations

from random import Random
from typing import Any, Final, Literal

import pytest

from cocoindex.testing.connectors.adapter import Container, TargetAdapter, World
from cocoindex.testing.connectors.rows import Item, SuiteBase, by_key, items

__all__ = ["FaultConformance", "RefusalConformance"]

ROWS = 25
STEPS = 25
SPREADS: Final[list[Any]] = ["together", "each", "memo"]
SECRET = "a value that nobody may see in a message"  # noqa: S105 - no secret of anybody


class FaultConformance(SuiteBase):
    """Broken connections, at every request in turn."""

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_a_break_at_any_request_costs_nothing(
        self, world: World, when: Literal["before", "after"]
    ) -> None:
        """Each update is repeated until no request was left to break; then all is well."""
        for text, count in (("first", ROWS), ("second", ROWS - 5), ("third", ROWS)):
            rows = items(count, text)
            for trip in range(1, 1_000):
                world.containers["t"] = Container(Item, rows, spread="each")
                rows = [{**row, "text": f"{row['text']}."} for row in rows]
                world.containers["t"].rows = rows
                if not await _broken_update(world, trip, when):
                    break
            await world.update()
            assert await world.adapter.read("t") == by_key(rows)
            assert await world.update() == 0

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_a_break_while_a_container_goes_costs_nothing(
        self, world: World, when: Literal["before", "after"]
    ) -> None:
        for trip in range(1, 1_000):
            world.containers["t"] = Container(Item, items(3))
            await world.update()
            world.containers.clear()
            broke = await _broken_update(world, trip, when)
            await world.update()
            assert await world.adapter.read("t") is None
            if not broke:
                break

    async def test_rows_written_in_vain_go_after_all(self, world: World) -> None:
        """Written, but the connector never heard of it; then the program wants others."""
        world.containers["t"] = Container(Item, [])
        await world.update()
        for trip in range(1, 1_000):
            world.containers["t"].rows = [{"id": trip, "text": "in vain"}]
            if not await _broken_update(world, trip, "after"):
                break
        world.containers["t"].rows = items(2)
        await world.update()
        assert await world.adapter.read("t") == by_key(items(2))

    @pytest.mark.parametrize("seed", range(3))
    async def test_random_histories_end_as_declared(self, world: World, seed: int) -> None:
        """Rows and containers come, change, move between components and go; updates break."""
        random = Random(seed)
        for step in range(STEPS):
            _edit(world, random)
            if random.random() < 0.5:
                when: Any = random.choice(["before", "after"])
                await _broken_update(world, random.randint(1, 12), when)
                if random.random() < 0.5:
                    _edit(world, random)
            await world.update()
            for name in "tu":
                container = world.containers.get(name)
                expected = None if container is None else by_key(container.rows)
                assert await world.adapter.read(name) == expected, step
        assert await world.update() == 0


def _edit(world: World, random: Random) -> None:
    name = random.choice("tu")
    container = world.containers.get(name)
    if container is None:
        world.containers[name] = Container(Item, [], spread=random.choice(SPREADS))
    elif random.random() < 0.15:
        del world.containers[name]
    elif random.random() < 0.15:
        container.spread = random.choice(SPREADS)
    else:
        rows = {row["id"]: row for row in container.rows}
        for i in random.sample(range(9), random.randint(1, 9)):
            if random.random() < 0.3:
                rows.pop(i, None)
            else:
                rows[i] = {"id": i, "text": str(random.randint(0, 3))}
        container.rows = list(rows.values())


async def _broken_update(world: World, trip: int, when: Literal["before", "after"]) -> bool:
    """Update, with one request broken; whether there was such a request."""
    before = world.adapter.trips
    try:
        with world.adapter.failing(trip, when):
            await world.update()
    except Exception:  # noqa: BLE001 - whatever the connector makes of it; what counts is after
        return True
    return world.adapter.trips - before >= trip


class RefusalConformance(SuiteBase):
    """Rows that the system refuses. Needs :meth:`TargetAdapter.refuse`."""

    names_the_row: bool = True
    """Whether messages name the row that is at fault, also if it was written with others."""

    async def test_one_refused_row_fails_its_own_component_only(self, world: World) -> None:
        await self._with_refusal(world, "each")
        expected = by_key([row for row in items(ROWS) if row["id"] != ROWS // 2])
        assert await world.adapter.read("t") == expected

    async def test_a_refused_row_takes_its_component_along_whole(self, world: World) -> None:
        await self._with_refusal(world, "together")
        assert await world.adapter.read("t") == {}

    async def test_what_was_refused_is_written_once_it_may_be(self, world: World) -> None:
        await self._with_refusal(world, "each")
        world.containers["t"].rows = items(ROWS)
        await world.update()
        assert await world.adapter.read("t") == by_key(items(ROWS))
        assert await world.update() == 0

    async def _with_refusal(self, world: World, spread: Any) -> None:
        adapter: TargetAdapter = world.adapter
        world.containers["t"] = Container(Item, [], spread=spread)
        await world.update()
        await adapter.refuse("t", "text", SECRET)
        rows = items(ROWS)
        rows[ROWS // 2]["text"] = SECRET
        world.containers["t"].rows = rows
        with pytest.raises(Exception) as failure:  # noqa: PT011 - named below
            await world.update()
        told = _texts(failure.value)
        assert "table t" in told
        assert not self.names_the_row or f"row {ROWS // 2}" in told
        assert SECRET not in told


def _texts(error: BaseException) -> str:
    """What a log would show of an error: its own text and that of its causes."""
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    parts = [str(error), *map(_texts, inner), _texts(cause) if cause is not None else ""]
    return "\n".join(parts)

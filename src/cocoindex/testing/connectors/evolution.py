"""What becomes of a container and its rows when the schema changes."""

# ruff: noqa: D102 - the name of a test says what it is about

from __future__ import annotations

from dataclasses import make_dataclass
from typing import Any

import pytest

from cocoindex.testing.connectors.adapter import Container, World
from cocoindex.testing.connectors.rows import MANY, SuiteBase, by_key

__all__ = ["EvolutionConformance"]


def record(**fields: Any) -> type[Any]:
    """A dataclass with these fields."""
    return make_dataclass("Row", list(fields.items()))


def row(i: int, **fields: Any) -> dict[str, Any]:
    """A row of such a class."""
    return {"id": i, **fields}


ROWS = range(4)

BEFORE = record(id=int, text=str, note=str | None)


def before(i: int) -> dict[str, Any]:
    """A row of the schema that every test starts with."""
    return row(i, text=f"{i}", note=f"n{i}")


CHANGES: dict[str, tuple[type[Any], Any]] = {
    "a nullable column more": (
        record(id=int, text=str, note=str | None, more=str | None),
        lambda i: {**before(i), "more": None if i % 2 else "more"},
    ),
    "a required column more": (
        record(id=int, text=str, note=str | None, more=int),
        lambda i: {**before(i), "more": i},
    ),
    "a column less": (record(id=int, text=str), lambda i: row(i, text=f"{i}")),
    "another type": (
        record(id=int, text=int, note=str | None),
        lambda i: {**before(i), "text": i},
    ),
    "required instead of nullable": (record(id=int, text=str, note=str), before),
    "nullable instead of required": (
        record(id=int, text=str | None, note=str | None),
        lambda i: {**before(i), "text": None if i % 2 else "x"},
    ),
    "columns in another order": (record(note=str | None, id=int, text=str), before),
    "a column by another name": (
        record(id=int, body=str, note=str | None),
        lambda i: row(i, body=f"{i}", note=f"n{i}"),
    ),
    "everything at once": (
        record(id=int, text=int | None, more=int, other=str | None),
        lambda i: row(i, text=i, more=i, other="o"),
    ),
}


class EvolutionConformance(SuiteBase):
    """Each kind of change of a schema. Needs :meth:`TargetAdapter.columns`."""

    @pytest.mark.parametrize("spread", ["together", "memo"])
    @pytest.mark.parametrize("change", CHANGES)
    async def test_a_changed_schema(self, world: World, change: str, spread: Any) -> None:
        """There and back again; rows are all there each time, also those of memoized code."""
        record_type, make = CHANGES[change]
        for step, (cls, of) in enumerate([(BEFORE, before), (record_type, make), (BEFORE, before)]):
            rows = [of(i) for i in ROWS]
            world.containers["t"] = Container(cls, rows, spread=spread)
            await world.update()
            assert await world.adapter.read("t") == by_key(rows), step
            await world.update()
            assert await world.adapter.read("t") == by_key(rows), step
            assert await world.update() == 0
            columns = await world.adapter.columns("t")
            assert columns == _nullability(cls), step

    @pytest.mark.parametrize("spread", ["together", "memo"])
    async def test_requests_do_not_grow_with_rows_when_a_schema_changes(
        self, world: World, spread: Any
    ) -> None:
        adapter = world.adapter
        record_type, make = CHANGES["everything at once"]
        world.containers["t"] = Container(BEFORE, [before(i) for i in range(MANY)], spread=spread)
        await world.update()
        rows = [make(i) for i in range(MANY)]
        world.containers["t"] = Container(record_type, rows, spread=spread)
        trips = await world.update()
        assert await adapter.read("t") == by_key(rows)
        calls = 1 if spread == "together" else 4
        assert trips <= 2 * adapter.trips_per_container + calls * adapter.trips_per_chunk

    async def test_a_nullable_column_writes_only_rows_that_use_it(self, world: World) -> None:
        world.containers["t"] = Container(BEFORE, [before(i) for i in ROWS])
        await world.update()
        record_type, _ = CHANGES["a nullable column more"]
        rows = [{**before(i), "more": "x" if i == 1 else None} for i in ROWS]
        world.containers["t"] = Container(record_type, rows)
        planned = [action for action in await world.preview() if "row" in str(action)]
        assert len(planned) == 1
        await world.update()
        assert await world.adapter.read("t") == by_key(rows)

    @pytest.mark.parametrize("spread", ["together", "memo"])
    async def test_another_key(self, world: World, spread: Any) -> None:
        first = record(id=int, lang=str, text=str)
        rows = [row(i, lang="en", text="t") for i in ROWS]
        world.containers["t"] = Container(first, rows, spread=spread)
        await world.update()
        world.containers["t"] = Container(first, rows, key=("id", "lang"), spread=spread)
        await world.update()
        found = await world.adapter.read("t")
        assert found == {(r["id"], r["lang"]): r for r in rows}
        del rows[0]
        await world.update()
        found = await world.adapter.read("t")
        assert found == {(r["id"], r["lang"]): r for r in rows}
        assert await world.update() == 0

    async def test_a_change_that_is_taken_back_before_it_is_done(self, world: World) -> None:
        """A process is killed at any request of the change, and the change is undone."""
        rows = [before(i) for i in ROWS]
        record_type, make = CHANGES["everything at once"]
        world.containers["t"] = Container(BEFORE, rows)
        await world.update()
        for trip in range(1, 1_000):
            world.containers["t"] = Container(record_type, [make(i) for i in ROWS])
            trips = world.adapter.trips
            try:
                with world.adapter.failing(trip, "after"):
                    await world.update()
            except Exception:  # noqa: BLE001 - whatever the connector makes of it
                broke = True
            else:
                broke = world.adapter.trips - trips >= trip
            world.containers["t"] = Container(BEFORE, rows)
            await world.update()
            assert await world.adapter.read("t") == by_key(rows)
            if not broke:
                break


def _nullability(cls: type[Any]) -> dict[str, bool]:
    return {name: "None" in str(hint) for name, hint in cls.__annotations__.items()}

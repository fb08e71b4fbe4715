"""Whose container it is, and what may be done to it."""

# ruff: noqa: D102 - the name of a test says what it is about

from __future__ import annotations

from typing import Any

import pytest

from cocoindex.testing.connectors.adapter import Container, World
from cocoindex.testing.connectors.evolution import record
from cocoindex.testing.connectors.rows import MANY, Item, SuiteBase, by_key, items

__all__ = ["OwnershipConformance"]

FOREIGN = {"id": 1_000, "text": "somebody else's"}
WIDER = record(id=int, text=str, more=str | None)


class OwnershipConformance(SuiteBase):
    """Containers of users and of others. Needs ``create``, ``insert`` and ``columns``."""

    # Managed by the user

    async def test_a_missing_user_container_is_an_error(self, world: World) -> None:
        world.containers["t"] = _by_user(items(2))
        with pytest.raises(RuntimeError, match="does not exist"):
            await world.update()
        assert await world.adapter.read("t") is None

    async def test_a_user_container_that_does_not_fit_is_an_error(self, world: World) -> None:
        await world.adapter.create("t", Item, ["id"])
        world.containers["t"] = _by_user([], record_type=WIDER)
        await world.update()
        world.containers["t"].rows = [{"id": 1, "text": "x", "more": None}]
        with pytest.raises(RuntimeError, match="more"):
            await world.update()
        assert await world.adapter.read("t") == {}

    @pytest.mark.parametrize("spread", ["together", "each"])
    async def test_rows_of_a_user_container(self, world: World, spread: Any) -> None:
        await world.adapter.create("t", Item, ["id"])
        await world.adapter.insert("t", FOREIGN)
        world.containers["t"] = _by_user(items(3), spread=spread)
        await world.update()
        assert await world.adapter.read("t") == by_key([FOREIGN, *items(3)])
        assert await world.update() == 0
        del world.containers["t"].rows[1]
        await world.update()
        assert await world.adapter.read("t") == by_key([FOREIGN, *items(3)[::2]])

    @pytest.mark.parametrize("spread", ["together", "each"])
    @pytest.mark.parametrize("way", ["undeclare", "drop"])
    async def test_an_undeclared_user_container_loses_our_rows_only(
        self, world: World, spread: Any, way: str
    ) -> None:
        await world.adapter.create("t", Item, ["id"])
        await world.adapter.insert("t", FOREIGN)
        world.containers["t"] = _by_user(items(3), spread=spread)
        await world.update()
        await _leave(world, way)
        assert await world.adapter.read("t") == by_key([FOREIGN])

    @pytest.mark.parametrize("managed_by", ["user", "system"])
    @pytest.mark.parametrize("spread", ["together", "each"])
    async def test_requests_do_not_grow_with_rows_in_a_container_that_stays(
        self, world: World, spread: Any, managed_by: str
    ) -> None:
        adapter = world.adapter
        await adapter.create("t", Item, ["id"])
        options = {"managed_by": managed_by}
        world.containers["t"] = Container(Item, items(MANY), spread=spread, options=options)
        most = adapter.trips_per_container + 4 * adapter.trips_per_chunk
        assert await world.update() <= most
        world.containers["t"].rows = items(MANY, "changed")[5:]
        assert await world.update() <= most
        assert await adapter.read("t") == by_key(items(MANY, "changed")[5:])
        world.containers.clear()
        assert await world.update() <= 2 * most
        assert await adapter.read("t") == {}

    async def test_rows_may_be_left_in_a_user_container(self, world: World) -> None:
        await world.adapter.create("t", Item, ["id"])
        world.containers["t"] = _by_user(items(3), on_undeclare="keep")
        await world.update()
        await _leave(world, "undeclare")
        assert await world.adapter.read("t") == by_key(items(3))

    async def test_rows_may_be_left_in_a_container_that_was_found(self, world: World) -> None:
        await world.adapter.create("t", Item, ["id"])
        world.containers["t"] = Container(Item, items(3), options={"on_undeclare": "keep"})
        await world.update()
        await _leave(world, "undeclare")
        assert await world.adapter.read("t") == by_key(items(3))

    async def test_handing_a_container_over_to_the_user(self, world: World) -> None:
        world.containers["t"] = Container(Item, items(3))
        await world.update()
        world.containers["t"] = _by_user(items(2))
        await world.update()
        assert await world.adapter.read("t") == by_key(items(2))
        await _leave(world, "undeclare")
        assert await world.adapter.read("t") == {}

    async def test_taking_a_container_over_from_the_user(self, world: World) -> None:
        await world.adapter.create("t", Item, ["id"])
        world.containers["t"] = _by_user(items(2))
        await world.update()
        world.containers["t"] = Container(Item, items(3))
        await world.update()
        assert await world.adapter.read("t") == by_key(items(3))
        await _leave(world, "undeclare")
        assert await world.adapter.read("t") == {}, "made by hand, so never dropped"

    # Found in the system

    @pytest.mark.parametrize("spread", ["together", "each"])
    @pytest.mark.parametrize("way", ["undeclare", "drop"])
    async def test_a_fitting_container_is_used_and_never_dropped(
        self, world: World, way: str, spread: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        await world.adapter.create("t", Item, ["id"])
        await world.adapter.insert("t", FOREIGN)
        world.containers["t"] = Container(Item, items(3), spread=spread)
        await world.update()
        assert await world.adapter.read("t") == by_key([FOREIGN, *items(3)])
        await world.update()
        await _leave(world, way)
        assert await world.adapter.read("t") == by_key([FOREIGN])
        assert "not made by this app" in caplog.text

    async def test_a_container_that_does_not_fit_is_refused(self, world: World) -> None:
        await world.adapter.create("t", record(id=int, text=int), ["id"])
        world.containers["t"] = Container(Item, items(1))
        with pytest.raises(RuntimeError, match="text"):
            await world.update()
        assert await world.adapter.read("t") == {}

    async def test_a_container_with_another_key_is_refused(self, world: World) -> None:
        await world.adapter.create("t", Item, ["text"])
        world.containers["t"] = Container(Item, items(1))
        with pytest.raises(RuntimeError, match="primary key"):
            await world.update()
        assert await world.adapter.read("t") == {}

    async def test_an_existing_container_may_be_refused_in_any_case(self, world: World) -> None:
        await world.adapter.create("t", Item, ["id"])
        world.containers["t"] = Container(Item, items(1), options={"if_exists": "error"})
        with pytest.raises(RuntimeError, match="already exists"):
            await world.update()
        assert await world.adapter.read("t") == {}

    async def test_an_existing_container_may_be_made_ours(self, world: World) -> None:
        await world.adapter.create("t", Item, ["id"])
        world.containers["t"] = Container(Item, items(1), options={"if_exists": "own"})
        await world.update()
        await _leave(world, "undeclare")
        assert await world.adapter.read("t") is None

    async def test_a_container_in_use_may_be_made_ours_later(self, world: World) -> None:
        await world.adapter.create("t", Item, ["id"])
        world.containers["t"] = Container(Item, items(1))
        await world.update()
        world.containers["t"].options = {"if_exists": "own"}
        await world.update()
        assert await world.update() == 0
        await _leave(world, "undeclare")
        assert await world.adapter.read("t") is None

    async def test_a_container_of_ours_survives_the_loss_of_the_state(self, world: World) -> None:
        world.containers["t"] = Container(Item, items(3))
        await world.update()
        world.lose_state()
        world.containers["t"] = Container(
            WIDER, [{**row, "more": "m"} for row in items(2)], options={"if_exists": "error"}
        )
        await world.update()
        found = await world.adapter.read("t")
        assert found is not None
        assert [found[i,]["more"] for i in range(2)] == ["m", "m"]
        await _leave(world, "undeclare")
        assert await world.adapter.read("t") is None

    async def test_two_apps_do_not_take_each_other_s_container_away(self, world: World) -> None:
        world.containers["t"] = Container(Item, items(2))
        await world.update()
        other = World(world.adapter, world.folder / "other", app="other")
        other.containers["t"] = Container(Item, [FOREIGN])
        await other.update()
        assert await world.adapter.read("t") == by_key([FOREIGN, *items(2)])
        await _leave(other, "drop")
        assert await world.adapter.read("t") == by_key(items(2))
        await _leave(world, "drop")
        assert await world.adapter.read("t") is None


def _by_user(
    rows: list[dict[str, Any]],
    *,
    record_type: type[Any] = Item,
    spread: Any = "together",
    **options: Any,
) -> Container:
    options = {"managed_by": "user", **options}
    return Container(record_type, rows, spread=spread, options=options)


async def _leave(world: World, way: str) -> None:
    if way == "drop":
        await world.drop()
        return
    world.containers.clear()
    await world.update()

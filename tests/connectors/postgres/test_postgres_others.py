"""What others have in the same database: their tables and indexes are not touched."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cocoindex.errors import TargetError


@dataclass
class Doc:
    id: int
    text: str


async def nothing():
    pass


@pytest.mark.parametrize("drop", [False, True], ids=["undeclared", "dropped"])
async def test_rows_of_a_user_table_that_is_gone_are_forgotten(world, drop):
    await world.execute("CREATE TABLE docs (id bigint PRIMARY KEY, text text NOT NULL)")
    program = world.table([Doc(1, "x")], Doc, managed_by="user")
    await world.update(program)
    await world.execute("DROP TABLE docs")
    await world.update(program if drop else nothing, drop=drop)


async def test_an_index_of_another_table_is_neither_taken_nor_dropped(world):
    await world.execute("CREATE TABLE people (name text)")
    await world.execute("CREATE INDEX docs__index__a ON people (name)")

    def attach(target):
        target.declare_index(name="a", columns=["text"])

    with pytest.raises(TargetError, match="not its own"):
        await world.update(world.table([Doc(1, "x")], Doc, attach=attach))
    await world.update(world.table([Doc(1, "x")], Doc))
    assert await world.value("SELECT to_regclass('docs__index__a')::text") == "docs__index__a"

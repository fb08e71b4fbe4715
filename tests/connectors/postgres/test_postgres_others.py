"""What others have in the same database: their tables and indexes are not touched."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass

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


async def test_a_search_column_with_a_long_name_can_go(world):
    name = "c" * 60
    plain = make_dataclass("Plain", [("id", int), (name, str | None)])
    other = make_dataclass("Other", [("id", int), (name, int | None)])
    search = lambda target: target.declare_fts_index(column=name)  # noqa: E731
    await world.update(world.table([plain(1, "a")], plain, attach=search))
    await world.update(world.table([other(1, 5)], other))
    assert await world.fetch("SELECT * FROM docs") == [(1, 5)]


async def test_a_row_that_a_trigger_refuses_is_named(world):
    await world.update(world.table([], Doc))
    await world.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF new.id = 7 THEN RAISE EXCEPTION 'secret %', new.text; END IF; RETURN new; END $$"
    )
    await world.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    rows = [Doc(i, "hidden") for i in range(10)]
    with pytest.raises(TargetError, match="row 7") as caught:
        await world.update(world.table(rows, Doc))
    assert "hidden" not in str(caught.value)

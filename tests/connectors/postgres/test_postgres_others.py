"""What others have in the same database: their tables and indexes are not touched."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass

import pytest

from cocoindex.connectors.postgres import ColumnDef, TableSchema, mount_table_target
from cocoindex.connectors.postgres._dialect import DIALECT
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


Unique = make_dataclass("Unique", [("id", int), ("slug", str | None)])


def unique_slug(target):
    target.declare_index(columns=["slug"], unique=True)


def swapped(size):
    """Rows whose slugs go round in circles of two."""
    return [Unique(i, f"s{i}") for i in range(size)], [Unique(i, f"s{i ^ 1}") for i in range(size)]


@pytest.mark.parametrize("size", [2, 700])
@pytest.mark.parametrize("chunk", [50_000, 1, 300])
async def test_rows_swap_unique_values(world, monkeypatch, size, chunk):
    monkeypatch.setattr(type(DIALECT), "max_rows", chunk if size > chunk else 50_000)
    before, after = swapped(size)
    await world.update(world.table(before, Unique, attach=unique_slug))
    await world.update(world.table(after, Unique, attach=unique_slug))
    assert await world.fetch("SELECT * FROM docs ORDER BY id") == [(u.id, u.slug) for u in after]


@pytest.mark.parametrize("size", [2, 9])
async def test_rows_of_several_components_swap_unique_values(world, size):
    """If they are not written together, the first may fail; the next update finds all is well."""
    before, after = swapped(size - size % 2)
    await world.update(world.table(before, Unique, each=True, attach=unique_slug))
    program = world.table(after, Unique, each=True, attach=unique_slug)
    await world.update(program)
    await world.update(program)
    assert await world.fetch("SELECT * FROM docs ORDER BY id") == [(u.id, u.slug) for u in after]
    await world.update(program)
    assert world.connections == 0


@pytest.mark.parametrize("harm", ["reference", "column", "taken"])
async def test_rows_are_not_written_anew_where_that_would_harm(world, harm):
    before, after = swapped(2)
    await world.update(world.table(before, Unique, attach=unique_slug))
    if harm == "column":
        await world.execute("ALTER TABLE docs ADD theirs timestamptz DEFAULT now()")
    elif harm == "reference":
        await world.execute("CREATE TABLE log (n bigint REFERENCES docs (id) ON DELETE CASCADE)")
        await world.execute("INSERT INTO log VALUES (1)")
    else:
        await world.execute("INSERT INTO docs VALUES (99, 'theirs')")
        after = [Unique(0, "s1"), Unique(1, "theirs")]
    with pytest.raises(TargetError, match="docs__index__slug"):
        await world.update(world.table(after, Unique, attach=unique_slug))
    assert await world.fetch("SELECT id, slug FROM docs WHERE id < 9 ORDER BY id") == [
        (0, "s0"),
        (1, "s1"),
    ]
    if harm == "reference":
        assert await world.fetch("SELECT * FROM log") == [(1,)]


async def test_a_column_of_others_has_no_foreign_values_once_it_is_declared(world):
    await world.execute("CREATE TABLE docs (id bigint PRIMARY KEY, slug text, b text DEFAULT 'x')")
    wider = make_dataclass("Wider", [("id", int), ("slug", str | None), ("b", str | None)])
    options = {"managed_by": "user"}
    await world.update(world.table([Unique(1, "a"), Unique(2, "b")], Unique, **options))
    rows = [wider(1, "a", None), wider(2, "b", "new")]
    await world.update(world.table(rows, wider, **options))
    assert await world.fetch("SELECT * FROM docs ORDER BY id") == [(1, "a", None), (2, "b", "new")]


@pytest.mark.parametrize("n", [int, int | None])
async def test_a_table_taken_over_from_its_user_gets_the_columns_it_lacks(world, n):
    await world.execute("CREATE TABLE docs (id bigint PRIMARY KEY, text text)")
    await world.update(world.table([Doc(1, "x")], Doc, managed_by="user"))
    wider = make_dataclass("Wider", [("id", int), ("text", str), ("n", n)])
    program = world.table([wider(1, "x", 5)], wider)
    await world.execute("ALTER TABLE docs ALTER text SET NOT NULL")
    await world.update(program)
    await world.update(program)
    assert await world.fetch("SELECT * FROM docs") == [(1, "x", 5)]


@pytest.mark.parametrize("whose", ["ours", "theirs"])
async def test_a_column_that_others_added_is_not_taken_for_a_new_one(world, whose):
    wider = make_dataclass("Wider", [("id", int), ("text", str), ("b", str | None)])
    if whose == "theirs":
        await world.execute("CREATE TABLE docs (id bigint PRIMARY KEY, text text NOT NULL)")
    await world.update(world.table([Doc(1, "x")], Doc))
    await world.execute("ALTER TABLE docs ADD b text DEFAULT 'made'")
    program = world.table([wider(1, "x", None)], wider)
    with pytest.raises(TargetError, match=r"has a column b with values.*full_reprocess=True"):
        await world.update(program)
    await world.update(program, full_reprocess=True)
    assert await world.fetch("SELECT * FROM docs") == [(1, "x", None)]


@pytest.mark.parametrize("managed_by", ["user", "system"])
async def test_indexes_and_commands_go_from_a_table_in_which_rows_are_kept(world, managed_by):
    await world.execute("CREATE TABLE docs (id bigint PRIMARY KEY, text text NOT NULL)")

    def attach(target):
        target.declare_index(columns=["text"])
        target.declare_fts_index(column="text")
        target.declare_sql_command_attachment(
            name="v", setup_sql="CREATE VIEW v AS SELECT 1", teardown_sql="DROP VIEW v"
        )

    options = {"managed_by": managed_by, "on_undeclare": "keep"}
    await world.update(world.table([Doc(1, "x")], Doc, attach=attach, **options))
    assert len(await world.indexes()) == 2
    await world.update(nothing)
    assert await world.indexes() == {}
    assert await world.fetch("SELECT * FROM docs") == [(1, "x")]
    assert await world.value("SELECT to_regclass('v')::text") is None


async def test_a_trigger_s_function_that_needs_a_dropped_column_is_named(world):
    wider = make_dataclass("Wider", [("id", int), ("text", str), ("b", str)])
    await world.update(world.table([wider(1, "x", "y")], wider))
    await world.execute(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "new.text := new.b; RETURN new; END $$;"
        "CREATE TRIGGER noted BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION noted()"
    )
    program = world.table([Doc(1, "z")], Doc)
    with pytest.raises(TargetError, match=r'no field "b", in function noted\(\)'):
        await world.update(program)
    await world.execute("DROP TRIGGER noted ON docs")
    await world.update(program)
    assert await world.fetch("SELECT * FROM docs") == [(1, "z")]


async def test_a_column_that_a_trigger_names_is_not_dropped_and_the_trigger_is_named(world):
    wider = make_dataclass("Wider", [("id", int), ("text", str), ("b", str)])
    await world.update(world.table([wider(1, "x", "y")], wider))
    await world.execute(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;"
        "CREATE TRIGGER noted BEFORE UPDATE OF b ON docs FOR EACH ROW EXECUTE FUNCTION noted()"
    )
    program = world.table([Doc(1, "z")], Doc)
    with pytest.raises(TargetError, match=r"trigger noted on table docs depends on column b"):
        await world.update(program)
    await world.execute("DROP TRIGGER noted ON docs")
    await world.update(program)
    assert await world.fetch("SELECT * FROM docs") == [(1, "z")]


NAMES = ["a b", "a;b--", "1a", "größe", "a.b", "%s $1 {}", "ä" * 31]


async def test_quoted_names_work_in_indexes_and_changes(world):
    """In tables, schemas, keys, columns, their indexes and changes of them."""
    types = {name: ColumnDef("text") for name in NAMES}
    schema = TableSchema({"the id": ColumnDef("bigint"), **types}, ["the id"])
    less = TableSchema(
        {"the id": ColumnDef("bigint"), **{name: ColumnDef("text") for name in NAMES[1:]}},
        ["the id"],
    )
    options = {"pg_schema_name": "s;1", "quoted": True}

    def program(schema, rows):
        async def main():
            target = await mount_table_target(world.db, "t;-1", schema, **options)
            target.declare_index(columns=NAMES[1:3], unique=True)
            target.declare_fts_index(column=NAMES[3])
            for row in rows:
                target.declare_row(row=row)

        return main

    def rows(schema, *texts):
        return [
            {"the id": i, **{name: f"{text}'{name}" for name in [*schema.columns][1:]}}
            for i, text in enumerate(texts)
        ]

    for step, texts in [(schema, "ab"), (schema, "ba"), (less, "ba"), (schema, "b")]:
        declared = rows(step, *texts)
        await world.update(program(step, declared))
        columns = ", ".join(f'"{name}"' for name in step.columns)
        found = await world.fetch(f'SELECT {columns} FROM "s;1"."t;-1" ORDER BY 1')
        assert found == [tuple(row.values()) for row in declared]
    await world.update(nothing)
    assert await world.value('SELECT to_regclass(\'"s;1"."t;-1"\')::text') is None

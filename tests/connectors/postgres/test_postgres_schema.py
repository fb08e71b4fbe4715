"""Tables that are made, adopted, changed and dropped."""

from __future__ import annotations

import dataclasses
import logging
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cocoindex.connectorkits.tables import sinks
from cocoindex.connectors.postgres import PgType
from cocoindex.errors import TargetError
from cocoindex.resources.schema import VectorSchema


def record(**fields):
    return dataclasses.make_dataclass("Row", list(fields.items()), frozen=True)


def vector(size):
    return Annotated[NDArray[np.float32], VectorSchema(size)]


Doc = record(id=int, title=str, emb=vector(3))


def docs(*ids, title="t"):
    return [Doc(i, f"{title}{i}", np.full(3, i, np.float32)) for i in ids]


def indexed(target):
    target.declare_vector_index(column="emb", method="hnsw")


async def test_the_table_is_made_as_existing_programs_expect(any_world):
    world = any_world
    options = {"pg_schema_name": "kb"}
    await world.update(world.table(docs(1, 2), Doc, attach=indexed, **options))
    assert await world.columns("kb.docs") == {
        "id": ("bigint", False),
        "title": ("text", False),
        "emb": ("vector(3)", False),
    }
    assert await world.indexes() == {
        "docs__vector__emb": "CREATE INDEX docs__vector__emb ON kb.docs USING hnsw "
        "(emb vector_cosine_ops)"
    }
    extension = "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace"
    assert ("public",) in await world.fetch(extension + " WHERE extname = 'vector'")
    assert await world.value("SELECT emb::text FROM kb.docs WHERE id = 2") == "[2,2,2]"


async def test_a_second_run_with_nothing_to_do_opens_no_connection(world):
    await world.update(world.table(docs(1, 2), Doc, attach=indexed))
    assert world.connections == 1
    await world.update(world.table(docs(1, 2), Doc, attach=indexed))
    assert world.connections == 0


async def test_what_is_undeclared_goes(world):
    await world.update(world.table(docs(1, 2, 3), Doc))
    await world.update(world.table(docs(2), Doc))
    assert await world.fetch("SELECT id FROM docs") == [(2,)]
    await world.update(world.nothing)
    assert await world.columns() == {}
    assert not any("DELETE" in statement for statement in world.statements)


async def test_drop_removes_the_table_and_keeps_its_schema(world):
    main = world.table(docs(1), Doc, pg_schema_name="kb")
    await world.update(main)
    await world.drop(main)
    assert await world.columns("kb.docs") == {}
    assert await world.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'kb'") == 1


# --- columns that change -------------------------------------------------------------------


async def test_a_nullable_column_is_added_without_writing_a_row(world):
    Wider = record(id=int, title=str, note=str | None)
    Narrow = record(id=int, title=str)
    await world.update(world.table([Narrow(1, "a"), Narrow(2, "b")], Narrow))
    await world.execute("UPDATE docs SET title = 'out of band'")
    await world.update(world.table([Wider(1, "a", None), Wider(2, "b", "new")], Wider))
    assert await world.fetch("SELECT * FROM docs ORDER BY id") == [
        (1, "out of band", None),
        (2, "b", "new"),
    ]
    assert (await world.columns())["note"] == ("text", True)


@pytest.mark.parametrize("each", [False, True])
async def test_a_not_null_column_is_not_null_once_every_row_has_a_value(world, each):
    Narrow, Wider = record(id=int), record(id=int, n=int)
    await world.update(world.table([Narrow(1), Narrow(2)], Narrow, each=each))
    wider = world.table([Wider(1, 10), Wider(2, 20)], Wider, each=each)
    await world.update(wider)
    assert await world.fetch("SELECT * FROM docs ORDER BY id") == [(1, 10), (2, 20)]
    await world.update(wider)
    assert (await world.columns())["n"] == ("bigint", False)
    await world.update(wider)
    assert world.connections == 0


async def test_a_not_null_column_whose_run_broke_off_is_not_null_in_the_end(world, monkeypatch):
    Narrow, Wider = record(id=int), record(id=int, n=int)
    await world.update(world.table([Narrow(1), Narrow(2)], Narrow, each=True))
    wider = world.table([Wider(1, 10), Wider(2, 20)], Wider, each=True)
    with monkeypatch.context() as patch:
        apply = sinks.TableSink.__call__

        async def broken(sink, provider, actions):
            await apply(sink, provider, actions)
            raise LookupError("killed")

        patch.setattr(sinks.TableSink, "__call__", broken)
        with pytest.raises(LookupError):
            await world.update(wider)
    await world.update(wider)
    await world.update(wider)
    assert (await world.columns())["n"] == ("bigint", False)
    await world.update(wider)
    assert world.connections == 0


@pytest.mark.parametrize("late", [1, 3])
async def test_a_not_null_column_whose_rows_failed_is_not_null_once_all_have_a_value(
    world, late, caplog
):
    """Their component fails in the run that adds the column, and in some more."""
    Narrow, Wider = record(id=int), record(id=int, n=int)
    await world.update(world.table([Narrow(1), Narrow(2)], Narrow, each=True))
    good, bad = [Wider(1, 10), Wider(2, 20)], [Wider(1, 10), Wider(2, "no number")]
    for _ in range(late):
        await world.update(world.table(bad, Wider, each=True))
        assert (await world.columns())["n"] == ("bigint", True)
    await world.update(world.table(good, Wider, each=True))
    assert (await world.columns())["n"] == ("bigint", False)
    await world.update(world.table(good, Wider, each=True))
    assert world.connections == 0


async def test_a_vector_of_another_size_is_not_null_once_the_rows_fit(world):
    await world.update(world.table(docs(1, 2), Doc))
    Longer = record(id=int, title=str, emb=vector(5))
    await world.update(world.table(docs(1, 2), Longer, each=True))
    rows = [Longer(i, f"t{i}", np.full(5, i, np.float32)) for i in (1, 2)]
    await world.update(world.table(rows, Longer, each=True))
    await world.update(world.table(rows, Longer, each=True))
    assert (await world.columns())["emb"] == ("vector(5)", False)


async def test_a_not_null_column_stays_nullable_while_rows_of_others_have_no_value(world, caplog):
    Narrow, Wider = record(id=int), record(id=int, n=int)
    await world.update(world.table([Narrow(1)], Narrow))
    await world.execute("INSERT INTO docs VALUES (99)")
    wider = world.table([Wider(1, 10)], Wider)
    await world.update(wider)
    with caplog.at_level(logging.WARNING):
        await world.update(wider)
    assert "column n stays nullable" in caplog.text
    assert (await world.columns())["n"] == ("bigint", True)


async def test_a_column_that_may_become_null_invalidates_nothing(world):
    Strict, Loose = record(id=int, title=str), record(id=int, title=str | None)
    await world.update(world.table([Strict(1, "a")], Strict))
    await world.execute("UPDATE docs SET title = 'out of band'")
    await world.update(world.table([Loose(1, "a")], Loose))
    assert (await world.columns())["title"] == ("text", True)
    assert await world.value("SELECT title FROM docs") == "out of band"


async def test_a_wider_type_keeps_the_data(world):
    Short = record(id=int, title=Annotated[str, PgType("varchar(50)")])
    Long = record(id=int, title=str)
    await world.update(world.table([Short(1, "a")], Short))
    oid = await world.value("SELECT 'docs'::regclass::oid")
    await world.execute("INSERT INTO docs VALUES (99, 'of another')")
    await world.update(world.table([Long(1, "a" * 60)], Long))
    assert await world.fetch("SELECT * FROM docs ORDER BY id") == [
        (1, "a" * 60),
        (99, "of another"),
    ]
    assert await world.value("SELECT 'docs'::regclass::oid") == oid


@pytest.mark.parametrize("each", [False, True])
async def test_a_type_that_can_not_be_converted_is_filled_anew_in_the_same_run(world, caplog, each):
    Text, Number = record(id=int, x=str), record(id=int, x=Annotated[int, PgType("integer")])
    await world.update(world.table([Text(1, "one"), Text(2, "two")], Text, each=each))
    with caplog.at_level(logging.WARNING):
        await world.update(world.table([Number(1, 1), Number(2, 2)], Number, each=each))
    assert "Existing data will be lost: column x of table docs" in caplog.text
    assert await world.fetch("SELECT * FROM docs ORDER BY id") == [(1, 1), (2, 2)]
    assert (await world.columns())["x"][0] == "integer"


async def test_another_vector_size_builds_column_and_index_anew(world):
    await world.update(world.table(docs(1, 2), Doc, attach=indexed))
    Longer = record(id=int, title=str, emb=vector(5))
    rows = [Longer(i, f"t{i}", np.full(5, i, np.float32)) for i in (1, 2)]
    await world.update(world.table(rows, Longer, attach=indexed))
    assert (await world.columns())["emb"][0] == "vector(5)"
    assert list(await world.indexes()) == ["docs__vector__emb"]
    assert await world.value("SELECT emb::text FROM docs WHERE id = 2") == "[2,2,2,2,2]"


async def test_another_key_builds_the_table_anew_with_all_rows(world):
    Row = record(id=int, lang=str, title=str)
    rows = [Row(1, "en", "a"), Row(2, "en", "b")]
    await world.update(world.table(rows, Row))
    await world.update(world.table([*rows, Row(1, "de", "c")], Row, ("id", "lang")))
    assert await world.value("SELECT count(*) FROM docs") == 3


async def test_a_column_that_a_view_uses_is_named_with_the_view(world):
    Wide, Narrow = record(id=int, title=str), record(id=int)
    await world.update(world.table([Wide(1, "a")], Wide))
    await world.execute("CREATE VIEW titles AS SELECT title FROM docs")
    with pytest.raises(TargetError, match="view titles"):
        await world.update(world.table([Narrow(1)], Narrow))
    assert "title" in await world.columns()
    await world.execute("DROP VIEW titles")
    await world.update(world.table([Narrow(1)], Narrow))
    assert list(await world.columns()) == ["id"]


async def test_a_table_that_a_view_uses_is_dropped_only_if_asked(world, caplog):
    await world.update(world.table(docs(1), Doc))
    await world.execute("CREATE VIEW v AS SELECT * FROM docs")
    try:
        await world.update(world.nothing)
    except TargetError as error:  # raised by whoever owns the rows, or logged
        caplog.records.append(logging.makeLogRecord({"msg": str(error)}))
    assert any("view v depends on table docs" in r.getMessage() for r in caplog.records)
    assert await world.value("SELECT count(*) FROM docs") == 0  # our rows have gone by themselves
    await world.update(world.table(docs(1), Doc, cascade=True))
    assert await world.value("SELECT count(*) FROM v") == 1
    await world.update(world.nothing)
    assert await world.columns() == {}


async def test_column_changes_come_also_with_a_full_reprocess(world):
    Wide, Narrow = record(id=int, title=str), record(id=int, n=int | None)
    await world.update(world.table([Wide(1, "a")], Wide))
    await world.update(world.table([Narrow(1, 5)], Narrow), full_reprocess=True)
    assert await world.columns() == {"id": ("bigint", False), "n": ("bigint", True)}
    assert await world.fetch("SELECT * FROM docs") == [(1, 5)]


async def test_a_table_whose_store_was_lost_is_adopted(world, world_at):
    await world.update(world.table(docs(1, 2), Doc))
    again = world_at(world.url)
    await again.update(world.table(docs(1, 3), Doc))
    assert await world.fetch("SELECT id FROM docs ORDER BY id") == [(1,), (2,), (3,)]


# --- tables of others ----------------------------------------------------------------------


async def test_a_foreign_table_that_fits_is_used_and_left_with_our_rows_gone(world, caplog):
    Row = record(id=int, title=str | None)
    await world.execute("CREATE TABLE docs (id int8 PRIMARY KEY, title text, extra text)")
    await world.execute("COMMENT ON TABLE docs IS 'theirs'")
    await world.execute("INSERT INTO docs VALUES (99, 'theirs', 'x')")
    await world.update(world.table([Row(1, "a")], Row))
    assert await world.value("SELECT count(*) FROM docs") == 2
    with caplog.at_level(logging.WARNING):
        await world.update(world.nothing)
    assert "docs" in caplog.text
    assert await world.fetch("SELECT * FROM docs") == [(99, "theirs", "x")]
    assert await world.value("SELECT obj_description('docs'::regclass)") == "theirs"


@pytest.mark.parametrize(
    ("ddl", "difference"),
    [
        ("id bigint PRIMARY KEY, title integer", "title"),
        ("id bigint PRIMARY KEY, title text, other text NOT NULL", "other"),
        ("id bigint, title text PRIMARY KEY", "key"),
        ("id bigint, title text", "key"),
    ],
)
async def test_a_foreign_table_that_does_not_fit_is_refused_with_the_differences(
    world, ddl, difference
):
    Row = record(id=int, title=str | None)
    await world.execute(f"CREATE TABLE docs ({ddl})")
    before = await world.columns()
    with pytest.raises(TargetError, match=difference):
        await world.update(world.table([Row(1, "a")], Row))
    assert await world.columns() == before
    assert await world.value("SELECT count(*) FROM docs") == 0


async def test_if_exists_error_refuses_a_table_that_fits(world):
    await world.execute("CREATE TABLE docs (id bigint PRIMARY KEY)")
    Row = record(id=int)
    with pytest.raises(TargetError, match="already exists"):
        await world.update(world.table([Row(1)], Row, if_exists="error"))


async def test_if_exists_own_makes_the_table_ours(world):
    await world.execute("CREATE TABLE docs (id bigint PRIMARY KEY)")
    await world.execute("COMMENT ON TABLE docs IS 'theirs'")
    Row = record(id=int)
    await world.update(world.table([Row(1)], Row, if_exists="own"))
    comment = await world.value("SELECT obj_description('docs'::regclass)")
    assert comment.startswith("theirs\ncocoindex:test:")
    await world.update(world.nothing)
    assert await world.columns() == {}


async def test_a_table_of_the_user_is_neither_made_nor_changed_nor_dropped(world):
    Row = record(id=int, title=str)
    main = world.table([Row(1, "a"), Row(2, "b")], Row, managed_by="user")
    with pytest.raises(TargetError, match="does not exist"):
        await world.update(main)
    await world.execute("CREATE TABLE docs (id bigint PRIMARY KEY, title varchar(9), more text)")
    with pytest.raises(TargetError, match="title"):
        await world.update(main)
    await world.execute("ALTER TABLE docs ALTER title TYPE text")
    await world.update(main)
    assert await world.value("SELECT count(*) FROM docs") == 2
    await world.update(world.nothing)
    assert await world.fetch("SELECT * FROM docs") == []
    assert list(await world.columns()) == ["id", "title", "more"]


async def test_rows_of_a_table_of_the_user_are_kept_if_asked(world):
    Row = record(id=int)
    await world.execute("CREATE TABLE docs (id bigint PRIMARY KEY)")
    await world.update(world.table([Row(1)], Row, managed_by="user", on_undeclare="keep"))
    await world.update(world.nothing)
    assert await world.fetch("SELECT * FROM docs") == [(1,)]


# --- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "a;b", "1a", "ä", "a-b", "x" * 64])
async def test_names_that_are_no_plain_identifiers_are_refused(world, name):
    with pytest.raises(ValueError, match="Invalid table name"):
        await world.update(world.table([], Doc, name=name))
    with pytest.raises(ValueError, match="Invalid schema name"):
        await world.update(world.table([], Doc, pg_schema_name=name))
    assert world.connections == 0


@pytest.mark.parametrize("name", ["select", "a b; DROP TABLE x", "Grün--", "\N{PILE OF POO}"])
async def test_quoted_names_may_be_anything_that_can_be_quoted(world, name):
    Row = dataclasses.make_dataclass("Row", [("id", int), ("value", str)])
    options: dict[str, Any] = {"name": name, "pg_schema_name": name, "quoted": True}
    await world.update(world.table([Row(1, "a"), Row(2, "b")], Row, **options))
    await world.update(world.table([Row(2, "c")], Row, **options))
    assert await world.fetch(f'SELECT * FROM "{name}"."{name}"') == [(2, "c")]


async def test_index_names_that_are_too_long_end_in_a_hash(world):
    table, column = "t" * 60, "c" * 60
    Row = dataclasses.make_dataclass("Row", [("id", int), (column, int), (column + "2", int)])

    def attach(target):
        target.declare_index(columns=[column])
        target.declare_index(columns=[column + "2"])

    await world.update(world.table([Row(1, 2, 3)], Row, name=table, attach=attach))
    indexes = await world.indexes(table)
    assert len(indexes) == 2
    assert all(len(name) == 63 for name in indexes)


# --- the extension -------------------------------------------------------------------------


async def test_a_server_without_pgvector_says_who_can_help(world_at, pg_without_vector):
    world = world_at(pg_without_vector)
    with pytest.raises(Exception, match="pgvector extension is not available") as raised:
        await world.update(world.table(docs(1), Doc))
    assert "administrator" in str(raised.value)


async def test_an_installed_extension_needs_no_privilege(world, world_at):
    user = "CREATE ROLE limited LOGIN PASSWORD 'p'"
    await world.execute(f"DO $$ BEGIN {user}; EXCEPTION WHEN duplicate_object THEN END $$")
    await world.execute("GRANT CREATE ON SCHEMA public TO limited")
    url = world.url.split("@")[1]
    limited = world_at(f"postgresql://limited:p@{url}")
    with pytest.raises(Exception, match="pgvector extension is not installed"):
        await limited.update(world.table(docs(1), Doc))
    await world.execute("CREATE EXTENSION vector")
    await limited.update(world.table(docs(1), Doc))
    assert await world.value("SELECT count(*) FROM docs") == 1
    await world.execute("DROP OWNED BY limited")

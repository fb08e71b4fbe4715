"""What a program that makes a mistake with a table is told: in its own words."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import pytest

import cocoindex as coco
from cocoindex.connectors import sqlite
from cocoindex.errors import DuplicateError, TargetError


@dataclass
class Chunk:
    path: str
    pos: int
    text: str


async def chunks(database):
    schema = await sqlite.TableSchema.from_class(Chunk, ["path", "pos"])
    return await sqlite.mount_table_target(database.key, "chunks", schema)


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
async def test_a_forgotten_await_is_told_by_the_call_as_written(database):
    async def main():
        schema = await sqlite.TableSchema.from_class(Chunk, ["path"])
        sqlite.mount_table_target(database.key, "chunks", schema)

    called = r"called mount_table_target\(\.\.\.\) without .*test_sqlite_messages.py, line \d+"
    with pytest.raises(RuntimeError, match=called):
        await database.update(main)
    gc.collect()  # while the warning is expected


async def test_a_schema_that_was_not_awaited_is_told_as_such(database):
    async def main():
        schema = sqlite.TableSchema.from_class(Chunk, ["path"])
        await sqlite.mount_table_target(database.key, "chunks", schema)

    with pytest.raises(TypeError, match=r"SQLite table chunks: .*put 'await' before TableSchema"):
        await database.update(main)


async def test_a_record_class_is_no_schema(database):
    async def main():
        await sqlite.mount_table_target(database.key, "chunks", Chunk)

    with pytest.raises(TypeError, match=r"say await TableSchema.from_class\(Chunk, …\)"):
        await database.update(main)


async def test_two_rows_with_one_key_are_named_by_their_key(database):
    async def main():
        table = await chunks(database)
        table.declare_row(row=Chunk("a.md", 1, "secret one"))
        table.declare_row(row=Chunk("a.md", 1, "secret two"))

    with pytest.raises(DuplicateError) as raised:
        await database.update(main)
    assert str(raised.value).startswith("SQLite table chunks: two rows with path='a.md', pos=1;")
    assert "secret" not in str(raised.value)


async def test_a_table_mounted_twice_is_named(database):
    async def main():
        await chunks(database)
        await chunks(database)

    with pytest.raises(DuplicateError, match="SQLite table chunks is mounted twice: mount it once"):
        await database.update(main)

    async def declared():
        for _ in range(2):
            schema = await sqlite.TableSchema.from_class(Chunk, ["path"])
            sqlite.declare_table_target(database.key, "chunks", schema)

    with pytest.raises(DuplicateError, match="SQLite table chunks is mounted twice"):
        await database.update(declared)


async def test_a_table_that_every_component_mounts_is_told(database, caplog):
    """The usual mistake: in the function of a file instead of in the main one."""

    async def publish(path):
        (await chunks(database)).declare_row(row=Chunk(path, 1, "text"))

    async def main():
        await coco.mount_each(publish, [("a", "a"), ("b", "b")])

    await database.update(main)
    assert "another component has mounted the same container since: mount it once" in caplog.text


# --- Tables and databases that are not what they were --------------------------------------


@coco.fn(memo=True)
async def publish(path, table):
    table.declare_row(row=Chunk(path, 1, f"text of {path}"))


def program(database, paths="ab", *, key=None, name="chunks", attach=None, **options):
    async def main():
        schema = await sqlite.TableSchema.from_class(Chunk, ["path", "pos"])
        table = await sqlite.mount_table_target(key or database.key, name, schema, **options)
        await coco.mount_each(publish, [(path, path) for path in paths], table)
        if attach is not None:
            attach(table)

    return main


@pytest.mark.parametrize("how", ["file", "table"])
async def test_a_table_that_is_gone_is_made_again_with_all_rows(database, caplog, how):
    def searched(table):
        table.declare_fts_index(columns=["text"])

    await database.update(program(database, attach=searched))
    if how == "file":
        database.file.unlink()
    else:
        database.run("DROP TABLE chunks")
    caplog.clear()
    await database.update(program(database, attach=searched))
    assert "SQLite table chunks is not there any more" in caplog.text
    assert database.query("SELECT path FROM chunks") == [("a",), ("b",)]
    assert database.query("SELECT count(*) FROM chunks__fts WHERE chunks__fts MATCH 'a'") == [(1,)]
    caplog.clear()
    await database.update(program(database, attach=searched))
    assert caplog.text == ""


async def test_a_table_that_goes_while_the_program_runs_is_told_with_what_to_do(database):
    async def main():
        table = await chunks(database)
        database.run("DROP TABLE chunks")
        table.declare_row(row=Chunk("a", 1, "text"))

    with pytest.raises(TargetError, match=r"no such table.*run once with full_reprocess=True"):
        await database.update(main)


async def test_a_table_of_another_app_is_not_shared_without_a_word(database, caplog):
    await database.update(program(database))
    database.name = "second"
    await database.update(program(database))
    assert "SQLite table chunks was made by another app (it is marked 'cocoindex:app:" in (
        caplog.text
    )
    caplog.clear()
    await database.update(program(database))
    assert caplog.text == ""  # once is enough
    await database.update(program(database, "", name="other"))
    assert "it was not made by this app" in caplog.text
    assert "gets them back by a run with full_reprocess=True" in caplog.text


OLD = coco.ContextKey("tests/sqlite/old name")


async def test_a_key_that_is_not_provided_any_more_is_explained(database, caplog):
    await database.update(program(database, key=OLD), provide={OLD: ...})
    await database.update(program(database, name="other"))
    assert "SQLite table chunks is not declared any more, and can't be removed" in caplog.text
    assert "builder.provide(coco.ContextKey('tests/sqlite/old name'), None)" in caplog.text


async def test_what_was_written_through_an_old_key_can_be_forgotten(database, caplog):
    def searched(table):
        table.declare_fts_index(columns=["text"])

    await database.update(program(database, key=OLD, attach=searched), provide={OLD: ...})
    renamed = program(database, if_exists="own")
    await database.update(renamed, provide={OLD: None})
    assert "SQLite table chunks stays and is forgotten" in caplog.text
    assert database.query("SELECT path FROM chunks") == [("a",), ("b",)]
    caplog.clear()
    await database.update(renamed)
    assert caplog.text == ""
    await database.update(program(database, name="other"))
    assert database.query("SELECT name FROM sqlite_schema WHERE name = 'chunks'") == []


async def test_the_keys_of_a_table_that_does_not_fit_are_shown(database):
    database.run("CREATE TABLE chunks (path TEXT PRIMARY KEY, pos INTEGER, text TEXT)")
    with pytest.raises(TargetError) as raised:
        await database.update(program(database))
    assert (
        "its primary key is (path TEXT), declared (path TEXT not null, pos INTEGER not null)"
        in str(raised.value)
    )


async def test_a_table_of_another_kind_is_told(database):
    database.run(
        "CREATE TABLE chunks (path TEXT, pos INTEGER, text TEXT, PRIMARY KEY (path, pos)) STRICT"
    )
    with pytest.raises(TargetError, match="it is a table of another kind"):
        await database.update(program(database))


async def test_a_value_that_a_dict_lacks_is_missing_and_not_none(database):
    async def main():
        (await chunks(database)).declare_row(row={"path": "a", "pos": 1})

    with pytest.raises(ValueError, match=r"column 'text', row 'a', 1: missing, but the column"):
        await database.update(main)

"""What a program that makes a mistake with a table is told: in its own words."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import pytest

import cocoindex as coco
from cocoindex.connectors import sqlite
from cocoindex.errors import DuplicateError


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

    with pytest.raises(TypeError, match="SQLite table chunks: .*put 'await' before TableSchema"):
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

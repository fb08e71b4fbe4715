import os
import pathlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

import cocoindex as coco
from cocoindex.connectors import localfs, postgres
from cocoindex.resources.file import FileLike, PatternFilePathMatcher

HERE = pathlib.Path(__file__).parent
DB = coco.ContextKey[asyncpg.Pool]("notes_in_postgres/db")


@dataclass
class Note:
    name: str
    words: int
    text: str


@coco.lifespan
async def lifespan(builder: coco.EnvironmentBuilder) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["POSTGRES_URL"], min_size=0) as pool:
        builder.provide(DB, pool)
        yield


@coco.fn(memo=True)
async def publish(file: FileLike, table: postgres.TableTarget[Note]) -> None:
    text = await file.read_text()
    table.declare_row(row=Note(file.file_path.stem, len(text.split()), text))


async def app_main() -> None:
    schema = await postgres.TableSchema.from_class(Note, ["name"])
    table = await postgres.mount_table_target(DB, "notes", schema)
    markdown = PatternFilePathMatcher(included_patterns=["**/*.md"])
    notes = localfs.walk_dir(HERE / "notes", path_matcher=markdown)
    await coco.mount_each(publish, notes.items(), table)


app = coco.App("NotesInPostgres", app_main)

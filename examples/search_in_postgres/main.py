"""Keeps the table kb.chunks in step with ../search_in_sqlite/notes, vectors included."""

import os
import pathlib
import re
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import asyncpg
import numpy as np
from numpy.typing import NDArray

import cocoindex as coco
from cocoindex.connectors import localfs, postgres
from cocoindex.resources.file import FileLike, PatternFilePathMatcher
from cocoindex.resources.schema import VectorSchema

HERE = pathlib.Path(__file__).parent
NOTES = coco.ContextKey[pathlib.Path]("notes")
DB = coco.ContextKey[asyncpg.Pool]("db")


@dataclass
class Chunk:
    path: str
    pos: int
    text: str
    embedding: Annotated[NDArray[np.float32], VectorSchema(256)]


@coco.lifespan
async def lifespan(builder: coco.EnvironmentBuilder) -> AsyncIterator[None]:
    builder.provide(NOTES, HERE.parent / "search_in_sqlite/notes")
    async with asyncpg.create_pool(os.environ["POSTGRES_URL"], min_size=0) as pool:
        builder.provide(DB, pool)
        yield


@coco.fn
def embed(text: str) -> NDArray[np.float32]:
    """Stands for a model: texts are close if they share words."""
    vector = np.zeros(256, np.float32)
    for word in re.findall(r"\w+", text.lower()):
        vector[zlib.crc32(word.encode()) % 256] += 1
    return vector / max(float(np.linalg.norm(vector)), 1.0)


@coco.fn(memo=True)
async def publish(file: FileLike, chunks: postgres.TableTarget[Chunk]) -> None:
    path = file.file_path.as_posix()  # below NOTES: "garden/roses.md"
    paragraphs = (await file.read_text()).split("\n\n")
    for pos, text in enumerate(part.strip() for part in paragraphs):
        chunks.declare_row(row=Chunk(path, pos, text, embed(text)))


async def app_main() -> None:
    schema = await postgres.TableSchema.from_class(Chunk, ["path", "pos"])
    chunks = await postgres.mount_table_target(DB, "chunks", schema, pg_schema_name="kb")
    markdown = PatternFilePathMatcher(included_patterns=["**/*.md"])
    notes = localfs.walk_dir(NOTES, recursive=True, path_matcher=markdown)
    await coco.mount_each(publish, notes.items(), chunks)
    chunks.declare_vector_index(column="embedding", metric="cosine", method="hnsw")
    chunks.declare_fts_index(column="text", language="english")


app = coco.App("SearchInPostgres", app_main)

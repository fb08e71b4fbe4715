"""Keeps notes.sqlite in step with ./notes: words to search for, and vectors to search by."""

import pathlib
import re
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

import cocoindex as coco
from cocoindex.connectors import localfs, sqlite
from cocoindex.resources.file import FileLike, PatternFilePathMatcher
from cocoindex.resources.schema import VectorSchema

HERE = pathlib.Path(__file__).parent
NOTES = coco.ContextKey[pathlib.Path]("notes")
DB = coco.ContextKey[sqlite.ManagedConnection]("db")


@dataclass
class Chunk:
    path: str
    pos: int
    text: str


@dataclass
class ChunkVector:
    id: str
    path: str
    text: str
    embedding: Annotated[NDArray[np.float32], VectorSchema(256)]


def database() -> AbstractContextManager[sqlite.ManagedConnection]:
    # The sqlite3 module of many Pythons can't load sqlite-vec; apsw can, everywhere.
    return sqlite.managed_connection(HERE / "notes.sqlite", driver="apsw")


@coco.lifespan
def lifespan(builder: coco.EnvironmentBuilder) -> Iterator[None]:
    builder.settings.db_path = HERE / ".state"
    builder.provide(NOTES, HERE / "notes")
    builder.provide_with(DB, database())
    yield


@coco.fn
def embed(text: str) -> NDArray[np.float32]:
    """Stands for a model: texts are close if they share words."""
    vector = np.zeros(256, np.float32)
    for word in re.findall(r"\w+", text.lower()):
        vector[zlib.crc32(word.encode()) % 256] += 1
    return vector / max(float(np.linalg.norm(vector)), 1.0)


@coco.fn(memo=True)
async def publish(
    file: FileLike,
    chunks: sqlite.TableTarget[Chunk],
    vectors: sqlite.TableTarget[ChunkVector],
) -> None:
    path = file.file_path.as_posix()  # below NOTES: "garden/roses.md"
    paragraphs = (await file.read_text()).split("\n\n")
    for pos, text in enumerate(part.strip() for part in paragraphs):
        chunks.declare_row(row=Chunk(path, pos, text))
        vectors.declare_row(row=ChunkVector(f"{path}#{pos}", path, text, embed(text)))


async def app_main() -> None:
    chunks = await sqlite.mount_table_target(
        DB, "chunks", await sqlite.TableSchema.from_class(Chunk, ["path", "pos"])
    )
    vectors = await sqlite.mount_table_target(
        DB,
        "chunk_vectors",
        await sqlite.TableSchema.from_class(ChunkVector, ["id"]),
        virtual_table_def=sqlite.Vec0TableDef(
            auxiliary_columns=["path", "text"], distance_metrics={"embedding": "cosine"}
        ),
    )
    markdown = PatternFilePathMatcher(included_patterns=["**/*.md"])
    notes = localfs.walk_dir(NOTES, recursive=True, path_matcher=markdown)
    await coco.mount_each(publish, notes.items(), chunks, vectors)
    chunks.declare_fts_index(columns=["text"], tokenizer="porter unicode61")


app = coco.App("SearchInSqlite", app_main)

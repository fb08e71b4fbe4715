"""Rows of real tables: in Postgres, with and without vectors, and in SQLite.

Needs asyncpg in both environments, and for Postgres a server: the one that the environment
variable COCOINDEX_BENCH_POSTGRES leads to, or one from a wheel, started for the run.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pathlib
import sqlite3
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from benchmarks import harness
from benchmarks.harness import CHANGED, COLD, UNCHANGED, Case, Expected, Program, Scale, Size

DIMENSIONS = 384
ROWS: dict[Scale, tuple[int, int]] = {
    "full": (20_000, 100_000),
    "quick": (1_000, 5_000),
    "tiny": (100, 200),
}
VECTOR_REACH = {COLD: 12.0, UNCHANGED: 15.0}
PLAIN_REACH = {COLD: 5.0, UNCHANGED: 6.0}


def cases(scale: Scale) -> list[Case]:
    with_vectors, plain = ROWS[scale]
    return [
        Case(
            f"Postgres, {with_vectors:,} rows with a vector",
            {"rows": with_vectors, "vectors": 1, "sqlite": 0},
            units=with_vectors,
            reach=VECTOR_REACH,
        ),
        Case(
            f"Postgres, {plain:,} plain rows",
            {"rows": plain, "vectors": 0, "sqlite": 0},
            units=plain,
            reach=PLAIN_REACH,
        ),
        Case(
            f"SQLite, {plain:,} plain rows",
            {"rows": plain, "vectors": 0, "sqlite": 1},
            units=plain,
            reach=PLAIN_REACH,
        ),
    ]


def expect(_phase: str, _size: Size) -> Expected:
    return Expected(1)


# --- what is written -----------------------------------------------------------------------


def rows(phase: str, size: Size) -> list[tuple[Any, ...]]:
    """Key, title, number, and a vector if there are any; a hundredth of them differs."""
    count = size["rows"]
    plain = [(i, f"title of row {i}", i * 7 + harness.changed(i, phase)) for i in range(count)]
    if not size["vectors"]:
        return list(plain)
    import numpy as np

    vectors = np.random.default_rng(0).standard_normal((count, DIMENSIONS), dtype=np.float32)
    return [(*row, vector) for row, vector in zip(plain, vectors, strict=True)]


def program(folder: pathlib.Path, phase: str, size: Size) -> Program:
    """One component that declares all rows, which exist before the clock starts."""
    import cocoindex as coco

    tally = harness.Tally()
    database = coco.ContextKey[Any]("bench/database")
    connector: Any = _connector(size)
    row_type = _row_type(size)
    declared = Declared([row_type(*row) for row in rows(phase, size)])

    @coco.fn
    async def main() -> None:
        tally.ran()
        schema = await connector.TableSchema.from_class(row_type, ["id"])
        table = await connector.mount_table_target(database, "items", schema)
        for row in declared.rows:
            table.declare_row(row=row)

    @contextlib.asynccontextmanager
    async def provide(provider: Any) -> AsyncIterator[None]:
        if size["sqlite"]:
            with connector.managed_connection(folder / "target.sqlite") as connection:
                provider.provide(database, connection)
                yield
            return
        import asyncpg

        async with asyncpg.create_pool(_url(folder), min_size=0, max_size=2) as pool:
            provider.provide(database, pool)
            yield

    return Program(main, tally, provide)


class Declared:
    """Holds rows. No plain data to the engine's eyes, so that it does not look into them."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows


def _connector(size: Size) -> Any:
    if size["sqlite"]:
        from cocoindex.connectors import sqlite

        return sqlite
    from cocoindex.connectors import postgres

    return postgres


def _row_type(size: Size) -> Any:
    @dataclass(frozen=True)
    class Item:
        id: int
        title: str
        number: int

    if not size["vectors"]:
        return Item
    import numpy as np
    from numpy.typing import NDArray

    from cocoindex.resources.schema import VectorSchema

    schema = VectorSchema(dtype=np.dtype(np.float32), size=DIMENSIONS)
    hints = {"id": int, "title": str, "number": int, "vector": Annotated[NDArray[Any], schema]}
    fields = {"__annotations__": hints, "__module__": __name__}
    return dataclass(frozen=True)(type("ItemWithVector", (), fields))


# --- databases -----------------------------------------------------------------------------


@functools.cache
def server() -> str:
    """URL of a server; one from a wheel has the settings it comes with, and ends with us."""
    given = os.environ.get("COCOINDEX_BENCH_POSTGRES")
    if given:
        return given
    from cocoindex.testing.postgres import local_postgres

    running = local_postgres(harness.WORK / "postgres")
    atexit.register(running.__exit__, None, None, None)
    return running.__enter__().url


def _url(folder: pathlib.Path) -> str:
    return (folder / "url").read_text(encoding="utf-8")


def prepare(folder: pathlib.Path, phase: str, size: Size) -> None:
    """A database without anything in it, and a server that is done with what came before."""
    if size["sqlite"]:
        return
    import psycopg

    name = f"bench_{harness.safe_name(folder.name)}"
    with psycopg.connect(server(), autocommit=True) as connection:
        if phase == COLD:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name}")
            url = f"{server().rpartition('/')[0]}/{name}"
            (folder / "url").write_text(url, encoding="utf-8")
            with psycopg.connect(url) as fresh:
                fresh.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("CHECKPOINT")


def verify(folder: pathlib.Path, phase: str, size: Size) -> None:
    found = _query(folder, size, "SELECT count(*), sum(number) FROM items")
    count = size["rows"]
    more = len(range(0, count, 100)) if phase == CHANGED else 0
    if found != (count, sum(range(count)) * 7 + more):
        raise AssertionError(f"{phase}: rows and sum are {found}")
    if size["vectors"]:
        texts = _query(folder, size, "SELECT min(vector::text), max(vector::text) FROM items")
        if len(set(texts)) != 2:
            raise AssertionError(f"{phase}: the vectors are not there")


def _query(folder: pathlib.Path, size: Size, sql: str) -> tuple[Any, ...]:
    if size["sqlite"]:
        with contextlib.closing(sqlite3.connect(folder / "target.sqlite")) as database:
            return tuple(database.execute(sql).fetchone())
    import psycopg

    with psycopg.connect(_url(folder)) as connection:
        return tuple(connection.execute(sql.encode()).fetchone() or ())


# --- the floor -----------------------------------------------------------------------------


def bare(folder: pathlib.Path, phase: str, size: Size) -> float | None:
    """The same rows into a table of the same shape, by the shortest way that can update rows."""
    if phase == UNCHANGED:
        return None
    written = rows(phase, size)
    if phase == CHANGED:
        written = written[::100]
    if size["sqlite"]:
        return _bare_sqlite(folder, written)
    import asyncio

    return asyncio.run(_bare_copy(folder, written, with_vectors=bool(size["vectors"])))


def _bare_sqlite(folder: pathlib.Path, written: list[tuple[Any, ...]]) -> float:
    with contextlib.closing(sqlite3.connect(folder / "target.sqlite")) as database, database:
        database.execute("PRAGMA journal_mode = WAL")
        start = time.perf_counter()
        database.execute(
            "CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, title TEXT, number INTEGER)"
        )
        database.executemany(
            "INSERT INTO items VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
            "SET title = excluded.title, number = excluded.number",
            written,
        )
        database.commit()
        return time.perf_counter() - start


async def _bare_copy(
    folder: pathlib.Path, written: list[tuple[Any, ...]], *, with_vectors: bool
) -> float:
    """COPY into a temporary table, then merge."""
    import asyncpg

    names = ["id", "title", "number", "vector"][: 3 + with_vectors]
    vector = f", vector vector({DIMENSIONS}) NOT NULL" if with_vectors else ""
    updates = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
    connection = await asyncpg.connect(_url(folder))
    if with_vectors:
        await connection.set_type_codec(
            "vector", schema="public", encoder=_vector_bytes, decoder=bytes, format="binary"
        )
    start = time.perf_counter()
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS items "
        f"(id bigint PRIMARY KEY, title text NOT NULL, number bigint NOT NULL{vector})"
    )
    async with connection.transaction():
        await connection.execute("CREATE TEMP TABLE stage (LIKE items) ON COMMIT DROP")
        await connection.copy_records_to_table("stage", records=written, columns=names)
        await connection.execute(
            f"INSERT INTO items SELECT * FROM stage ON CONFLICT (id) DO UPDATE SET {updates}"
        )
    seconds = time.perf_counter() - start
    await connection.close()
    return seconds


def _vector_bytes(vector: Any) -> bytes:
    return struct.pack(">hh", len(vector), 0) + vector.astype(">f4").tobytes()


WORKLOAD = harness.Workload(
    title="Tables",
    about=f"Rows of key, text and number, in one of the cases with a vector of {DIMENSIONS} "
    "float32, to a table. All are declared by one component, which runs each time. The floor is "
    "a bare COPY into a temporary table and a merge from there; for SQLite, one `executemany`.",
    unit="row",
    cases=cases,
    expect=expect,
    program=program,
    floor=bare,
    prepare=prepare,
    verify=verify,
)

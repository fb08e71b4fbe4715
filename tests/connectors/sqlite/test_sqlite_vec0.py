from __future__ import annotations

import struct
from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cocoindex as coco
from cocoindex.connectors import sqlite
from cocoindex.connectors.sqlite import SqliteType, Vec0TableDef
from cocoindex.resources.schema import VectorSchema

Vector = Annotated[NDArray[np.float32], VectorSchema(4)]


@dataclass
class Chunk:
    id: int
    embedding: Vector
    language: str
    text: str | None = None
    year: int = 2024


DEFINITION = Vec0TableDef(
    partition_key_columns=["language"],
    auxiliary_columns=["text"],
    distance_metrics={"embedding": "cosine"},
)


def chunk(i: int, **more: Any) -> Chunk:
    vector = np.zeros(4, np.float32)
    vector[i % 4] = 1 + i
    return Chunk(i, vector, "en" if i % 2 else "de", **more)


@coco.fn(memo=True)
async def declare(row: Any, target: Any) -> None:
    target.declare_row(row=row)


class Program:
    """Declares ``rows`` in a table ``t``, one memoized component each."""

    def __init__(self, key: Any, cls: Any, rows: Any, definition: Any = DEFINITION) -> None:
        self.key, self.cls, self.rows, self.definition = key, cls, rows, definition

    async def __call__(self) -> None:
        schema = await sqlite.TableSchema.from_class(self.cls, ["id"])
        target = await sqlite.mount_table_target(
            self.key, "t", schema, virtual_table_def=self.definition
        )
        await coco.mount_each(declare, [(str(r.id), r) for r in self.rows], target)


async def test_neighbours_are_found(vector_database):
    program = Program(vector_database.key, Chunk, [chunk(i, text=f"text {i}") for i in range(8)])
    await vector_database.update(program)
    near = struct.pack("<4f", 0, 1, 0, 0)
    found = vector_database.query(
        "SELECT id, text FROM t WHERE embedding MATCH ? AND k = 2 AND language = 'en' "
        "AND year = 2024",
        near,
    )
    assert sorted(found) == [(1, "text 1"), (5, "text 5")]
    (sql,) = vector_database.query("SELECT sql FROM sqlite_schema WHERE name = 't'")[0]
    assert sql == (
        'CREATE VIRTUAL TABLE "t" USING vec0(id integer primary key, embedding float[4] '
        "distance_metric=cosine, language text partition key, +text text, year integer)"
    )


@pytest.mark.parametrize("declare", ["declare_index", "declare_fts_index"])
async def test_it_has_no_other_index(vector_database, declare):
    schema = await sqlite.TableSchema.from_class(Chunk, ["id"])

    async def main():
        target = await sqlite.mount_table_target(
            vector_database.key, "t", schema, virtual_table_def=DEFINITION
        )
        getattr(target, declare)(columns=["text"])

    with pytest.raises(ValueError, match="vec0 table"):
        await vector_database.update(main)


async def test_rows_change_and_go(vector_database):
    program = Program(vector_database.key, Chunk, [chunk(i) for i in range(4)])
    await vector_database.update(program)
    program.rows = [chunk(0, text="changed"), chunk(3), chunk(9)]
    await vector_database.update(program)
    rows = vector_database.query("SELECT id, text FROM t ORDER BY id")
    assert rows == [(0, "changed"), (3, None), (9, None)]


async def test_every_change_of_the_table_keeps_all_rows(vector_database):
    """Also rows of memoized components, and there and back to a regular table."""
    rows = [chunk(i) for i in range(4)]
    wider = make_dataclass("Wider", [("more", str | None, field(default=None))], bases=(Chunk,))
    program = Program(vector_database.key, Chunk, rows)
    two_dimensions = make_dataclass(
        "Small", [("id", int), ("embedding", Annotated[list[float], VectorSchema(2)])]
    )
    more = Vec0TableDef(auxiliary_columns=["text", "more"])
    steps = [
        (Chunk, rows, DEFINITION),
        (wider, [wider(**vars(row), more="x") for row in rows], more),
        (Chunk, rows, None),
        (Chunk, rows, DEFINITION),
        (two_dimensions, [two_dimensions(i, [0.0, i]) for i in range(4)], Vec0TableDef()),
    ]
    for cls, declared, definition in steps:
        program.cls, program.rows, program.definition = cls, declared, definition
        await vector_database.update(program)
        assert vector_database.query("SELECT count(*) FROM t") == [(4,)]
        await vector_database.update(program)
        assert vector_database.query("SELECT count(*) FROM t") == [(4,)]


async def test_text_keys_and_other_kinds_of_vectors(vector_database):
    @dataclass
    class Row:
        id: str
        vector: Vector
        small: Annotated[NDArray[np.int8], VectorSchema(np.int8, 2)]
        bits: Annotated[NDArray[np.bool_], VectorSchema(bool, 8)]
        score: float

    row = Row(
        "it's", np.ones(4, np.float32), np.array([1, -1], np.int8), np.eye(8, dtype=bool)[1], 1.5
    )
    program = Program(vector_database.key, Row, [row], Vec0TableDef())
    await vector_database.update(program)
    found = vector_database.query("SELECT id, small, bits, score FROM t")
    assert found == [("it's", b"\x01\xff", b"\x02", 1.5)]
    program.rows = []
    await vector_database.update(program)
    assert vector_database.query("SELECT count(*) FROM t") == [(0,)]


async def test_an_undeclared_table_goes_whole(vector_database):
    program = Program(vector_database.key, Chunk, [chunk(1)])
    await vector_database.update(program)

    async def nothing() -> None:
        pass

    await vector_database.update(nothing)
    names = vector_database.query("SELECT name FROM sqlite_schema WHERE name LIKE 't%'")
    assert names == []


async def test_what_stands_there_can_be_read_back(vector_database):
    """``observe``: the record of each row as it is, and that a row is gone."""
    seen = {}
    rows = [chunk(i, text=f"{i}") for i in range(3)]

    async def main() -> None:
        schema = await sqlite.TableSchema.from_class(Chunk, ["id"])
        target = await sqlite.mount_table_target(
            vector_database.key, "t", schema, virtual_table_def=DEFINITION
        )
        for row in rows:
            target.declare_row(row=row)
        handler = target._provider.info.handler
        context = coco.get_component_context().execution.run.context_provider
        seen.update(await handler.observe(context, [(i,) for i in range(4)]))
        pages = [page async for page in await handler.observe(context, None)]
        seen["pages"] = {key: record for page in pages for key, record in page.items()}
        seen["declared"] = {
            target._codec.encode(row)[0]: handler._fingerprint(target._codec.encode(row)[1])
            for row in rows
        }

    await vector_database.update(main)
    await vector_database.update(main)
    assert {key: seen[key] for key in seen["declared"]} == seen["declared"]
    assert seen["pages"] == seen["declared"]
    assert seen[3,] is coco.NON_EXISTENCE


BAD = [
    (Vec0TableDef(partition_key_columns=["x"]), {}, "Partition key columns not in schema: x"),
    (Vec0TableDef(auxiliary_columns=["x"]), {}, "Auxiliary columns not in schema: x"),
    (Vec0TableDef(), {"id": float}, "require INTEGER primary key"),
    (Vec0TableDef(), {"embedding": str}, "at least one float"),
    (Vec0TableDef(), {"text": str | None}, "'text' is nullable"),
    (Vec0TableDef(), {"data": bytes}, "must be one of auxiliary_columns"),
    (Vec0TableDef(), {"embedding": Vector | None}, "can't be nullable"),
    (Vec0TableDef(distance_metrics={"id": "l2"}), {}, "distance_metrics"),
    (Vec0TableDef(distance_metrics={"embedding": "ip"}), {}, "distance_metrics"),
]


@pytest.mark.parametrize(("definition", "fields", "message"), BAD)
async def test_tables_that_can_not_be(vector_database, definition, fields, message):
    cls = make_dataclass("R", list({"id": int, "embedding": Vector, **fields}.items()))
    with pytest.raises(ValueError, match=message):
        await vector_database.update(Program(vector_database.key, cls, [], definition))


async def test_a_key_of_two_columns_can_not_be(vector_database):
    cls = make_dataclass("R", [("id", int), ("b", int), ("embedding", Vector)])
    schema = await sqlite.TableSchema.from_class(cls, ["id", "b"])
    with pytest.raises(ValueError, match="exactly one primary key column, not 2"):
        sqlite.table_target(vector_database.key, "t", schema, virtual_table_def=Vec0TableDef())


@pytest.mark.parametrize("definition", [None, Vec0TableDef(auxiliary_columns=["text"])])
async def test_without_the_extension_vectors_are_refused_early(database, definition):
    database.options["load_vec"] = False
    cls = make_dataclass("R", [("id", int), ("embedding", Vector), ("text", str)])
    with pytest.raises(RuntimeError, match="sqlite-vec extension must be loaded"):
        await database.update(Program(database.key, cls, [], definition))
    assert database.query("SELECT name FROM sqlite_schema") == []


async def test_the_connection_that_writes_needs_the_extension_too(vector_database):
    await vector_database.update(Program(vector_database.key, Chunk, []))
    state = []

    async def main() -> None:
        schema = await sqlite.TableSchema.from_class(Chunk, ["id"])
        state.append(sqlite.table_target(vector_database.key, "u", schema))

    await vector_database.update(main)
    vector_database.options["load_vec"] = False

    async def later() -> None:
        await coco.mount_target(state[0])

    with pytest.raises(RuntimeError, match="sqlite-vec extension must be loaded"):
        await vector_database.update(later)


async def test_a_type_of_one_s_own_needs_no_vector_schema(vector_database):
    cls = make_dataclass(
        "R", [("id", int), ("v", Annotated[bytes, SqliteType("float[2]")]), ("n", int)]
    )
    rows = [cls(1, struct.pack("<2f", 1, 2), 5)]
    await vector_database.update(Program(vector_database.key, cls, rows, Vec0TableDef()))
    assert vector_database.query("SELECT vec_to_json(v) FROM t") == [("[1.000000,2.000000]",)]

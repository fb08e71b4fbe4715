"""Statements that write, delete and read rows.

Many rows, or rows with vectors, go through a temporary table that a binary COPY fills; if they
are probably all new, the COPY is first tried on the table itself. Few rows go as one array of
texts per column, in one statement.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import asyncpg

from cocoindex.connectorkits import jsonenc
from cocoindex.connectorkits.identifiers import quote
from cocoindex.connectorkits.rows import size_of
from cocoindex.connectorkits.tables import Key, Layout, LayoutColumn, RowAction, Table
from cocoindex.connectors.postgres._catalog import qualified
from cocoindex.connectors.postgres._literals import literal
from cocoindex.connectors.postgres._plain import JsonText
from cocoindex.connectors.postgres._vectors import VECTOR_TYPES, decoder
from cocoindex.connectors.postgres._wire import NULL, base_type, wire_for

__all__ = ["RowStatements"]

Fields = tuple[Any, ...]

STAGED_ROWS: Final = 500
"""From so many rows on, a temporary table pays."""
STAGED_BYTES: Final = 1 << 20
"""The same, for few rows that are large."""

_STAGE: Final = Table("", ("pg_temp", "_cocoindex_stage"))

_SAME_BINARY: Final[Mapping[str, tuple[str, ...]]] = {
    "boolean": ("bool",),
    "smallint": ("int2",),
    "integer": ("int4",),
    "bigint": ("int8",),
    "real": ("float4",),
    "double precision": ("float8",),
    "text": ("text", "varchar"),
    "bpchar": ("bpchar",),
    "bytea": ("bytea",),
    "uuid": ("uuid",),
    "json": ("json",),
    "jsonb": ("jsonb",),
    "date": ("date",),
    "time": ("time",),
    "time with time zone": ("timetz",),
    "timestamp": ("timestamp",),
    "timestamp with time zone": ("timestamptz",),
    "interval": ("interval",),
    "vector": ("vector",),
    "halfvec": ("halfvec",),
    "sparsevec": ("sparsevec",),
    "bit varying": ("bit", "varbit"),
}
"""The types, by their names in the catalog, that are read from the same bytes as a staging type.
What stands in the catalog decides: a table may have been changed behind our back."""

_TYPES: Final = """
SELECT array_agg(t.typname ORDER BY array_position($2::text[], a.attname::text))
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass($1) AND a.attname = ANY($2::text[]) AND NOT a.attisdropped
HAVING count(*) = cardinality($2::text[])
"""

_NOT_BY_COPY: Final = (
    asyncpg.UniqueViolationError,  # a row is there after all
    asyncpg.FeatureNotSupportedError,  # row-level security
    asyncpg.WrongObjectTypeError,  # a view
)
_BLOCK_BYTES: Final = 1 << 18

_COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END: Final = b"\xff\xff"


class RowStatements:
    """What is said to the server about the rows of one table. Make them with :meth:`of`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._table = qualified(layout.table)
        self._wires = [wire_for(column.type) for column in layout.columns]
        self._texts_only = not any(wire.is_binary for wire in self._wires)
        self._key = [wire_for(column.type).key_type for column in layout.key_columns]
        self._takes_copy = all(wire.cast is None for wire in self._wires)

    @staticmethod
    @lru_cache(256)
    def of(layout: Layout) -> RowStatements:
        return RowStatements(layout)

    # --- writing -------------------------------------------------------------------------------

    async def upsert(self, connection: Any, actions: Sequence[RowAction]) -> int:
        """Insert rows, or update those whose key is there, in the order of their keys: writers
        that share rows do not wait for each other in a circle. Returns the number of statements.
        """
        rows: list[Any] = [action.fields for action in sorted(actions, key=attrgetter("key"))]
        few = len(rows) < STAGED_ROWS and self._texts_only
        if few and sum(map(size_of, rows)) < STAGED_BYTES:
            await self._upsert_arrays(connection, rows)
            return 1
        are_new = self._takes_copy and all(action.fresh for action in actions)
        if are_new and await self._insert_new(connection, rows):
            return 1
        await self._upsert_staged(connection, rows)
        return 3

    async def _insert_new(self, connection: Any, rows: Sequence[Fields]) -> bool:
        """Copy rows into the table itself. False, and nothing written, where that can't be."""
        names = list(self._layout.names)
        types = await connection.fetchval(_TYPES, self._table, names)
        self._takes_copy = types is not None and all(
            actual in _SAME_BINARY[wire.stage]
            for actual, wire in zip(types, self._wires, strict=True)
        )
        if not self._takes_copy:
            return False
        try:
            async with connection.transaction():
                await self._copy(connection, self._layout.table, rows, columns=names)
        except _NOT_BY_COPY:
            self._takes_copy = False  # once is enough: what was copied in vain takes space
            return False
        return True

    async def _upsert_arrays(self, connection: Any, rows: Sequence[Fields]) -> None:
        columns = [
            [None if value is None else literal(value) for value in column]
            for column in zip(*rows, strict=True)
        ]
        await connection.execute(self._insert(self._from_arrays()), *columns)

    async def _upsert_staged(self, connection: Any, rows: Sequence[Fields]) -> None:
        definitions = ", ".join(f"c{i} {wire.stage}" for i, wire in enumerate(self._wires))
        await connection.execute(f"CREATE TEMP TABLE {_STAGE.name} ({definitions}) ON COMMIT DROP")
        await self._copy(connection, _STAGE, rows)
        insert = self._insert(self._from_stage())
        await connection.execute(f"{insert}; DROP TABLE {qualified(_STAGE)}")  # others may follow

    async def _copy(
        self, connection: Any, table: Table, rows: Sequence[Fields], **options: Any
    ) -> None:
        await connection.copy_to_table(
            table.name,
            schema_name=table.path[0],
            source=self._blocks(rows),
            format="binary",
            **options,
        )

    def _insert(self, source: str) -> str:
        names = ", ".join(quote(name) for name in self._layout.names)
        key = ", ".join(quote(name) for name in self._layout.key)
        return f"INSERT INTO {self._table} ({names}) {source} ON CONFLICT ({key}) {self._update()}"

    def _update(self) -> str:
        others = [quote(name) for name in self._layout.others]
        if not others:
            return "DO NOTHING"
        return "DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in others)

    def _from_stage(self) -> str:
        selected = ", ".join(
            f"c{i}" if wire.cast is None else f"c{i}::{wire.cast}"
            for i, wire in enumerate(self._wires)
        )
        return f"SELECT {selected} FROM {qualified(_STAGE)}"  # noqa: S608 - column types are declared

    def _from_arrays(self) -> str:
        selected = ", ".join(f"c{i}::{wire.key_type}" for i, wire in enumerate(self._wires))
        return f"SELECT {selected} FROM {_arrays(len(self._wires))}"  # noqa: S608 - as above

    async def _blocks(self, rows: Sequence[Fields]) -> AsyncIterator[bytes]:
        yield _COPY_HEAD
        for block in _joined(map(self._packer(), rows)):
            yield block
        yield _COPY_END

    def _packer(self) -> Callable[[Fields], bytes]:
        """From the fields of a row to one row of a COPY."""
        head = len(self._wires).to_bytes(2, "big")
        to_bytes = [wire.field for wire in self._wires]
        join = b"".join

        def pack(fields: Fields) -> bytes:
            return head + join(
                [NULL if v is None else f(v) for f, v in zip(to_bytes, fields, strict=True)]
            )

        return pack

    # --- deleting ------------------------------------------------------------------------------

    async def delete(self, connection: Any, keys: Sequence[Key]) -> None:
        """Delete rows by primary key."""
        condition, tables = self._is_one_of()
        using = f" USING {tables}" if tables else ""
        statement = f"DELETE FROM {self._table} AS t{using} WHERE {condition}"  # noqa: S608 - quoted
        await connection.execute(statement, *_key_arrays(keys))

    def _is_one_of(self) -> tuple[str, str]:
        """The condition that a row's key is among those given, and what it joins with."""
        names = [f"t.{quote(name)}" for name in self._layout.key]
        if len(names) == 1:
            return f"{names[0]} = ANY($1::text[]::{self._key[0]}[])", ""
        pairs = enumerate(zip(names, self._key, strict=True))
        equal = [f"{name} = c{i}::{kind}" for i, (name, kind) in pairs]
        return " AND ".join(equal), _arrays(len(names))

    # --- reading -------------------------------------------------------------------------------

    async def read(
        self, connection: Any, keys: Sequence[Key] | None, after: Key | None, limit: int
    ) -> list[Fields]:
        """Rows by key, or the next ``limit`` rows behind the key ``after``."""
        if keys is not None:
            condition, tables = self._is_one_of()
            source = f", {tables}" if tables else ""
            query = f"SELECT {self._selected()} FROM {self._table} AS t{source} WHERE {condition}"  # noqa: S608 - quoted
            found = await connection.fetch(query, *_key_arrays(keys))
        else:
            query = self._page(after) + f" LIMIT {limit}"
            found = await connection.fetch(query, *(literal(part) for part in after or ()))
        decoders = [_decoder(column) for column in self._layout.columns]
        return [
            tuple([_decoded(d, v) for d, v in zip(decoders, row.values(), strict=True)])
            for row in found
        ]

    def _page(self, after: Key | None) -> str:
        names = ", ".join(f"t.{quote(name)}" for name in self._layout.key)
        condition = ""
        if after is not None:
            values = ", ".join(f"${i + 1}::text::{kind}" for i, kind in enumerate(self._key))
            condition = f" WHERE ({names}) > ({values})"
        return f"SELECT {self._selected()} FROM {self._table} AS t{condition} ORDER BY {names}"  # noqa: S608 - quoted

    def _selected(self) -> str:
        return ", ".join(_expression(column) for column in self._layout.columns)


def _arrays(count: int) -> str:
    """The parameters, arrays of texts, as a table with the columns c0, c1, and so on."""
    arrays = ", ".join(f"${i + 1}::text[]" for i in range(count))
    names = ", ".join(f"c{i}" for i in range(count))
    return f"unnest({arrays}) AS s({names})"


def _key_arrays(keys: Iterable[Key]) -> list[list[str]]:
    return [[literal(part) for part in parts] for parts in zip(*keys, strict=True)]


def _joined(rows: Iterator[bytes]) -> Iterator[bytes]:
    """Rows put together to blocks that are worth a call."""
    block: list[bytes] = []
    size = 0
    for row in rows:
        block.append(row)
        size += len(row)
        if size >= _BLOCK_BYTES:
            yield b"".join(block)
            block, size = [], 0
    yield b"".join(block)


def _expression(column: LayoutColumn) -> str:
    name = f"t.{quote(column.name)}"
    base = base_type(column.type)
    if base in ("json", "jsonb"):
        return f"{name}::text"
    if base in VECTOR_TYPES and base != "bit":
        return f"{base}_send({name})"
    return name


def _decoder(column: LayoutColumn) -> Callable[[Any], Any] | None:
    base = base_type(column.type)
    if base in ("json", "jsonb"):
        return lambda text: JsonText(jsonenc.dumps(json.loads(text)))
    if base in VECTOR_TYPES and base != "bit":
        return decoder(base)
    return None


def _decoded(decode: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if decode is None or value is None else decode(value)

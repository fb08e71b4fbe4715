"""SQLite's statements and client calls."""

# ruff: noqa: S608 - names are checked and quoted, values are bound

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cocoindex.connectorkits import tables
from cocoindex.connectorkits.columns import Encoder
from cocoindex.connectorkits.identifiers import quote
from cocoindex.connectorkits.rows import RowOptions
from cocoindex.connectorkits.threads import BlockingClient
from cocoindex.connectors.sqlite import _catalog, _ddl, _vec0
from cocoindex.connectors.sqlite._attachments import FullText, Indexes
from cocoindex.connectors.sqlite._drivers import BUSY_CODES, ROW_CODES, error_code
from cocoindex.connectors.sqlite._types import check_key_type, encoder_for, storable, to_real
from cocoindex.connectors.sqlite.connection import ManagedConnection

__all__ = ["DIALECT", "SqliteDialect"]

_log = logging.getLogger(__name__)

Tx = BlockingClient[Any]
"""Runs functions of the driver's connection on a thread, inside the open transaction."""


class SqliteDialect(tables.Dialect[ManagedConnection, Tx]):
    """Tables in a SQLite database, vec0 tables among them."""

    name = "SQLite"
    max_rows = 10_000
    adds_not_null = "at once"
    marks_names = True
    attachments = {"index": Indexes(), "fts_index": FullText()}  # noqa: RUF012 - a table

    def client_type(self) -> type[ManagedConnection]:
        """What ``connect`` makes."""
        return ManagedConnection

    def transaction(
        self,
        client: ManagedConnection,
        _table: tables.Table,
        *,
        ddl: bool = False,  # noqa: ARG002
    ) -> AbstractAsyncContextManager[Tx]:
        """Every transaction is ``BEGIN IMMEDIATE``, so it is alone in any case."""
        return client.transaction_of_task()

    def is_transient(self, error: BaseException) -> bool:
        """Locks of other connections pass."""
        return error_code(error) in BUSY_CODES

    def is_missing(self, error: BaseException) -> bool:
        """SQLite has no code for it."""
        return "no such table" in str(error)

    def blames_row(self, error: BaseException) -> bool:
        """Constraints, types in strict tables, and values that are too big."""
        return error_code(error) in ROW_CODES

    def is_taken(self, error: BaseException) -> bool:
        """Also of another index than the key's; pysqlite3 tells by the text alone."""
        return error_code(error) in ROW_CODES and "UNIQUE constraint failed" in str(error)

    def describe(self, error: BaseException) -> str:
        """SQLite's messages name constraints, tables and columns, and quote no values."""
        return f"{error} ({type(error).__name__})"

    # --- values ----------------------------------------------------------------------------

    def encoder(self, column: Any, name: str, options: RowOptions) -> Encoder:
        """By the column's SQL type, behind the schema's own encoder if there is one."""

        def warn() -> None:
            _log.warning(
                "SQLite column %r got a datetime without time zone, which is taken for local "
                "time; naive_tz= says what is meant",
                name,
            )

        if column.encoder is not None:
            own: Encoder = column.encoder
            return lambda value: storable(own(value))
        return encoder_for(str(column.type), options.naive_tz, warn)

    def key_encoder(self, column: Any, name: str, options: RowOptions) -> Encoder:
        """What is stored, as a stable key: two spellings of one value are one key.

        Raises:
            ValueError: two keys could be one row.
        """
        check_key_type(name, str(column.type))
        encode = self.encoder(column, name, options)
        if column.encoder is None and encode not in (to_real, storable):
            return encode  # text, integers and bytes can be keys as they are
        return lambda value: tables.key_part(encode(value))

    # --- tracking --------------------------------------------------------------------------

    def signature(self, spec: tables.TableSpec) -> tuple[tables.Main, dict[str, tables.Part]]:
        """A vec0 table can't be changed in place, so all of it belongs to the first part."""
        definition = spec.options.get("vec0")
        if definition is not None:
            schema = spec.schema
            vec0 = _vec0.Vec0TableDef(**definition)
            return _vec0.arguments(vec0, schema.columns, schema.primary_key), {}
        key, parts = super().signature(spec)
        options = _catalog.table_options(
            strict=spec.options.get("strict", False),
            without_rowid=spec.options.get("without_rowid", False),
        )
        return (*((name, kind.upper()) for name, kind in key), *options), parts

    def key_columns(self, main: tables.Main) -> tuple[tables.LayoutColumn, ...]:
        """Options of the table stand in the signature too."""
        return _vec0.key_of(main)

    # --- changing tables -------------------------------------------------------------------

    async def prepare(self, tx: Tx, spec: tables.TableSpec) -> None:
        """The connection may be another one than where the table was declared."""
        columns = spec.schema.columns.values()
        if any(column.is_vector or _vec0.is_vector(column.type) for column in columns):
            await tx.call(_vec0.check_loaded)

    async def inspect(self, tx: Tx, table: tables.Table) -> tables.Existing | None:
        """From the schema table and pragmas."""
        return await tx.call(_catalog.inspect, table.name)

    async def apply(
        self, tx: Tx, existing: tables.Existing | None, operations: Sequence[tables.Operation]
    ) -> None:
        """One rebuild for all changes of columns that SQLite can't do in place."""
        await tx.call(_ddl.apply, existing, operations)

    async def holds_values(self, tx: Tx, table: tables.Table, column: str) -> bool:
        """One look at the column."""
        return await tx.call(_catalog.holds_values, table.name, column)

    # --- rows ------------------------------------------------------------------------------

    async def write(
        self,
        tx: Tx,
        layout: tables.Layout,
        upserts: Sequence[tables.RowAction],
        deletes: Sequence[tables.Key],
    ) -> int:
        """Prepared statements, run over all rows on the thread."""
        await tx.call(_write, layout, upserts, deletes)
        return bool(upserts) + bool(deletes)

    async def may_rewrite(self, tx: Tx, layout: tables.Layout) -> bool:
        """No foreign key in force that leads here, no columns of others."""
        return await tx.call(_catalog.is_alone, layout.table.name, layout.names)

    async def read(
        self,
        tx: Tx,
        layout: tables.Layout,
        keys: Sequence[tables.Key] | None,
        after: tables.Key | None,
        limit: int,
    ) -> Sequence[tuple[Any, ...]]:
        """By key, or the next ones in key order."""
        return await tx.call(_read, layout, keys, after, limit)


class _Statements(NamedTuple):
    upsert: str
    delete: str
    select: str
    real_keys: tuple[int, ...]
    """Positions of key columns that hold floats, which keys hold as text."""


@lru_cache(maxsize=256)
def _statements(layout: tables.Layout) -> _Statements:
    table = quote(layout.table.name)
    names = [quote(name) for name in layout.names]
    key = [quote(name) for name in layout.key]
    placeholders = [_vec0.value_sql(str(column.type)) for column in layout.columns]
    matches = " AND ".join(f"{name} = ?" for name in key)
    updates = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in layout.others)
    upsert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(placeholders)})"
    if not _vec0.is_vec0(layout.main):
        what = f"UPDATE SET {updates}" if updates else "NOTHING"
        upsert += f" ON CONFLICT ({', '.join(key)}) DO {what}"
    return _Statements(
        upsert,
        f"DELETE FROM {table} WHERE {matches}",
        f"SELECT {', '.join(names)} FROM {table}",
        tuple(i for i, c in enumerate(layout.key_columns) if str(c.type).upper() == "REAL"),
    )


def _write(
    connection: Any,
    layout: tables.Layout,
    upserts: Sequence[tables.RowAction],
    deletes: Sequence[tables.Key],
) -> None:
    statements = _statements(layout)
    # Nobody sees what lies between; so a unique value can move from one row to another.
    if deletes:
        connection.executemany(statements.delete, _bound(statements, deletes))
    if upserts and _vec0.is_vec0(layout.main):  # vec0 knows no upsert
        old = [action.key for action in upserts]
        connection.executemany(statements.delete, _bound(statements, old))
    if upserts:
        connection.executemany(statements.upsert, [action.fields for action in upserts])


def _bound(statements: _Statements, keys: Iterable[tables.Key]) -> list[tables.Key]:
    """Keys as SQLite stores them."""
    if not statements.real_keys:
        return [*keys]
    return [
        tuple(float(part) if i in statements.real_keys else part for i, part in enumerate(key))
        for key in keys
    ]


_KEYS_PER_QUERY: Final = 200


def _read(
    connection: Any,
    layout: tables.Layout,
    keys: Sequence[tables.Key] | None,
    after: tables.Key | None,
    limit: int,
) -> list[tuple[Any, ...]]:
    statements = _statements(layout)
    row_value = f"({', '.join(quote(name) for name in layout.key)})"
    one = f"({', '.join('?' * len(layout.key))})"
    found: list[tuple[Any, ...]] = []
    if keys is None:
        where = "" if after is None else f" WHERE {row_value} > {one}"
        bound = [] if after is None else _bound(statements, [after])[0]
        order = ", ".join(quote(name) for name in layout.key)
        sql = f"{statements.select}{where} ORDER BY {order} LIMIT {limit}"
        found += connection.execute(sql, bound).fetchall()
        return found
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        part = _bound(statements, keys[start : start + _KEYS_PER_QUERY])
        sql = f"{statements.select} WHERE {row_value} IN (VALUES {', '.join([one] * len(part))})"
        found += connection.execute(sql, [value for key in part for value in key]).fetchall()
    return found


DIALECT: Final = SqliteDialect()

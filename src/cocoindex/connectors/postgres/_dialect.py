"""What is particular to Postgres."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final

import asyncpg

from cocoindex.connectorkits import rows, tables
from cocoindex.connectorkits.columns import Encoder
from cocoindex.connectorkits.rows import RowOptions
from cocoindex.connectorkits.tables import Existing, Key, Layout, LayoutColumn, RowAction, Table
from cocoindex.connectors.postgres import _catalog, _ddl, _errors, _indexes
from cocoindex.connectors.postgres._commands import SqlCommandKind
from cocoindex.connectors.postgres._pool import acquired
from cocoindex.connectors.postgres._rows import RowStatements
from cocoindex.connectors.postgres._wire import base_type, wire_for
from cocoindex.errors import UsageValueError

__all__ = ["DIALECT", "PostgresDialect"]

_logger = logging.getLogger("cocoindex.connectors.postgres")

EXTENSION: Final = "ext:pgvector"
_KEYS_ALREADY: Final = frozenset(
    ("boolean", "smallint", "integer", "bigint", "text", "bpchar", "bytea", "uuid")
)
"""Types whose plain values may be part of a stable key as they are."""
_EXTENSION_TYPES: Final = ("vector", "halfvec", "sparsevec")


class PostgresDialect(tables.Dialect[Any, Any]):
    """Tables through pools of asyncpg."""

    name = "Postgres"
    max_rows = 50_000
    max_bytes = 64 << 20
    max_name_bytes = 63
    attachments = {  # noqa: RUF012 - a table of constants
        "vector_index": _indexes.VectorIndexKind(),
        "index": _indexes.IndexKind(),
        "fts_index": _indexes.FtsIndexKind(),
        "sql_command_attachment": SqlCommandKind(),
    }

    def client_type(self) -> type[Any]:
        pool: type[Any] = asyncpg.Pool
        return pool

    @asynccontextmanager
    async def transaction(
        self, client: Any, table: Table, *, ddl: bool = False
    ) -> AsyncIterator[Any]:
        # Not the database's default: under a stricter level, what is read after waiting for the
        # lock is what stood there before. Writers here know what they write, and read nothing.
        async with (
            acquired(client) as connection,
            connection.transaction(isolation="read_committed"),
        ):
            if ddl:
                await _catalog.lock(connection, table)
            yield connection

    def is_transient(self, error: BaseException) -> bool:
        return _errors.is_transient(error)

    def describe(self, error: BaseException) -> str:
        return _errors.describe(error)

    def is_missing(self, error: BaseException) -> bool:
        return isinstance(error, asyncpg.UndefinedTableError)

    def is_blocked(self, error: BaseException) -> bool:
        return _errors.is_blocked(error)

    def blames_row(self, error: BaseException) -> bool:
        return _errors.blames_row(error)

    def is_taken(self, error: BaseException) -> bool:
        return isinstance(error, asyncpg.UniqueViolationError | asyncpg.ExclusionViolationError)

    # --- values ----------------------------------------------------------------------------

    def encoder(self, column: Any, name: str, options: RowOptions) -> Encoder:
        plain = wire_for(column.type, _clean(name, options)).plain
        if base_type(column.type) == "timestamp with time zone":
            plain = _with_zone(plain, name, options)
        return _after(column.encoder, plain)

    def key_encoder(self, column: Any, name: str, options: RowOptions) -> Encoder:
        encoder, base = self.encoder(column, name, options), base_type(column.type)
        if base in _KEYS_ALREADY:
            return encoder
        if base == "numeric":
            encoder = _after(encoder, Decimal)  # 1.0 and 1.00 are one key
        return _after(encoder, rows.key_part)

    # --- tracking --------------------------------------------------------------------------

    def signature(self, spec: tables.TableSpec) -> tuple[tables.Main, dict[str, tables.Part]]:
        main, parts = super().signature(spec)
        if needs_extension(spec):
            parts[EXTENSION] = None
        return main, parts

    # --- tables ----------------------------------------------------------------------------

    async def prepare(self, tx: Any, spec: tables.TableSpec) -> None:
        schema = spec.table.path[0]
        if schema is not None:
            await _ddl.ensure_schema(tx, schema)
        if needs_extension(spec):
            await _ddl.ensure_extension(tx)

    async def inspect(self, tx: Any, table: Table) -> Existing | None:
        return await _catalog.inspect(tx, table)

    async def same_types(self, tx: Any, pairs: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await _catalog.same_types(tx, pairs)

    async def apply(
        self, tx: Any, existing: Existing | None, operations: Sequence[tables.Operation]
    ) -> None:
        for operation in operations:
            await _ddl.carry_out(tx, existing, operation)

    async def set_not_null(self, tx: Any, table: Table, column: LayoutColumn) -> bool:
        return await _ddl.set_not_null(tx, table, column)

    async def holds_values(self, tx: Any, table: Table, column: str) -> bool:
        return await _catalog.holds_values(tx, table, column)

    # --- rows ------------------------------------------------------------------------------

    async def write(
        self, tx: Any, layout: Layout, upserts: Sequence[RowAction], deletes: Sequence[Key]
    ) -> int:
        statements, count = RowStatements.of(layout), 0
        # First what goes: within a chunk, a unique value may move from one row to another.
        if deletes:
            await statements.delete(tx, deletes)
            count = 1
        if upserts:
            count += await statements.upsert(tx, upserts)
        return count

    async def may_rewrite(self, tx: Any, layout: Layout) -> bool:
        return await _catalog.is_alone(tx, layout.table, layout.names)

    async def read(
        self, tx: Any, layout: Layout, keys: Sequence[Key] | None, after: Key | None, limit: int
    ) -> Sequence[tuple[Any, ...]]:
        return await RowStatements.of(layout).read(tx, keys, after, limit)


DIALECT: Final = PostgresDialect()


def needs_extension(spec: tables.TableSpec) -> bool:
    """Whether a column is of a type that pgvector brings."""
    return any(base_type(c.type) in _EXTENSION_TYPES for c in spec.schema.columns.values())


def _after(first: Encoder | None, second: Encoder) -> Encoder:
    if first is None:
        return second
    return lambda value: second(first(value))


def _clean(name: str, options: RowOptions) -> Callable[[str], str]:
    """What to do with text that holds U+0000, for which the server has no place."""
    warned = False

    def clean(text: str) -> str:
        nonlocal warned
        if options.own.get("on_nul") == "error":
            raise UsageValueError("the text holds U+0000 (on_nul='error')")
        if not warned:
            warned = True
            _logger.warning("column %s: U+0000 is removed from texts; Postgres can't hold it", name)
        return text.replace("\0", "")

    return clean


def _with_zone(plain: Encoder, name: str, options: RowOptions) -> Encoder:
    warned = False

    def warn() -> None:
        nonlocal warned
        if not warned:
            warned = True
            _logger.warning(
                "column %s: datetimes without time zone are taken for local time; say what they "
                "are with naive_tz=",
                name,
            )

    zoned = rows.zoned(options.naive_tz, warn)
    return lambda value: plain(zoned(value) if hasattr(value, "tzinfo") else value)

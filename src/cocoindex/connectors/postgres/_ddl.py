"""Statements that make and change tables."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

from cocoindex.connectorkits.identifiers import derived, quote
from cocoindex.connectorkits.tables import (
    AddColumn,
    ChangeColumn,
    CreateTable,
    DropColumn,
    DropTable,
    Existing,
    LayoutColumn,
    Operation,
    SetMarker,
    Table,
)
from cocoindex.connectors.postgres._catalog import comment_of, qualified
from cocoindex.connectors.postgres._errors import describe
from cocoindex.connectors.postgres._literals import sql_text
from cocoindex.errors import UsageError

__all__ = ["carry_out", "ensure_extension", "ensure_schema", "set_not_null"]

_logger = logging.getLogger("cocoindex.connectors.postgres")

_ALREADY: Final = (
    asyncpg.UniqueViolationError,
    asyncpg.DuplicateObjectError,
    asyncpg.DuplicateSchemaError,
)
"""How ``CREATE … IF NOT EXISTS`` fails where another session has just done the same."""

_SERIAL: Final = {"serial": "integer", "bigserial": "bigint", "smallserial": "smallint"}


async def ensure_schema(connection: Any, name: str) -> None:
    """Make the schema unless it is there, which needs no privilege."""
    if not await connection.fetchval("SELECT 1 FROM pg_namespace WHERE nspname = $1", name):
        await _create(connection, f"CREATE SCHEMA IF NOT EXISTS {quote(name)}")


async def ensure_extension(connection: Any) -> None:
    """Make pgvector's types available.

    Raises:
        RuntimeError: they are not, and only an administrator can do it.
    """
    if await connection.fetchval("SELECT 1 FROM pg_extension WHERE extname = 'vector'"):
        return
    try:
        await _create(connection, "CREATE EXTENSION IF NOT EXISTS vector")
    except asyncpg.InsufficientPrivilegeError:
        raise UsageError(
            "the pgvector extension is not installed in this database, and this user may not "
            "install it: ask an administrator to run CREATE EXTENSION vector"
        ) from None
    except (asyncpg.FeatureNotSupportedError, asyncpg.UndefinedFileError):
        raise UsageError(
            "the pgvector extension is not available on this Postgres server: an administrator "
            "has to install it before columns can hold vectors"
        ) from None


async def _create(connection: Any, statement: str) -> None:
    try:
        async with connection.transaction():
            await connection.execute(statement)
    except _ALREADY:
        return


async def carry_out(connection: Any, existing: Existing | None, operation: Operation) -> None:
    """Carry out one operation in the transaction that is open."""
    if isinstance(operation, SetMarker):
        comment = sql_text(comment_of(existing, operation.marker))
        statement = f"COMMENT ON TABLE {qualified(operation.table)} IS {comment}"
        await connection.execute(statement)
        return
    await _HANDLERS[type(operation)](connection, operation)


async def _create_table(connection: Any, operation: CreateTable) -> None:
    columns = [_definition(column) for column in operation.columns]
    key = ", ".join(quote(name) for name in operation.key)
    body = ", ".join([*columns, f"PRIMARY KEY ({key})"])
    await connection.execute(f"CREATE TABLE {qualified(operation.table)} ({body})")


def _definition(column: LayoutColumn, *, not_null_later: bool = False) -> str:
    not_null = "" if column.nullable or not_null_later else " NOT NULL"
    return f"{quote(column.name)} {column.type}{not_null}"


async def _drop_table(connection: Any, operation: DropTable) -> None:
    table = qualified(operation.table)
    await connection.execute(f"DROP TABLE IF EXISTS {table}{_cascade(operation)}")


def _cascade(operation: DropTable | DropColumn | ChangeColumn) -> str:
    return " CASCADE" if operation.options.get("cascade") else ""


async def _add_column(connection: Any, operation: AddColumn) -> None:
    definition = _definition(operation.column, not_null_later=operation.not_null_later)
    await _alter(connection, operation.table, f"ADD COLUMN IF NOT EXISTS {definition}")


async def _drop_column(connection: Any, operation: DropColumn) -> None:
    await _drop_search_column(connection, operation.table, operation.name)
    dropped = f"DROP COLUMN IF EXISTS {quote(operation.name)}{_cascade(operation)}"
    await _alter(connection, operation.table, dropped)


async def _change_column(connection: Any, operation: ChangeColumn) -> None:
    column, name = operation.column, quote(operation.column.name)
    nullable = column.nullable or operation.not_null_later
    changes = [f"ALTER COLUMN {name} {'DROP' if nullable else 'SET'} NOT NULL"]
    if column.type != operation.before.type:
        await _drop_search_column(connection, operation.table, column.name)
        new_type = _SERIAL.get(column.type.lower(), column.type)
        changes.insert(0, f"ALTER COLUMN {name} TYPE {new_type}")
    try:
        async with connection.transaction():
            await _alter(connection, operation.table, ", ".join(changes))
    except asyncpg.PostgresError as error:
        if not _is_about_conversion(error):
            raise
        _logger.warning(
            "Existing data will be lost: column %s of table %s can't be converted from %s to %s "
            "(%s); it is dropped and added again",
            column.name,
            operation.table,
            operation.before.type,
            column.type,
            describe(error),
        )
        dropped = f"DROP COLUMN IF EXISTS {name}{_cascade(operation)}"
        await _alter(connection, operation.table, dropped)
        await _add_column(connection, AddColumn(operation.table, column, not_null_later=True))


def _is_about_conversion(error: asyncpg.PostgresError) -> bool:
    """Not about privileges, locks, space or the connection: those come and go."""
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return False
    return (error.sqlstate or "").startswith(("0A", "22", "23", "42"))


_HANDLERS: Final[dict[type[Any], Callable[[Any, Any], Awaitable[None]]]] = {
    CreateTable: _create_table,
    DropTable: _drop_table,
    AddColumn: _add_column,
    DropColumn: _drop_column,
    ChangeColumn: _change_column,
}


async def _drop_search_column(connection: Any, table: Table, column: str) -> None:
    """Remove the generated column of a full-text index, which is in the way; it comes back."""
    found = await connection.fetchval(
        "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = $2 "
        "AND attgenerated <> ''",
        qualified(table),
        search_column(column),
    )
    if found:
        await _alter(connection, table, f"DROP COLUMN {quote(search_column(column))}")


def search_column(column: str) -> str:
    """Name of the generated column that a full-text index of ``column`` is built on."""
    return derived(column, "fts", max_bytes=63)


async def _alter(connection: Any, table: Table, change: str) -> None:
    await connection.execute(f"ALTER TABLE {qualified(table)} {change}")


async def set_not_null(connection: Any, table: Table, column: LayoutColumn) -> bool:
    """Make a column NOT NULL; False, and nothing done, if it holds NULLs."""
    name = quote(column.name)
    query = f"SELECT EXISTS (SELECT FROM {qualified(table)} WHERE {name} IS NULL)"  # noqa: S608 - quoted
    if await connection.fetchval(query):
        return False
    await _alter(connection, table, f"ALTER COLUMN {name} SET NOT NULL")
    return True

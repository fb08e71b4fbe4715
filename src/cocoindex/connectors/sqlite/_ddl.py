"""Carries out changes of tables, all on one connection inside one transaction.

SQLite can add and drop simple columns in place. Everything else is done by building the table
anew beside the old one, copying the rows, and taking its name, with its indexes and triggers
and all that others have added to its definition.
"""

# ruff: noqa: S608 - names are checked and quoted, values are bound

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from cocoindex.connectorkits import tables
from cocoindex.connectorkits.identifiers import quote
from cocoindex.connectors.sqlite import _vec0
from cocoindex.connectors.sqlite._catalog import forget_marker, is_referenced, set_marker
from cocoindex.connectors.sqlite._dependents import dependents_of, uses_of
from cocoindex.connectors.sqlite._table_sql import TableSql, column_sql, parse
from cocoindex.connectors.sqlite._types import zero_of
from cocoindex.errors import TargetError

__all__ = ["apply"]

_log = logging.getLogger(__name__)

ColumnChange = tables.AddColumn | tables.DropColumn | tables.ChangeColumn


def apply(
    connection: Any, existing: tables.Existing | None, operations: Sequence[tables.Operation]
) -> None:
    """Carry out ``operations``; those about columns are done together."""
    changes: list[ColumnChange] = []
    is_rebuilt = any(isinstance(operation, tables.CreateTable) for operation in operations)
    if existing is not None and is_rebuilt:
        _refuse_if_referenced(connection, existing.detail)
    for operation in operations:
        match operation:
            case tables.CreateTable():
                connection.execute(create_sql(operation))
            case tables.DropTable(table):
                connection.execute(f"DROP TABLE {quote(table.name)}")
                forget_marker(connection, table.name)
            case tables.SetMarker(table, marker):
                set_marker(connection, table.name, marker)
            case _:
                changes.append(operation)
    if changes:
        assert existing is not None
        _change(connection, existing, changes)


def _change(connection: Any, existing: tables.Existing, changes: Sequence[ColumnChange]) -> None:
    if existing.marker is None:  # not ours to build anew
        for change in changes:
            connection.execute(_in_place_sql(change))
        return
    adds_only = all(isinstance(change, tables.AddColumn) for change in changes)
    dependents = [] if adds_only else dependents_of(connection, existing.detail)
    working = uses_of(connection, dependents)
    gone: set[str] = set()
    if not all(map(_is_simple, changes)) or not _in_place(connection, changes):
        gone = _rebuild(connection, existing, changes)
    left = [dependent for dependent in dependents if dependent.name not in gone]
    broken = {used for used in working - uses_of(connection, left) if used[0] in left}
    if broken:
        named = ", ".join(sorted({f"{d.kind} {d.name}" for d, _ in broken}))
        raise TargetError(
            f"SQLite table {existing.detail}: {named} needs a column that would be gone or of "
            "another type. Drop it, update, and make it again."
        )


def create_sql(operation: tables.CreateTable, name: str | None = None) -> str:
    """The statement that makes a table."""
    name = name or operation.table.name
    if _vec0.is_vec0(operation.main):
        return _vec0.create_sql(name, operation.main)
    columns = [column_sql(column) for column in operation.columns]
    key = f"PRIMARY KEY ({', '.join(map(quote, operation.key))})"
    return _regular_sql(name, [*columns, key], [part[1] for part in operation.main if not part[0]])


def _regular_sql(name: str, parts: Sequence[str], options: Sequence[str]) -> str:
    tail = f" {', '.join(options).upper()}" if options else ""
    return f"CREATE TABLE {quote(name)} ({', '.join(parts)}){tail}"


# --- In place ------------------------------------------------------------------------------


def _is_simple(change: ColumnChange) -> bool:
    return isinstance(change, tables.DropColumn) or (
        isinstance(change, tables.AddColumn) and (change.column.nullable or change.not_null_later)
    )


def _in_place_sql(change: ColumnChange) -> str:
    table = quote(change.table.name)
    if isinstance(change, tables.DropColumn):
        return f"ALTER TABLE {table} DROP COLUMN {quote(change.name)}"
    column = change.column._replace(nullable=change.column.nullable or change.not_null_later)
    return f"ALTER TABLE {table} ADD COLUMN {column_sql(column)}"


def _in_place(connection: Any, changes: Sequence[ColumnChange]) -> bool:
    """Whether SQLite could do it itself; it refuses to drop a column that is indexed."""
    connection.execute("SAVEPOINT in_place")
    try:
        for change in changes:
            connection.execute(_in_place_sql(change))
    except Exception:  # noqa: BLE001 - of any driver; what really is wrong fails the rebuild too
        connection.execute("ROLLBACK TO in_place")
        return False
    finally:
        connection.execute("RELEASE in_place")
    return True


# --- Rebuild -------------------------------------------------------------------------------


def _rebuild(
    connection: Any, existing: tables.Existing, changes: Sequence[ColumnChange]
) -> set[str]:
    """Build the table anew; the names of what went with a column."""
    name: str = existing.detail
    target = f"__new_{name}"
    table = _changed(connection, name, changes)
    values = _values(connection, name, existing, changes)
    extras = _saved(connection, name)
    connection.execute(table.create(target))
    connection.execute(
        f"INSERT INTO {quote(target)} ({', '.join(map(quote, values))}) "
        f"SELECT {', '.join(values.values())} FROM {quote(name)}"
    )
    connection.execute(f"DROP TABLE {quote(name)}")
    _rename(connection, target, name)
    return _restore(connection, extras, set(values), name)


def _changed(connection: Any, name: str, changes: Sequence[ColumnChange]) -> TableSql:
    """The table's definition afterwards, with all that others have added to it.

    Raises:
        TargetError: something in it needs a column that goes, or rows of others would go.
    """
    _refuse_if_referenced(connection, name)
    query = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?"
    table = parse(connection.execute(query, (name,)).fetchall()[0][0])
    for change in changes:
        if isinstance(change, tables.DropColumn):
            table = table.without(change.name)
        elif isinstance(change, tables.AddColumn):
            table = table.with_column(change.column)
        else:
            table = table.changed(change.column)
    for change in changes:
        if isinstance(change, tables.DropColumn) and (users := table.users_of(change.name)):
            raise TargetError(
                f"SQLite table {name}: column {change.name} can't be dropped, because others have "
                f"added to the table what needs it: {'; '.join(users)}. Make the table without "
                "that by hand, or drop it and update with full_reprocess=True."
            )
    return table


def _rename(connection: Any, before: str, after: str) -> None:
    """Without a look at views and triggers, whose table is missing just now."""
    old = connection.execute("PRAGMA legacy_alter_table").fetchall()[0][0]
    connection.execute("PRAGMA legacy_alter_table=ON")
    try:
        connection.execute(f"ALTER TABLE {quote(before)} RENAME TO {quote(after)}")
    finally:
        connection.execute(f"PRAGMA legacy_alter_table={old}")


def _refuse_if_referenced(connection: Any, name: str) -> None:
    """``DROP TABLE`` would delete rows in other tables, by ``ON DELETE CASCADE``."""
    if is_referenced(connection, name):
        raise TargetError(
            f"SQLite table {name} has to be built anew, but other tables refer to it, and this "
            "connection enforces foreign keys: update with PRAGMA foreign_keys=OFF"
        )


def _values(
    connection: Any, name: str, existing: tables.Existing, changes: Sequence[ColumnChange]
) -> dict[str, str]:
    """What fills the table's columns afterwards, but for generated ones."""
    listed = connection.execute(f"PRAGMA table_xinfo({quote(name)})").fetchall()
    generated = {row[1] for row in listed if row[6] in (2, 3)}
    values = {column: quote(column) for column in existing.columns if column not in generated}
    for change in changes:
        if isinstance(change, tables.DropColumn):
            values.pop(change.name, None)
            continue
        column = change.column
        value = "NULL" if isinstance(change, tables.AddColumn) else _converted(change)
        if not column.nullable:
            value = f"coalesce({value}, {zero_of(column.type)})"
        values[column.name] = value
    return values


def _converted(change: tables.ChangeColumn) -> str:
    name, kind = quote(change.column.name), change.column.type
    is_same = change.before.type.casefold() == str(kind).casefold()
    return name if is_same or _vec0.is_vector(kind) else f"CAST({name} AS {kind})"


def _saved(connection: Any, name: str) -> list[tuple[str, str, str]]:
    """Indexes and triggers of a table, and full-text tables that read from it."""
    found: list[tuple[str, str, str]] = connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND "
        "tbl_name = ? COLLATE NOCASE AND type IN ('index', 'trigger')",
        (name,),
    ).fetchall()
    found += connection.execute(
        "SELECT 'fts', name, sql FROM sqlite_schema WHERE type = 'table' AND "
        "sql LIKE '%USING fts5%' AND instr(sql, ?)",
        (f"content={quote_text(name)}",),
    ).fetchall()
    return found


def quote_text(text: str) -> str:
    """``text`` as a literal."""
    return "'" + text.replace("'", "''") + "'"


def _restore(
    connection: Any, extras: Sequence[tuple[str, str, str]], columns: set[str], table: str
) -> set[str]:
    """Make again what went with the table; the names of what stays away."""
    gone = _without_columns(connection, extras, columns)
    for kind, name, sql in extras:
        if name in gone:
            continue
        if kind == "fts":
            connection.execute(f"INSERT INTO {quote(name)}({quote(name)}) VALUES ('rebuild')")
        elif kind == "index":
            _if_possible(connection, sql, f"index {name} of {table}", columns)
        else:
            connection.execute(sql)
    return gone


def _without_columns(
    connection: Any, extras: Sequence[tuple[str, str, str]], columns: set[str]
) -> set[str]:
    """Drops full-text tables that search a column that has gone; their names and triggers'."""
    gone: set[str] = set()
    known = {column.casefold() for column in columns}
    for kind, name, _ in extras:
        if kind != "fts":
            continue
        searched = connection.execute(f"PRAGMA table_info({quote(name)})").fetchall()
        if any(row[1].casefold() not in known for row in searched):
            connection.execute(f"DROP TABLE {quote(name)}")
            gone |= {name, *full_text_triggers(name)}
    return gone


def full_text_triggers(name: str) -> list[str]:
    """The triggers that keep a full-text table in step."""
    return [f"{name}_{event}" for event in ("insert", "delete", "update")]


def _if_possible(connection: Any, sql: str, what: str, columns: set[str]) -> None:
    """Make an index again, unless a column of it has gone."""
    run: Callable[[str], Any] = connection.execute
    try:
        run(sql)
    except Exception as error:
        if "no such column" not in str(error) and "has no column" not in str(error):
            raise
        _log.info("%s is gone: a column of it is. Left: %s", what, ", ".join(sorted(columns)))

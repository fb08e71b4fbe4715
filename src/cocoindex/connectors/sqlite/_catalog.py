"""What the database says about its tables, and the note of which ones are ours."""

# ruff: noqa: S608 - names are checked and quoted, values are bound

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cocoindex.connectorkits.identifiers import quote
from cocoindex.connectorkits.tables import Existing, ExistingColumn, Main
from cocoindex.connectors.sqlite import _vec0

__all__ = [
    "OBJECTS",
    "forget_marker",
    "holds_values",
    "inspect",
    "is_alone",
    "is_referenced",
    "set_marker",
    "table_options",
]

OBJECTS: Final = "_cocoindex_objects"
"""The table in which we note the tables that we made."""

_CREATE_OBJECTS: Final = (
    f"CREATE TABLE IF NOT EXISTS {quote(OBJECTS)} (name TEXT PRIMARY KEY, marker TEXT NOT NULL)"
)


def inspect(connection: Any, name: str) -> Existing | None:
    """The table or virtual table of that name. Its ``detail`` is the name as spelled there."""
    found = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE",
        (name,),
    ).fetchall()
    if not found:
        return None
    real_name, sql = found[0]
    columns: dict[str, ExistingColumn] = {}
    key: list[tuple[int, str, str]] = []
    for _, column, kind, not_null, default, position, hidden in connection.execute(
        f"PRAGMA table_xinfo({quote(real_name)})"
    ).fetchall():
        if hidden == 1:
            continue
        generated = hidden in (2, 3)
        columns[column] = ExistingColumn(kind, not not_null, default is not None or generated)
        if position:
            key.append((position, column, kind.upper()))
    vec0 = _vec0.signature_of(sql or "")
    names = tuple(column for _, column, _ in sorted(key))
    main = vec0 or (
        *((column, kind) for _, column, kind in sorted(key)),
        *_options_of(connection, real_name),
    )
    unique = _unique(connection, real_name)
    return Existing(columns, names, _marker(connection, name), main, real_name, unique)


def _unique(connection: Any, name: str) -> tuple[frozenset[str], ...]:
    """The columns of each unique index that covers all rows."""
    indexes = connection.execute(f"PRAGMA index_list({quote(name)})").fetchall()
    return tuple(
        frozenset(
            row[2] for row in connection.execute(f"PRAGMA index_info({quote(index[1])})").fetchall()
        )
        for index in indexes
        if index[2] and not index[4]
    )


def holds_values(connection: Any, name: str, column: str) -> bool:
    """Whether some row has a value in a column."""
    sql = f"SELECT 1 FROM {quote(name)} WHERE {quote(column)} IS NOT NULL LIMIT 1"
    return bool(connection.execute(sql).fetchall())


def is_alone(connection: Any, name: str, columns: Sequence[str]) -> bool:
    """Whether it is a table that no foreign key leads to, with no other columns than these."""
    known = {column.casefold() for column in columns}
    found = connection.execute(f"PRAGMA table_xinfo({quote(name)})").fetchall()
    others = [row for row in found if not row[6] and row[1].casefold() not in known]
    return not others and not is_referenced(connection, name) and not _is_watched(connection, name)


def _is_watched(connection: Any, name: str) -> bool:
    """Whether others have hung a trigger on the table, which deleting a row may set off. Those
    that keep our full-text indexes in step are none of others.
    """
    return bool(connection.execute(_FOREIGN_TRIGGER, (name,)).fetchall())


_FOREIGN_TRIGGER: Final = """
SELECT 1 FROM sqlite_schema AS t
WHERE t.type = 'trigger' AND t.tbl_name = ? COLLATE NOCASE AND NOT EXISTS (
    SELECT 1 FROM sqlite_schema AS f
    WHERE f.type = 'table' AND f.sql LIKE '%USING fts5%'
        AND t.name IN (f.name || '_insert', f.name || '_delete', f.name || '_update')
)
LIMIT 1
"""


def is_referenced(connection: Any, name: str) -> bool:
    """Whether deleting a row may harm another table: a foreign key leads here, and is enforced."""
    if not connection.execute("PRAGMA foreign_keys").fetchall()[0][0]:
        return False
    found = connection.execute(
        "SELECT 1 FROM sqlite_schema AS s, pragma_foreign_key_list(s.name) AS f "
        "WHERE s.type = 'table' AND f.\"table\" = ? COLLATE NOCASE LIMIT 1",
        (name,),
    ).fetchall()
    return bool(found)


def table_options(*, strict: bool, without_rowid: bool) -> Main:
    """The options of a regular table, as in a signature."""
    return (
        *((("", "strict"),) if strict else ()),
        *((("", "without rowid"),) if without_rowid else ()),
    )


def _options_of(connection: Any, name: str) -> Main:
    listed = connection.execute(f"PRAGMA table_list({quote(name)})").fetchall()
    kinds = [(bool(row[5]), bool(row[4])) for row in listed if row[0] == "main"]
    strict, without_rowid = kinds[0] if kinds else (False, False)
    return table_options(strict=strict, without_rowid=without_rowid)


def _marker(connection: Any, name: str) -> str | None:
    if not connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (OBJECTS,)
    ).fetchall():
        return None
    found = connection.execute(
        f"SELECT marker FROM {quote(OBJECTS)} WHERE name = ? COLLATE NOCASE", (name,)
    ).fetchall()
    return str(found[0][0]) if found else None


def set_marker(connection: Any, name: str, marker: str) -> None:
    """Note that the table is ours."""
    connection.execute(_CREATE_OBJECTS)
    connection.execute(
        f"INSERT INTO {quote(OBJECTS)} VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET marker = excluded.marker",
        (name, marker),
    )


def forget_marker(connection: Any, name: str) -> None:
    """Remove the note, with the table it is about."""
    connection.execute(_CREATE_OBJECTS)
    connection.execute(f"DELETE FROM {quote(OBJECTS)} WHERE name = ? COLLATE NOCASE", (name,))

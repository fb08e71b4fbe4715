"""Views and triggers, and whether they still work after a table has changed.

SQLite finds out when somebody uses them; by then every write of the table would fail.
"""

# ruff: noqa: S608 - names are quoted

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cocoindex.connectorkits.identifiers import quote

__all__ = ["Dependent", "dependents_of", "uses_of"]


class Dependent(NamedTuple):
    """A view, or a trigger with the table or view that it is on."""

    kind: str
    name: str
    table: str
    sql: str


def dependents_of(connection: Any, table: str) -> list[Dependent]:
    """The views of the file, and the triggers that could have to do with a table."""
    found = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE type = 'view' OR "
        "(type = 'trigger' AND instr(lower(sql), lower(?)))",
        (table,),
    ).fetchall()
    return [Dependent(*row) for row in found]


def uses_of(connection: Any, dependents: Sequence[Dependent]) -> set[tuple[Dependent, str]]:
    """Which of them can be used, and for what."""
    return {(dependent, what) for dependent in dependents for what in _uses(connection, dependent)}


def _uses(connection: Any, dependent: Dependent) -> list[str]:
    """The statements that SQLite can prepare with a view, or with a trigger and no other one."""
    on = quote(dependent.table)
    if dependent.kind == "view":
        return _prepared(connection, {"select": f"SELECT * FROM {on}"})
    connection.execute("SAVEPOINT uses")
    try:
        _drop_triggers(connection, dependent.table)
        connection.execute(dependent.sql)
        info = connection.execute(f"PRAGMA table_info({on})").fetchall()
        same = ", ".join(f"{quote(row[1])} = {quote(row[1])}" for row in info)
        statements = {
            "insert": f"INSERT INTO {on} DEFAULT VALUES",
            "update": f"UPDATE {on} SET {same}",
            "delete": f"DELETE FROM {on}",
        }
        return _prepared(connection, statements)
    finally:
        connection.execute("ROLLBACK TO uses")
        connection.execute("RELEASE uses")


def _drop_triggers(connection: Any, table: str) -> None:
    query = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE"
    for (name,) in connection.execute(query, (table,)).fetchall():
        connection.execute(f"DROP TRIGGER {quote(name)}")


def _prepared(connection: Any, statements: Mapping[str, str]) -> list[str]:
    return [what for what, sql in statements.items() if _can_prepare(connection, sql)]


def _can_prepare(connection: Any, sql: str) -> bool:
    try:
        connection.execute(f"EXPLAIN {sql}").fetchall()
    except Exception:  # noqa: BLE001 - of any driver; only whether there is one counts
        return False
    return True

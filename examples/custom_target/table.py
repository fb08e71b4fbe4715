"""A target of your own: rows in a SQLite table. docs/custom-target.md explains it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

import cocoindex as coco
from cocoindex.connectorkits.fingerprint import fingerprint_object

Row = Mapping[str, str | int]


# --8<-- [start:row-types]
class RowRecord(NamedTuple):
    """What is remembered of a row: enough to see that it changed."""

    fingerprint: bytes


class RowAction(NamedTuple):
    """What to do to one row: write it, or delete it (no row)."""

    key: str
    row: Row | None


# --8<-- [end:row-types]


# --8<-- [start:row-handler]
class RowHandler:
    def __init__(self, database: str, table: str) -> None:
        self._database = database
        self._table = table
        self._sink = coco.TargetActionSink.from_fn(self._apply)

    def reconcile(
        self,
        key: str,
        desired: Row | coco.NonExistenceType,
        previous: Collection[RowRecord],
        may_be_missing: bool,
        /,
    ) -> coco.TargetReconcileOutput[RowAction, RowRecord] | None:
        if coco.is_non_existence(desired):
            if not previous and not may_be_missing:
                return None
            return coco.TargetReconcileOutput(RowAction(key, None), self._sink, coco.NON_EXISTENCE)
        record = RowRecord(fingerprint_object(desired))
        if not may_be_missing and all(earlier == record for earlier in previous):
            return None
        return coco.TargetReconcileOutput(RowAction(key, desired), self._sink, record)

    # --8<-- [end:row-handler]

    # --8<-- [start:row-sink]
    def _apply(self, _context: coco.ContextProvider, actions: Sequence[RowAction]) -> None:
        with closing(sqlite3.connect(self._database)) as db, db:
            for key, row in actions:
                if row is None:
                    db.execute(f'DELETE FROM "{self._table}" WHERE key = ?', [key])
                    continue
                names = ", ".join(f'"{name}"' for name in row)
                marks = ", ".join("?" * len(row))
                db.execute(
                    f'INSERT OR REPLACE INTO "{self._table}" (key, {names}) VALUES (?, {marks})',
                    [key, *row.values()],
                )

    # --8<-- [end:row-sink]


# --8<-- [start:table-types]
class TableKey(NamedTuple):
    """Which table: the identity that is remembered between runs."""

    database: str
    table: str


class TableRecord(NamedTuple):
    """What is remembered of a table."""

    columns: tuple[str, ...]


class TableAction(NamedTuple):
    """What to do to a table: make sure it exists with these columns, or drop it (no columns)."""

    key: TableKey
    columns: tuple[str, ...] | None
    replace: bool


# --8<-- [end:table-types]


# --8<-- [start:table-handler]
class TableHandler:
    def reconcile(
        self,
        key: TableKey,
        desired: tuple[str, ...] | coco.NonExistenceType,
        previous: Collection[TableRecord],
        may_be_missing: bool,
        /,
    ) -> coco.TargetReconcileOutput[TableAction, TableRecord, RowHandler] | None:
        if coco.is_non_existence(desired):
            if not previous and not may_be_missing:
                return None
            action = TableAction(key, None, replace=False)
            return coco.TargetReconcileOutput(action, _table_sink, coco.NON_EXISTENCE)
        replace = any(earlier.columns != desired for earlier in previous)
        return coco.TargetReconcileOutput(
            TableAction(key, desired, replace),
            _table_sink,
            TableRecord(desired),
            child_invalidation="destructive" if replace else None,
        )


# --8<-- [end:table-handler]


# --8<-- [start:table-sink]
def _apply_tables(
    _context: coco.ContextProvider, actions: Sequence[TableAction]
) -> list[coco.ChildTargetDef[RowHandler] | None]:
    children: list[coco.ChildTargetDef[RowHandler] | None] = []
    for (database, table), columns, replace in actions:
        with closing(sqlite3.connect(database)) as db, db:
            if columns is None or replace:
                db.execute(f'DROP TABLE IF EXISTS "{table}"')
            if columns is None:
                children.append(None)
                continue
            names = ", ".join(f'"{name}"' for name in columns)
            db.execute(f'CREATE TABLE IF NOT EXISTS "{table}" (key TEXT PRIMARY KEY, {names})')
        children.append(coco.ChildTargetDef(RowHandler(database, table)))
    return children


_table_sink = coco.TargetActionSink[TableAction, RowHandler].from_fn(_apply_tables)
_tables = coco.register_root_target_states_provider("example.org/sqlite/table", TableHandler())
# --8<-- [end:table-sink]


# --8<-- [start:api]
class Table:
    """What users hold: a table that rows can be declared in."""

    def __init__(self, rows: coco.TargetStateProvider[str, Row, None]) -> None:
        self._rows = rows

    def declare_row(self, key: str, row: Row) -> None:
        """Say that the table has this row. It goes when nobody says so any more."""
        coco.declare_target_state(self._rows.target_state(key, row))

    def __coco_memo_key__(self) -> object:
        return self._rows


async def mount_table(database: str, table: str, columns: Sequence[str]) -> Table:
    """Make sure the table exists, and return it ready for rows."""
    state = _tables.target_state(TableKey(database, table), tuple(columns))
    return Table(await coco.mount_target(state))


# --8<-- [end:api]

"""A target connector for :class:`memory_db.MemoryDb`. docs/custom-target.md explains it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cocoindex as coco
from cocoindex.connectorkits.fingerprint import fingerprint_object
from memory_db import Key, MemoryDb, Row


# --8<-- [start:row-types]
@dataclass(frozen=True, slots=True)
class RowRecord:
    """What is remembered of a row: enough to see that it changed."""

    fingerprint: bytes


class RowAction(NamedTuple):
    """What to do to one row: write it, or delete it (no row)."""

    key: Key
    row: Row | None

    def __str__(self) -> str:
        return f"{'delete' if self.row is None else 'write'} row {self.key}"


# --8<-- [end:row-types]


# --8<-- [start:row-sink]
@dataclass(frozen=True)
class WriteRows:
    db_key: str
    table: str

    def __call__(self, context: coco.ContextProvider, actions: Sequence[RowAction]) -> None:
        db = context.get(self.db_key, MemoryDb)
        written = {key: row for key, row in actions if row is not None}
        db.write(self.table, written, [key for key, row in actions if row is None])


# --8<-- [end:row-sink]


# --8<-- [start:row-handler]
class RowHandler(coco.TargetHandler[Key, Row, RowRecord]):
    def __init__(self, table: TableKey) -> None:
        self._table = table
        self._sink = coco.TargetActionSink.from_fn(WriteRows(*table))

    def reconcile(
        self,
        key: Key,
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

    # --8<-- [start:attachment]
    def attachment(self, att_type: str) -> IndexHandler | None:
        return IndexHandler(self._table) if att_type == "index" else None

    # --8<-- [end:attachment]


# --8<-- [start:table-types]
class TableKey(NamedTuple):
    """Which table: its database, by the name of a context key, and its name in there."""

    db_key: str
    table: str


class TableRecord(NamedTuple):
    """What is remembered of a table."""

    columns: tuple[str, ...]
    primary_key: tuple[str, ...]


class TableAction(NamedTuple):
    """What to do to a table: have it as described, or not at all (no record)."""

    key: TableKey
    record: TableRecord | None
    is_there: bool
    drop_first: bool

    def __str__(self) -> str:
        if self.record is None:
            return f"drop table {self.key.table}"
        return f"{'keep' if self.is_there else 'create'} table {self.key.table}"


# --8<-- [end:table-types]


# --8<-- [start:table-handler]
class TableHandler(coco.TargetHandler[TableKey, TableRecord, TableRecord, RowHandler]):
    def reconcile(
        self,
        key: TableKey,
        desired: TableRecord | coco.NonExistenceType,
        previous: Collection[TableRecord],
        may_be_missing: bool,
        /,
    ) -> coco.TargetReconcileOutput[TableAction, TableRecord, RowHandler] | None:
        if coco.is_non_existence(desired):
            if not previous and not may_be_missing:
                return None
            action = TableAction(key, None, is_there=False, drop_first=True)
            return coco.TargetReconcileOutput(action, _table_sink, coco.NON_EXISTENCE)
        rebuild = any(earlier != desired for earlier in previous)
        is_there = not rebuild and not may_be_missing
        return coco.TargetReconcileOutput(
            TableAction(key, desired, is_there, drop_first=rebuild),
            _table_sink,
            desired,
            child_invalidation="destructive" if rebuild else None,
        )


# --8<-- [end:table-handler]


# --8<-- [start:table-sink]
def _apply_tables(context: coco.ContextProvider, actions: Sequence[TableAction]) -> None:
    for (db_key, table), record, is_there, drop_first in actions:
        if is_there:
            continue
        db = context.get(db_key, MemoryDb)
        if drop_first:
            db.drop_table(table)
        if record is not None:
            db.create_table(table, record.columns)


def _rows_of(_context: coco.ContextProvider, action: TableAction) -> RowHandler:
    return RowHandler(action.key)


_table_sink = coco.TargetActionSink[TableAction, RowHandler].from_fn(
    _apply_tables, child_handler=_rows_of
)
# --8<-- [end:table-sink]


# --8<-- [start:index]
class IndexRecord(NamedTuple):
    """What is remembered of an index: the whole of it, because undoing it may need that."""

    column: str


class IndexAction(NamedTuple):
    name: str
    column: str | None


@dataclass(frozen=True)
class ApplyIndexes:
    db_key: str
    table: str

    def __call__(self, context: coco.ContextProvider, actions: Sequence[IndexAction]) -> None:
        db = context.get(self.db_key, MemoryDb)
        for name, column in actions:
            db.drop_index(self.table, name)
            if column is not None:
                db.create_index(self.table, name, column)


class IndexHandler(coco.TargetHandler[str, IndexRecord, IndexRecord]):
    def __init__(self, table: TableKey) -> None:
        self._sink = coco.TargetActionSink.from_fn(ApplyIndexes(*table), last=True)

    def reconcile(
        self,
        key: str,
        desired: IndexRecord | coco.NonExistenceType,
        previous: Collection[IndexRecord],
        may_be_missing: bool,
        /,
    ) -> coco.TargetReconcileOutput[IndexAction, IndexRecord] | None:
        if coco.is_non_existence(desired):
            action = IndexAction(key, None)
            return coco.TargetReconcileOutput(action, self._sink, coco.NON_EXISTENCE)
        if not may_be_missing and all(earlier == desired for earlier in previous):
            return None
        return coco.TargetReconcileOutput(IndexAction(key, desired.column), self._sink, desired)


# --8<-- [end:index]


# --8<-- [start:api]
_tables = coco.register_root_target_states_provider("example.org/memory/table", TableHandler())


class Table:
    """What users hold: a table to declare rows and indexes in."""

    def __init__(
        self, provider: coco.TargetStateProvider[Key, Row, None], primary_key: Sequence[str]
    ) -> None:
        self._provider = provider
        self._primary_key = tuple(primary_key)

    def declare_row(self, *, row: Mapping[str, Any]) -> None:
        """Say that the table has this row. It goes when nobody says so any more."""
        key = tuple(row[name] for name in self._primary_key)
        coco.declare_target_state(self._provider.target_state(key, row))

    def declare_index(self, *, name: str, column: str) -> None:
        """Say that the table has this index."""
        indexes = self._provider.attachment("index")
        coco.declare_target_state(indexes.target_state(name, IndexRecord(column)))

    def __coco_memo_key__(self) -> object:
        return self._provider


async def mount_table(
    db: coco.ContextKey[MemoryDb], name: str, columns: Sequence[str], primary_key: Sequence[str]
) -> Table:
    """Make sure that the table exists, and return it ready for rows."""
    record = TableRecord(tuple(columns), tuple(primary_key))
    state = _tables.target_state(TableKey(db.key, name), record)
    return Table(await coco.mount_target(state), primary_key)


# --8<-- [end:api]

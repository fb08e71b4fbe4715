"""The values that tables are described with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import msgspec

from cocoindex.connectorkits.rows import RowOptions, key_text
from cocoindex.connectorkits.statediff import CompositeTrackingRecord, MutualTrackingRecord
from cocoindex.connectorkits.target import ManagedBy
from cocoindex.core.keys import path_text

if TYPE_CHECKING:
    from cocoindex.connectorkits.tables.schema import TableSchema

__all__ = [
    "COLUMN",
    "Blocker",
    "Existing",
    "ExistingColumn",
    "IfExists",
    "Key",
    "Layout",
    "LayoutColumn",
    "Main",
    "OnUndeclare",
    "Part",
    "RowAction",
    "Table",
    "TableRecord",
    "TableSpec",
]

Key: TypeAlias = tuple[Any, ...]
Main: TypeAlias = tuple[tuple[str, ...], ...]
"""What can only be changed by building the table anew."""
Part: TypeAlias = tuple[str, bool] | None
"""Type and nullability of a column; ``None`` for parts without such."""
IfExists: TypeAlias = Literal["adopt", "error", "own"]
OnUndeclare: TypeAlias = Literal["delete_rows", "keep"]

COLUMN = "col:"
"""Prefix of the parts of a record that are columns."""


class Table(NamedTuple):
    """Which table: the context key of its connection, and its name within it."""

    db_key: str
    path: tuple[str | None, ...]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path[-1] or ""

    @property
    def key(self) -> tuple[str | None, ...]:
        """The key of its target state."""
        return (self.db_key, *self.path)

    @staticmethod
    def from_key(key: tuple[Any, ...]) -> Table:
        """The reverse of :attr:`key`."""
        return Table(key[0], tuple(key[1:]))

    def marker(self, app: str) -> str:
        """What says, kept with the object, that ``app`` has made this table."""
        return f"cocoindex:{app}:{path_text(self.key)}"

    @property
    def shown(self) -> str:
        """As previews name it: with the connection's key."""
        return f"{self.db_key}:{self}"

    def __str__(self) -> str:
        return ".".join(part for part in self.path if part is not None)


class Blocker(NamedTuple):
    """An attachment that may be in the way of a change."""

    kind: str
    key: str
    data: tuple[str | None, ...]


class LayoutColumn(NamedTuple):
    """A column as statements need it."""

    name: str
    type: Any
    nullable: bool

    def __str__(self) -> str:
        return f"{self.name} {self.type}" + ("" if self.nullable else " not null")


@dataclass(frozen=True, slots=True)
class Layout:
    """What statements about rows are made from. Hashable: cache their texts by it.

    Attributes:
        table: which table.
        columns: in the order of a row's fields; only the key's if no more is known.
        key: names of the key columns, in key order.
        main: the record's part that says what kind of table it is.
    """

    table: Table
    columns: tuple[LayoutColumn, ...]
    key: tuple[str, ...]
    main: Main = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(column.name for column in self.columns)

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the columns outside the key."""
        return tuple(name for name in self.names if name not in self.key)

    @property
    def key_columns(self) -> tuple[LayoutColumn, ...]:
        """The key columns, in key order."""
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name[name] for name in self.key)


class RowAction(msgspec.Struct, frozen=True, gc=False):
    """Write or delete one row. Many wait at a time, so the collector does not look into them: what
    ``run`` leads to must not keep them.

    Attributes:
        key: its primary key, as stable key.
        fields: what to write, in the order of the columns; ``None`` to delete.
        fresh: nothing is known of the row; it is probably not there.
        run: what the rows of one table share during a run.
    """

    key: Key
    fields: tuple[Any, ...] | None
    fresh: bool
    run: Any

    def __str__(self) -> str:
        return f"{'delete' if self.fields is None else 'write'} row {key_text(self.key)}"

    def __repr__(self) -> str:
        """Like everything that is shown, without what is in the row."""
        return f"<{self}>"

    def __coco_describe__(self) -> dict[str, object]:
        """For previews: which row, and not what is in it."""
        verb = "create" if self.fresh else "update"
        return {
            "target": self.run.table.shown,
            "verb": "delete" if self.fields is None else verb,
            "key": f"row {key_text(self.key)}",
        }


class ExistingColumn(NamedTuple):
    """A column that stands in the database."""

    type: str
    nullable: bool
    has_default: bool = False


class Existing(NamedTuple):
    """A table that stands in the database.

    Attributes:
        columns: by name.
        key: names of the primary key's columns, in key order.
        marker: the text that says who made it, if it has one.
        main: as in the record, where a connector can tell; else the key is compared.
        detail: anything the connector wants back in ``apply``.
        unique: sets of columns besides the key of which no two rows have the same values.
    """

    columns: Mapping[str, ExistingColumn]
    key: tuple[str, ...]
    marker: str | None
    main: Main | None = None
    detail: Any = None
    unique: tuple[frozenset[str], ...] = ()


class TableRecord(MutualTrackingRecord[CompositeTrackingRecord[Main, str, Part]], frozen=True):
    """What is remembered of a table.

    Attributes:
        marker: how it is marked as ours.
        owned: whether it is known to be ours, so that it can be dropped with all its rows.
        on_undeclare: what becomes of rows in a table that stays.
        pending: columns that the next update shall make NOT NULL.
        loose: columns that it may have left nullable, because rows had no value in them yet;
            looked at again whenever rows are written.
        left: parts that are no longer declared, and stay unless the table is ours.
        options: of the connector, needed to drop the table.
    """

    marker: str = ""
    owned: bool = False
    on_undeclare: OnUndeclare = "delete_rows"
    pending: tuple[str, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it
    loose: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TableSpec:
    """What was declared about a table.

    Attributes:
        table: which one.
        schema: its columns and key.
        managed_by: who creates, alters and drops it.
        if_exists: what to do about a table that is there and not known.
        on_undeclare: what becomes of our rows when the table stays.
        rows: how rows are read.
        app: name of the app that declares it.
        options: of the connector; plain data.
        seen_ours: markers of tables that this process has seen to be the app's.
        undo: attachments of the version before that may be in the way: type, name, and data.
        is_gone: the table was looked for, where that is cheap, and is not there.
    """

    table: Table
    schema: TableSchema[Any]
    managed_by: ManagedBy = ManagedBy.SYSTEM
    if_exists: IfExists = "adopt"
    on_undeclare: OnUndeclare = "delete_rows"
    rows: RowOptions = field(default_factory=RowOptions)
    app: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    seen_ours: set[str] = field(default_factory=set)
    undo: Sequence[Blocker] = ()
    is_gone: bool = False

    @property
    def marker(self) -> str:
        """How the table is marked as ours."""
        return self.table.marker(self.app)

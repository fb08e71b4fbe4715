"""SQLite tables as a target."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import asdict
from typing import Any, Final, Generic, NamedTuple, TypeVar, Unpack

import cocoindex as coco
from cocoindex.connectorkits import identifiers, tables
from cocoindex.connectorkits.columns import Column, Encoder, TypeMapping
from cocoindex.connectors.sqlite import _vec0
from cocoindex.connectors.sqlite._attachments import FullTextSpec, IndexSpec
from cocoindex.connectors.sqlite._dialect import DIALECT
from cocoindex.connectors.sqlite._types import JSON, LEAF_TYPES, vector_type
from cocoindex.connectors.sqlite._vec0 import Vec0TableDef
from cocoindex.connectors.sqlite.connection import ManagedConnection
from cocoindex.errors import UsageValueError

__all__ = [
    "ColumnDef",
    "SqliteType",
    "TableSchema",
    "TableTarget",
    "ValueEncoder",
    "Vec0TableDef",
    "declare_table_target",
    "mount_table_target",
    "table_target",
]

RowT = TypeVar("RowT")

ValueEncoder = Encoder
"""From a value that is not ``None`` to what is stored."""


class SqliteType(NamedTuple):
    """A column type, for ``Annotated[...]`` or ``column_overrides``."""

    sqlite_type: str
    encoder: ValueEncoder | None = None


class ColumnDef(NamedTuple):
    """A column: its type as in DDL, and what is stored in it."""

    type: str
    nullable: bool = True
    encoder: ValueEncoder | None = None
    is_vector: bool = False


class TableSchema(tables.TableSchema[RowT], Generic[RowT]):
    """Columns and primary key of a SQLite table."""

    types = TypeMapping(leaf=LEAF_TYPES, json=JSON, vector=vector_type, annotation=SqliteType)

    @classmethod
    def make_column(cls, column: Column) -> ColumnDef:
        """Says which columns hold vectors."""
        return ColumnDef(column.type, column.nullable, column.encoder, column.vector is not None)


class TableTarget(tables.TableTarget[RowT, coco.MaybePendingS]):
    """A SQLite table to declare rows in."""

    dialect = DIALECT

    def declare_index(
        self,
        *,
        name: str | None = None,
        columns: Sequence[str],
        unique: bool = False,
        where: str | None = None,
    ) -> None:
        """Declare an index of the table.

        Args:
            name: of the index; made from the table's and the columns' by default.
            columns: in order.
            unique: whether values must differ between rows.
            where: which rows are in the index, as a condition in SQL.

        Raises:
            ValueError: an unknown column, an unusable name, or a table that can't have indexes.
        """
        self._check(columns)
        name = name or identifiers.derived(self._table.name, *columns)
        identifiers.check(name, "index name", quoted=True)
        self._attach("index", name, IndexSpec(name, tuple(columns), unique, where))

    def declare_fts_index(
        self,
        *,
        columns: Sequence[str],
        tokenizer: str = "unicode61",
        name: str | None = None,
    ) -> None:
        """Declare a full-text index: an FTS5 table, by default ``<table>__fts``.

        Search with ``SELECT … FROM t WHERE rowid IN (SELECT rowid FROM t__fts WHERE t__fts
        MATCH ?)``.

        Raises:
            ValueError: an unknown column, an unusable name, or a table without row ids.
        """
        self._check(columns)
        if self._spec.options.get("without_rowid"):
            raise UsageValueError(
                f"table {self._table} has no full-text index: it is made with without_rowid=True, "
                "and the index finds rows by their row id"
            )
        name = name or identifiers.derived(self._table.name, "fts")
        identifiers.check(name, "full-text table name", quoted=True)
        self._attach("fts_index", name, FullTextSpec(name, tuple(columns), tokenizer))

    def _check(self, columns: Sequence[str]) -> None:
        if isinstance(columns, str) or not columns:
            raise UsageValueError("columns must be a list of at least one column name")
        if "vec0" in self._spec.options:
            raise UsageValueError(f"table {self._table} is a vec0 table, which has no other index")
        unknown = [name for name in columns if name not in self._schema.columns]
        if unknown:
            raise UsageValueError(f"table {self._table} has no columns {', '.join(unknown)}")


class _Tables(tables.TableHandler):
    """A class of this module, so that reloading it replaces the handler."""


_root: Final = coco.register_root_target_states_provider("cocoindex/sqlite/table", _Tables(DIALECT))


class SqliteOptions(tables.TableOptions, total=False):
    """Options of a SQLite table.

    Attributes:
        strict: have SQLite check the types of values.
        without_rowid: store rows in the primary key's order, without a row id.
    """

    strict: bool
    without_rowid: bool


def table_target(
    db: coco.ContextKey[ManagedConnection],
    table_name: str,
    table_schema: TableSchema[RowT],
    *,
    virtual_table_def: Vec0TableDef | None = None,
    **options: Unpack[SqliteOptions],
) -> coco.TargetState[tables.RowHandler]:
    """A table as a target state, for ``coco.mount_target``.

    Args:
        db: names the connection, which ``sqlite.connect`` makes.
        table_name: the table.
        table_schema: its columns and key.
        virtual_table_def: make it a virtual table of sqlite-vec.
        **options: see :class:`SqliteOptions` and ``cocoindex.connectorkits.tables.TableOptions``.

    Raises:
        ValueError: a name, an option or the schema is not acceptable.
        RuntimeError: vectors, and the connection has not loaded sqlite-vec.
    """
    strict = options.get("strict", False)
    own: dict[str, Any] = {"strict": strict, "without_rowid": options.get("without_rowid", False)}
    if virtual_table_def is not None:
        own = {"vec0": asdict(virtual_table_def)}
    own = {name: value for name, value in own.items() if value}
    state = tables.table_state(
        _root,
        DIALECT,
        db,
        (table_name,),
        table_schema,
        options,
        own=own,
        is_gone=_is_gone(db, table_name),
    )
    _check(db, table_name, table_schema, virtual_table_def, strict=strict)
    return state


def declare_table_target(
    db: coco.ContextKey[ManagedConnection],
    table_name: str,
    table_schema: TableSchema[RowT],
    *,
    virtual_table_def: Vec0TableDef | None = None,
    **options: Unpack[SqliteOptions],
) -> TableTarget[RowT, coco.PendingS]:
    """As :func:`table_target`, declared in the current component, for ``coco.use_mount``."""
    return TableTarget.declared(
        table_target(db, table_name, table_schema, virtual_table_def=virtual_table_def, **options)
    )


def mount_table_target(
    db: coco.ContextKey[ManagedConnection],
    table_name: str,
    table_schema: TableSchema[RowT],
    *,
    virtual_table_def: Vec0TableDef | None = None,
    **options: Unpack[SqliteOptions],
) -> Coroutine[Any, Any, TableTarget[RowT, coco.ResolvedS]]:
    """As :func:`table_target`, mounted and ready to declare rows in, once it is awaited."""
    return TableTarget.mounted(
        table_target(db, table_name, table_schema, virtual_table_def=virtual_table_def, **options)
    )


def _check(
    db: coco.ContextKey[ManagedConnection],
    name: str,
    schema: TableSchema[Any],
    vec0: Vec0TableDef | None,
    *,
    strict: bool,
) -> None:
    if str(name).casefold().startswith("sqlite_"):
        raise UsageValueError(f"Invalid table name: {name!r}; SQLite keeps sqlite_* for itself")
    folded = [column.casefold() for column in schema.columns]
    if len(set(folded)) < len(folded):
        raise UsageValueError("column names must differ in more than case")
    vectors = [n for n, c in schema.columns.items() if c.is_vector or _vec0.is_vector(c.type)]
    if strict and vectors:
        raise UsageValueError(f"a strict table has no vector columns ({', '.join(vectors)})")
    if vec0 is not None:
        _vec0.arguments(vec0, schema.columns, schema.primary_key)
    if vec0 is not None or vectors:
        _check_extension(db)


def _check_extension(db: coco.ContextKey[ManagedConnection]) -> None:
    """Early, where the connection is at hand; the sink looks again."""
    connection = _at_hand(db)
    if connection is not None:
        connection.require_vec()


def _is_gone(db: coco.ContextKey[ManagedConnection], name: str) -> bool:
    """Whether the table is surely not there: files get deleted, and that costs one look."""
    connection = _at_hand(db)
    return connection is not None and not connection.may_have_table(name)


def _at_hand(db: object) -> ManagedConnection | None:
    """The connection, where a component runs and it is provided."""
    if not isinstance(db, coco.ContextKey):
        return None
    try:
        connection: object = coco.use_context(db)
    except (RuntimeError, KeyError):
        return None
    return connection if isinstance(connection, ManagedConnection) else None

"""SQLite tables as a target, vector search with sqlite-vec included."""

from cocoindex.connectors.sqlite.connection import ManagedConnection, connect, managed_connection
from cocoindex.connectors.sqlite.target import (
    ColumnDef,
    SqliteType,
    TableSchema,
    TableTarget,
    ValueEncoder,
    Vec0TableDef,
    declare_table_target,
    mount_table_target,
    table_target,
)

__all__ = [
    "ColumnDef",
    "ManagedConnection",
    "SqliteType",
    "TableSchema",
    "TableTarget",
    "ValueEncoder",
    "Vec0TableDef",
    "connect",
    "declare_table_target",
    "managed_connection",
    "mount_table_target",
    "table_target",
]

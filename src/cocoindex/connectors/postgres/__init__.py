"""Postgres: tables as a source (:class:`PgTableSource`) and as a target (:func:`table_target`)."""

from __future__ import annotations

try:
    import asyncpg as _asyncpg  # noqa: F401 - says at once what is missing
except ImportError as _error:
    raise ImportError(
        "cocoindex.connectors.postgres needs asyncpg. Please install cocoindex[postgres]."
    ) from _error

from cocoindex.connectors.postgres._types import ColumnDef, PgType, TableSchema, ValueEncoder
from cocoindex.connectors.postgres.source import PgSourceSpec, PgTableSource, RowFetcher
from cocoindex.connectors.postgres.target import (
    TableTarget,
    create_pool,
    declare_table_target,
    mount_table_target,
    table_target,
)

__all__ = [
    "ColumnDef",
    "PgSourceSpec",
    "PgTableSource",
    "PgType",
    "RowFetcher",
    "TableSchema",
    "TableTarget",
    "ValueEncoder",
    "create_pool",
    "declare_table_target",
    "mount_table_target",
    "table_target",
]

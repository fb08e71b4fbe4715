"""From a declared table to what encodes its rows."""

from __future__ import annotations

from typing import Any

from cocoindex.connectorkits.rows import Field, RowCodec
from cocoindex.connectorkits.tables.dialect import Dialect
from cocoindex.connectorkits.tables.model import Layout, LayoutColumn, Main, TableSpec

__all__ = ["make_codec", "make_layout"]


def make_codec(dialect: Dialect[Any, Any], spec: TableSpec, *, stored: bool = False) -> RowCodec:
    """The codec of a table's rows; with ``stored``, of rows as they are read back: without the
    encoders that the schema gives columns.
    """
    schema, options = spec.schema, spec.rows
    fields = []
    for name, declared in schema.columns.items():
        column = declared._replace(encoder=None) if stored else declared
        is_key = name in schema.primary_key
        fields.append(
            Field(
                name,
                declared.nullable,
                dialect.encoder(column, name, options),
                dialect.key_encoder(column, name, options) if is_key else None,
            )
        )
    return RowCodec(
        fields, schema.primary_key, title=dialect.name, table=str(spec.table), options=options
    )


def make_layout(spec: TableSpec, main: Main) -> Layout:
    """What statements about the table's rows are made from."""
    columns = tuple(
        LayoutColumn(name, column.type, column.nullable)
        for name, column in spec.schema.columns.items()
    )
    return Layout(spec.table, columns, tuple(spec.schema.primary_key), main)

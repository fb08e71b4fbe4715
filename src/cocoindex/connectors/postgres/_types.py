"""Python types and the column types they are stored in."""

from __future__ import annotations

import datetime as dt
import ipaddress
import uuid
from decimal import Decimal
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from cocoindex.connectorkits import jsonenc, tables
from cocoindex.connectorkits.columns import Mapped, TypeMapping
from cocoindex.connectors.postgres._plain import JsonText
from cocoindex.connectors.postgres._vectors import VECTOR_TYPES
from cocoindex.errors import UsageValueError
from cocoindex.resources.schema import VectorSchema

__all__ = ["ColumnDef", "PgType", "TableSchema", "ValueEncoder"]

RowT = TypeVar("RowT")


class ValueEncoder(Protocol):
    """From a value, never ``None``, to what is stored in the column."""

    def __call__(self, value: Any, /) -> Any: ...


class PgType(NamedTuple):
    """Says which column type a field has: ``Annotated[str, PgType("varchar(50)")]``.

    Attributes:
        pg_type: any type the server knows, as in ``CREATE TABLE``.
        encoder: applied to values before they are stored.
    """

    pg_type: str
    encoder: ValueEncoder | None = None


class ColumnDef(NamedTuple):
    """A column of a table.

    Attributes:
        type: any type the server knows, as in ``CREATE TABLE``.
        nullable: whether NULL may be stored; key columns never are.
        encoder: applied to values before they are stored.
    """

    type: str
    nullable: bool = True
    encoder: ValueEncoder | None = None


def _json(value: Any) -> JsonText:
    return JsonText(jsonenc.dumps(value))


def _vector(schema: VectorSchema) -> Mapped:
    base = "halfvec" if schema.dtype.name == "float16" else "vector"
    most = VECTOR_TYPES[base].most
    if schema.size > most:
        raise UsageValueError(f"{base} holds at most {most:,} dimensions, not {schema.size:,}")
    return Mapped(f"{base}({schema.size})")


_LEAVES: Final[dict[Any, str]] = {
    bool: "boolean",
    int: "bigint",
    float: "double precision",
    Decimal: "numeric",
    str: "text",
    bytes: "bytea",
    uuid.UUID: "uuid",
    dt.date: "date",
    dt.time: "time with time zone",
    dt.datetime: "timestamp with time zone",
    dt.timedelta: "interval",
    ipaddress.IPv4Network: "cidr",
    ipaddress.IPv6Network: "cidr",
    ipaddress.IPv4Address: "inet",
    ipaddress.IPv6Address: "inet",
    ipaddress.IPv4Interface: "inet",
    ipaddress.IPv6Interface: "inet",
    "int8": "smallint",
    "int16": "smallint",
    "uint8": "smallint",
    "int32": "integer",
    "uint16": "integer",
    "int64": "bigint",
    "uint32": "bigint",
    "uint64": "numeric",
    "float16": "real",
    "float32": "real",
    "float64": "double precision",
}


class TableSchema(tables.TableSchema[RowT]):
    """Columns and primary key of a Postgres table.

    Args:
        columns: by name, in order: :class:`ColumnDef`.
        primary_key: names of the key columns, at least one.
        row_type: the record class of rows, for information.

    Raises:
        ValueError: no or unknown key columns, names given twice, or no columns.
    """

    column_def = ColumnDef
    types = TypeMapping(
        leaf={kind: Mapped(name) for kind, name in _LEAVES.items()},
        json=Mapped("jsonb", _json),
        vector=_vector,
        annotation=PgType,
    )

"""Virtual tables of sqlite-vec."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from cocoindex.connectorkits import identifiers
from cocoindex.connectorkits.tables import LayoutColumn, Main
from cocoindex.errors import UsageError, UsageValueError

__all__ = ["Vec0TableDef", "arguments", "is_vec0", "key_of", "value_sql"]

Metric = Literal["l2", "cosine", "l1"]

_EXTENSION_MISSING: Final = (
    "sqlite-vec extension must be loaded to use vectors: install cocoindex[sqlite], and if the "
    "sqlite3 module can't load extensions, open the database with driver='apsw'"
)

_TAG: Final = "vec0"


@dataclass(frozen=True)
class Vec0TableDef:
    """A table of sqlite-vec, for nearest-neighbour search.

    Attributes:
        partition_key_columns: columns that split the index into separate parts.
        auxiliary_columns: columns that are stored, but can't be filtered by while searching.
        distance_metrics: by vector column, ``"l2"`` (default), ``"cosine"`` or ``"l1"``.
    """

    partition_key_columns: Sequence[str] = field(default_factory=list)
    auxiliary_columns: Sequence[str] = field(default_factory=list)
    distance_metrics: Mapping[str, Metric] = field(default_factory=dict)

    @property
    def module_name(self) -> str:
        """The name of the SQLite module."""
        return "vec0"


def arguments(definition: Vec0TableDef, columns: Mapping[str, Any], key: Sequence[str]) -> Main:
    """The signature of a vec0 table: its key, then all its column definitions.

    Raises:
        ValueError: the table can't be a vec0 table.
    """
    _check(definition, columns, key)
    parts = [_argument(definition, name, column, key) for name, column in columns.items()]
    return ((key[0], columns[key[0]].type.upper()), ("", _TAG, *parts))


def _argument(definition: Vec0TableDef, name: str, column: Any, key: Sequence[str]) -> str:
    kind = str(column.type).lower()
    if name in key:
        return f"{name} {kind} primary key"
    if name in definition.partition_key_columns:
        return f"{name} {kind} partition key"
    scalar = {"real": "float"}.get(kind, kind)
    if name in definition.auxiliary_columns:
        return f"+{name} {scalar}"
    metric = definition.distance_metrics.get(name)
    return f"{name} {scalar}" + (f" distance_metric={metric}" if metric is not None else "")


def _check(definition: Vec0TableDef, columns: Mapping[str, Any], key: Sequence[str]) -> None:
    vectors = [name for name, column in columns.items() if is_vector(column.type)]
    if not any(str(columns[name].type).lower().startswith("float[") for name in vectors):
        raise UsageValueError("vec0 tables require at least one float[N] vector column")
    if len(key) != 1:
        raise UsageValueError(f"vec0 tables require exactly one primary key column, not {len(key)}")
    if columns[key[0]].type.upper() not in ("INTEGER", "TEXT"):
        raise UsageValueError(
            f"vec0 tables require INTEGER primary key or TEXT, not {columns[key[0]].type}"
        )
    for kind, names in (
        ("Partition key", definition.partition_key_columns),
        ("Auxiliary", definition.auxiliary_columns),
        ("Distance metric", definition.distance_metrics),
    ):
        if unknown := [name for name in names if name not in columns]:
            raise UsageValueError(f"{kind} columns not in schema: {', '.join(unknown)}")
    for name, metric in definition.distance_metrics.items():
        if metric not in ("l2", "cosine", "l1") or name not in vectors:
            raise UsageValueError(f"distance_metrics[{name!r}]: a vector column and l2, cosine, l1")
    for name, column in columns.items():
        identifiers.check(name, "vec0 column name")
        if name not in definition.auxiliary_columns and name not in key:
            _check_indexed(name, column, is_vector=name in vectors)


def _check_indexed(name: str, column: Any, *, is_vector: bool) -> None:
    if is_vector:
        if column.nullable:
            raise UsageValueError(f"vec0 vector column {name!r} can't be nullable")
        return
    if column.type.upper() not in ("INTEGER", "TEXT", "REAL", "FLOAT", "BOOLEAN"):
        raise UsageValueError(
            f"vec0 column {name!r} of type {column.type} must be one of auxiliary_columns"
        )
    if column.nullable:
        raise UsageValueError(f"vec0 column {name!r} is nullable: put it into auxiliary_columns")


_VECTOR: Final = re.compile(r"(float|int8|bit)\[\d+\]\Z", re.IGNORECASE)


def is_vector(column_type: str) -> bool:
    """Whether it is one of sqlite-vec's types."""
    return _VECTOR.match(str(column_type).strip()) is not None


def value_sql(column_type: str) -> str:
    """The placeholder of a value: blobs are float32 unless said otherwise."""
    kind = str(column_type).partition("[")[0].lower()
    return {"int8": "vec_int8(?)", "bit": "vec_bit(?)"}.get(kind, "?")


def is_vec0(main: Main) -> bool:
    """Whether a signature is that of a vec0 table."""
    return any(part[:2] == ("", _TAG) for part in main)


def create_sql(name: str, main: Main) -> str:
    """The statement that makes a vec0 table."""
    parts = next(part for part in main if part[:2] == ("", _TAG))[2:]
    return f"CREATE VIRTUAL TABLE {identifiers.quote(name)} USING vec0({', '.join(parts)})"


_USING: Final = re.compile(r"\bUSING\s+vec0\s*\((.*)\)\s*\Z", re.IGNORECASE | re.DOTALL)


def signature_of(sql: str) -> Main | None:
    """The signature of a table by the statement that made it, if it is a vec0 table."""
    found = _USING.search(sql)
    if found is None:
        return None
    parts = tuple(" ".join(part.split()) for part in found.group(1).split(","))
    key = next((part.split() for part in parts if part.lower().endswith(" primary key")), None)
    own = () if key is None else ((key[0], key[1].upper()),)
    return (*own, ("", _TAG, *parts))


def key_of(main: Main) -> tuple[LayoutColumn, ...]:
    """The key columns in a signature."""
    return tuple(LayoutColumn(part[0], part[1], False) for part in main if part[0])


def check_loaded(connection: Any) -> None:
    """Raises ``RuntimeError`` unless sqlite-vec is loaded into the driver's connection."""
    found = connection.execute(
        "SELECT 1 FROM pragma_function_list WHERE name = 'vec_version'"
    ).fetchall()
    if not found:
        raise UsageError(_EXTENSION_MISSING)

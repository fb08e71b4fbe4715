"""The schema of a table: columns and primary key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

from cocoindex.connectorkits.columns import Column, Encoder, TypeMapping, resolve
from cocoindex.errors import UsageTypeError, UsageValueError

__all__ = ["ColumnDef", "TableSchema"]

RowT = TypeVar("RowT")


class ColumnDef(NamedTuple):
    """A column.

    Attributes:
        type: as in DDL.
        nullable: whether ``NULL`` may be stored; key columns never are.
        encoder: from a value that is not ``None`` to what the driver is given.
    """

    type: str
    nullable: bool = True
    encoder: Encoder | None = None


class TableSchema(Generic[RowT]):
    """Columns and primary key of a table.

    A connector subclasses it and says ``types``, and ``column_def`` if its columns have more
    to them than type, nullability and encoder.

    Args:
        columns: by name, in order.
        primary_key: names of the key columns, at least one.
        row_type: the record class of rows, for information.

    Raises:
        ValueError: no or unknown key columns, names given twice, or no columns.
    """

    types: ClassVar[TypeMapping]
    column_def: ClassVar[Any] = ColumnDef

    def __init__(
        self,
        columns: Mapping[str, Any],
        primary_key: Sequence[str],
        *,
        row_type: type[RowT] | None = None,
    ) -> None:
        self.columns: dict[str, Any] = dict(columns)
        self.primary_key: list[str] = _checked_key(primary_key, self.columns)
        self.row_type = row_type
        for name in self.primary_key:
            if self.columns[name].nullable:
                self.columns[name] = self.columns[name]._replace(nullable=False)

    @classmethod
    async def from_class(
        cls,
        record_type: type[RowT],
        primary_key: Sequence[str],
        *,
        column_overrides: Mapping[str, Any] | None = None,
    ) -> Self:
        """The schema of a dataclass, NamedTuple or pydantic model: one column per field.

        Args:
            record_type: the class.
            primary_key: names of the key columns.
            column_overrides: by field, a type of the connector or a vector schema (or what
                provides one); comes before annotations.

        Raises:
            TypeError: ``record_type`` is no record class.
            ValueError: see :class:`TableSchema`; or a vector without schema.
        """
        resolved = await resolve(record_type, cls.types, column_overrides)
        columns = {column.name: cls.make_column(column) for column in resolved}
        return cls(columns, primary_key, row_type=record_type)

    @classmethod
    def make_column(cls, column: Column) -> Any:
        """The connector's definition of a column that was found in a class."""
        return cls.column_def(column.type, column.nullable, column.encoder)

    def __repr__(self) -> str:
        columns = ", ".join(f"{name} {column.type}" for name, column in self.columns.items())
        return f"{type(self).__name__}({columns}; key {', '.join(self.primary_key)})"


def _checked_key(primary_key: Sequence[str], columns: Mapping[str, Any]) -> list[str]:
    if isinstance(primary_key, str):
        raise UsageTypeError(f"primary_key must be a list of names, e.g. [{primary_key!r}]")
    key = list(primary_key)
    if not key:
        raise UsageValueError("primary_key must name at least one column")
    for name in key:
        if name not in columns:
            raise UsageValueError(
                f"Primary key column {name!r} not found in columns: {list(columns)}"
            )
    if len(set(key)) < len(key):
        raise UsageValueError(f"primary_key names a column twice: {key}")
    return key

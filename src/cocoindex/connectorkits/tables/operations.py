"""Changes of a table, as values that can be printed, compared and carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cocoindex.connectorkits.tables.model import ExistingColumn, LayoutColumn, Main, Table

__all__ = [
    "AddColumn",
    "ChangeColumn",
    "CreateTable",
    "DropColumn",
    "DropTable",
    "Operation",
    "SetMarker",
    "brief",
]


@dataclass(frozen=True, slots=True)
class CreateTable:
    """Make the table, which is not there."""

    table: Table
    columns: tuple[LayoutColumn, ...]
    key: tuple[str, ...]
    main: Main
    options: Mapping[str, Any]

    def __str__(self) -> str:
        columns = ", ".join(map(str, self.columns))
        return f"create table {self.table} ({columns}, primary key ({', '.join(self.key)}))"


@dataclass(frozen=True, slots=True)
class DropTable:
    """Remove the table, which is there, with all its rows."""

    table: Table
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"drop table {self.table}"


@dataclass(frozen=True, slots=True)
class AddColumn:
    """Add a column that is not there.

    Attributes:
        not_null_later: add it as nullable; it becomes NOT NULL when all rows have a value.
    """

    table: Table
    column: LayoutColumn
    not_null_later: bool = False

    def __str__(self) -> str:
        return f"add column {self.column} to {self.table}"


@dataclass(frozen=True, slots=True)
class DropColumn:
    """Remove a column that is there.

    Attributes:
        options: of the connector.
    """

    table: Table
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"drop column {self.name} of {self.table}"


@dataclass(frozen=True, slots=True)
class ChangeColumn:
    """Give a column another type or nullability, keeping its values where that is possible.

    Attributes:
        before: what stands there.
        not_null_later: leave it nullable for now, as in :class:`AddColumn`.
        options: of the connector.
    """

    table: Table
    column: LayoutColumn
    before: ExistingColumn
    not_null_later: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        before = LayoutColumn(self.column.name, self.before.type, self.before.nullable)
        return f"change column {before} of {self.table} to {self.column}"


@dataclass(frozen=True, slots=True)
class SetMarker:
    """Note with the table who has made it."""

    table: Table
    marker: str

    def __str__(self) -> str:
        return f"mark {self.table} as made by this app"


Operation: TypeAlias = CreateTable | DropTable | AddColumn | DropColumn | ChangeColumn | SetMarker


def brief(operation: Operation) -> str:
    """An operation as messages name it: what a table is made of would fill them."""
    return (
        f"create table {operation.table}" if isinstance(operation, CreateTable) else f"{operation}"
    )

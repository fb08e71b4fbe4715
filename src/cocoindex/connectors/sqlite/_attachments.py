"""What can be attached to a SQLite table: indexes and full-text search."""

# ruff: noqa: S608 - names are checked and quoted, values are bound

from __future__ import annotations

from typing import Any, NamedTuple

from cocoindex.connectorkits.identifiers import quote
from cocoindex.connectorkits.tables import AttachmentKind, Layout
from cocoindex.connectors.sqlite._ddl import quote_text
from cocoindex.connectors.sqlite.connection import ManagedConnection

__all__ = ["FullText", "FullTextSpec", "IndexSpec", "Indexes"]


class IndexSpec(NamedTuple):
    """An ordinary index.

    Attributes:
        name: of the index in the database.
        columns: in order.
        unique: whether values must differ.
        where: condition on the rows that are in the index, as SQL.
    """

    name: str
    columns: tuple[str, ...]
    unique: bool
    where: str | None


class Indexes(AttachmentKind[IndexSpec]):
    """Ordinary indexes."""

    def data(self, spec: IndexSpec) -> tuple[str | None, ...]:
        """The index's name."""
        return (spec.name,)

    async def create(
        self, client: ManagedConnection, layout: Layout, _key: str, spec: IndexSpec
    ) -> bool:
        """``CREATE INDEX IF NOT EXISTS``."""
        columns = ", ".join(map(quote, spec.columns))
        unique = "UNIQUE " if spec.unique else ""
        where = f" WHERE {spec.where}" if spec.where else ""
        await _run(
            client,
            f"CREATE {unique}INDEX IF NOT EXISTS {quote(spec.name)} "
            f"ON {quote(layout.table.name)} ({columns}){where}",
        )
        return True

    async def drop(
        self, client: ManagedConnection, _layout: Layout, _key: str, data: tuple[str | None, ...]
    ) -> None:
        """``DROP INDEX IF EXISTS``."""
        await _run(client, f"DROP INDEX IF EXISTS {quote(data[0] or '')}")

    def describe(self, key: str, spec: IndexSpec | None) -> str:
        """With its columns."""
        if spec is None:
            return f"drop index {key}"
        return f"create index {spec.name} ({', '.join(spec.columns)})"


class FullTextSpec(NamedTuple):
    """A full-text index.

    Attributes:
        name: of the FTS5 table.
        columns: that are searched.
        tokenizer: as FTS5's ``tokenize`` option.
    """

    name: str
    columns: tuple[str, ...]
    tokenizer: str


class FullText(AttachmentKind[FullTextSpec]):
    """FTS5 tables that read from the rows' table and are kept in step by triggers."""

    def data(self, spec: FullTextSpec) -> tuple[str | None, ...]:
        """The FTS5 table's name."""
        return (spec.name,)

    async def create(
        self, client: ManagedConnection, layout: Layout, _key: str, spec: FullTextSpec
    ) -> bool:
        """The FTS5 table, its triggers, and an index of the rows there are."""
        await _run(client, *_full_text_sql(layout.table.name, spec))
        return True

    async def drop(
        self, client: ManagedConnection, _layout: Layout, _key: str, data: tuple[str | None, ...]
    ) -> None:
        """Triggers and table."""
        name = data[0] or ""
        await _run(
            client,
            *(f"DROP TRIGGER IF EXISTS {quote(f'{name}_{event}')}" for event in _EVENTS),
            f"DROP TABLE IF EXISTS {quote(name)}",
        )

    def describe(self, key: str, spec: FullTextSpec | None) -> str:
        """With its columns."""
        if spec is None:
            return f"drop full-text index {key}"
        return f"create full-text index {spec.name} ({', '.join(spec.columns)})"


_EVENTS = ("insert", "delete", "update")


def _full_text_sql(table: str, spec: FullTextSpec) -> list[str]:
    fts, columns = quote(spec.name), ", ".join(map(quote, spec.columns))
    new = ", ".join(f"new.{quote(column)}" for column in spec.columns)
    old = ", ".join(f"old.{quote(column)}" for column in spec.columns)
    add = f"INSERT INTO {fts}(rowid, {columns}) VALUES (new.rowid, {new});"
    remove = f"INSERT INTO {fts}({fts}, rowid, {columns}) VALUES ('delete', old.rowid, {old});"
    options = (
        columns,
        f"content={quote_text(table)}",
        "content_rowid='rowid'",
        f"tokenize={quote_text(spec.tokenizer)}",
    )
    bodies = {"insert": add, "delete": remove, "update": f"{remove} {add}"}
    return [
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {fts} USING fts5({', '.join(options)})",
        *(
            f"CREATE TRIGGER IF NOT EXISTS {quote(f'{spec.name}_{event}')} AFTER {event} "
            f"ON {quote(table)} BEGIN {body} END"
            for event, body in bodies.items()
        ),
        f"INSERT INTO {fts}({fts}) VALUES ('rebuild')",
    ]


async def _run(client: ManagedConnection, *statements: str) -> None:
    def execute(connection: Any) -> None:
        for statement in statements:
            connection.execute(statement)

    async with client.transaction_of_task() as tx:
        await tx.call(execute)

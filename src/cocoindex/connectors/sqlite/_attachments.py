"""What can be attached to a SQLite table: indexes and full-text search."""

# ruff: noqa: S608 - names are checked and quoted, values are bound

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from cocoindex.connectorkits.identifiers import quote
from cocoindex.connectorkits.tables import AttachmentKind, Layout
from cocoindex.connectors.sqlite._ddl import full_text_triggers, quote_text
from cocoindex.connectors.sqlite.connection import ManagedConnection
from cocoindex.errors import TargetError

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
        """``CREATE INDEX``, unless it is there and just this.

        Raises:
            TargetError: something else has that name, which is one of the whole file.
        """
        columns = ", ".join(map(quote, spec.columns))
        unique = "UNIQUE " if spec.unique else ""
        where = f" WHERE {spec.where}" if spec.where else ""
        statement = (
            f"CREATE {unique}INDEX {quote(spec.name)} "
            f"ON {quote(layout.table.name)} ({columns}){where}"
        )
        await _run(client, _create_index, layout.table.name, spec.name, statement)
        return True

    async def drop(
        self, client: ManagedConnection, layout: Layout, _key: str, data: tuple[str | None, ...]
    ) -> None:
        """``DROP INDEX``, if it is one of this table."""
        await _run(client, _drop_index, layout.table.name, data[0] or "")

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

    outlives_table = True

    def data(self, spec: FullTextSpec) -> tuple[str | None, ...]:
        """The FTS5 table's name."""
        return (spec.name,)

    async def create(
        self, client: ManagedConnection, layout: Layout, _key: str, spec: FullTextSpec
    ) -> bool:
        """The FTS5 table, its triggers, and an index of the rows there are.

        Raises:
            TargetError: something else has the name of the FTS5 table.
        """
        await _run(client, _create_full_text, layout.table.name, spec)
        return True

    async def drop(
        self, client: ManagedConnection, layout: Layout, _key: str, data: tuple[str | None, ...]
    ) -> None:
        """Triggers and table, if it is one that reads from this table."""
        await _run(client, _drop_full_text, layout.table.name, data[0] or "")

    def describe(self, key: str, spec: FullTextSpec | None) -> str:
        """With its columns."""
        if spec is None:
            return f"drop full-text index {key}"
        return f"create full-text index {spec.name} ({', '.join(spec.columns)})"


# --- Statements ----------------------------------------------------------------------------


def _create_index(connection: Any, table: str, name: str, statement: str) -> None:
    found = _named(connection, name)
    if found is not None and not found.is_index_of(table):
        raise _taken("index", name, table, found)
    if found is not None and found.sql == statement:
        return
    if found is not None:  # made by an earlier version, of which nothing is known any more
        connection.execute(f"DROP INDEX {quote(name)}")
    connection.execute(statement)


def _drop_index(connection: Any, table: str, name: str) -> None:
    found = _named(connection, name)
    if found is not None and found.is_index_of(table):
        connection.execute(f"DROP INDEX {quote(name)}")


def _create_full_text(connection: Any, table: str, spec: FullTextSpec) -> None:
    found = _named(connection, spec.name)
    if found is not None and not found.searches(table):
        raise _taken("full-text table", spec.name, table, found)
    making, *rest = _full_text_sql(table, spec)
    if found is not None and not making.endswith(found.sql.partition(" USING ")[2]):
        _drop_full_text(connection, table, spec.name)
    for statement in (making, *rest):
        connection.execute(statement)


def _drop_full_text(connection: Any, table: str, name: str) -> None:
    found = _named(connection, name)
    if found is None or not found.searches(table):
        return
    for trigger in full_text_triggers(name):
        connection.execute(f"DROP TRIGGER IF EXISTS {quote(trigger)}")
    connection.execute(f"DROP TABLE {quote(name)}")


class _Named(NamedTuple):
    """What has a name in the file."""

    kind: str
    table: str
    sql: str

    def is_index_of(self, table: str) -> bool:
        return self.kind == "index" and self.table.casefold() == table.casefold()

    def searches(self, table: str) -> bool:
        """Whether it is a full-text table that reads from ``table``."""
        sql = self.sql.casefold()
        return "using fts5" in sql and f"content={quote_text(table)}".casefold() in sql


def _named(connection: Any, name: str) -> _Named | None:
    found = connection.execute(
        "SELECT type, tbl_name, coalesce(sql, '') FROM sqlite_schema "
        "WHERE type <> 'trigger' AND name = ? COLLATE NOCASE",
        (name,),
    ).fetchall()
    return _Named(*found[0]) if found else None


def _taken(what: str, name: str, table: str, found: _Named) -> TargetError:
    of = f" of {found.table}" if found.kind == "index" else ""
    return TargetError(
        f"{what} {name} is needed for table {table}, but there is a {found.kind}{of} of that name "
        "in the file: choose another by name="
    )


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


async def _run(client: ManagedConnection, do: Callable[..., None], *args: object) -> None:
    async with client.transaction_of_task() as tx:
        await tx.call(do, *args)

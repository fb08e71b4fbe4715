"""What a connector says about its system; the kit does the rest.

A dialect has no state: one instance serves all tables of all apps. It supplies the statements
and the client calls. The kit decides what has to be done, looks clients up, opens
transactions, cuts rows into chunks, retries, and words errors.
"""

# ruff: noqa: ARG002 - defaults take what overriding methods need

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Generic, Literal, TypeVar

from cocoindex.connectorkits import rows
from cocoindex.connectorkits.columns import Encoder
from cocoindex.connectorkits.rows import RowOptions
from cocoindex.connectorkits.tables.attachment_kind import AttachmentKind
from cocoindex.connectorkits.tables.model import (
    COLUMN,
    Existing,
    Key,
    Layout,
    LayoutColumn,
    Main,
    Part,
    RowAction,
    Table,
    TableSpec,
)
from cocoindex.connectorkits.tables.operations import Operation

__all__ = ["Dialect"]

ClientT = TypeVar("ClientT")
TxT = TypeVar("TxT")

_log = logging.getLogger(__name__)


class Dialect(ABC, Generic[ClientT, TxT]):
    """A kind of database with tables. ``ClientT`` is what users provide under the context key,
    ``TxT`` what statements run on inside a transaction.
    """

    name: ClassVar[str]
    """In messages (``"Postgres"``)."""
    max_rows: ClassVar[int] = 10_000
    """Most rows in one transaction."""
    max_bytes: ClassVar[int] = 64 << 20
    """Most bytes of values in one transaction."""
    max_name_bytes: ClassVar[int | None] = None
    """Longest identifier."""
    adds_not_null: ClassVar[Literal["later", "at once"]] = "later"
    """Whether a NOT NULL column can be added to a filled table at once, because ``apply`` gives
    existing rows a value."""
    marks_names: ClassVar[bool] = False
    """Whether a marker is kept by the table's name, so that it outlives a table that others drop
    and is taken for that of a table of the same name."""
    attachments: ClassVar[Mapping[str, AttachmentKind[Any]]] = {}
    """What can be attached to a table, by type of attachment."""

    # --- clients ---------------------------------------------------------------------------

    @abstractmethod
    def client_type(self) -> type[Any] | tuple[type[Any], ...]:
        """The class that a provided client must be of. May import the client library."""

    @abstractmethod
    def transaction(
        self, client: ClientT, table: Table, *, ddl: bool = False
    ) -> AbstractAsyncContextManager[TxT]:
        """A transaction: committed at the end, rolled back on any exception or cancellation.

        With ``ddl`` it holds a lock under which one process at a time changes the table, where
        the system has such a lock. Raises ``connectorkits.retry.NotConnected`` where there is no
        connection to be had, so that this is told apart from what is done with one.
        """

    @abstractmethod
    def is_transient(self, error: BaseException) -> bool:
        """Whether an error may pass, so that the whole transaction is tried again."""

    @abstractmethod
    def describe(self, error: BaseException) -> str:
        """What an error means: codes, names of constraints and columns. Never data, a host with
        credentials, or a statement with values in it.
        """

    def is_missing(self, error: BaseException) -> bool:
        """Whether a table is not there that should be."""
        return False

    def is_blocked(self, error: BaseException) -> bool:
        """Whether a table could not be dropped because something else depends on it."""
        return False

    def blames_row(self, error: BaseException) -> bool:
        """Whether an error is about the data of a row, such as a violated constraint; then the
        kit looks for the row. Every other error is about all of them.
        """
        return False

    def is_taken(self, error: BaseException) -> bool:
        """Whether a row was refused because another one has a value that must be unique, in
        columns besides the key. Rows that swap such values can't be updated one by one.
        """
        return False

    # --- values ----------------------------------------------------------------------------

    def encoder(self, column: Any, name: str, options: RowOptions) -> Encoder | None:
        """The encoder of a column's values; asked for once per table and run.

        Args:
            column: the schema's column definition.
            name: of the column.
            options: of the target.
        """
        encoder: Encoder | None = column.encoder
        return encoder

    def key_encoder(self, column: Any, name: str, options: RowOptions) -> Encoder:
        """From a key column's value, as declared, to its part of the stable key. Two values that
        are one key in the database must give one part; ``delete`` gets the part only.
        """
        encode = column.encoder
        if encode is None:
            return rows.key_part
        return lambda value: rows.key_part(encode(value))

    def fingerprint(self, names: tuple[str, ...]) -> Callable[[tuple[Any, ...]], bytes]:
        """A function from encoded fields to 16 bytes; neither ``None`` nor order may count."""
        return rows.fingerprinter(names)

    def size_of(self, fields: tuple[Any, ...] | None) -> int:
        """About how many bytes a row takes on its way."""
        return rows.size_of(fields)

    # --- tracking --------------------------------------------------------------------------

    def signature(self, spec: TableSpec) -> tuple[Main, dict[str, Part]]:
        """What is compared between runs: what only a rebuild can change, and what else there is.

        Parts named ``col:<name>`` are columns.
        """
        columns = spec.schema.columns
        main = tuple((name, str(columns[name].type)) for name in spec.schema.primary_key)
        parts: dict[str, Part] = {
            f"{COLUMN}{name}": (str(column.type), column.nullable)
            for name, column in columns.items()
            if name not in spec.schema.primary_key
        }
        return main, parts

    def key_columns(self, main: Main) -> tuple[LayoutColumn, ...]:
        """The key columns that a recorded signature tells of, in key order."""
        return tuple(LayoutColumn(name, kind, False) for name, kind in main)

    def is_lossy(self, before: tuple[str, bool], after: tuple[str, bool]) -> bool:
        """Whether a change of a column's type or nullability may harm its values."""
        return before[0] != after[0]

    # --- changing tables: all inside one ``transaction(ddl=True)`` ----------------------------

    async def prepare(self, tx: TxT, spec: TableSpec) -> None:
        """Make sure of what the table needs around it, such as its schema or an extension."""

    @abstractmethod
    async def inspect(self, tx: TxT, table: Table) -> Existing | None:
        """The table as it stands, or ``None``."""

    async def same_types(self, tx: TxT, pairs: Sequence[tuple[str, str]]) -> Sequence[bool]:
        """For pairs of an existing and a declared type: whether they are one type."""
        return [_spelling(existing) == _spelling(declared) for existing, declared in pairs]

    @abstractmethod
    async def apply(
        self, tx: TxT, existing: Existing | None, operations: Sequence[Operation]
    ) -> None:
        """Carry out operations, in order; ``existing`` is what ``inspect`` has said."""

    async def set_not_null(self, tx: TxT, table: Table, column: LayoutColumn) -> bool:
        """Make a column NOT NULL, unless a row has no value in it: then answer ``False``."""
        return True

    async def holds_values(self, tx: TxT, table: Table, column: str) -> bool:
        """Whether some row has a value in a column."""
        return True

    # --- rows ------------------------------------------------------------------------------

    @abstractmethod
    async def write(
        self, tx: TxT, layout: Layout, upserts: Sequence[RowAction], deletes: Sequence[Key]
    ) -> int:
        """Write and delete rows, at most ``max_rows`` in all. No statement per row.

        Returns:
            How many statements it took, for statistics.
        """

    async def may_rewrite(self, tx: TxT, layout: Layout) -> bool:
        """Whether nothing is lost if rows are deleted and inserted again in one transaction: no
        other table refers to them, and they have no columns but the layout's.
        """
        return False

    @abstractmethod
    async def read(
        self, tx: TxT, layout: Layout, keys: Sequence[Key] | None, after: Key | None, limit: int
    ) -> Sequence[tuple[Any, ...]]:
        """Rows as they stand, as tuples in the order of the layout's columns.

        Args:
            tx: the transaction.
            layout: of the table.
            keys: which rows; ``None`` for ``limit`` rows in key order.
            after: continue behind this key.
            limit: most rows to return without ``keys``.
        """


def _spelling(column_type: str) -> str:
    return " ".join(column_type.casefold().split())

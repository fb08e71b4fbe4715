"""Tables, views and foreign tables of Postgres as a source."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import asyncpg

import cocoindex as coco
from cocoindex.connectorkits.async_adapters import async_to_sync_iter
from cocoindex.connectorkits.retry import retrying
from cocoindex.connectorkits.unique_keys import UniqueKeys
from cocoindex.connectors.postgres import _errors
from cocoindex.connectors.postgres._pool import acquired_here
from cocoindex.connectors.postgres._reading import Reading, TableShape
from cocoindex.connectors.postgres._source_rows import KeyedRow, RowMaker
from cocoindex.core.datatype import RecordType, is_record_type
from cocoindex.errors import (
    CocoIndexError,
    SourceError,
    UsageError,
    UsageTypeError,
    UsageValueError,
)

__all__ = ["PgSourceSpec", "PgTableSource", "RowFetcher"]

RowT = TypeVar("RowT")
T = TypeVar("T")

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_$]*\Z")


class RateLimit(Protocol):
    """A budget of rows, such as ``cocoindex.resources.rate_limit.RateLimiter``."""

    async def acquire(self, n: int = 1) -> None: ...


@dataclass(frozen=True)
class PgSourceSpec:
    """What to read.

    Attributes:
        table_name: a table, view, partitioned or foreign table.
        columns: which columns; None for all.
        pg_schema_name: its schema; None for the first of the search path that has it.

    Raises:
        ValueError: a name is no plain identifier.
    """

    table_name: str
    columns: tuple[str, ...] | None = None
    pg_schema_name: str | None = None

    def __post_init__(self) -> None:
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(self.columns))
        _check_name(self.table_name, "table name")
        if self.pg_schema_name is not None:
            _check_name(self.pg_schema_name, "schema name")
        for column in self.columns or ():
            _check_name(column, "column name")

    def __str__(self) -> str:
        schema = "" if self.pg_schema_name is None else f"{self.pg_schema_name}."
        return f"{schema}{self.table_name}"


def _check_name(name: str, kind: str) -> None:
    if not _NAME.match(name):
        raise UsageValueError(f"Invalid {kind}: {name!r}")


class PgTableSource(Generic[RowT]):
    """Reads the rows of a table.

    Rows are dicts, or what ``row_factory`` or ``row_type`` make of them. ``json`` columns are
    decoded, vectors are NumPy arrays, the rest is what the driver returns.

    Args:
        pool: connections to the database, or the context key under which they are provided.
        table_name: a table, view, partitioned or foreign table.
        columns: which columns; default: the fields of ``row_type``, else all.
        pg_schema_name: its schema; default: the first of the search path that has the table.
        row_factory: makes a row of a dict of its values.
        row_type: a record type whose fields are called like the columns.
        where: a condition in SQL, with ``$1``, ``$2``, … for ``params``.
        params: the values for ``where``.
        order_by: columns in SQL; only with a snapshot.
        prefetch: rows per round trip.
        snapshot: read everything as it was at one moment, in one transaction. ``False`` reads
            page by page in the order of the primary key, and holds no connection while the rows
            of a page are worked on.
        page_size: rows per page then; default ``prefetch``.
        ordinal_column: a column that changes whenever its row does (``updated_at``): a memoized
            function then takes the row for the same as long as key and ordinal are the same,
            and ``row_factory`` or ``row_type`` is, without looking at the other columns. Rows in
            which it is NULL are compared whole.
        rate_limit: acquired for the rows of each round trip.

    Raises:
        ValueError: names or options contradict each other.
        TypeError: ``row_type`` is no record type, or ``pool`` no pool.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[Any] | coco.ContextKey[asyncpg.Pool[Any]],
        *,
        table_name: str,
        columns: Sequence[str] | None = None,
        pg_schema_name: str | None = None,
        row_factory: Callable[[dict[str, Any]], RowT] | None = None,
        row_type: type[RowT] | None = None,
        where: str | None = None,
        params: Sequence[Any] = (),
        order_by: str | None = None,
        prefetch: int = 1000,
        snapshot: bool = True,
        page_size: int | None = None,
        ordinal_column: str | None = None,
        rate_limit: RateLimit | None = None,
    ) -> None:
        if row_factory is not None and row_type is not None:
            raise UsageValueError("Cannot specify both row_factory and row_type")
        if not snapshot and order_by is not None:
            raise UsageValueError("order_by needs snapshot=True: pages follow the primary key")
        if min(prefetch, page_size or 1) < 1:
            raise UsageValueError("prefetch and page_size must be at least 1")
        if ordinal_column is not None:
            _check_name(ordinal_column, "column name")
        names = _columns(columns, row_type)
        self.spec = PgSourceSpec(table_name, names, pg_schema_name)
        self._pool: asyncpg.Pool[Any] | coco.ContextKey[asyncpg.Pool[Any]] = _checked(pool)
        self._row_type, self._row_factory = row_type, row_factory
        self._reading = Reading(
            table=(pg_schema_name, table_name),
            columns=names,
            where=where,
            params=tuple(params),
            order_by=order_by,
            extra=() if ordinal_column is None else (ordinal_column,),
        )
        self._batch = page_size or prefetch if not snapshot else prefetch
        self._snapshot = snapshot
        self._ordinal = ordinal_column
        self._rate_limit = rate_limit

    def fetch_rows(self) -> RowFetcher[RowT]:
        """The rows, to be iterated over; each iteration reads again."""
        return RowFetcher(self)

    def items(
        self, key: Callable[[RowT], coco.StableKey] | None = None
    ) -> AsyncIterator[tuple[coco.StableKey, RowT]]:
        """Pairs of key and row, for ``coco.mount_each``.

        Args:
            key: from a row to its key; default: the primary key, a tuple if it has more than
                one column.

        Raises:
            ValueError: two rows have one key, or there is no primary key and no ``key``.
        """
        return self.fetch_rows().items(key)

    async def _rows(self, *, keyed: bool) -> AsyncIterator[KeyedRow]:
        """Every row with its primary key (empty unless wanted), fetched in parts."""
        wants_key = keyed or not self._snapshot or self._ordinal is not None
        pages = self._one_snapshot(wants_key) if self._snapshot else self._pages()
        async for shape, records in pages:
            if self._rate_limit is not None:
                await self._rate_limit.acquire(len(records))
            make = RowMaker(shape, self._row_type, self._row_factory, self._ordinal)
            for record in records:
                yield make(record)

    async def _one_snapshot(
        self, wants_key: bool
    ) -> AsyncIterator[tuple[TableShape, Sequence[Any]]]:
        opened, shape, cursor = await self._retrying(lambda: self._open_snapshot(wants_key))
        with self._told():
            async with opened:
                while records := await cursor.fetch(self._batch):
                    yield shape, records

    async def _open_snapshot(self, wants_key: bool) -> tuple[AsyncExitStack, TableShape, Any]:
        async with AsyncExitStack() as stack:
            pool = self._connected()
            connection = await stack.enter_async_context(acquired_here(pool, for_long=True))
            await stack.enter_async_context(
                connection.transaction(isolation="repeatable_read", readonly=True)
            )
            shape = await self._reading.shape(connection, keyed=wants_key)
            query = self._reading.select(shape)
            cursor = await connection.cursor(query, *self._reading.params)
            return stack.pop_all(), shape, cursor

    async def _pages(self) -> AsyncIterator[tuple[TableShape, Sequence[Any]]]:
        after: tuple[Any, ...] | None = None
        while True:
            shape, records = await self._page(after)
            if records:
                yield shape, records
            if len(records) < self._batch:
                return
            after = shape.key_of(records[-1])

    async def _page(self, after: tuple[Any, ...] | None) -> tuple[TableShape, Sequence[Any]]:
        async def fetch() -> tuple[TableShape, Sequence[Any]]:
            async with (
                acquired_here(self._connected()) as connection,
                connection.transaction(readonly=True),
            ):
                shape = await self._reading.shape(connection, keyed=True)
                query, arguments = self._reading.page(shape, after, self._batch)
                return shape, await connection.fetch(query, *arguments)

        return await self._retrying(fetch)

    def _connected(self) -> asyncpg.Pool[Any]:
        if not isinstance(self._pool, coco.ContextKey):
            return self._pool
        pool: Any = coco.use_context(self._pool)
        return cast("asyncpg.Pool[Any]", _checked(pool))

    async def _retrying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        with self._told():
            return await retrying(
                attempt,
                is_transient=_errors.is_transient,
                what=f"reading Postgres table {self.spec}",
                describe=_errors.describe,
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except CocoIndexError:
            raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            what = f"reading Postgres table {self.spec}: {_errors.describe(error)}"
            raise SourceError(what, error) from None


def _checked(pool: object) -> Any:
    if isinstance(pool, (asyncpg.Pool, coco.ContextKey)):
        return pool
    raise UsageTypeError(
        f"PgTableSource needs a pool of asyncpg, or the context key of one, not "
        f"{type(pool).__name__}"
    )


def _columns(columns: Sequence[str] | None, row_type: Any) -> tuple[str, ...] | None:
    if row_type is None:
        return None if columns is None else tuple(columns)
    if not is_record_type(row_type):
        raise UsageTypeError("row_type must be a record type: a dataclass, NamedTuple or model")
    fields = tuple(field.name for field in RecordType(row_type).fields)
    unknown = [name for name in columns or () if name not in fields]
    if unknown:
        raise UsageValueError(f"columns {unknown} are no fields of {row_type.__name__}")
    return fields if columns is None else tuple(columns)


class RowFetcher(Generic[RowT]):
    """The rows of a table: ``async for``, or in scripts without an event loop ``for``."""

    def __init__(self, source: PgTableSource[RowT]) -> None:
        self._source = source

    async def __aiter__(self) -> AsyncIterator[RowT]:
        async for _, row in self._source._rows(keyed=False):  # noqa: SLF001 - one thing in two
            yield row

    def __iter__(self) -> Iterator[RowT]:
        try:
            return async_to_sync_iter(self.__aiter__)
        except UsageError:
            raise UsageError(
                f"rows of {self._source.spec} can't be read by `for` where an event loop runs; "
                "use `async for`"
            ) from None

    async def items(
        self, key: Callable[[RowT], coco.StableKey] | None = None
    ) -> AsyncIterator[tuple[coco.StableKey, RowT]]:
        """As :meth:`PgTableSource.items`."""
        if key is None:
            async for found, row in self._source._rows(keyed=True):  # noqa: SLF001 - as above
                yield found, row
            return
        keys = UniqueKeys()
        number = 0
        async for row in self:
            number += 1
            found = key(row)
            first = keys.add(found)
            if first is not None:
                raise UsageValueError(
                    f"rows {first} and {number} of {self._source.spec} have the same key {found!r}"
                )
            yield found, row

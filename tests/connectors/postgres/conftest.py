"""A database with an app in front of it, and a network between them that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

import cocoindex as coco
from cocoindex.connectors import postgres

DB = coco.ContextKey[Any]("tests/postgres")

Main = Callable[[], Awaitable[Any]]


class World:
    """An app and its database. Every update is that of a freshly started process."""

    db = DB

    def __init__(self, url: str, store: Path) -> None:
        self.url = url
        self.store = store
        self.statements: list[str] = []
        """What the last update has asked the server, COPY left out."""
        self.connections = 0
        """How many connections the last update has opened."""

    async def update(
        self,
        main: Main,
        *,
        url: str | None = None,
        pool_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.statements.clear()
        self.connections = 0
        environment = coco.Environment(coco.Settings(db_path=self.store))
        pool = self._pool(url or self.url, **(pool_options or {}))
        try:
            environment.context_provider.provide(DB, await pool)
            app = coco.App(coco.AppConfig("test", environment=environment), main)
            if options.pop("drop", False):
                await app.drop()
            else:
                await app.update(**options)
        finally:
            environment.close()
            pool.terminate()

    @staticmethod
    def table(
        rows: Iterable[Any],
        row_type: type[Any],
        key: Sequence[str] = ("id",),
        *,
        name: str = "docs",
        each: bool = False,
        attach: Callable[[Any], None] | None = None,
        overrides: dict[str, Any] | None = None,
        **options: Any,
    ) -> Main:
        """The main function of an app that declares ``rows``; with ``each`` in components."""

        async def declare(row: Any, target: Any) -> None:
            target.declare_row(row=row)

        @coco.fn
        async def main() -> None:
            schema = await postgres.TableSchema.from_class(
                row_type, list(key), column_overrides=overrides
            )
            target = await postgres.mount_table_target(DB, name, schema, **options)
            if each:
                await coco.mount_each(declare, enumerate(rows), target)
            else:
                for row in rows:
                    target.declare_row(row=row)
            if attach is not None:
                attach(target)

        return main

    @staticmethod
    def declaring(rows: Iterable[Any], schema: Any, **options: Any) -> Main:
        """The main function of an app that declares rows of a given schema."""

        @coco.fn
        async def main() -> None:
            target = await postgres.mount_table_target(DB, "docs", schema, **options)
            for row in rows:
                target.declare_row(row=row)

        return main

    @staticmethod
    def in_parts(
        rows: Sequence[Any], row_type: type[Any], *, size: int, failures: list[BaseException]
    ) -> Main:
        """As :meth:`table`, with ``size`` rows in each component; notes their failures."""

        async def part(rows: Sequence[Any], target: Any) -> None:
            for row in rows:
                target.declare_row(row=row)

        async def note(error: BaseException, _context: Any) -> None:
            failures.append(error)

        @coco.fn
        async def main() -> None:
            schema = await postgres.TableSchema.from_class(row_type, ["id"])
            target = await postgres.mount_table_target(DB, "docs", schema)
            parts = [(i, rows[i : i + size]) for i in range(0, len(rows), size)]
            async with coco.exception_handler(note):
                await coco.mount_each(part, parts, target)

        return main

    @staticmethod
    async def nothing() -> None:
        """The main function of an app that declares nothing any more."""

    async def drop(self, main: Main) -> None:
        await self.update(main, drop=True)

    def _pool(self, url: str, **options: Any) -> Any:
        async def listen(connection: Any) -> None:
            self.connections += 1
            connection.add_query_logger(lambda record: self.statements.append(record.query))

        return asyncpg.create_pool(url, min_size=0, max_size=1, init=listen, **options)

    async def execute(self, sql: str, *arguments: Any) -> None:
        async with self.connected() as connection:
            await connection.execute(sql, *arguments)

    async def fetch(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        async with self.connected() as connection:
            return [tuple(row) for row in await connection.fetch(sql, *arguments)]

    async def value(self, sql: str, *arguments: Any) -> Any:
        async with self.connected() as connection:
            return await connection.fetchval(sql, *arguments)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.url)
        try:
            yield connection
        finally:
            await connection.close()

    async def columns(self, table: str = "docs") -> dict[str, tuple[str, bool]]:
        """Name -> type, and whether it may be NULL."""
        rows = await self.fetch(
            "SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull FROM pg_attribute "
            "WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            table,
        )
        return {name: (kind, nullable) for name, kind, nullable in rows}

    async def indexes(self, table: str = "docs") -> dict[str, str]:
        """Name -> definition, the primary key left out."""
        rows = await self.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = $1", table
        )
        return {name: text for name, text in rows if not name.endswith("_pkey")}


@pytest.fixture
def world(pg18: str, tmp_path: Path) -> World:
    return World(pg18, tmp_path / "store")


@pytest.fixture
def world_at(tmp_path: Path) -> Callable[[str], World]:
    """Makes worlds of further databases, each with a state store of its own."""
    numbers = itertools.count()
    return lambda url: World(url, tmp_path / f"store{next(numbers)}")


@pytest.fixture
def any_world(pg: str, tmp_path: Path) -> World:
    """On each version of the server in turn."""
    return World(pg, tmp_path / "store")


# --- the network -------------------------------------------------------------------------------

REQUESTS = b"QSc"
"""Messages that the server answers: a simple query, the end of an extended one, of a COPY."""
ANSWERS = b"ZG"
"""The messages that end such an answer."""

When = Literal["before", "after"]


class Proxy:
    """Stands between client and server, counts requests, and can cut the line at one of them.

    ``cut`` says at which requests, counted from 1, and whether before the server gets it or
    after it has answered, in which case the client does not hear the answer.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 5432)
        self._parts = parts
        self.requests = 0
        self.cut: dict[int, When] = {}
        self.cuts = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Proxy]:
        self._lines: set[asyncio.Task[Any]] = set()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for line in self._lines:
                line.cancel()
            await asyncio.gather(*self._lines, return_exceptions=True)

    @property
    def url(self) -> str:
        user = self._parts.netloc.rpartition("@")[0]
        netloc = f"{user}@127.0.0.1:{self.port}"
        return urlunsplit(self._parts._replace(netloc=netloc, query="sslmode=disable"))

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        task.add_done_callback(self._lines.discard)
        from_server, to_server = await asyncio.open_connection(*self._server)
        line = _Line(self)
        pumps = [
            asyncio.ensure_future(line.to_server(reader, to_server)),
            asyncio.ensure_future(line.to_client(from_server, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for side in (writer, to_server):
                side.transport.abort()


class _Line:
    """One connection through the proxy. Either direction ends both when it returns."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._cut_at_answer = False

    async def to_server(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = await reader.readexactly(4)  # the first message has no type
        writer.write(size + await reader.readexactly(int.from_bytes(size, "big") - 4))
        while message := await _message(reader):
            if message[0] in REQUESTS:
                proxy = self._proxy
                proxy.requests += 1
                when = proxy.cut.get(proxy.requests)
                if when is not None:
                    proxy.cuts += 1
                if when == "before":
                    return
                self._cut_at_answer = when == "after"
            writer.write(message)
            await writer.drain()

    async def to_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while message := await _message(reader):
            if self._cut_at_answer:
                if message[0] in ANSWERS:
                    return
                continue
            writer.write(message)
            await writer.drain()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One message, type and length included; empty at the end."""
    try:
        head = await reader.readexactly(5)
        return head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@pytest.fixture
def listening_proxy() -> Callable[[str], Any]:
    """Opens a proxy in front of a server: ``async with listening_proxy(url) as proxy``."""
    return lambda url: Proxy(url).listening()


@pytest.fixture
async def proxy(world: World) -> AsyncIterator[Proxy]:
    async with Proxy(world.url).listening() as listening:
        yield listening

"""Connections to a SQLite database, shared by threads and tasks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

from cocoindex.connectorkits.threads import BlockingClient
from cocoindex.connectors.sqlite._drivers import Driver, DriverName, choose, vec_path
from cocoindex.core.rwlock import RWLock
from cocoindex.errors import TargetError, UsageError

__all__ = ["ManagedConnection", "connect", "managed_connection"]

VEC = "sqlite-vec"

JournalMode = Literal["wal", "delete", "truncate", "persist", "memory", "off"]
Synchronous = Literal["off", "normal", "full", "extra"]


def connect(
    database: str | Path,
    *,
    timeout: float = 5.0,
    load_vec: bool | Literal["auto"] = "auto",
    driver: DriverName = "sqlite3",
    journal_mode: JournalMode = "wal",
    synchronous: Synchronous = "normal",
    busy_timeout: float | None = None,
    **kwargs: Any,
) -> ManagedConnection:
    """Open a database; a file that is missing is made.

    Args:
        database: the file, or ``":memory:"``.
        timeout: seconds to wait for another connection's lock.
        load_vec: whether to load the sqlite-vec extension; ``"auto"``: if that is possible.
        driver: the library to use: ``"sqlite3"`` (Python's own), or where that can't load
            extensions ``"apsw"`` or ``"pysqlite3"``. A process must not use two of them on one
            file: each is a SQLite of its own, and they don't see each other's locks.
        journal_mode: with ``"wal"``, readers and the writer don't wait for each other.
        synchronous: how often the file is flushed.
        busy_timeout: another name for ``timeout``.
        **kwargs: for the driver's own ``connect``.

    Raises:
        ImportError: the extension or the driver is asked for and not installed.
        RuntimeError: the extension is asked for and can't be loaded.
        TargetError: the database can't be opened.
    """
    found = choose(driver)
    extension = None if load_vec is False else vec_path(found, required=load_vec is True)
    opener = _Opener(
        found,
        str(database),
        timeout if busy_timeout is None else busy_timeout,
        extension,
        journal_mode,
        synchronous,
        kwargs,
    )
    try:
        return ManagedConnection(opener)
    except found.error as error:
        raise TargetError(f"SQLite database {database} can't be opened: {error}", error) from None


@contextlib.contextmanager
def managed_connection(database: str | Path, **options: Any) -> Iterator[ManagedConnection]:
    """As :func:`connect`, for a ``with`` block that closes the connection."""
    connection = connect(database, **options)
    try:
        yield connection
    finally:
        connection.close()


class _Opener:
    """Opens connections that are all alike."""

    def __init__(
        self,
        driver: Driver,
        database: str,
        timeout: float,
        extension: str | None,
        journal_mode: str,
        synchronous: str,
        options: dict[str, Any],
    ) -> None:
        self.driver = driver
        self.database = database
        self.extension = extension
        self._timeout = timeout
        self._pragmas = (f"journal_mode={journal_mode}", f"synchronous={synchronous}")
        self._options = options

    @property
    def is_private(self) -> bool:
        """Whether the database lives in one connection only."""
        return self.database in ("", ":memory:") or "mode=memory" in self.database

    def open(self, *, readonly: bool = False) -> Any:
        connection = self.driver.open(self.database, self._timeout, dict(self._options))
        try:
            if self.extension is not None:
                connection.enable_load_extension(True)
                connection.load_extension(self.extension)
                connection.enable_load_extension(False)
            if readonly:
                connection.execute("PRAGMA query_only=1")
            else:
                for pragma in self._pragmas:
                    _fetch(connection.execute(f"PRAGMA {pragma}"))
        except BaseException:  # raised again: half an opening leaves no connection behind
            connection.close()
            raise
        return connection


def _fetch(cursor: Any) -> list[Any]:
    """All rows; finishes the statement, so that it holds no lock."""
    rows: list[Any] = cursor.fetchall()
    return rows


class ManagedConnection:
    """A database open for writing, usable from any thread. Made by :func:`connect`.

    One transaction runs at a time; who waits is served in order. Readers have connections of
    their own, so that they see the last committed state and never wait for a writer (except in
    a database in memory, which has only one connection).

    Attributes:
        loaded_extensions: ``{"sqlite-vec"}`` or empty.
    """

    def __init__(self, opener: _Opener) -> None:
        self._opener = opener
        self._connection = opener.open()
        self._lock = RWLock()
        self._readers: list[Any] = []
        self._readers_lock = threading.Lock()
        self._is_open = True
        self._worker = BlockingClient(
            self._connection, interrupt=_interrupt, name="cocoindex-sqlite"
        )
        self.loaded_extensions: set[str] = set() if opener.extension is None else {VEC}

    @property
    def driver(self) -> str:
        """The library in use: ``"sqlite3"``, ``"pysqlite3"`` or ``"apsw"``."""
        return self._opener.driver.name

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Any]:
        """A block that has the database alone and yields the driver's connection.

        Committed at the end, rolled back on any exception. Not re-entrant.
        """
        with self._lock.write():
            connection = self._usable()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:  # raised again: also an interrupt leaves no transaction open
                rollback(connection)
                raise

    @contextlib.contextmanager
    def readonly(self) -> Iterator[Any]:
        """A block that only reads, in one snapshot; yields the driver's connection."""
        self._usable()
        if self._opener.is_private:
            with self._lock.read():
                yield self._usable()
            return
        connection = self._borrow()
        try:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                rollback(connection)
        finally:
            self._give_back(connection)

    @contextlib.asynccontextmanager
    async def transaction_of_task(self) -> AsyncIterator[BlockingClient[Any]]:
        """As :meth:`transaction`, for tasks; yields what runs statements on a thread."""
        async with self._lock.write():
            self._usable()
            worker = self._worker
            try:
                await worker.call(_begin)  # a cancelled call may have been carried out
                yield worker
                await worker.call(_commit)
            except BaseException:  # raised again, a cancellation too
                # At once, not on the thread: nothing runs there now, and a second cancellation
                # must not leave the transaction open.
                rollback(self._connection)
                raise

    def close(self) -> None:
        """Close all connections; using them afterwards is an error. Closing again is none."""
        self._is_open = False
        self._worker.close()
        with self._readers_lock:
            readers, self._readers = self._readers, []
        for connection in (*readers, self._connection):
            connection.close()

    def _usable(self) -> Any:
        if not self._is_open:
            raise UsageError(f"the connection to {self._opener.database} is closed")
        return self._connection

    def _borrow(self) -> Any:
        with self._readers_lock:
            if self._readers:
                return self._readers.pop()
        return self._opener.open(readonly=True)

    def _give_back(self, connection: Any) -> None:
        with self._readers_lock:
            if self._is_open:
                self._readers.append(connection)
                return
        connection.close()

    def __repr__(self) -> str:
        return f"ManagedConnection({self._opener.database!r}, driver={self.driver!r})"


def _begin(connection: Any) -> None:
    connection.execute("BEGIN IMMEDIATE")


def _commit(connection: Any) -> None:
    connection.execute("COMMIT")


def _interrupt(connection: Any) -> None:
    connection.interrupt()


def rollback(connection: Any) -> None:
    """End a transaction, if there is one; an error may have ended it already."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")

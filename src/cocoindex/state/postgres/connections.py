"""Connections to the database of a store, and what is done when one of them fails."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from cocoindex.errors import CocoIndexError, StoreError, StoreFullError
from cocoindex.state.postgres import arrays
from cocoindex.state.postgres.location import PostgresLocation

if TYPE_CHECKING:
    from psycopg import Connection, Error

__all__ = ["Connections", "load_driver"]

T = TypeVar("T")

_CONNECT_SECONDS = 30
_ACQUIRE_SECONDS = 300.0
_PATIENCE = 20.0
"""Seconds for which a server that went away is waited for: as long as a lease can be trusted."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
_FEWEST = 4
"""One to read, one to write, one to renew leases, one for a snapshot."""

_LOST = ("08", "25P03", "57P01", "57P02", "57P03", "57P05", "53300")
"""SQL states after which another connection may help. 25P03: this process came to a halt for
longer than ``_LONGEST_GAP``, and the server has undone the transaction."""

_CONFLICT = ("40001", "40P01")
"""Serialization failure, deadlock: nothing was done, the same statement may be run again."""

_DISK_FULL, _READ_ONLY, _NO_PRIVILEGE = "53100", "25006", "42501"

_LONGEST_GAP = "5s"
"""Between two statements of a transaction. If the network breaks there, the server must not keep
the locks of the transaction until it notices by itself, which may take hours."""

_SETTINGS = b"""
SELECT set_config('default_transaction_isolation', 'read committed', false),
       set_config('client_min_messages', 'warning', false),
       set_config('idle_in_transaction_session_timeout', %s, false),
       CASE WHEN current_setting('synchronous_commit') = 'off'
            THEN set_config('synchronous_commit', 'on', false) END
"""


class Connections:
    """A few connections, made when they are needed and used again.

    Args:
        location: where to connect to.
        read_only: whether the server shall refuse to write.
    """

    def __init__(self, location: PostgresLocation, *, read_only: bool) -> None:
        self.location = location
        self._read_only = read_only
        self._limit = max(_FEWEST, location.max_connections)
        self._changed = threading.Condition()
        self._idle: list[Connection[Any]] = []
        self._count = 0
        self._closed = False
        self.is_abandoned = False

    def run(self, work: Callable[[Connection[Any]], T], *, patience: float | None = None) -> T:
        """What ``work`` returns, on some connection.

        After a lost connection or a conflict ``work`` is called again, so it has to find out
        whether it has done its work already, if that matters.

        Raises:
            StoreError: it failed for good, or for longer than ``patience`` seconds (20 by default).
        """
        return self._persist(lambda: self._once(work), patience)

    def hold(self, prepare: Callable[[Connection[Any]], None]) -> Connection[Any]:
        """A connection on which ``prepare`` was called; the caller gives it back."""

        def take() -> Connection[Any]:
            connection = self._take()
            try:
                prepare(connection)
            except BaseException:
                self._drop(connection)
                raise
            return connection

        return self._persist(take, None)

    def _once(self, work: Callable[[Connection[Any]], T]) -> T:
        with self.use() as connection:
            return work(connection)

    def _persist(self, attempt: Callable[[], T], patience: float | None) -> T:
        import psycopg

        deadline = time.monotonic() + (_PATIENCE if patience is None else patience)
        pause = _FIRST_PAUSE
        while True:
            try:
                return attempt()
            except psycopg.Error as error:
                if not _may_help(error) or time.monotonic() >= deadline:
                    raise self.translate(error) from error
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
            pause = min(pause * 2, _LONGEST_PAUSE)

    @contextmanager
    def use(self) -> Iterator[Connection[Any]]:
        """A connection for the time of the ``with`` block."""
        connection = self._take()
        try:
            yield connection
        except BaseException:
            # Also an interrupt: who knows what it was in the middle of.
            self._drop(connection)
            raise
        self.give_back(connection)

    def close(self) -> None:
        """Close what is idle now, and what is in use when it is given back."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._count -= len(idle)
        for connection in idle:
            connection.close()

    def abandon(self) -> None:
        """In a forked child: leave the connections to the parent."""
        self._changed = threading.Condition()
        self._idle = []
        self._count = 0
        self._closed = True
        self.is_abandoned = True

    def _take(self) -> Connection[Any]:
        with self._changed:
            if self._closed:
                raise StoreError(f"the state store at {self.location} is closed")
            deadline = time.monotonic() + _ACQUIRE_SECONDS
            while not self._idle and self._count >= self._limit:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise StoreError(
                        f"all {self._limit} connections to the state store at {self.location} "
                        "are in use. Raise max_connections, or take fewer snapshots at a time."
                    )
            if self._idle:
                return self._idle.pop()
            self._count += 1
        try:
            return self._connect()
        except BaseException:
            self._uncount()
            raise

    def _connect(self) -> Connection[Any]:
        psycopg = load_driver()
        location = self.location
        given = {"user": location.user, "password": location.password}
        connection: Connection[Any] = psycopg.connect(
            location.url,
            autocommit=True,
            **{"connect_timeout": _CONNECT_SECONDS, **self._limits_of_silence()},
            **{name: value for name, value in given.items() if value is not None},
        )
        try:
            arrays.register(connection.adapters)
            connection.execute(_SETTINGS, [_LONGEST_GAP])
            if self._read_only:
                connection.execute("SET default_transaction_read_only = on")
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _limits_of_silence() -> dict[str, int]:
        """A server that can't be reached any more has to be noticed."""
        return {
            "keepalives_idle": 5,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        }

    def give_back(self, connection: Connection[Any]) -> None:
        """Take back a connection: others may use it."""
        if connection.info.transaction_status.name != "IDLE":
            _roll_back(connection)
        with self._changed:
            if not connection.closed and not self._closed:
                self._idle.append(connection)
                self._changed.notify()
                return
        self._drop(connection)

    def _drop(self, connection: Connection[Any]) -> None:
        connection.close()
        self._uncount()

    def _uncount(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify()

    def translate(self, error: Error) -> CocoIndexError:
        """Our error for one of the driver's. Row contents and secrets stay out of it."""
        where = f"the state store at {self.location}"
        state = error.sqlstate
        reason = self.location.without_secrets(error.diag.message_primary or str(error).strip())
        if _is_connection_error(error):
            return StoreError(f"Failed to connect to database at {self.location.host}: {reason}")
        if state == _DISK_FULL:
            return StoreFullError(
                f"no space left on the server for {where} ({reason}). What was not written yet is "
                "discarded; free some space and update again."
            )
        if state == _READ_ONLY:
            return StoreError(
                f"can't write to {where}: {reason}. Is the server a standby, or in read-only mode?"
            )
        if state == _NO_PRIVILEGE:
            return StoreError(
                f"{where} refuses: {reason}. The user needs USAGE and CREATE on the schema, or "
                "all privileges on its tables cocoindex_state*."
            )
        return StoreError(f"{where} failed: {reason} (SQL state {state})")


def _roll_back(connection: Connection[Any]) -> None:
    import psycopg

    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()


def load_driver() -> Any:
    """The driver. Raises ``StoreError`` if it is not installed."""
    try:
        import psycopg
    except ImportError as error:
        raise StoreError(
            "a state store on Postgres needs psycopg: pip install 'cocoindex[postgres]'"
        ) from error
    return psycopg


def _may_help(error: Error) -> bool:
    """Whether trying again, on another connection, may help."""
    state = error.sqlstate
    if state is None:
        return _is_connection_error(error)
    return state.startswith(_LOST) or state in _CONFLICT


def _is_connection_error(error: Error) -> bool:
    import psycopg

    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state.startswith(("08", "28", "3D", "57P"))

"""The store itself: batches are committed by one thread, one statement each."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cocoindex.errors import StoreError, UsageValueError
from cocoindex.state.base import FORMAT_VERSION, StoreInfo
from cocoindex.state.buffered import BufferedSection, BufferedStore, LongView, Work
from cocoindex.state.commit import CommitThread, Generation
from cocoindex.state.postgres import schema
from cocoindex.state.postgres.connections import Connections, load_driver
from cocoindex.state.postgres.lease import Fence, Leases, LeaseTimes, clock
from cocoindex.state.postgres.location import PostgresLocation
from cocoindex.state.postgres.mirror import Limits, Mirror
from cocoindex.state.postgres.views import LogicalView, Run, TableRows
from cocoindex.state.postgres.writing import Step, Write, steps_of
from cocoindex.state.registry import Forked
from cocoindex.state.rows import DiskView, Rows, RowsView

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["PostgresStore", "is_there"]

T = TypeVar("T")


class PostgresStore(BufferedStore):
    """See :class:`cocoindex.state.base.Store`. Made by :func:`cocoindex.state.open.open_store`.

    Args:
        location: the database and schema.
        read_only: for inspection; nothing is created.
        on_close: called once, when the store has been closed.
        times: of leases.
        limits: of what is kept in memory of a section under its lease.
    """

    def __init__(
        self,
        location: PostgresLocation,
        *,
        read_only: bool = False,
        on_close: Callable[[], None] = lambda: None,
        times: LeaseTimes | None = None,
        limits: Limits | None = None,
    ) -> None:
        load_driver()
        super().__init__(str(location))
        self.read_only = read_only
        self._on_close = on_close
        self._times = times or LeaseTimes()
        self.limits = limits or Limits()
        self.connections = Connections(location, read_only=read_only)
        self._committer = CommitThread(self._commit)
        try:
            self.statements = self.connections.run(self._open, patience=0)
        except BaseException:
            self.connections.close()
            raise
        self.leases = Leases(self.connections, self.statements, self._location, self._times)

    def _open(self, connection: Connection[Any]) -> schema.Statements:
        return schema.open_tables(
            connection,
            self.connections.location.schema,
            location=self._location,
            read_only=self.read_only,
        )

    @property
    def info(self) -> StoreInfo:
        self._check_usable()
        return StoreInfo(FORMAT_VERSION, int(self._one("size", [])), sys.maxsize)

    def compact(self) -> None:
        """Rewrite the rows without free space. Everybody else waits meanwhile."""
        self._check_usable()
        self.connections.run(lambda c: c.execute(self.statements["vacuum"]))

    def leave_to_parent(self) -> None:
        """In a forked child: refuse everything, touch nothing of the parent's."""
        self._lock = threading.Lock()
        self.connections.abandon()
        self.leases.abandon()
        self._refuse(Forked(self._location))

    def close(self) -> None:
        if isinstance(self._refusal, Forked):
            raise self._refusal()
        super().close()

    def _one(self, statement: str, parameters: list[Any]) -> Any:
        """The only value of a query; ``None`` without a row."""
        text = self.statements[statement]
        row = self.connections.run(lambda c: c.execute(text, parameters).fetchone())
        return None if row is None else row[0]

    def _make_section(self, name: str) -> BufferedSection:
        if "\0" in name:
            raise UsageValueError(f"the name of an app can't contain NUL on Postgres: {name!r}")
        return _PostgresSection(self, name)

    def _durable_names(self) -> list[str]:
        text = self.statements["names"]
        return [row[1] for row in self.connections.run(lambda c: c.execute(text).fetchall())]

    def _start_commit(self, generation: Generation) -> None:
        self._committer.request(generation)

    def _release(self) -> None:
        self._committer.stop()
        self.leases.release_all()
        self.connections.close()
        self._on_close()

    # Committing

    def _apply(self, work: Work) -> None:
        writes = [Write(cast("_PostgresSection", section).fence(), rows) for section, rows in work]
        writes.sort(key=lambda each: each.fence.section)
        with ExitStack() as locks:
            for each in writes:
                locks.enter_context(each.fence.lock)
            while not self._try_writing(writes):
                pass

    def _try_writing(self, writes: list[Write]) -> bool:
        """Whether all is written; else somebody has been writing, but is not any more."""
        fences = [each.fence for each in writes]
        for fence in fences:
            if fence.epoch is None or fence.is_unsure:
                self.leases.begin_writing(fence)
            fence.is_unsure = True
        started = clock()
        steps = steps_of(writes, self._times.length)
        try:
            self.connections.run(lambda connection: self._send(connection, steps))
        except _FencedError:
            if not self._is_written(fences):
                return False
        for fence in fences:
            fence.is_unsure = False
            fence.seq += 1
            fence.renewed = max(fence.renewed, started)
        return True

    def _send(self, connection: Connection[Any], steps: list[Step]) -> None:
        import psycopg

        # One statement is a transaction by itself.
        together = connection.transaction() if len(steps) > 1 else nullcontext()
        try:
            with together:
                for step in steps:
                    done = connection.execute(self.statements[step.statement], step.values)
                    if step.fences is not None and done.fetchone() != (step.fences,):
                        raise StoreError(f"the state store at {self._location} was dropped")
        except psycopg.errors.NotNullViolation as error:
            raise _FencedError from error

    def _is_written(self, fences: list[Fence]) -> bool:
        """Why the fence held: whether an earlier attempt came through, unknown to us."""
        holders = self.connections.run(lambda c: [self.leases.holder(c, f) for f in fences])
        written = True
        for fence, holder in zip(fences, holders, strict=True):
            if (holder.epoch, holder.seq) == (fence.epoch, fence.seq + 1):
                continue
            written = False
            if holder.epoch != fence.epoch and fence.count:
                raise self.leases.lost(fence, holder)
        return written


class _FencedError(Exception):
    """The section has another epoch, or another number of batches, than this process thinks."""


class _PostgresSection(BufferedSection):
    _store: PostgresStore

    def __init__(self, store: PostgresStore, name: str) -> None:
        super().__init__(store, name)
        self._is_read_only = store.read_only
        self._fence = Fence(name)
        self._mirror: Mirror | None = None

    def fence(self) -> Fence:
        """The fence of this section, whose row is made if missing."""
        if not self._is_known():
            text = self._store.statements["add_section"]
            self._store.connections.run(lambda c: c.execute(text, [self._name]))
            assert self._is_known()
        return self._fence

    def _is_known(self) -> bool:
        if self._fence.section == 0:
            self._fence.section = self._store._one("number", [self._name]) or 0
        return self._fence.section != 0

    def _get(self, key: bytes) -> bytes | None:
        self._store._check_usable()
        mirror = self._mirror
        if mirror is not None and not mirror.is_loaded:
            return self._read(lambda view: view.get(key))
        return self._view().get(key)

    def _read(self, reader: Callable[[DiskView], T]) -> T:
        with self._store._lock:
            self._store._check_usable()
            return reader(self._view())

    def _view(self) -> DiskView:
        mirror = self._mirror
        if mirror is not None:
            if not mirror.is_loaded:
                mirror.load()
            return LogicalView(mirror)
        if not self._is_known():
            return RowsView(Rows())
        return LogicalView(self.table(self._store.connections.run))

    def table(self, run: Run) -> TableRows:
        return TableRows(run, self._store.statements, self._fence.section)

    def end_flush(self, failure: StoreError | None) -> None:
        if self._mirror is not None:
            if failure is None:
                self._mirror.commit(self._flushing)
            else:  # nobody knows what is on the server now
                self._mirror = self._new_mirror()
        super().end_flush(failure)

    def _new_mirror(self) -> Mirror:
        return Mirror(self.table(self._store.connections.run), self._store.limits)

    def release_lease(self) -> None:
        with self._store._lock:
            if self._fence.count <= 1:
                self._mirror = None  # from now on, others may write
        self._store.leases.release(self._fence)

    def _open_view(self) -> LongView:
        with self._store._lock:
            self._store._check_usable()
            return _LongTableView(self)

    def _check_writable(self) -> None:
        super()._check_writable()
        self._check_not_read_only()

    async def flushed(self) -> None:
        await super().flushed()
        self.check_lease()

    def check_lease(self) -> None:
        self._store.leases.check(self._fence)

    def acquire_lease(self, wait_seconds: float = 0.0) -> AbstractContextManager[None]:
        self._store._check_usable()
        self._check_not_read_only()
        fence = self.fence()
        self._store.leases.acquire(fence, wait_seconds)
        with self._store._lock:
            if self._mirror is None:
                self._mirror = self._new_mirror()
        return _SectionLease(self)

    def _check_not_read_only(self) -> None:
        if self._is_read_only:
            raise StoreError(f"the state store at {self._store.location} is open read-only")


class _SectionLease(AbstractContextManager[None]):
    """The run lease of a section, while it is held."""

    def __init__(self, section: _PostgresSection) -> None:
        self._section: _PostgresSection | None = section

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        section, self._section = self._section, None
        if section is not None:
            section.release_lease()


class _LongTableView(LongView):
    """A transaction of its own, which keeps seeing what was there when it began."""

    def __init__(self, section: _PostgresSection) -> None:
        super().__init__(section.frozen_layers())
        self._connections = section._store.connections
        self._connection: Connection[Any] | None = None
        self._view: DiskView = RowsView(Rows())
        if section._is_known():
            self._connection = self._connections.hold(_fix_what_is_seen)
            self._view = LogicalView(section.table(self._run))

    def _run(self, work: Callable[[Connection[Any]], T]) -> T:
        import psycopg

        assert self._connection is not None
        try:
            return work(self._connection)
        except psycopg.Error as error:
            raise self._connections.translate(error) from error

    def read(self, reader: Callable[[DiskView], T]) -> T:
        return reader(self._view)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not self._connections.is_abandoned:
            self._connections.give_back(connection)


def _fix_what_is_seen(connection: Connection[Any]) -> None:
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    # The first statement fixes it. It may be long until the next one; no locks are held.
    connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    connection.execute("SELECT 1")


def is_there(location: PostgresLocation) -> bool:
    """Whether there is a store at ``location``. Raises ``StoreError`` if it can't be reached."""
    connections = Connections(location, read_only=True)
    try:
        return connections.run(lambda c: schema.exists(c, location.schema), patience=0)
    finally:
        connections.close()

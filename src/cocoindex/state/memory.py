"""A store in memory, for tests and previews.

Durability is simulated: a batch is lost by :meth:`MemoryStore.crash` until a flush has moved it
to the :class:`MemoryDisk`. No threads: a flush runs as a callback of the loop that asked for it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from cocoindex.errors import StoreError
from cocoindex.state.base import FORMAT_VERSION, StoreInfo
from cocoindex.state.buffered import BufferedSection, BufferedStore, Closed, LongView, Work
from cocoindex.state.commit import Generation
from cocoindex.state.rows import Rows, RowsView

__all__ = ["MemoryDisk", "MemoryStore"]

T = TypeVar("T")


class MemoryDisk:
    """What survives a crash: the durable rows of every section.

    Attributes:
        commits: how many flushes have written something.
        failure: raised by every flush while it is set (say, ``StoreFullError("disk full")``).
    """

    def __init__(self) -> None:
        self.commits = 0
        self.failure: StoreError | None = None
        self._sections: dict[str, Rows] = {}

    def names(self) -> list[str]:
        return list(self._sections)

    def rows(self, name: str) -> Rows:
        return self._sections.get(name) or Rows()

    def size(self) -> int:
        """Bytes of all durable keys and values."""
        values = (row for rows in self._sections.values() for row in rows.rows.items())
        return sum(len(key) + len(value or b"") for key, value in values)

    def apply(self, name: str, changes: Rows) -> None:
        old = {} if changes.cleared else self.rows(name).rows
        fresh = Rows()
        if len(changes.rows) * 4 < len(old):
            fresh = self.rows(name)
            fresh.rows.update(changes.rows)
        else:
            merged = {**old, **changes.rows}
            fresh.rows = {key: value for key, value in merged.items() if value is not None}
        self._sections[name] = fresh


class MemoryStore(BufferedStore):
    """See :class:`cocoindex.state.base.Store`. ``disk`` is the content to start from."""

    def __init__(self, disk: MemoryDisk | None = None, *, location: str = "memory") -> None:
        super().__init__(location)
        self.disk = disk if disk is not None else MemoryDisk()
        self._flush_lock = threading.Lock()

    @property
    def info(self) -> StoreInfo:
        self._check_usable()
        return StoreInfo(FORMAT_VERSION, self.disk.size(), sys.maxsize)

    def crash(self) -> MemoryStore:
        """Lose everything that is not durable, as a killed process does.

        This handle is dead afterwards; the returned store has the durable part.
        """
        self._shut(Closed(self._location))
        return MemoryStore(self.disk, location=self._location)

    def _make_section(self, name: str) -> BufferedSection:
        return _MemorySection(self, name)

    def _durable_names(self) -> list[str]:
        return self.disk.names()

    def _release(self) -> None:
        """Hold nothing: the disk stays with its owner."""

    def _start_commit(self, generation: Generation) -> None:
        with self._flush_lock:
            self._commit(generation)

    def _apply(self, work: Work) -> None:
        if self.disk.failure is not None:
            raise self.disk.failure
        with self._lock:
            for section, rows in work:
                self.disk.apply(section.name, rows)
            self.disk.commits += 1


class _MemorySection(BufferedSection):
    _store: MemoryStore

    def _get(self, key: bytes) -> bytes | None:
        self._store._check_usable()
        return self._store.disk.rows(self._name).rows.get(key)

    def _read(self, reader: Callable[[RowsView], T]) -> T:
        with self._store._lock:
            self._store._check_usable()
            return reader(RowsView(self._store.disk.rows(self._name)))

    def _open_view(self) -> LongView:
        with self._store._lock:
            self._store._check_usable()
            layers = self.frozen_layers()
            return _LongMemoryView(layers, RowsView(self._store.disk.rows(self._name).copy()))

    def acquire_lease(
        self,
        wait_seconds: float = 0.0,  # noqa: ARG002 - there is nobody to wait for
    ) -> AbstractContextManager[None]:
        # Nobody outside this process can see the store, and a process shares its lease.
        self._store._check_usable()
        return nullcontext()


class _LongMemoryView(LongView):
    def __init__(self, layers: list[Rows], view: RowsView) -> None:
        super().__init__(layers)
        self._view = view

    def read(self, reader: Callable[[RowsView], T]) -> T:
        return reader(self._view)

    def close(self) -> None:
        pass

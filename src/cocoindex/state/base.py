"""The contract of a state store.

A store holds *sections* (one per app). A section is an ordered map of byte keys to byte
values. The engine never holds a transaction open: it reads, computes a :class:`Batch`, and
applies it. Reads see everything that :meth:`Section.write` has accepted, durable or not;
:meth:`Section.flushed` waits until all of it is on disk. Batches become durable in the order
in which they were written, each one atomically, many of them in one commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, runtime_checkable

FORMAT_VERSION = 1
"""Version of the layout inside a section. A store with a higher one is refused."""


Batch = Sequence[tuple[bytes, bytes | None]]
"""Writes that become visible and durable together: ``(key, value)``; ``None`` deletes the key."""


class LeaseHolder(NamedTuple):
    """Who holds the run lease of a section."""

    pid: int
    host: str


class StoreInfo(NamedTuple):
    """Figures about a store.

    ``used_bytes`` counts pages in use and pages free for reuse; ``mapped_bytes`` is how far it
    can grow before the map is enlarged (address space, not disk).
    """

    format_version: int
    used_bytes: int
    mapped_bytes: int


@runtime_checkable
class Section(Protocol):
    """The part of a store that belongs to one app."""

    @property
    def name(self) -> str: ...

    def get(self, key: bytes, *, ahead: bool = False) -> bytes | None:
        """The value at ``key``, including writes that are not durable yet.

        ``ahead``: those behind it will be asked for next, so they may be read along with it.
        """
        ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of ``keys``, from one snapshot."""
        ...

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Rows whose key starts with ``prefix``, in key order, from one snapshot.

        ``start`` (inclusive) and ``limit`` page through long ranges.
        """
        ...

    def scan_keys(self, prefix: bytes) -> list[bytes]:
        """Keys that start with ``prefix``, in order, without reading values."""
        ...

    def snapshot(self) -> AbstractContextManager[SectionSnapshot]:
        """A consistent view of everything accepted so far, for inspection.

        May be held while writers go on; never blocks them. Space they free is not used again
        meanwhile. If the store has to grow and the section is too large to be copied to memory
        (256 MiB), the snapshot ends: its next read raises ``StoreError``.
        """
        ...

    def write(self, batch: Batch) -> None:
        """Accept one atomic batch. Visible to reads at once, durable after :meth:`flushed`.

        Raises ``StoreError`` at once if an earlier batch could not be made durable.
        """
        ...

    async def flushed(self) -> None:
        """Return once every batch accepted so far is durable (fsynced).

        Raises ``StoreError``/``StoreFullError`` if it can't be; all batches of the section that
        are not durable yet are then discarded, reads show the last durable state again, and
        writes are refused until :meth:`reset_failure`. A cancelled waiter is let go when the
        commit ends.
        """
        ...

    @property
    def pending_bytes(self) -> int:
        """Size of the accepted batches that are not durable yet (for back-pressure)."""
        ...

    @property
    def failures(self) -> int:
        """How often batches were discarded so far. What was written before the last time may
        be lost.
        """
        ...

    def reset_failure(self) -> None:
        """Forget an earlier failed flush, so that a new run can try again."""
        ...

    def clear(self) -> None:
        """Like :meth:`write` with a delete of every key; the section itself is forgotten too."""
        ...

    def acquire_lease(self, wait_seconds: float = 0.0) -> AbstractContextManager[None]:
        """Exclusive right, across processes, to run the app of this section. Blocking.

        Held from this call until the ``with`` block ends, the store is closed, or the process is
        gone. Re-entrant within a process (counted). Raises ``AlreadyRunningError`` naming app,
        store path and the holder's pid; a dead holder's lease is taken over silently.
        """
        ...

    def check_lease(self) -> None:
        """Raise ``StoreError`` if a lease is held here that another process may have by now.

        To be asked right before acting on the outside world. Asks nobody, so it is quick.
        """
        ...


class SectionSnapshot(Protocol):
    """Read-only, consistent view of one section."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, prefix: bytes, *, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows in key order, streamed."""
        ...


@runtime_checkable
class Store(Protocol):
    """An open state store. One handle per location and process."""

    @property
    def location(self) -> str:
        """Where it lives, fit for messages (no password)."""
        ...

    @property
    def info(self) -> StoreInfo:
        """Its format version and sizes, for listings."""
        ...

    def section(self, name: str) -> Section:
        """The section called ``name``; created by its first write. Same object for same name."""
        ...

    def section_names(self) -> list[str]:
        """Names of sections that hold data, sorted."""
        ...

    def flush(self) -> None:
        """Make everything accepted so far durable. Blocking."""
        ...

    def close(self) -> None:
        """Flush, close, release locks. Idempotent. Later calls raise ``StoreError``."""
        ...

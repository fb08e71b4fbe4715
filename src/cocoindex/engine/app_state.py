"""What the engine keeps in memory for one app: its section, counters, and who is in flight."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cocoindex.core.keys import StableKey, encode_key
from cocoindex.engine import rows
from cocoindex.engine.limiter import Limiter
from cocoindex.errors import StoreFormatError, UsageError

if TYPE_CHECKING:
    from cocoindex.engine.protocol import Applying
    from cocoindex.state.base import Batch, Section, SectionSnapshot

NODE_BLOCK = 4096
"""Node ids are reserved in blocks, so that a new component costs no counter write."""

MAX_ID_BLOCK = 256


class Counter:
    """Ids that are never handed out twice, also after a crash (gaps are possible).

    Ids are reserved in blocks of growing size. The row names who has reserved last, so that a
    run notices that another process has used (or dropped and rebuilt) the app meanwhile.
    """

    __slots__ = ("_failures", "_first", "_key", "_next", "_reserved", "_section", "_size", "_who")

    def __init__(self, section: Section, key: bytes, *, first: int, block: int) -> None:
        self._section = section
        self._key = key
        self._first = first
        self._size = block
        self._who = os.urandom(8)
        self._start_over(section.get(key))

    def _start_over(self, raw: bytes | None) -> None:
        self._next = self._reserved = self._first if raw is None else rows.unpack_id(raw)
        self._failures = self._section.failures

    @property
    def reserved(self) -> int:
        """The first id that is not reserved yet."""
        return self._reserved

    def refresh(self) -> None:
        """Continue where the store says, if it is not as this counter has left it."""
        raw = self._section.get(self._key)
        if raw != self._row() or self._failures != self._section.failures:
            self._start_over(raw)

    def _row(self) -> bytes:
        return self._who + rows.pack_id(self._reserved)

    def next(self) -> int:
        if self._failures != self._section.failures:  # the reservation may be lost: make it anew
            self._failures = self._section.failures
            self._reserved = self._next
        if self._next == self._reserved:
            self._reserved += self._size
            self._section.write([(self._key, self._row())])
        value = self._next
        self._next += 1
        return value

    def grow(self, limit: int) -> None:
        """Reserve twice as many next time, up to ``limit``."""
        if self._next == self._reserved:
            self._size = min(self._size * 2, limit)


class AppState:
    """One app in one environment, for as long as the store is open."""

    def __init__(self, name: str, section: Section, limiter: Limiter) -> None:
        self.name = name
        self.section = section
        self.limiter = limiter
        self.in_flight: dict[int, Applying] = {}
        """Components between pre-commit and commit, by id."""
        self.takeovers = 0
        """How often a component has changed another one's tracking entry."""
        self.root_lock = asyncio.Lock()
        self._labels: set[bytes] = set()
        self._reset_counters()

    def _reset_counters(self) -> None:
        key = rows.counter_key
        self._nodes = Counter(self.section, key("node"), first=rows.ROOT_ID + 1, block=NODE_BLOCK)
        self._providers = Counter(self.section, key("provider"), first=1, block=1)
        self._sequences: dict[bytes, Counter] = {}

    def leave_loop(self) -> None:
        """The loop is closed, and with it everything that waited for these."""
        self.root_lock = asyncio.Lock()
        self.limiter = Limiter(self.limiter.limit)
        self.in_flight.clear()

    def check_node_id(self, node_id: int) -> None:
        """Raises ``StoreFormatError`` for an id that was never handed out."""
        if node_id >= self._nodes.reserved:
            raise StoreFormatError(f"node id {node_id} was never handed out. {rows.DAMAGED}")

    def new_node_id(self) -> int:
        return self._nodes.next()

    def new_provider_id(self) -> int:
        return self._providers.next()

    def next_id(self, key: StableKey) -> int:
        """1, 2, 3, … per key."""
        encoded = encode_key(key)
        sequence = self._sequences.get(encoded)
        if sequence is None:
            sequence = Counter(self.section, rows.sequence_key(encoded), first=1, block=2)
            self._sequences[encoded] = sequence
        sequence.grow(MAX_ID_BLOCK)
        return sequence.next()

    def is_new_label(self, key: bytes) -> bool:
        """Whether a readable label has yet to be stored; asked once."""
        if key in self._labels:
            return False
        self._labels.add(key)
        return True

    def refresh(self) -> None:
        """A run begins: another process may have used the store since our last one."""
        self._labels.clear()
        for counter in (self._nodes, self._providers, *self._sequences.values()):
            counter.refresh()

    def forget(self) -> None:
        """The section was emptied: start from nothing."""
        self._labels.clear()
        self._reset_counters()

    def scratch(self) -> AppState:
        """A copy whose writes go nowhere, for previews."""
        return AppState(self.name, ScratchSection(self.section), self.limiter)


class ScratchSection:
    """Writes kept in memory over a section that is only read."""

    def __init__(self, base: Section) -> None:
        self._base = base
        self._written: dict[bytes, bytes | None] = {}

    @property
    def name(self) -> str:
        return self._base.name

    def get(self, key: bytes, *, ahead: bool = False) -> bytes | None:
        written = self._written
        return written[key] if key in written else self._base.get(key, ahead=ahead)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        first = max(prefix, start) if start is not None else prefix
        written = {k: v for k, v in self._written.items() if k.startswith(prefix) and k >= first}
        most = None if limit is None else limit + sum(v is None for v in written.values())
        found: dict[bytes, bytes | None] = dict(self._base.scan(prefix, start=start, limit=most))
        found.update(written)
        return [(k, v) for k, v in sorted(found.items()) if v is not None][:limit]

    def scan_keys(self, prefix: bytes) -> list[bytes]:
        return [key for key, _ in self.scan(prefix)]

    def write(self, batch: Batch) -> None:
        self._written.update(batch)

    async def flushed(self) -> None:
        return None

    @property
    def pending_bytes(self) -> int:
        return 0

    @property
    def failures(self) -> int:
        return self._base.failures

    def reset_failure(self) -> None:
        return None

    def clear(self) -> None:
        self._written = dict.fromkeys(self.scan_keys(b""))

    def snapshot(self) -> contextlib.AbstractContextManager[SectionSnapshot]:
        raise UsageError("a preview has nothing to inspect")

    @contextlib.contextmanager
    def acquire_lease(self, wait_seconds: float = 0.0) -> Iterator[None]:  # noqa: ARG002
        yield

    def check_lease(self) -> None:
        """Nothing is held."""

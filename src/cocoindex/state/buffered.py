"""What every store does the same way: accept batches in memory, commit many of them at once.

A section has up to two layers above its durable rows: ``_active`` takes what is written now,
``_flushing`` is being committed. Rows only move downwards (active -> flushing -> disk) and a
reader looks from the top to the bottom, so a reader without a lock may see a row twice on its
way but never misses it. Everything that needs one consistent view (several keys, ranges) holds
the store's lock: layers change hands only under that lock.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from cocoindex.errors import CocoIndexError, StoreError, UsageTypeError
from cocoindex.state.base import Batch, SectionSnapshot
from cocoindex.state.commit import Generation
from cocoindex.state.rows import MISSING, DiskView, Row, Rows, lookup, merge, merge_keys

__all__ = ["BufferedSection", "BufferedStore", "Closed", "LongView", "Refusal", "Work"]

T = TypeVar("T")
Refusal = Callable[[], CocoIndexError]
Work = Sequence[tuple["BufferedSection", Rows]]

_PAGE = 512
_LONGEST_VALUE = 1 << 30


class BufferedStore(ABC):
    """Group commit and the life cycle; a subclass knows how rows reach the disk."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._lock = threading.Lock()
        self._sections: dict[str, BufferedSection] = {}
        self._dirty: dict[BufferedSection, None] = {}
        self._accepting = Generation()
        self._committing: Generation | None = None
        self._refusal: Refusal | None = None
        """Why the store can't be used any more; ``None`` while it is open."""

    @property
    def location(self) -> str:
        return self._location

    def section(self, name: str) -> BufferedSection:
        section = self._sections.get(name)
        if section is None or self._refusal is not None:
            self._check_usable()
            with self._lock:
                section = self._sections.setdefault(name, self._make_section(name))
        return section

    def section_names(self) -> list[str]:
        self._check_usable()
        names = set(self._durable_names())
        with self._lock:
            names.update(name for name, section in self._sections.items() if section.layers())
        return sorted(name for name in names if self.section(name).scan(b"", limit=1))

    def flush(self) -> None:
        self._check_usable()
        with self._lock:
            waiting = list(self._sections.values())
            before = [section.failures for section in waiting]
            generation = self._waiting_generation()
            event = generation.event() if generation is not None else None
        if generation is not None and event is not None:
            self._start_commit(generation)
            event.wait()
        for section, failures in zip(waiting, before, strict=True):
            if section.failures != failures:
                section.check(failures)

    def close(self) -> None:
        if isinstance(self._refusal, Closed):
            return
        try:
            self.flush()
        finally:
            self._shut(Closed(self._location))

    @abstractmethod
    def _make_section(self, name: str) -> BufferedSection: ...

    @abstractmethod
    def _durable_names(self) -> list[str]: ...

    @abstractmethod
    def _start_commit(self, generation: Generation) -> None:
        """See to it that :meth:`_commit` runs for ``generation``; from any thread."""

    @abstractmethod
    def _apply(self, work: Work) -> None:
        """Make all of ``work`` durable in one transaction, or nothing of it and raise."""

    @abstractmethod
    def _release(self) -> None:
        """Give back what the store holds. Called once, when it is closed."""

    def _check_usable(self) -> None:
        if self._refusal is not None:
            raise self._refusal()

    def _shut(self, refusal: Refusal) -> None:
        with self._lock:
            generation = self._refuse(refusal)
        generation.finish()
        self._release()

    def _refuse(self, refusal: Refusal) -> Generation:
        """Refuse every later call; returns whoever still waits. Lock held."""
        self._refusal = refusal
        self._dirty.clear()
        for section in self._sections.values():
            section.abandon(refusal())
        generation, self._accepting = self._accepting, Generation()
        return generation

    def _waiting_generation(self) -> Generation | None:
        """The generation after which nothing accepted so far is pending. Lock held."""
        return self._accepting if self._dirty else self._committing

    def _commit(self, generation: Generation) -> None:
        """Commit ``generation`` unless that has happened already. One thread at a time."""
        with self._lock:
            if generation is not self._accepting:
                return
            self._accepting, self._committing = Generation(), generation
            work = [(section, section.begin_flush()) for section in self._dirty]
            work = [(section, rows) for section, rows in work if rows]
            self._dirty.clear()
        failure = self._try(work)
        with self._lock:
            for section, _ in work:
                section.end_flush(failure)
            self._committing = None
        generation.finish()

    def _try(self, work: Work) -> StoreError | None:
        if not work:
            return None
        try:
            self._apply(work)
        except StoreError as known:
            return known
        except Exception as cause:  # noqa: BLE001 - whatever it is, whoever waits must hear of it
            unknown = StoreError(f"can't write to the state store at {self._location}: {cause!r}")
            unknown.__cause__ = cause
            return unknown
        return None


class Closed:
    """The refusal of a closed store."""

    def __init__(self, location: str) -> None:
        self._location = location

    def __call__(self) -> StoreError:
        return StoreError(f"the state store at {self._location} is closed")


class BufferedSection(ABC):
    """See :class:`cocoindex.state.base.Section`."""

    _is_read_only = False
    """Whether :meth:`_check_writable` refuses every batch."""

    def __init__(self, store: BufferedStore, name: str) -> None:
        self._store = store
        self._name = name
        self._active = Rows()
        self._flushing = Rows()
        self._failure: StoreError | None = None
        self.failures = 0
        """How often a flush has failed, so that a waiter notices also after a reset."""
        self._last_failure: CocoIndexError | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def pending_bytes(self) -> int:
        return self._active.size + self._flushing.size

    # Reading

    def get(self, key: bytes, *, ahead: bool = False) -> bytes | None:
        active = self._active
        value: bytes | None = active.rows.get(key, MISSING)
        if value is not MISSING:
            return value
        if active.cleared:
            return None
        flushing = self._flushing
        value = flushing.rows.get(key, MISSING)
        if value is not MISSING:
            return value
        if flushing.cleared:
            return None
        return self._get_ahead(key) if ahead else self._get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._read(lambda view: lookup(view, self.layers(), keys))

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, limit: int | None = None
    ) -> list[Row]:
        return self._read(lambda view: merge(view, self.layers(), prefix, start, limit))

    def scan_keys(self, prefix: bytes) -> list[bytes]:
        return self._read(lambda view: merge_keys(view, self.layers(), prefix))

    @contextmanager
    def _snapshot(self) -> Iterator[SectionSnapshot]:
        view = self._open_view()
        try:
            yield _Snapshot(self._store, view)
        finally:
            view.close()

    def snapshot(self) -> AbstractContextManager[SectionSnapshot]:
        return self._snapshot()

    # Writing

    def write(self, batch: Batch) -> None:
        size = _measure(batch)
        store = self._store
        with store._lock:
            if store._refusal is not None or self._failure is not None or self._is_read_only:
                self._check_writable()
            active = self._active
            if not active:
                store._dirty[self] = None
            active.rows.update(batch)
            active.size += size

    def clear(self) -> None:
        with self._store._lock:
            self._check_writable()
            if not self._active:
                self._store._dirty[self] = None
            # A new object: a reader may be looking at the old one without the lock.
            self._active = Rows(cleared=True)

    async def flushed(self) -> None:
        store = self._store
        failures = self.failures
        with store._lock:
            store._check_usable()
            generation = self._generation()
            if generation is not None:
                loop = asyncio.get_running_loop()
                signal, fresh = generation.signal(loop)
                if fresh and generation is store._accepting:
                    # Not at once: what else this turn of the loop writes joins the commit.
                    loop.call_soon(store._start_commit, generation)
        if generation is not None:
            await signal
        self.check(failures)

    def reset_failure(self) -> None:
        with self._store._lock:
            self._failure = None

    @abstractmethod
    def acquire_lease(self, wait_seconds: float = 0.0) -> AbstractContextManager[None]: ...

    def check_lease(self) -> None:  # noqa: B027 - nothing to ask is right for most
        """A lease that ends only with its process can't be lost."""

    # For the store (lock held)

    def _generation(self) -> Generation | None:
        """The generation with the last accepted batch; ``None`` if all is durable."""
        if self._active:
            return self._store._accepting
        return self._store._committing if self._flushing else None

    def layers(self) -> list[Rows]:
        """The layers that hold something, oldest first, without those that a clear hides."""
        if self._active.cleared or not self._flushing:
            return [self._active] if self._active else []
        return [self._flushing, self._active] if self._active else [self._flushing]

    def frozen_layers(self) -> list[Rows]:
        """Layers that no later write changes."""
        return [layer.copy() if layer is self._active else layer for layer in self.layers()]

    def begin_flush(self) -> Rows:
        self._flushing, self._active = self._active, Rows()
        return self._flushing

    def end_flush(self, failure: StoreError | None) -> None:
        self._flushing = Rows()
        if failure is not None:
            # What came later may build on what was lost.
            self._active = Rows()
            self._failure = failure
            self._note(failure)

    def abandon(self, reason: CocoIndexError) -> None:
        """Forget what is not durable, and tell whoever waits for it."""
        if self.layers():
            self._note(reason)
        self._active = Rows()
        self._flushing = Rows()

    def _note(self, failure: CocoIndexError) -> None:
        self._last_failure = failure
        self.failures += 1

    def check(self, failures: int) -> None:
        """Raise if a flush has failed since ``failures``, or the section is still failed."""
        failure = self._failure if failures == self.failures else self._last_failure
        if failure is not None:
            raise _again(failure)

    def _check_writable(self) -> None:
        if self._store._refusal is not None:
            self._store._check_usable()
        if self._failure is not None:
            raise _again(self._failure)

    # For the disk

    @abstractmethod
    def _get(self, key: bytes) -> bytes | None:
        """The durable value."""

    def _get_ahead(self, key: bytes) -> bytes | None:
        """The same, where those behind it will be asked for next."""
        return self._get(key)

    @abstractmethod
    def _read(self, reader: Callable[[DiskView], T]) -> T:
        """Call ``reader`` with a view taken now, with the store's lock held."""

    @abstractmethod
    def _open_view(self) -> LongView:
        """A view that lives until it is closed, together with copies of the layers above it."""


class LongView(ABC):
    """A disk view that outlives the lock, and the layers that were above it."""

    def __init__(self, layers: list[Rows]) -> None:
        self.layers = layers

    @abstractmethod
    def read(self, reader: Callable[[DiskView], T]) -> T: ...

    @abstractmethod
    def close(self) -> None: ...


class _Snapshot:
    def __init__(self, store: BufferedStore, view: LongView) -> None:
        self._store = store
        self._view = view

    def get(self, key: bytes) -> bytes | None:
        self._store._check_usable()
        return self._view.read(lambda view: lookup(view, self._view.layers, [key]))[0]

    def scan(self, prefix: bytes, *, start: bytes | None = None) -> Iterator[Row]:
        while True:
            page = self._page(prefix, start)
            yield from page
            if len(page) < _PAGE:
                return
            start = page[-1][0] + b"\0"

    def _page(self, prefix: bytes, start: bytes | None) -> list[Row]:
        self._store._check_usable()
        layers = self._view.layers
        return self._view.read(lambda view: merge(view, layers, prefix, start, _PAGE))


def _measure(batch: Batch) -> int:
    """Bytes of ``batch``. Checks it too: one bad row would fail the batches beside it."""
    size = 0
    for key, value in batch:
        if type(value) is bytes and type(key) is bytes:
            length = len(value)
        elif value is None and type(key) is bytes:
            length = 0
        else:
            raise UsageTypeError(f"a store row must be (bytes, bytes or None), got {key!r}")
        if length > _LONGEST_VALUE:
            raise StoreError(f"a value of {length} bytes is too long for the state store (1 GiB)")
        size += len(key) + length
    return size


def _again(failure: CocoIndexError) -> CocoIndexError:
    """A fresh error for one more waiter; a shared one would collect all their tracebacks."""
    fresh = type(failure)(*failure.args)
    fresh.__cause__ = failure.__cause__
    return fresh

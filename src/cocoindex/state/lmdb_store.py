"""The embedded store: one LMDB file per ``db_path``, written by one thread."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import lmdb

from cocoindex.errors import CocoIndexError, StoreError
from cocoindex.state import layout
from cocoindex.state.ahead import Page, is_close_behind, read_page
from cocoindex.state.base import FORMAT_VERSION, StoreInfo
from cocoindex.state.buffered import BufferedSection, BufferedStore, LongView, Work
from cocoindex.state.commit import CommitThread, Generation
from cocoindex.state.lease import Lease, Leases
from cocoindex.state.lmdb_file import LmdbFile
from cocoindex.state.registry import Forked
from cocoindex.state.rows import DiskView, Row, Rows, RowsView, prefix_end

if TYPE_CHECKING:
    from cocoindex.state.lmdb_file import Txn

__all__ = ["DATA_FILE", "LmdbStore"]

T = TypeVar("T")

DATA_FILE = "state.lmdb"
_LOCKS = "locks"
_FIRST_CHUNK, _LARGEST_CHUNK = 4, 1024
_LARGEST_COPY = 1 << 28
"""Up to this many bytes of a snapshot are copied to memory when the store grows."""


class LmdbStore(BufferedStore):
    """See :class:`cocoindex.state.base.Store`. Made by :func:`cocoindex.state.open.open_store`.

    ``on_close`` is called once, when the store has been closed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        map_size: int,
        read_only: bool = False,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(str(directory))
        self._file = LmdbFile(directory / DATA_FILE, map_size, read_only=read_only)
        self._leases = Leases(directory / _LOCKS, self._location)
        self._on_close = on_close
        self._committer = CommitThread(self._commit)
        self._lock = self._file.gate
        self._numbers: dict[str, int] = {}
        try:
            self._check_header()
        except BaseException:
            self._file.close()
            raise

    @property
    def info(self) -> StoreInfo:
        self._check_usable()
        used, mapped = self._file.sizes()
        return StoreInfo(FORMAT_VERSION, used, mapped)

    def leave_to_parent(self) -> None:
        """In a forked child: refuse everything, touch nothing of the parent's."""
        self._file.abandon()
        self._lock = self._file.gate
        self._leases.abandon()
        self._refuse(Forked(self._location))

    def _check_header(self) -> None:
        header = self._file.read(lambda txn: (txn.get(layout.HEADER_KEY), txn.stat()["entries"]))
        if header == (None, 0) and not self._file.read_only:
            self._file.write(_write_header)
        elif header != (None, 0):
            layout.check_header(header[0], str(self._file.path))

    def _make_section(self, name: str) -> BufferedSection:
        return _LmdbSection(self, name)

    def _durable_names(self) -> list[str]:
        self._file.read(self._load_numbers)
        return list(self._numbers)

    def number(self, txn: Txn, name: str) -> int | None:
        """The number of section ``name``; ``None`` as long as nobody has written to it."""
        number = self._numbers.get(name)
        if number is None:
            self._load_numbers(txn)
            number = self._numbers.get(name)
        return number

    def _load_numbers(self, txn: Txn) -> None:
        self._numbers = {**self._numbers, **_read_numbers(txn)}

    # Committing

    def _start_commit(self, generation: Generation) -> None:
        self._committer.request(generation)

    def _apply(self, work: Work) -> None:
        need = sum(rows.size for _, rows in work)
        known = self._numbers
        numbers = self._file.write(lambda txn: _write_all(self._file, txn, work, known), need)
        with self._lock:
            self._numbers = {**self._numbers, **numbers}

    def _release(self) -> None:
        self._committer.stop()
        self._leases.release_all()
        self._file.close()
        self._on_close()

    def close(self) -> None:
        if isinstance(self._refusal, Forked):
            raise self._refusal()
        super().close()


class _LmdbSection(BufferedSection):
    _store: LmdbStore

    def __init__(self, store: LmdbStore, name: str) -> None:
        super().__init__(store, name)
        self._file = store._file
        self._is_read_only = store._file.read_only
        self._prefix: bytes | None = None
        self._is_empty_under_lease = False
        """Nothing is durable yet, and nobody else may write: no need to look on the disk."""
        self._reads_ahead = False
        """Whether a lease is held, under which nobody else may change what was read."""
        self._pages: dict[bytes, Page] = {}
        """Rows as they are on the disk, by the first byte of their keys; forgotten with each
        commit."""
        self._last_asked: dict[bytes, bytes] = {}
        """For the last time in vain, likewise."""

    def _get(self, key: bytes) -> bytes | None:
        prefix = self._prefix
        if prefix is None and self._is_empty_under_lease:
            self._store._check_usable()
            return None
        if prefix is None or len(key) > layout.LONGEST or self._store._refusal is not None:
            return self._read(lambda view: view.get(key))
        try:
            with self._file.gate, self._file.begin() as txn:
                return txn.get(prefix + key)
        except lmdb.Error:
            # Rare and curable (the map has grown elsewhere), or told properly by the long way.
            return self._read(lambda view: view.get(key))

    def _get_ahead(self, key: bytes) -> bytes | None:
        prefix, kind = self._prefix, key[:1]
        page = self._pages.get(kind)
        if prefix is None or not self._reads_ahead or len(key) > layout.LONGEST:
            return self._get(key)
        physical = prefix + key
        if page is not None:
            value = page.rows.get(physical)
            if value is not None or page.covers(physical):
                return value
        last, self._last_asked[kind] = self._last_asked.get(kind, b""), physical
        if not is_close_behind(last, physical) and (page is None or page.end != physical):
            return self._get(key)
        page = self._file.read(lambda txn: self._read_page(txn, kind, physical))
        return page.rows.get(physical)

    def _read_page(self, txn: Txn, kind: bytes, key: bytes) -> Page:
        # Inside the gate, as the end of a commit is: the page is not older than that.
        self._store._check_usable()
        page = read_page(txn, key, self._pages.get(kind))
        if self._reads_ahead:
            self._pages[kind] = page
        return page

    def _read(self, reader: Callable[[_View], T]) -> T:
        self._store._check_usable()
        return self._file.read(lambda txn: reader(self._view(txn)))

    def _view(self, txn: Txn) -> _View:
        # Inside the gate, so nobody closes the store from here on.
        self._store._check_usable()
        if self._prefix is None and not self._is_empty_under_lease:
            number = self._store.number(txn, self._name)
            self._prefix = None if number is None else layout.section_prefix(number)
        return _View(txn, self._prefix)

    def _open_view(self) -> LongView:
        self._store._check_usable()
        return self._file.read(lambda _: _LongLmdbView(self, self._file.begin()))

    def _check_writable(self) -> None:
        super()._check_writable()
        self._check_not_read_only()

    def acquire_lease(self, wait_seconds: float = 0.0) -> AbstractContextManager[None]:
        self._store._check_usable()
        self._check_not_read_only()
        lease = self._store._leases.acquire(self._name, wait_seconds)
        self._read(lambda _: None)
        self._is_empty_under_lease = self._prefix is None
        self._start_anew(reads_ahead=True)
        return _SectionLease(self, lease)

    def lease_released(self) -> None:
        self._is_empty_under_lease = False
        self._start_anew(reads_ahead=False)

    def _start_anew(self, *, reads_ahead: bool) -> None:
        with self._file.gate:
            self._pages = {}
            self._reads_ahead = reads_ahead

    def abandon(self, reason: CocoIndexError) -> None:
        self._pages = {}
        self._reads_ahead = False
        super().abandon(reason)

    def end_flush(self, failure: StoreError | None) -> None:
        self._pages = {}  # first: who finds a row in no layer must not find it here as it was
        super().end_flush(failure)
        self._is_empty_under_lease = False

    def _check_not_read_only(self) -> None:
        if self._is_read_only:
            raise StoreError(f"the state store at {self._store.location} is open read-only")


class _SectionLease(AbstractContextManager[None]):
    """The run lease of a section, while it is held."""

    def __init__(self, section: _LmdbSection, lease: Lease) -> None:
        self._section = section
        self._lease = lease

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        self._section.lease_released()
        self._lease.release()


class _View:
    """The rows of one section in one transaction. Use it inside the gate only."""

    def __init__(self, txn: Txn, prefix: bytes | None) -> None:
        self._txn = txn
        self._prefix = prefix

    def get(self, key: bytes) -> bytes | None:
        if self._prefix is None:
            return None
        value = self._txn.get(layout.physical_key(self._prefix, key))
        if value is None or len(key) <= layout.LONGEST:
            return value
        return layout.whole_key(value)[1]

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if self._prefix is None:
            return [None] * len(keys)
        if not keys or max(map(len, keys)) > layout.LONGEST:
            return [self.get(key) for key in keys]
        cursor = self._txn.cursor()
        # Keys that are asked for together are often neighbours, and all of them new: then one
        # look tells, instead of one for each.
        is_there = cursor.set_range(self._prefix + min(keys))
        if not is_there or cursor.key() > self._prefix + max(keys):
            return [None] * len(keys)
        physical = [self._prefix + key for key in keys]
        found = dict(cursor.getmulti(physical))
        return list(map(found.get, physical)) if found else [None] * len(keys)

    def scan(self, prefix: bytes, start: bytes | None, limit: int | None) -> list[Row]:
        if self._prefix is None or (limit is not None and limit <= 0):
            return []
        first = max(prefix, start or b"")
        if len(first) > layout.STEM:
            return self._scan_groups(prefix, first, limit)
        low, high = self._range(prefix, first)
        found: list[Row] = []
        for chunk in _chunks(self._txn, low, high, limit):
            if any(layout.is_long(key) for key, _ in chunk):
                return self._scan_groups(prefix, first, limit)
            found += [(key[4:], value) for key, value in chunk]
        return found[:limit]

    def keys(self, prefix: bytes) -> list[bytes]:
        if self._prefix is None:
            return []
        if len(prefix) <= layout.STEM:
            low, high = self._range(prefix, prefix)
            keys = _key_range(self._txn, low, high)
            if not any(map(layout.is_long, keys)):
                return [key[4:] for key in keys]
        return [key for key, _ in self._scan_groups(prefix, prefix, None)]

    def chunks(self) -> Iterator[list[Row]]:
        """All rows, piece by piece."""
        if self._prefix is not None:
            low, high = self._range(b"", b"")
            for chunk in _chunks(self._txn, low, high, None):
                yield list(layout.in_logical_order(chunk))

    def _scan_groups(self, prefix: bytes, first: bytes, limit: int | None) -> list[Row]:
        low, high = self._range(prefix[: layout.STEM], first[: layout.STEM])
        rows = chain.from_iterable(_chunks(self._txn, low, high, None))
        found = (
            (key, value)
            for key, value in layout.in_logical_order(rows)
            if key >= first and key.startswith(prefix)
        )
        return list(islice(found, limit))

    def _range(self, prefix: bytes, first: bytes) -> tuple[bytes, bytes]:
        section = self._prefix or b""
        end = prefix_end(section + prefix)
        assert end is not None, "the highest section number is never given out"
        return section + first, end


class _LongLmdbView(LongView):
    def __init__(self, section: _LmdbSection, txn: Txn) -> None:
        super().__init__(section.frozen_layers())
        self._file = section._file
        self._txn = txn
        self._view: DiskView | None = section._view(txn)
        self._file.before_remap.append(self._detach)

    def read(self, reader: Callable[[DiskView], T]) -> T:
        try:
            with self._file.gate:
                return reader(self._current())
        except lmdb.Error as cause:
            raise self._file.translate(cause) from cause

    def close(self) -> None:
        if self._file.abandoned:
            return
        # The transaction is over already if the store was closed or has grown.
        with self._file.gate, suppress(lmdb.Error):
            self._forget()
            self._txn.abort()

    def _current(self) -> DiskView:
        if self._view is None:
            raise StoreError(
                f"a snapshot of the state store {self._file.path} ended because the store had to "
                "grow, and it was too large to be copied. Take another one."
            )
        return self._view

    def _detach(self) -> None:
        """Remapping ends every transaction: continue on a copy of the rows, unless too large."""
        rows = Rows()
        view, self._view = self._view, None
        self._forget()
        if isinstance(view, _View):
            for chunk in view.chunks():
                rows.rows.update(chunk)
                rows.size += sum(len(key) + len(value) for key, value in chunk)
                if rows.size > _LARGEST_COPY:
                    return
        self._view = RowsView(rows)

    def _forget(self) -> None:
        if self._detach in self._file.before_remap:
            self._file.before_remap.remove(self._detach)


def _chunks(txn: Txn, low: bytes, high: bytes, limit: int | None) -> Iterator[list[Row]]:
    """Rows with ``low`` <= key < ``high``, in growing chunks: most ranges are short."""
    cursor = txn.cursor()
    if not cursor.set_range(low):
        return
    rows = cursor.iternext()
    size = _FIRST_CHUNK
    left = sys.maxsize if limit is None else limit
    while chunk := list(islice(rows, min(size, left))):
        if chunk[-1][0] >= high:
            yield chunk[: bisect_left(chunk, (high,))]
            return
        yield chunk
        left -= len(chunk)
        size = min(size * 4, _LARGEST_CHUNK)


def _key_range(txn: Txn, low: bytes, high: bytes) -> list[bytes]:
    cursor = txn.cursor()
    if not cursor.set_range(low):
        return []
    return list(takewhile(high.__gt__, cursor.iternext(keys=True, values=False)))


def _read_numbers(txn: Txn) -> dict[str, int]:
    end = prefix_end(layout.NAMES_PREFIX) or b""
    rows = chain.from_iterable(_chunks(txn, layout.NAMES_PREFIX, end, None))
    return {name.decode(): layout.number_of(key) for key, name in rows}


def _write_header(txn: Txn) -> None:
    # Another process may have come first.
    txn.put(layout.HEADER_KEY, layout.new_header(), overwrite=False)


def _write_all(file: LmdbFile, txn: Txn, work: Work, known: dict[str, int]) -> dict[str, int]:
    """Apply ``work``; returns the numbers of its sections."""
    numbers = _numbers_for(txn, [section.name for section, _ in work], known)
    for section, rows in sorted(work, key=lambda each: numbers[each[0].name]):
        prefix = layout.section_prefix(numbers[section.name])
        if rows.cleared:
            _delete_all(file, txn, prefix)
        _write_rows(txn, prefix, rows.rows)
    return numbers


def _write_rows(txn: Txn, prefix: bytes, rows: dict[bytes, bytes | None]) -> None:
    gone = [key for key, value in rows.items() if value is None] if None in rows.values() else []
    for key in sorted(gone):
        txn.delete(layout.physical_key(prefix, key))
    keys = sorted(rows.keys() - gone if gone else rows)
    items: Iterable[tuple[bytes, bytes]]
    if max(map(len, keys), default=0) > layout.LONGEST:
        items = [layout.physical_row(prefix, key, rows[key] or b"") for key in keys]
    else:  # one after the other in C: others wait for the interpreter while this runs
        values: Iterable[Any] = map(rows.__getitem__, keys)
        items = zip(map(prefix.__add__, keys), values, strict=True)
    txn.cursor().putmulti(items)


def _numbers_for(txn: Txn, names: list[str], known: dict[str, int]) -> dict[str, int]:
    if all(name in known for name in names):
        return known
    numbers = _read_numbers(txn)
    for name in names:
        if name not in numbers:
            numbers[name] = max(numbers.values(), default=0) + 1
            txn.put(layout.name_key(numbers[name]), name.encode())
    return numbers


def _delete_all(file: LmdbFile, txn: Txn, prefix: bytes) -> None:
    """Delete the rows of a section: all at once, if it is the only one of the store."""
    if _is_alone(txn, prefix):
        own = list(chain.from_iterable(_chunks(txn, b"", layout.FIRST_SECTION, None)))
        file.empty(txn)
        txn.cursor().putmulti(own)
        return
    cursor = txn.cursor()
    if cursor.set_range(prefix):
        while cursor.key().startswith(prefix):
            if not cursor.delete():
                return


def _is_alone(txn: Txn, prefix: bytes) -> bool:
    cursor, end = txn.cursor(), prefix_end(prefix)
    assert end is not None, "the highest section number is never given out"
    if not cursor.set_range(layout.FIRST_SECTION) or not cursor.key().startswith(prefix):
        return False
    return not cursor.set_range(end)

"""The rows of a section in memory, while nobody else may change them.

The engine reads single rows, and would wait for the network each time. Under the lease, the
process knows every change of the section, because it makes them all. So rows are read once, page
by page, when the first of them is wanted, and kept up to date with what is committed.

What is held is limited: beyond the limit only the keys are, so that a row that is not there still
needs no question, and beyond a limit of keys those above a certain one are not known at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from cocoindex.state.postgres.views import TableRows, stored_key, stored_row
from cocoindex.state.rows import Row, Rows

__all__ = ["Limits", "Mirror"]

_ELSEWHERE: Final = bytes(bytearray(b"in the database"))
"""Stands for a value that is not held; known by its identity."""

_PAGE = 10_000
_OVERHEAD = 100


class Limits(NamedTuple):
    """What a mirror holds at most: bytes of rows, bytes of one value, number of keys."""

    size: int = 1 << 26
    value: int = 1 << 14
    keys: int = 1_000_000


class Mirror:
    """See :class:`cocoindex.state.postgres.views.PhysicalRows`. To be used with the store's lock,
    except for :meth:`get`.
    """

    def __init__(self, table: TableRows, limits: Limits) -> None:
        self._table = table
        self._limits = limits
        self._rows = Rows()
        self._end: bytes | None = b""
        """Every key below it is known; ``None``: every key."""
        self.is_loaded = False

    def load(self) -> None:
        """Read what is there, as far as the limits allow. May be continued after an error."""
        while self._end is not None and len(self._rows.rows) < self._limits.keys:
            longest = self._limits.value if self._rows.size < self._limits.size else -1
            page = self._table.page(self._end, _PAGE, longest)
            for key, value in page:
                self._hold(key, value)
            self._end = page[-1][0] + b"\0" if len(page) == _PAGE else None
        self.is_loaded = True

    def commit(self, changes: Rows) -> None:
        """Follow a commit of ``changes``, whose keys are not stored ones."""
        if not self.is_loaded:
            self._forget()  # what was read before an error has changed
            return
        if changes.cleared:
            self._rows, self._end = Rows(), None
        for key, value in changes.rows.items():
            if value is None:
                self._drop(stored_key(key))
            else:
                self._hold(*stored_row(key, value))
        if len(self._rows.rows) > 2 * self._limits.keys:
            self._shrink()

    def _shrink(self) -> None:
        """Drop deleted keys; all of them, if too many are left."""
        fresh = Rows()
        fresh.rows = {key: value for key, value in self._rows.rows.items() if value is not None}
        fresh.size = self._rows.size
        if len(fresh.rows) > self._limits.keys:
            self._forget()
        else:
            self._rows = fresh

    def _forget(self) -> None:
        self._end = b""  # first: somebody may be in get()
        self._rows = Rows()

    def _hold(self, key: bytes, value: bytes | None) -> None:
        if not self._knows(key) and self.is_loaded:
            return
        if value is None or len(value) > self._limits.value or self._rows.size > self._limits.size:
            value = _ELSEWHERE
        held = self._rows.rows.get(key)
        self._rows.rows[key] = value
        self._rows.size += len(value) - (len(held) if held is not None else 0)
        self._rows.size += 0 if held is not None else len(key) + _OVERHEAD

    def _drop(self, key: bytes) -> None:
        held = self._rows.rows.get(key)
        if held is not None:
            self._rows.rows[key] = None
            self._rows.size -= len(held) + len(key) + _OVERHEAD

    def _knows(self, key: bytes) -> bool:
        return self._end is None or key < self._end

    # Reading

    def get(self, key: bytes) -> bytes | None:
        if self._knows(key):
            value = self._rows.rows.get(key)
            if value is not _ELSEWHERE:
                return value
        return self._table.get(key)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        rows = self._rows.rows
        found = {key: rows.get(key) if self._knows(key) else _ELSEWHERE for key in keys}
        asked = [key for key, value in found.items() if value is _ELSEWHERE]
        known = {
            key: value
            for key, value in found.items()
            if value is not None and value is not _ELSEWHERE
        }
        return known | self._table.get_many(asked) if asked else known

    def range(self, low: bytes, high: bytes | None, limit: int | None) -> list[Row]:
        keys = self._known_keys(low, high)
        if keys is None:
            return self._table.range(low, high, limit)
        found: list[Row] = []
        for key in keys if limit is None else keys[:limit]:
            value = self._rows.rows[key]
            if value is _ELSEWHERE:
                return self._table.range(low, high, limit)
            assert value is not None
            found.append((key, value))
        return found

    def keys(self, low: bytes, high: bytes | None) -> list[bytes]:
        keys = self._known_keys(low, high)
        return self._table.keys(low, high) if keys is None else keys

    def _known_keys(self, low: bytes, high: bytes | None) -> list[bytes] | None:
        """Keys of a range, ``None`` if they are not all known."""
        if self._end is not None and (high is None or high > self._end):
            return None
        keys = self._rows.between(low, high)
        return [key for key in keys if self._rows.rows[key] is not None]

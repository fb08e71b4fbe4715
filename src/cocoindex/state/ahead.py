"""Reading rows ahead of those who ask for one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cocoindex.state.lmdb_file import Txn

__all__ = ["Page", "is_close_behind", "read_page"]

_FEWEST_ROWS: Final = 8
_MOST_ROWS: Final = 512
_MOST_BYTES: Final = 1 << 18


class Page(NamedTuple):
    """All rows with ``first`` <= key < ``end``, as they were on the disk."""

    first: bytes
    end: bytes
    rows: dict[bytes, bytes]
    size: int
    """How many of them were asked for."""

    def covers(self, key: bytes) -> bool:
        return self.first <= key < self.end


def is_close_behind(last: bytes, key: bytes) -> bool:
    """Whether the rows from ``key`` on are worth reading after ``last`` was asked for."""
    return last < key and last[:-1] == key[:-1]


def read_page(txn: Txn, key: bytes, before: Page | None) -> Page:
    """The page that begins with ``key``: twice as long as the one ``before``, if it goes on."""
    size = _FEWEST_ROWS
    if before is not None and before.end == key:
        size = min(before.size * 2, _MOST_ROWS)
    rows: dict[bytes, bytes] = {}
    end, left = key, _MOST_BYTES
    cursor = txn.cursor()
    if cursor.set_range(key):
        for end, value in cursor.iternext():
            if len(rows) == size or left < 0:
                return Page(key, end, rows, size)
            rows[end] = value
            left -= len(value)
    return Page(key, end + b"\0", rows, size)

"""Rows kept in memory, and how layers of them lie over a view of the disk."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, Protocol

__all__ = [
    "MISSING",
    "DiskView",
    "Row",
    "Rows",
    "RowsView",
    "lookup",
    "merge",
    "merge_keys",
    "prefix_end",
]

Row = tuple[bytes, bytes]

# ``Any`` so that a value that "is not MISSING" needs no cast on the hot path.
MISSING: Final[Any] = object()


class DiskView(Protocol):
    """One consistent view of the durable rows of one section."""

    def get(self, key: bytes) -> bytes | None: ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...

    def scan(self, prefix: bytes, start: bytes | None, limit: int | None) -> list[Row]: ...

    def keys(self, prefix: bytes) -> list[bytes]: ...


def prefix_end(prefix: bytes) -> bytes | None:
    """The smallest key above every key that starts with ``prefix``; ``None`` if there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


class Rows:
    """Key -> value, where ``None`` marks a deleted key. Keys are only ever added.

    They stay in the order they came, and are sorted only when somebody scans.
    With ``cleared`` the rows hide everything below them, not just the keys they name.
    """

    __slots__ = ("_order", "cleared", "rows", "size")

    def __init__(self, *, cleared: bool = False) -> None:
        self.rows: dict[bytes, bytes | None] = {}
        self.cleared = cleared
        self.size = 0
        self._order: list[bytes] = []

    def __bool__(self) -> bool:
        return bool(self.rows) or self.cleared

    def copy(self) -> Rows:
        twin = Rows(cleared=self.cleared)
        twin.rows = self.rows.copy()
        twin.size = self.size
        return twin

    def has_any_of(self, keys: Sequence[bytes]) -> bool:
        """Whether the rows say something about one of ``keys``."""
        return self.cleared or not self.rows.keys().isdisjoint(keys)

    def select(
        self, prefix: bytes, start: bytes | None = None, last: bytes | None = None
    ) -> list[bytes]:
        """Keys with ``prefix``, from ``start`` through ``last`` (both inclusive), in order."""
        keys = self.between(max(prefix, start or b""), prefix_end(prefix))
        return keys if last is None else keys[: bisect_right(keys, last)]

    def between(self, low: bytes, high: bytes | None) -> list[bytes]:
        """Keys from ``low`` to below ``high`` (``None``: to the end), in order."""
        if not self.rows:
            return []
        order = self._sorted()
        first = bisect_left(order, low)
        end = len(order) if high is None else bisect_left(order, high, first)
        return order[first:end]

    def _sorted(self) -> list[bytes]:
        # A dict keeps insertion order, so the keys that are not sorted yet are its last ones.
        order = self._order
        fresh = len(self.rows) - len(order)
        if fresh:
            tail = islice(reversed(self.rows), fresh)
            if fresh * 16 < len(order):
                for key in list(tail):
                    insort(order, key)
            else:
                order.extend(tail)
                order.sort()
        return order


class RowsView:
    """:class:`DiskView` of rows in memory."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def get(self, key: bytes) -> bytes | None:
        return self._rows.rows.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._rows.rows.get(key) for key in keys]

    def scan(self, prefix: bytes, start: bytes | None, limit: int | None) -> list[Row]:
        found: list[Row] = []
        for key in self._rows.select(prefix, start):
            if limit is not None and len(found) >= limit:
                break
            value = self._rows.rows[key]
            if value is not None:
                found.append((key, value))
        return found

    def keys(self, prefix: bytes) -> list[bytes]:
        return [key for key in self._rows.select(prefix) if self._rows.rows[key] is not None]


def lookup(view: DiskView, layers: list[Rows], keys: Sequence[bytes]) -> list[bytes | None]:
    if not any(layer.has_any_of(keys) for layer in layers):
        return view.get_many(keys)
    found = [_buffered(layers, key) for key in keys]
    missing = [key for key, value in zip(keys, found, strict=True) if value is MISSING]
    durable = iter(view.get_many(missing))
    return [next(durable) if value is MISSING else value for value in found]


def _buffered(layers: list[Rows], key: bytes) -> bytes | None:
    value: bytes | None = MISSING
    for layer in reversed(layers):
        value = layer.rows.get(key, MISSING)
        if value is not MISSING:
            return value
        if layer.cleared:
            return None
    return value


def merge(
    view: DiskView,
    layers: list[Rows],
    prefix: bytes,
    start: bytes | None,
    limit: int | None,
) -> list[Row]:
    if not layers:
        return view.scan(prefix, start, limit)
    hidden = any(layer.cleared for layer in layers)
    merged: list[Row] = []
    while True:
        wanted = None if limit is None else limit - len(merged)
        rows = [] if hidden else view.scan(prefix, start, wanted)
        # With a limit, the disk may hold more rows: changes beyond its last one wait.
        last = rows[-1][0] if rows and len(rows) == wanted else None
        merged += _overlaid(rows, layers, prefix, start, last)
        if last is None or limit is None or len(merged) >= limit:
            return merged[:limit]
        start = last + b"\0"


def _overlaid(
    rows: list[Row], layers: list[Rows], prefix: bytes, start: bytes | None, last: bytes | None
) -> list[Row]:
    changed: dict[bytes, bytes | None] = {}
    for layer in layers:
        for key in layer.select(prefix, start, last):
            changed[key] = layer.rows[key]
    if not changed:
        return rows
    merged: dict[bytes, bytes | None] = dict(rows)
    merged.update(changed)
    return [(key, value) for key in sorted(merged) if (value := merged[key]) is not None]


def merge_keys(view: DiskView, layers: list[Rows], prefix: bytes) -> list[bytes]:
    hidden = any(layer.cleared for layer in layers)
    durable = [] if hidden else view.keys(prefix)
    merged: dict[bytes, bool] = dict.fromkeys(durable, True)
    for layer in layers:
        for key in layer.select(prefix):
            merged[key] = layer.rows[key] is not None
    return sorted(key for key, there in merged.items() if there) if layers else durable

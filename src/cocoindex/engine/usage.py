"""How much of a store is used by what: tables, functions and containers of one app."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cocoindex.core.keys import path_text
from cocoindex.engine import rows
from cocoindex.engine.rows import TrackingRow

if TYPE_CHECKING:
    from cocoindex.state.base import SectionSnapshot

TABLES: Final = {
    b"E": "existence",
    b"N": "names",
    b"K": "tracking",
    b"C": "component memos",
    b"F": "function memos",
    b"U": "user state",
    b"T": "tombstones",
    b"O": "owners",
    b"Q": "id sequences",
    b"L": "labels",
    b"M": "counters",
}
_BY_COMPONENT: Final = (b"C", b"F", b"U")
_MOST_NAMES: Final = 10_000
OTHERS: Final = "(others)"
UNKNOWN: Final = "(unknown)"


@dataclass(slots=True)
class Usage:
    """Rows, and bytes of their keys and values."""

    rows: int = 0
    bytes: int = 0

    def add(self, rows: int, size: int) -> None:
        self.rows += rows
        self.bytes += size


@dataclass(slots=True)
class AppUsage:
    """What one app uses.

    ``functions``: by name of the component's function, what is kept for the component (its
    tracking entry, memos, user state). ``containers``: by path, the target states tracked below
    it and the bytes of their keys and states; these are part of the tracking entries.
    """

    total: Usage = field(default_factory=Usage)
    tables: dict[str, Usage] = field(default_factory=dict)
    functions: dict[str, Usage] = field(default_factory=dict)
    containers: dict[str, Usage] = field(default_factory=dict)


def measure(snapshot: SectionSnapshot) -> AppUsage:
    """Read one app's section once. Memory does not grow with the number of rows; beyond 10,000
    functions or containers, further ones are summed up under ``(others)``.
    """
    usage = AppUsage()
    components = {tag: _Cursor(snapshot, tag) for tag in _BY_COMPONENT}
    for tag, table in TABLES.items():
        if tag in _BY_COMPONENT:
            continue
        used = usage.tables[table] = Usage()
        for key, value in snapshot.scan(tag):
            used.add(1, len(key) + len(value))
            if tag == b"K":
                _component(usage, components, key, value)
    for cursor in components.values():
        count, size = cursor.rest()
        if count:
            _named(usage.functions, UNKNOWN).add(count, size)
        usage.tables[TABLES[cursor.tag]] = cursor.total
    for used in usage.tables.values():
        usage.total.add(used.rows, used.bytes)
    return usage


def _component(usage: AppUsage, components: dict[bytes, _Cursor], key: bytes, value: bytes) -> None:
    """One tracking entry, and what the other tables have for the same component."""
    try:
        row = rows.decode_tracking(value)
    except ValueError:
        row = None
    name = UNKNOWN if row is None else row.processor or UNKNOWN
    used = _named(usage.functions, name)
    used.add(1, len(key) + len(value))
    for cursor in components.values():
        used.add(*cursor.take(key[1:]))
    if row is not None:
        _containers(usage, row)


def _containers(usage: AppUsage, row: TrackingRow) -> None:
    for group in row.groups:
        try:
            name = path_text(rows.provider_keys(group.path))
        except ValueError:
            name = UNKNOWN
        items = list(group.items())
        size = sum(len(item.key) + sum(len(record) for record in item.records) for item in items)
        _named(usage.containers, name).add(len(items), size)


def _named(found: dict[str, Usage], name: str) -> Usage:
    if name not in found and len(found) >= _MOST_NAMES:
        name = OTHERS
    return found.setdefault(name, Usage())


class _Cursor:
    """Walks one table in step with the tracking entries: both are sorted by component."""

    def __init__(self, snapshot: SectionSnapshot, tag: bytes) -> None:
        self.tag = tag
        self.total = Usage()
        self._rows = snapshot.scan(tag)
        self._next = next(self._rows, None)
        self._skipped = Usage()

    def take(self, component: bytes) -> tuple[int, int]:
        """Number and bytes of the rows of ``component``."""
        self._skipped.add(*self._sum(lambda owner: owner < component))
        return self._sum(lambda owner: owner == component)

    def rest(self) -> tuple[int, int]:
        """What belongs to no tracking entry."""
        self._skipped.add(*self._sum(lambda _: True))
        return self._skipped.rows, self._skipped.bytes

    def _sum(self, wanted: Wanted) -> tuple[int, int]:
        count = size = 0
        while self._next is not None and wanted(self._next[0][1:9]):
            count += 1
            size += len(self._next[0]) + len(self._next[1])
            self._next = next(self._rows, None)
        self.total.add(count, size)
        return count, size


if TYPE_CHECKING:
    from collections.abc import Callable

    Wanted = Callable[[bytes], bool]


def largest(found: dict[str, Usage]) -> Iterator[tuple[str, Usage]]:
    """Entries by size, the largest first."""
    yield from sorted(found.items(), key=lambda entry: (-entry[1].bytes, entry[0]))

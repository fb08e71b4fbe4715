"""Reading a section: statements below, the order and form of keys above.

Keys too long for an index are shortened as in :mod:`cocoindex.state.layout`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cocoindex.state import layout
from cocoindex.state.postgres.arrays import ByteStrings
from cocoindex.state.rows import Row, prefix_end

if TYPE_CHECKING:
    from psycopg import Connection

    from cocoindex.state.postgres.schema import Statements

__all__ = ["LogicalView", "PhysicalRows", "Run", "TableRows", "stored_key", "stored_row"]

T = TypeVar("T")

_PREFIX = layout.section_prefix(0)
"""The layout puts the section's number before a key; here it has a column of its own."""

_CUT = len(_PREFIX)
_PAGE = 512


def stored_key(key: bytes) -> bytes:
    return key if len(key) <= layout.LONGEST else layout.physical_key(_PREFIX, key)[_CUT:]


def stored_row(key: bytes, value: bytes) -> Row:
    if len(key) <= layout.LONGEST:
        return key, value
    physical, long = layout.physical_row(_PREFIX, key, value)
    return physical[_CUT:], long


def _is_long(stored: bytes) -> bool:
    return len(stored) > layout.LONGEST


class Run(Protocol):
    """Calls something with a connection."""

    def __call__(self, work: Callable[[Connection[Any]], T], /) -> T: ...


class PhysicalRows(Protocol):
    """Rows as they are stored. ``high`` is exclusive; ``None`` is the end."""

    def get(self, key: bytes) -> bytes | None: ...

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]: ...

    def range(self, low: bytes, high: bytes | None, limit: int | None) -> list[Row]: ...

    def keys(self, low: bytes, high: bytes | None) -> list[bytes]: ...


class TableRows:
    """The rows of a section in the database, by one statement per call."""

    def __init__(
        self,
        run: Run,
        statements: Statements,
        section: int,
    ) -> None:
        self._run = run
        self._statements = statements
        self._section = section

    def get(self, key: bytes) -> bytes | None:
        found = self._select(self._statements["get"], [self._section, key])
        return found[0][0] if found else None

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        return dict(self._select(self._statements["get_many"], [self._section, ByteStrings(keys)]))

    def range(self, low: bytes, high: bytes | None, limit: int | None) -> list[Row]:
        return self._scan(low, high, limit, values=True)

    def keys(self, low: bytes, high: bytes | None) -> list[bytes]:
        return [row[0] for row in self._scan(low, high, None, values=False)]

    def page(self, low: bytes, limit: int, longest: int) -> list[tuple[bytes, bytes | None]]:
        """Rows from ``low`` on, with ``None`` for values of more than ``longest`` bytes."""
        return self._select(self._statements["page"], [longest, self._section, low, limit])

    def _scan(
        self, low: bytes, high: bytes | None, limit: int | None, *, values: bool
    ) -> list[Any]:
        statement = self._statements.scan(
            values=values, until=high is not None, limited=limit is not None
        )
        parameters: list[Any] = [self._section, low]
        parameters += [] if high is None else [high]
        parameters += [] if limit is None else [limit]
        return self._select(statement, parameters)

    def _select(self, statement: bytes, parameters: list[Any]) -> list[Any]:
        return self._run(lambda c: c.execute(statement, parameters, binary=True).fetchall())


class LogicalView:
    """See :class:`cocoindex.state.rows.DiskView`."""

    def __init__(self, rows: PhysicalRows) -> None:
        self._rows = rows

    def get(self, key: bytes) -> bytes | None:
        value = self._rows.get(stored_key(key))
        if value is None or len(key) <= layout.LONGEST:
            return value
        return layout.whole_key(value)[1]

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        found = self._rows.get_many([stored_key(key) for key in keys])
        values = [found.get(stored_key(key)) for key in keys]
        return [
            layout.whole_key(value)[1] if value is not None and _is_long(key) else value
            for key, value in zip(keys, values, strict=True)
        ]

    def scan(self, prefix: bytes, start: bytes | None, limit: int | None) -> list[Row]:
        if limit is not None and limit <= 0:
            return []
        first = max(prefix, start or b"")
        if len(first) <= layout.STEM:
            rows = self._rows.range(first, prefix_end(prefix), limit)
            if not any(_is_long(key) for key, _ in rows):
                return rows
        return self._scan_groups(prefix, first, limit)

    def keys(self, prefix: bytes) -> list[bytes]:
        if len(prefix) <= layout.STEM:
            keys = self._rows.keys(prefix, prefix_end(prefix))
            if not any(map(_is_long, keys)):
                return keys
        return [key for key, _ in self._scan_groups(prefix, prefix, None)]

    def _scan_groups(self, prefix: bytes, first: bytes, limit: int | None) -> list[Row]:
        """The same where long keys are among them, whose order is known only when read."""
        rows = chain.from_iterable(self._pages(first[: layout.STEM], prefix[: layout.STEM]))
        found = (
            (key, value)
            for key, value in layout.in_logical_order(rows)
            if key >= first and key.startswith(prefix)
        )
        return list(islice(found, limit))

    def _pages(self, low: bytes, prefix: bytes) -> Iterator[list[Row]]:
        end = prefix_end(prefix)
        while page := self._rows.range(low, end, _PAGE):
            yield [(_PREFIX + key, value) for key, value in page]
            if len(page) < _PAGE:
                return
            low = page[-1][0] + b"\0"

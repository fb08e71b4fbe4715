"""A database as small as can be: named tables of rows in memory. Stands for your system."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Key = tuple[Any, ...]
Row = Mapping[str, Any]


class MemoryTable:
    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns
        self.rows: dict[Key, Row] = {}
        self.indexes: dict[str, str] = {}


class MemoryDb:
    """Every method is one request; ``on_request`` is called before and after each."""

    def __init__(self) -> None:
        self.tables: dict[str, MemoryTable] = {}
        self.requests = 0
        self.on_request: Callable[[str], None] = lambda _when: None
        self.refused: tuple[str, Any] | None = None

    def create_table(self, name: str, columns: tuple[str, ...]) -> None:
        self._request(lambda: self.tables.setdefault(name, MemoryTable(columns)))

    def drop_table(self, name: str) -> None:
        self._request(lambda: self.tables.pop(name, None))

    def write(self, name: str, rows: Mapping[Key, Row], deleted: Iterable[Key]) -> None:
        """All of it, or nothing."""

        def apply() -> None:
            for row in rows.values():
                if self.refused in row.items():
                    raise ValueError(f"table {name} refuses a row")
            table = self.tables[name]
            table.rows.update(rows)
            for key in deleted:
                table.rows.pop(key, None)

        self._request(apply)

    def create_index(self, table: str, name: str, column: str) -> None:
        self._request(lambda: self.tables[table].indexes.__setitem__(name, column))

    def drop_index(self, table: str, name: str) -> None:
        self._request(lambda: self.tables[table].indexes.pop(name, None))

    def _request(self, do: Callable[[], object]) -> None:
        self.requests += 1
        self.on_request("before")
        do()
        self.on_request("after")

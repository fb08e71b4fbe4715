"""How the conformance suites get at the connector: `pytest conformance.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.testing.connectors import (
    FaultConformance,
    RefusalConformance,
    RowConformance,
    TargetAdapter,
)
from memory_db import MemoryDb
from memory_target import Table, mount_table


# --8<-- [start:adapter]
class MemoryAdapter(TargetAdapter):
    key = coco.ContextKey[MemoryDb]("conformance/db")

    def __init__(self) -> None:
        self.db = MemoryDb()

    async def open(self) -> MemoryDb:
        return self.db

    async def close(self, client: MemoryDb) -> None:
        pass

    async def mount(
        self, name: str, record_type: type[Any], primary_key: Sequence[str], **_options: Any
    ) -> Table:
        columns = [field.name for field in fields(record_type)]
        return await mount_table(self.key, name, columns, primary_key)

    async def read(self, name: str) -> dict[tuple[Any, ...], dict[str, Any]] | None:
        table = self.db.tables.get(name)
        return None if table is None else {key: dict(row) for key, row in table.rows.items()}

    @property
    def trips(self) -> int:
        return self.db.requests

    @contextmanager
    def failing(self, trip: int, when: str) -> Iterator[None]:
        at = self.db.requests + trip

        def fail(now: str) -> None:
            if self.db.requests == at and now == when:
                raise ConnectionError("the connection broke")

        self.db.on_request = fail
        yield
        self.db.on_request = lambda _when: None

    async def refuse(self, name: str, column: str, value: Any) -> None:
        self.db.refused = (column, value)


class TestMemoryTarget(RowConformance, FaultConformance, RefusalConformance):
    names_the_row = False

    def adapter_for_test(self, request: pytest.FixtureRequest) -> MemoryAdapter:
        return MemoryAdapter()


# --8<-- [end:adapter]

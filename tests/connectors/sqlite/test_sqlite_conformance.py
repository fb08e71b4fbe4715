"""The conformance suites, with every driver that can be had."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
from collections.abc import Iterator, Sequence
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import numpy as np
import pytest

import cocoindex as coco
from cocoindex.connectorkits.threads import BlockingClient
from cocoindex.connectors import sqlite
from cocoindex.connectors.sqlite._dialect import DIALECT
from cocoindex.testing.connectors import (
    REFUSED,
    RefusalConformance,
    RowConformance,
    Sample,
    TableConformance,
    TargetAdapter,
)

DB = coco.ContextKey[sqlite.ManagedConnection]("tests/sqlite")


class Broken(ConnectionError):
    """The connection broke."""


class SqliteAdapter(TargetAdapter):
    """A database file, and a plain connection past the connector."""

    key = DB
    dialect = DIALECT

    def __init__(self, file: Path, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = file
        self.driver: Any = driver
        self._trips = 0
        self._break_at: int | None = None
        self._when = "before"
        monkeypatch.setattr(BlockingClient, "call", self._counting(BlockingClient.call))

    def _counting(self, call: Any) -> Any:
        async def counted(client: BlockingClient[Any], fn: Any, *args: Any) -> Any:
            self._trips += 1
            at = self._trips == self._break_at
            if at and self._when == "before":
                raise Broken
            result = await call(client, fn, *args)
            if at:
                raise Broken
            return result

        return counted

    async def open(self) -> sqlite.ManagedConnection:
        return sqlite.connect(self.file, driver=self.driver, synchronous="off")

    async def close(self, client: sqlite.ManagedConnection) -> None:
        client.close()

    async def mount(
        self, name: str, record_type: type[Any], primary_key: Sequence[str], **options: Any
    ) -> Any:
        schema = await sqlite.TableSchema.from_class(record_type, list(primary_key))
        return await sqlite.mount_table_target(DB, name, schema, **options)

    @property
    def trips(self) -> int:
        return self._trips

    @contextlib.contextmanager
    def failing(self, trip: int, when: Literal["before", "after"]) -> Iterator[None]:
        self._break_at, self._when = self._trips + trip, when
        try:
            yield
        finally:
            self._break_at = None

    async def read(self, name: str) -> dict[tuple[Any, ...], dict[str, Any]] | None:
        with self._open() as db:
            info = db.execute(f'PRAGMA table_info("{name}")').fetchall()
            if not info:
                return None
            key = [row[1] for row in sorted(info, key=lambda row: row[5]) if row[5]]
            db.row_factory = sqlite3.Row
            rows = [dict(row) for row in db.execute(f'SELECT * FROM "{name}"')]
            return {tuple(row[name] for name in key): row for row in rows}

    async def create(self, name: str, record_type: type[Any], primary_key: Sequence[str]) -> None:
        types = {int: "INTEGER", str: "TEXT"}
        columns = [
            f"{column} {types[hint]} NOT NULL"
            for column, hint in record_type.__annotations__.items()
            if not isinstance(hint, str)
        ] or ["id INTEGER NOT NULL", "text TEXT NOT NULL"]
        with self._open() as db:
            columns.append(f"PRIMARY KEY ({', '.join(primary_key)})")
            db.execute(f"CREATE TABLE {name} ({', '.join(columns)})")

    async def insert(self, name: str, row: Any) -> None:
        with self._open() as db:
            marks = ", ".join("?" * len(row))
            db.execute(f"INSERT INTO {name} ({', '.join(row)}) VALUES ({marks})", [*row.values()])

    async def columns(self, name: str) -> dict[str, bool]:
        with self._open() as db:
            return {row[1]: not row[3] for row in db.execute(f"PRAGMA table_info({name})")}

    async def refuse(self, name: str, column: str, value: Any) -> None:
        with self._open() as db:
            db.execute(
                f"CREATE TRIGGER refuse BEFORE INSERT ON {name} WHEN new.{column} = '{value}' "
                "BEGIN SELECT RAISE(ABORT, 'refused by trigger'); END"
            )

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.file)) as db, db:
            yield db


class Colour(Enum):
    RED = "red"


class Size(Enum):
    BIG = 3


UTC = dt.UTC
NAIVE = dt.datetime(2024, 1, 1, 2)  # noqa: DTZ001 - that is its point
PLUS_TWO = dt.timezone(dt.timedelta(hours=2))
SOME_ID = UUID("12345678-1234-5678-1234-567812345678")


class TestStandardLibrary(TableConformance):
    driver = "sqlite3"
    samples = (
        Sample(bool, True, 1),
        Sample(int, -(2**63), -(2**63)),
        Sample(int, 2**63 - 1, 2**63 - 1),
        Sample(int, np.int16(7), 7),
        Sample(np.int32, np.int32(7), 7),
        Sample(np.uint64, np.uint64(7), 7),
        Sample(float, 0.1, 0.1),
        Sample(float, float("inf"), float("inf")),
        Sample(float, 3, 3.0),
        Sample(np.float32, np.float32(0.5), 0.5),
        Sample(Decimal, Decimal("1.50"), "1.50"),
        Sample(str, "ü", "ü"),
        Sample(bytes, b"\x00\xff", b"\x00\xff"),
        Sample(bytes, bytearray(b"x"), b"x"),
        Sample(UUID, SOME_ID, str(SOME_ID)),
        Sample(dt.date, dt.date(2024, 2, 29), "2024-02-29"),
        Sample(dt.time, dt.time(12, 30), "12:30:00"),
        Sample(
            dt.datetime,
            dt.datetime(2024, 1, 1, 2, tzinfo=PLUS_TWO),
            "2024-01-01T00:00:00.000000+00:00",
        ),
        Sample(dt.datetime, NAIVE, "2024-01-01T02:00:00.000000"),
        Sample(dt.timedelta, dt.timedelta(seconds=1.5), 1.5),
        Sample(Colour, Colour.RED, "red"),
        Sample(Size, Size.BIG, 3),
        Sample(Literal["a", "b"], "a", "a"),
        Sample(str | None, None, None),
        Sample(list[int], [1, 2], "[1,2]"),
        Sample(dict[str, Any], {"b": {2, 1}, "a": SOME_ID}, f'{{"a":"{SOME_ID}","b":[1,2]}}'),
        Sample(Any, {"x": None}, '{"x":null}'),
        Sample(int, 2**63, REFUSED),
        Sample(int, "1", REFUSED),
        Sample(int, 1.5, REFUSED),
        Sample(float, float("nan"), REFUSED),
        Sample(str, 5, REFUSED),
        Sample(bytes, "text", REFUSED),
        Sample(dict[str, Any], {"x": float("nan")}, REFUSED),
        Sample(dict[str, Any], {"x": object()}, REFUSED),
        Sample(str, None, REFUSED),
    )
    key_samples = (
        Sample(int, -(2**63), -(2**63)),
        Sample(bool, True, 1),
        Sample(str, "a", "a"),
        Sample(bytes, b"\x00", b"\x00"),
        Sample(UUID, SOME_ID, str(SOME_ID)),
        Sample(float, 0.1, 0.1),
        Sample(Decimal, Decimal("1.5"), "1.5"),
        Sample(dt.date, dt.date(2024, 2, 29), "2024-02-29"),
        Sample(
            dt.datetime,
            dt.datetime(2024, 1, 1, tzinfo=UTC),
            "2024-01-01T00:00:00.000000+00:00",
        ),
        Sample(Colour, Colour.RED, "red"),
    )

    def adapter_for_test(self, request: pytest.FixtureRequest) -> SqliteAdapter:
        if self.driver != "sqlite3":
            pytest.importorskip(self.driver)
        return SqliteAdapter(
            request.getfixturevalue("tmp_path") / "db.sqlite",
            self.driver,
            request.getfixturevalue("monkeypatch"),
        )


class TestApsw(TestStandardLibrary):
    driver = "apsw"


class TestPysqlite3(RowConformance, RefusalConformance):
    """It differs from the standard library in its errors only."""

    driver = "pysqlite3"
    adapter_for_test = TestStandardLibrary.adapter_for_test

"""The conformance suites, on each version of the server."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import asyncpg
import numpy as np
import pytest

import cocoindex as coco
from cocoindex.connectors import postgres
from cocoindex.connectors.postgres._dialect import DIALECT
from cocoindex.testing.connectors import REFUSED, Sample, TableConformance, TargetAdapter

DB = coco.ContextKey[Any]("tests/postgres_conformance")


class PostgresAdapter(TargetAdapter):
    """A database behind a proxy that counts requests and can cut the line."""

    key = DB
    dialect = DIALECT
    trips_per_chunk = 7
    """Begin, temporary table, COPY (2), insert, commit, reset of the connection."""

    def __init__(self, url: str, proxy: Any) -> None:
        self._url = url
        self._proxy = proxy

    async def open(self) -> Any:
        return await asyncpg.create_pool(self._proxy.url, min_size=0, max_size=1)

    async def close(self, client: Any) -> None:
        client.terminate()

    async def mount(
        self, name: str, record_type: type[Any], primary_key: Sequence[str], **options: Any
    ) -> Any:
        schema = await postgres.TableSchema.from_class(record_type, list(primary_key))
        return await postgres.mount_table_target(DB, name, schema, **options)

    @property
    def trips(self) -> int:
        return int(self._proxy.requests)

    @contextlib.contextmanager
    def failing(self, trip: int, when: Literal["before", "after"]) -> Iterator[None]:
        self._proxy.cut = {self.trips + trip: when}
        try:
            yield
        finally:
            self._proxy.cut = {}

    async def read(self, name: str) -> dict[tuple[Any, ...], dict[str, Any]] | None:
        async with self._connected() as connection:
            if not await connection.fetchval("SELECT to_regclass($1)::oid", f'"{name}"'):
                return None
            key = await connection.fetch(
                "SELECT attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
                "AND a.attnum = ANY(i.indkey) WHERE i.indisprimary AND indrelid = to_regclass($1) "
                "ORDER BY array_position(i.indkey::int2[], a.attnum)",
                f'"{name}"',
            )
            rows = [
                {column: _plain(value) for column, value in row.items()}
                for row in await connection.fetch(f'SELECT * FROM "{name}"')
            ]
            return {tuple(row[column] for (column,) in key): row for row in rows}

    async def create(self, name: str, record_type: type[Any], primary_key: Sequence[str]) -> None:
        types = {int: "bigint", str: "text"}
        columns = [
            f"{column} {types[hint]} NOT NULL"
            for column, hint in record_type.__annotations__.items()
            if not isinstance(hint, str)
        ] or ["id bigint NOT NULL", "text text NOT NULL"]
        columns.append(f"PRIMARY KEY ({', '.join(primary_key)})")
        async with self._connected() as connection:
            await connection.execute(f"CREATE TABLE {name} ({', '.join(columns)})")

    async def insert(self, name: str, row: Any) -> None:
        marks = ", ".join(f"${i + 1}" for i in range(len(row)))
        async with self._connected() as connection:
            await connection.execute(
                f"INSERT INTO {name} ({', '.join(row)}) VALUES ({marks})", *row.values()
            )

    async def columns(self, name: str) -> dict[str, bool]:
        async with self._connected() as connection:
            rows = await connection.fetch(
                "SELECT attname, NOT attnotnull FROM pg_attribute "
                "WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
                name,
            )
            return dict(map(tuple, rows))

    async def refuse(self, name: str, column: str, value: Any) -> None:
        async with self._connected() as connection:
            await connection.execute(
                f"ALTER TABLE {name} ADD CONSTRAINT refused CHECK ({column} <> '{value}')"
            )

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self._url)
        try:
            yield connection
        finally:
            await connection.close()


def _plain(value: Any) -> Any:
    return uuid.UUID(int=value.int) if isinstance(value, uuid.UUID) else value


class Colour(Enum):
    RED = "red"


class Size(Enum):
    BIG = 3


PLUS_TWO = dt.timezone(dt.timedelta(hours=2))
SOME_ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
MIDNIGHT = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


class TestPostgres18(TableConformance):
    server = "pg18"
    longest_name = 63
    nul_in_text = "ab"
    samples = (
        Sample(bool, True, True),
        Sample(int, -(2**63), -(2**63)),
        Sample(int, np.int16(7), 7),
        Sample(np.uint64, np.uint64(2**64 - 1), Decimal(2**64 - 1)),
        Sample(float, float("inf"), float("inf")),
        Sample(float, 3, 3.0),
        Sample(np.float32, np.float32(0.5), 0.5),
        Sample(Decimal, Decimal("1.50"), Decimal("1.50")),
        Sample(str, "ü", "ü"),
        Sample(bytes, bytearray(b"\x00\xff"), b"\x00\xff"),
        Sample(uuid.UUID, SOME_ID, SOME_ID),
        Sample(dt.date, dt.date(2024, 2, 29), dt.date(2024, 2, 29)),
        Sample(dt.time, dt.time(12, 30), dt.time(12, 30, tzinfo=dt.UTC)),
        Sample(dt.datetime, dt.datetime(2024, 1, 1, 2, tzinfo=PLUS_TWO), MIDNIGHT),
        Sample(dt.timedelta, dt.timedelta(seconds=1.5), dt.timedelta(seconds=1.5)),
        Sample(
            ipaddress.IPv4Address,
            ipaddress.ip_address("10.0.0.1"),
            ipaddress.IPv4Address("10.0.0.1"),
        ),
        Sample(Colour, Colour.RED, "red"),
        Sample(Size, Size.BIG, 3),
        Sample(Literal["a", "b"], "a", "a"),
        Sample(str | None, None, None),
        Sample(list[int], [1, 2], "[1, 2]"),
        Sample(dict[str, Any], {"b": {2, 1}, "a": SOME_ID}, f'{{"a": "{SOME_ID}", "b": [1, 2]}}'),
        Sample(Any, {"x": None}, '{"x": null}'),
        Sample(int, 2**63, REFUSED),
        Sample(int, "1", REFUSED),
        Sample(int, 1.5, REFUSED),
        Sample(str, 5, REFUSED),
        Sample(bytes, "text", REFUSED),
        Sample(dict[str, Any], {"x": float("nan")}, REFUSED),
        Sample(dict[str, Any], {"x": object()}, REFUSED),
        Sample(str, None, REFUSED),
    )
    key_samples = (
        Sample(int, -(2**63), -(2**63)),
        Sample(bool, True, True),
        Sample(str, "a", "a"),
        Sample(bytes, b"\x00", b"\x00"),
        Sample(uuid.UUID, SOME_ID, SOME_ID),
        Sample(float, 0.1, 0.1),
        Sample(Decimal, Decimal("1.5"), Decimal("1.5")),
        Sample(dt.date, dt.date(2024, 2, 29), dt.date(2024, 2, 29)),
        Sample(dt.datetime, MIDNIGHT, MIDNIGHT),
        Sample(Colour, Colour.RED, "red"),
    )

    @pytest.fixture(autouse=True)
    def _retries_do_not_wait(self, monkeypatch):
        from cocoindex.connectorkits.retry import retrying

        monkeypatch.setitem(retrying.__kwdefaults__, "backoff", lambda: lambda _attempt: 0.0)

    async def adapter_for_test(self, request: pytest.FixtureRequest) -> Any:
        url = request.getfixturevalue(self.server)
        async with request.getfixturevalue("listening_proxy")(url) as proxy:
            yield PostgresAdapter(url, proxy)


@pytest.mark.slow
class TestPostgres16(TestPostgres18):
    server = "pg16"

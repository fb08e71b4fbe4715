"""Types whose values the server rounds or cuts: a key is what it becomes."""

from __future__ import annotations

import datetime as dt
from dataclasses import make_dataclass
from typing import Annotated

import pytest

from cocoindex.connectors.postgres import PgType
from cocoindex.connectors.postgres._wire import wire_for

LATE = dt.datetime(2024, 1, 1, 0, 0, 0, 123_500, tzinfo=dt.UTC)
EARLY = dt.datetime(1990, 1, 1, 0, 0, 0, 123_500, tzinfo=dt.UTC)

KEYS = [
    ("timestamptz(3)", LATE),
    ("timestamptz(3)", EARLY),
    ("timestamptz(0)", LATE),
    ("timestamp(2)", LATE.replace(tzinfo=None)),
    ("timestamp(3)", EARLY.replace(tzinfo=None)),
    ("time(0)", dt.time(1, 2, 3, 600_000)),
    ("timetz(0)", dt.time(1, 2, 3, 500_000, tzinfo=dt.UTC)),
    ("varchar(3)", "abc   "),
    ("char(3)", "abc   "),
    ("name", "n" * 63),
]


@pytest.mark.parametrize(("kind", "value"), KEYS, ids=lambda value: str(value))
async def test_a_row_is_found_again_by_its_key(world, kind, value):
    row = make_dataclass("R", [("id", Annotated[type(value), PgType(kind)]), ("text", str)])
    await world.update(world.table([row(value, "a")], row))
    await world.update(world.table([row(value, "b")], row))
    stored = await world.fetch("SELECT id, text FROM docs")
    padded = str(stored[0][0]).strip() if isinstance(value, str) else stored[0][0]
    assert stored == [(stored[0][0], "b")]
    assert wire_for(kind).plain(value) == padded
    await world.update(world.table([], row))
    assert await world.fetch("SELECT id FROM docs") == []


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("varchar(3)", "abcd"),
        ("char", "ab"),
        ("character varying (3)", "abcd"),
        ("name", "n" * 64),
        ("name", "ä" * 32),
        ("time(0)", dt.time(23, 59, 59, 500_000)),
    ],
)
def test_what_would_be_cut_is_refused(kind, value):
    with pytest.raises(ValueError, match=r"longer than|24:00"):
        wire_for(kind).plain(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("interval(0)", dt.timedelta(days=2, seconds=86_399, microseconds=500_000)),
        ("interval(1)", -dt.timedelta(days=2, seconds=5, microseconds=450_000)),
    ],
)
async def test_durations_are_rounded_as_the_server_does(world, kind, value):
    row = make_dataclass("R", [("id", int), ("took", Annotated[dt.timedelta, PgType(kind)])])
    exact = make_dataclass("R", [("id", int), ("took", dt.timedelta)])
    await world.update(world.table([row(1, value)], row))
    stored = await world.value("SELECT took FROM docs")
    await world.update(world.table([exact(1, value)], exact, name="exact"))
    assert stored == await world.value(f"SELECT took::{kind} FROM exact")
    assert stored == wire_for(kind).plain(value)

"""Every type there and back, and values that do not fit."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import ipaddress
import json
import logging
import math
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

import asyncpg
import numpy as np
import pytest
from numpy.typing import NDArray

from cocoindex.connectorkits.tables import Table, TableSpec
from cocoindex.connectorkits.tables.codec import make_codec, make_layout
from cocoindex.connectors.postgres import ColumnDef, PgType, TableSchema
from cocoindex.connectors.postgres._dialect import DIALECT
from cocoindex.resources.schema import VectorSchema

BERLIN = dt.timezone(dt.timedelta(hours=2))
NOON = dt.datetime(2024, 1, 1, 12)  # noqa: DTZ001 - what is read in some zone


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Inner:
    x: int
    when: dt.date


class Case(NamedTuple):
    kind: Any
    column: str
    value: Any
    stored: Any = None


CASES = [
    Case(bool, "boolean", True),
    Case(int, "bigint", -(2**63)),
    Case(int, "bigint", 2**63 - 1),
    Case(float, "double precision", 0.1),
    Case(float, "double precision", math.inf),
    Case(float, "double precision", -0.0),
    Case(float, "double precision", 5e-324),
    Case(Decimal, "numeric", Decimal("-12345678901234567890.123456789")),
    Case(Decimal, "numeric", Decimal("1E+5"), Decimal(100000)),
    Case(Decimal, "numeric", Decimal("Infinity")),
    Case(str, "text", "quote ' \" backslash \\ newline \n tab \t \N{PILE OF POO} $1 %s"),
    Case(str, "text", ""),
    Case(str, "text", "x" * (1 << 20)),
    Case(bytes, "bytea", bytes(range(256))),
    Case(bytes, "bytea", bytes(1 << 20)),
    Case(uuid.UUID, "uuid", uuid.UUID(int=2**128 - 1)),
    Case(dt.date, "date", dt.date(1, 1, 1)),
    Case(dt.date, "date", dt.date(9999, 12, 31)),
    Case(dt.time, "time with time zone", dt.time(23, 59, 59, 999999, tzinfo=BERLIN)),
    Case(dt.time, "time with time zone", dt.time(12), dt.time(12, tzinfo=dt.UTC)),
    Case(
        dt.datetime,
        "timestamp with time zone",
        dt.datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=BERLIN),
    ),
    Case(dt.datetime, "timestamp with time zone", dt.datetime(1, 1, 1, tzinfo=dt.UTC)),
    Case(dt.timedelta, "interval", dt.timedelta(days=-3, seconds=5, microseconds=7)),
    Case(ipaddress.IPv4Network, "cidr", ipaddress.ip_network("10.1.0.0/16")),
    Case(ipaddress.IPv6Network, "cidr", ipaddress.ip_network("2001:db8::/32")),
    Case(ipaddress.IPv4Address, "inet", ipaddress.ip_address("10.1.2.3")),
    Case(ipaddress.IPv6Address, "inet", ipaddress.ip_address("::1")),
    Case(ipaddress.IPv4Interface, "inet", ipaddress.ip_interface("10.1.2.3/8")),
    Case(np.int8, "smallint", np.int8(-128), -128),
    Case(np.uint8, "smallint", np.uint8(255), 255),
    Case(np.int16, "smallint", np.int16(-5), -5),
    Case(np.int32, "integer", np.int32(7), 7),
    Case(np.uint16, "integer", np.uint16(65535), 65535),
    Case(np.int64, "bigint", np.int64(2**62), 2**62),
    Case(np.uint32, "bigint", np.uint32(2**32 - 1), 2**32 - 1),
    Case(np.uint64, "numeric", np.uint64(2**64 - 1), Decimal(2**64 - 1)),
    Case(np.float16, "real", np.float16(0.5), 0.5),
    Case(np.float32, "real", np.float32(0.1), float(np.float32(0.1))),
    Case(np.float64, "double precision", np.float64(0.1), 0.1),
    Case(Color, "text", Color.BLUE, "blue"),
    Case(Literal["a", "b"], "text", "b"),
    Case(list[int], "jsonb", [1, 2], "[1, 2]"),
    Case(dict[str, Any], "jsonb", {"b": None, "a": [1.5]}, '{"a": [1.5], "b": null}'),
    Case(Inner, "jsonb", Inner(5, dt.date(2024, 1, 2)), '{"x": 5, "when": "2024-01-02"}'),
    Case(Any, "jsonb", "text", '"text"'),
    Case(Annotated[str, PgType(" varchar(50) ")], "character varying(50)", "a"),
    Case(Annotated[str, PgType("char(5)")], "character(5)", "ab", "ab   "),
    Case(Annotated[str, PgType('"char"')], '"char"', "a", b"a"),
    Case(Annotated[str, PgType("name")], "name", "a"),
    Case(
        Annotated[Decimal, PgType("numeric(6, 2)")],
        "numeric(6,2)",
        Decimal("0.125"),
        Decimal("0.13"),
    ),
    Case(Annotated[dt.time, PgType("time")], "time without time zone", dt.time(1, 2, 3, 4)),
    Case(
        Annotated[dt.datetime, PgType("timestamp(3) without time zone")],
        "timestamp(3) without time zone",
        NOON.replace(microsecond=6000),
    ),
    Case(Annotated[int, PgType("int4")], "integer", 5),
    Case(Annotated[str, PgType("macaddr")], "macaddr", "08:00:2b:01:02:03"),
    Case(Annotated[str, PgType("json")], "json", '{"b":1,  "a":2}'),
    Case(Annotated[dict, PgType("jsonb")], "jsonb", {"a": 1}, '{"a": 1}'),
    Case(Annotated[str, PgType("jsonb", json.dumps)], "jsonb", {"a": 1}, '{"a": 1}'),
    Case(Annotated[list[str], PgType("text[]")], "text[]", ["a", 'b "c" \\', "", "NULL", "{,}"]),
    Case(Annotated[list[str | None], PgType("text[]")], "text[]", [None, "x"]),
    Case(Annotated[list[int], PgType("bigint[]")], "bigint[]", [1, -2]),
    Case(Annotated[list[float], PgType("float8[]")], "double precision[]", [0.1, math.inf]),
    Case(Annotated[list[bool], PgType("bool[]")], "boolean[]", [True, False]),
    Case(Annotated[list[uuid.UUID], PgType("uuid[]")], "uuid[]", [uuid.UUID(int=1)]),
    Case(Annotated[list[list[int]], PgType("int[]")], "integer[]", [[1, 2], [3, 4]]),
    Case(Annotated[list[int], PgType("int[]")], "integer[]", []),
    Case(
        Annotated[Any, PgType("int4range")],
        "int4range",
        asyncpg.Range(1, 5),
    ),
    Case(Annotated[Any, PgType("point")], "point", (1.5, 2), asyncpg.Point(1.5, 2)),
    Case(Annotated[Any, PgType("int", lambda v: v + 1)], "integer", 1, 2),
]


@pytest.mark.parametrize("path", ["arrays", "copy"])
async def test_every_type_is_stored_as_it_was_declared(any_world, path):
    """All in one row; once as arrays of texts, once through a binary COPY."""
    world = any_world
    names = [f"c{i}" for i in range(len(CASES))]
    fields = [("id", int), *((n, c.kind) for n, c in zip(names, CASES, strict=True))]
    values = {n: c.value for n, c in zip(names, CASES, strict=True)}
    if path == "arrays":
        values = {n: v for n, v in values.items() if not _is_large(v)}
    nothing = dict.fromkeys(n for n, c in zip(names, CASES, strict=True))
    count = 1 if path == "arrays" else 600
    schema = await TableSchema.from_class(dataclasses.make_dataclass("R", fields), ["id"])
    columns = {
        name: column._replace(nullable=name != "id") for name, column in schema.columns.items()
    }
    rows = [{"id": 0, **values}] + [{"id": i, **nothing} for i in range(1, count)]
    await world.update(world.declaring(rows, TableSchema(columns, ["id"])))

    kinds = await world.columns()
    assert {n: kinds[n][0] for n in names} == {
        n: c.column for n, c in zip(names, CASES, strict=True)
    }
    async with world.connected() as connection:
        row = await connection.fetchrow("SELECT * FROM docs WHERE id = 0")
    for name, case in zip(names, CASES, strict=True):
        if name in values:
            expected = case.value if case.stored is None else case.stored
            assert row[name] == expected, case
            assert isinstance(row[name], type(expected)), case
    nulls = await world.fetch("SELECT * FROM docs WHERE id > 0")
    assert all(set(row[1:]) == {None} for row in nulls)
    assert any("unnest" in s for s in world.statements) == (path == "arrays")


def _is_large(value):
    return isinstance(value, str | bytes) and len(value) > 1000


async def test_nan_is_kept(world):
    Row = dataclasses.make_dataclass("Row", [("id", int), ("x", float), ("y", Decimal)])
    await world.update(world.table([Row(1, math.nan, Decimal("NaN"))], Row))
    ((x, y),) = await world.fetch("SELECT x, y FROM docs")
    assert math.isnan(x)
    assert y.is_nan()
    await world.update(world.table([Row(1, math.nan, Decimal("NaN"))], Row))
    assert world.connections == 0


# --- U+0000 --------------------------------------------------------------------------------


async def test_nul_is_removed_everywhere_and_said_once(world, caplog):
    await world.execute("CREATE TYPE pair AS (a text, b text)")
    Row = dataclasses.make_dataclass(
        "Row",
        [
            ("id", str),
            ("text", str),
            ("json", dict),
            ("many", Annotated[list, PgType("text[]")]),
            ("two", Annotated[tuple, PgType("pair")]),
        ],
    )
    rows = [
        Row(
            f"k\0{i}", "a\0b\0", {"k\0": ["\0x", {"y": "\\u0000\0"}]}, ["\0", "z\0"], ("p\0", "\0q")
        )
        for i in range(3)
    ]
    with caplog.at_level(logging.WARNING):
        await world.update(world.table(rows, Row))
    found = await world.fetch("SELECT * FROM docs ORDER BY id")
    assert found[0][:2] == ("k0", "ab")
    assert json.loads(found[0][2]) == {"k": ["x", {"y": "\\u0000"}]}
    assert found[0][3] == ["", "z"]
    assert tuple(found[0][4]) == ("p", "q")
    assert caplog.text.count("column text: U+0000 is removed") == 1
    await world.update(world.table(rows[1:], Row))
    assert await world.value("SELECT count(*) FROM docs") == 2


async def test_nul_is_refused_if_asked(world):
    Row = dataclasses.make_dataclass("Row", [("id", int), ("text", str)])
    with pytest.raises(ValueError, match=r"table docs, column 'text', row 1: .*U\+0000"):
        await world.update(world.table([Row(1, "a\0")], Row, on_nul="error"))


# --- what does not fit ---------------------------------------------------------------------

UNFIT = [
    (int, 2**63, ValueError),
    (int, -(2**63) - 1, ValueError),
    (int, 1.5, TypeError),
    (int, "1", TypeError),
    (np.int8, 2**15, ValueError),
    (np.int32, 2**31, ValueError),
    (np.float32, 1e39, ValueError),
    (float, "1", TypeError),
    (bool, "false", TypeError),
    (str, 5, TypeError),
    (str, "\ud800", ValueError),
    (bytes, "text", TypeError),
    (uuid.UUID, "no uuid", ValueError),
    (dt.date, NOON, TypeError),
    (dt.datetime, dt.date(2024, 1, 1), TypeError),
    (dt.timedelta, 5, TypeError),
    (Decimal, Decimal("1E+200000"), ValueError),
    (Decimal, Decimal("sNaN"), ValueError),
    (Decimal, object(), TypeError),
    (ipaddress.IPv4Address, ipaddress.ip_network("10.0.0.0/8"), TypeError),
    (ipaddress.IPv4Network, "10.0.0.1/8", ValueError),
    (dict, {"a": math.nan}, ValueError),
    (dict, {"a": object()}, TypeError),
    (Annotated[str, PgType("jsonb")], "{not json", ValueError),
    (Annotated[dt.datetime, PgType("timestamp")], dt.datetime.now(dt.UTC), ValueError),
    (Annotated[Any, PgType("text[]")], {"a": 1}, TypeError),
    (Annotated[NDArray[np.float32], VectorSchema(3)], np.zeros(4, np.float32), ValueError),
    (Annotated[NDArray[np.float32], VectorSchema(3)], [1.0, math.nan, 2.0], ValueError),
    (Annotated[NDArray[np.float32], VectorSchema(3)], np.zeros((1, 3)), ValueError),
    (Annotated[Any, PgType("bit(3)")], "01", ValueError),
    (Annotated[Any, PgType("sparsevec(3)")], {3: 1.0}, ValueError),
    (Annotated[Any, PgType("halfvec(2)")], [1e6, 0.0], ValueError),
]


@pytest.mark.parametrize(("kind", "value", "error"), UNFIT)
async def test_a_value_that_does_not_fit_is_refused(kind, value, error):
    Row = dataclasses.make_dataclass("Row", [("id", int), ("x", kind)])
    spec = TableSpec(Table("db", (None, "docs")), await TableSchema.from_class(Row, ["id"]))
    with pytest.raises(error, match=r"table docs, column 'x', row 77") as raised:
        make_codec(DIALECT, spec).encode(Row(77, value))
    assert repr(value) not in str(raised.value)


async def test_a_value_that_does_not_fit_is_refused_before_anything_is_sent(world):
    Row = dataclasses.make_dataclass("Row", [("id", int), ("x", int)])
    with pytest.raises(ValueError, match="does not fit into 64 bits"):
        await world.update(world.table([Row(1, 1), Row(2, 2**63)], Row))
    assert not any("INSERT" in statement for statement in world.statements)


@pytest.mark.parametrize("row", [{"x": 1}, {"id": None, "x": 1}])
async def test_a_row_needs_its_key(world, row):
    Row = dataclasses.make_dataclass("Row", [("id", int), ("x", int)])
    with pytest.raises(ValueError, match="primary key column 'id'"):
        await world.update(world.table([row], Row))


# --- keys ----------------------------------------------------------------------------------

KEYS = [
    (int, [1, 2]),
    (str, ["a", 'b\' \\ "c"']),
    (bool, [True, False]),
    (bytes, [b"\0", b"\xff"]),
    (uuid.UUID, [uuid.UUID(int=1), uuid.UUID(int=2)]),
    (Decimal, [Decimal("1.50"), Decimal("2.25")]),
    (float, [0.1, 2.0]),
    (dt.date, [dt.date(2024, 1, 1), dt.date(2024, 1, 2)]),
    (dt.datetime, [dt.datetime(2024, 1, d, tzinfo=dt.UTC) for d in (1, 2)]),
    (ipaddress.IPv4Address, [ipaddress.ip_address(f"10.0.0.{i}") for i in (1, 2)]),
    (Annotated[str, PgType("varchar(9)")], ["a", "b"]),
    (Annotated[str, PgType("char(9)")], ["a", "b"]),
    (Annotated[int, PgType("smallint")], [1, 2]),
]


@pytest.mark.parametrize("composite", [False, True])
async def test_rows_are_deleted_by_keys_of_every_type(world, composite):
    key = ("other", "id") if composite else ("id",)
    for i, (kind, keys) in enumerate(KEYS):
        Row = dataclasses.make_dataclass("Row", [("id", kind), ("other", int)])
        rows = [Row(k, 5) for k in keys]
        await world.update(world.table(rows, Row, key, name=f"t{i}"))
        await world.update(world.table(rows[1:], Row, key, name=f"t{i}"))
        ((found,),) = await world.fetch(f"SELECT id FROM t{i}")
        assert str(found).strip() == str(keys[1])


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (Decimal, Decimal("1.0"), Decimal("1.00")),
        (uuid.UUID, uuid.UUID(int=10), str(uuid.UUID(int=10)).upper()),
        (
            dt.datetime,
            dt.datetime(2024, 1, 1, 2, tzinfo=BERLIN),
            dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        ),
        (str, "a\0", "a"),
    ],
)
async def test_two_spellings_of_one_key_are_one_row(world, kind, one, other):
    Row = dataclasses.make_dataclass("Row", [("id", kind)])
    with pytest.raises(ValueError, match="table docs: two rows with id="):
        await world.update(world.table([Row(one), Row(other)], Row))


# --- vectors -------------------------------------------------------------------------------


async def test_vectors_of_every_kind(any_world):
    world = any_world
    kinds = [
        ("a", Annotated[NDArray[np.float32], VectorSchema(3)], "vector(3)", "[1,2.5,-3]"),
        ("b", Annotated[list[float], VectorSchema(3)], "vector(3)", "[1,2.5,-3]"),
        (
            "c",
            Annotated[NDArray[np.float64], VectorSchema(np.float64, 3)],
            "vector(3)",
            "[1,2.5,-3]",
        ),
        ("d", Annotated[Any, PgType("vector")], "vector", "[1,2.5,-3]"),
    ]
    newer = [
        (
            "e",
            Annotated[NDArray[np.float16], VectorSchema(np.float16, 3)],
            "halfvec(3)",
            "[1,2.5,-3]",
        ),
        ("f", Annotated[Any, PgType("sparsevec(5)")], "sparsevec(5)", "{1:1,4:2.5}/5"),
        ("g", Annotated[Any, PgType("bit(10)")], "bit(10)", "1000000001"),
    ]
    await world.execute("CREATE EXTENSION vector")
    has_newer = await world.value("SELECT to_regtype('halfvec') IS NOT NULL")
    kinds += newer if has_newer else []
    Row = dataclasses.make_dataclass("Row", [("id", int), *((n, k) for n, k, _, _ in kinds)])
    values = {"f": {0: 1.0, 3: 2.5, 4: 0.0}, "g": "1000000001"}
    row = {n: values.get(n, np.array([1, 2.5, -3], np.float32)) for n, *_ in kinds}
    await world.update(world.table([{"id": 1, **row}], Row))
    texts = ", ".join(f"{n}::text" for n, *_ in kinds)
    assert await world.fetch(f"SELECT {texts} FROM docs") == [tuple(text for *_, text in kinds)]
    columns = await world.columns()
    assert [columns[n][0] for n, *_ in kinds] == [kind for _, _, kind, _ in kinds]


async def test_sparse_vectors_and_bits_have_several_forms(world):
    sparse = ["{1:1.5,3:2}/5", {0: 1.5, 2: 2.0, 4: 0.0}, [1.5, 0, 2, 0, 0]]
    bits = ["101", [True, False, True], np.array([1, 0, 1]), asyncpg.BitString("101")]
    for pg_type, values, text in (("sparsevec(5)", sparse, sparse[0]), ("bit(3)", bits, "101")):
        Row = dataclasses.make_dataclass(
            "Row", [("id", int), ("v", Annotated[Any, PgType(pg_type)])]
        )
        rows = [Row(i, value) for i, value in enumerate(values)]
        await world.update(world.table(rows, Row, name=pg_type[:3]))
        found = await world.fetch(f"SELECT v::text FROM {pg_type[:3]}")
        assert found == [(text,)] * len(rows)


async def test_an_array_may_be_changed_after_it_was_declared(world):
    Row = dataclasses.make_dataclass(
        "Row", [("id", int), ("v", Annotated[NDArray[np.float32], VectorSchema(2)])]
    )
    buffer = np.zeros(2, np.float32)

    def rows():
        for i in range(3):
            buffer[:] = i
            yield Row(i, buffer)

    await world.update(world.table(rows(), Row))
    assert await world.fetch("SELECT v::text FROM docs ORDER BY id") == [
        ("[0,0]",),
        ("[1,1]",),
        ("[2,2]",),
    ]


async def test_vectors_may_have_16000_dimensions_and_no_more(world):
    with pytest.raises(ValueError, match="16,000"):
        await TableSchema.from_class(
            dataclasses.make_dataclass(
                "Row", [("v", Annotated[NDArray[np.float32], VectorSchema(16001)])]
            ),
            ["v"],
        )


async def test_an_array_needs_a_vector_schema():
    Row = dataclasses.make_dataclass("Row", [("id", int), ("v", NDArray[np.float32])])
    with pytest.raises(ValueError, match="is required for NumPy ndarray type"):
        await TableSchema.from_class(Row, ["id"])


# --- time zones ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        (dt.UTC, dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)),
        (BERLIN, dt.datetime(2024, 1, 1, 10, tzinfo=dt.UTC)),
        ("local", NOON.astimezone()),
    ],
)
async def test_datetimes_without_zone_are_read_in_the_zone_given(world, zone, expected):
    Row = dataclasses.make_dataclass("Row", [("id", int), ("at", dt.datetime)])
    await world.update(world.table([Row(1, NOON)], Row, naive_tz=zone))
    assert await world.value("SELECT at FROM docs") == expected


async def test_datetimes_without_zone_are_local_with_a_warning_or_refused(world, caplog):
    Row = dataclasses.make_dataclass("Row", [("id", int), ("at", dt.datetime)])
    rows = [Row(i, NOON) for i in range(3)]
    with caplog.at_level(logging.WARNING):
        await world.update(world.table(rows, Row))
    assert caplog.text.count("naive_tz") == 1
    with pytest.raises(ValueError, match="naive_tz='error'"):
        await world.update(world.table(rows, Row, naive_tz="error"))


def test_schemas_are_checked():
    columns = {"id": ColumnDef("bigint"), "x": ColumnDef("text")}
    with pytest.raises(ValueError, match="Primary key column 'nope' not found in columns"):
        TableSchema(columns, ["nope"])
    with pytest.raises(ValueError, match="at least one column"):
        TableSchema(columns, [])
    assert not TableSchema(columns, ["id"]).columns["id"].nullable


async def test_what_is_read_back_has_the_fingerprint_of_what_was_declared(any_world):
    """Else verifying would report differences where there are none."""
    world = any_world
    kinds = {f"c{i}": case for i, case in enumerate(CASES) if not _is_large(case.value)}
    fields = [("id", int), *((name, case.kind) for name, case in kinds.items())]
    Row = dataclasses.make_dataclass("Row", fields)
    row = {"id": 1, **{name: case.value for name, case in kinds.items()}}
    await world.update(world.table([row], Row))

    schema = await TableSchema.from_class(Row, ["id"])
    spec = TableSpec(Table("db", (None, "docs")), schema)
    layout = make_layout(spec, ())
    async with world.connected() as connection:
        (found,) = await DIALECT.read(connection, layout, [(1,)], None, 10)
        (same,) = await DIALECT.read(connection, layout, None, None, 10)
        assert await DIALECT.read(connection, layout, None, (1,), 10) == []
    assert len(found) == len(same)
    key, declared = make_codec(DIALECT, spec).encode(row)
    read_key, read = make_codec(DIALECT, spec, stored=True).encode(
        dict(zip(layout.names, found, strict=True))
    )
    assert read_key == key
    different = [
        (kinds[name].column, a, b)
        for name, a, b in zip(layout.names, declared, read, strict=True)
        if a != b
    ]
    # White space of JSON that came as text, and texts of types that the server writes otherwise.
    assert [column for column, *_ in different] == ['"char"', "json", "jsonb", "point"]

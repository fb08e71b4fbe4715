"""Tables as a source."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import tracemalloc
import uuid
from typing import NamedTuple

import asyncpg
import numpy as np
import pydantic
import pytest

import cocoindex as coco
from cocoindex.connectors import postgres
from cocoindex.connectors.postgres import PgSourceSpec, PgTableSource
from cocoindex.errors import SourceError, TargetConnectionError
from cocoindex.testing.targets import MemoryTarget

DB = coco.ContextKey("test_postgres_source/db")


@pytest.fixture
async def pool(pg):
    async with asyncpg.create_pool(pg, min_size=1, max_size=2) as pool:
        await pool.execute(
            "CREATE TABLE items (id bigint PRIMARY KEY, title text, data jsonb, "
            "at timestamptz NOT NULL DEFAULT now())"
        )
        await pool.execute(
            "INSERT INTO items (id, title, data) "
            "SELECT g, 'title ' || g, jsonb_build_object('n', g) FROM generate_series(1, 25) g"
        )
        yield pool


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    id: int
    title: str


class ItemTuple(NamedTuple):
    id: int
    title: str


class ItemModel(pydantic.BaseModel):
    id: int
    title: str


async def everything(source, key=None):
    return [pair async for pair in source.items(key)]


async def test_rows_are_dicts_of_what_the_driver_returns(pool):
    source = PgTableSource(pool, table_name="items")
    rows = [row async for row in source.fetch_rows()]
    assert len(rows) == 25
    first = min(rows, key=lambda row: row["id"])
    assert type(first) is dict
    assert list(first) == ["id", "title", "data", "at"]
    assert first["data"] == {"n": 1}
    assert first["at"].tzinfo is not None


@pytest.mark.parametrize("row_type", [Item, ItemTuple, ItemModel])
@pytest.mark.parametrize("ordinal", [None, "at"])
async def test_rows_may_be_records(pool, row_type, ordinal):
    source = PgTableSource(pool, table_name="items", row_type=row_type, ordinal_column=ordinal)
    pairs = dict(await everything(source))
    assert pairs[3] == row_type(id=3, title="title 3")
    assert isinstance(pairs[3], row_type)


async def test_rows_may_be_made_by_a_function(pool):
    source = PgTableSource(
        pool,
        table_name="items",
        columns=["title", "id"],
        row_factory=lambda row: tuple(row.items()),
    )
    assert (("title", "title 1"), ("id", 1)) in [row async for row in source.fetch_rows()]


@pytest.mark.parametrize(
    "options", [{}, {"prefetch": 4}, {"snapshot": False, "page_size": 5}, {"snapshot": False}]
)
async def test_items_have_the_primary_key_however_they_are_read(pool, options):
    source = PgTableSource(pool, table_name="items", columns=["title"], **options)
    pairs = await everything(source)
    assert sorted(pairs) == sorted((i, {"title": f"title {i}"}) for i in range(1, 26))


async def test_a_key_of_several_columns_is_a_tuple(pool):
    await pool.execute(
        "CREATE TABLE pairs (n int, day date, a text, PRIMARY KEY (day, n));"
        "INSERT INTO pairs SELECT n, date '2024-01-01' + d, 'x' FROM "
        "generate_series(1, 3) n, generate_series(0, 1) d"
    )
    for options in ({}, {"snapshot": False, "page_size": 2}):
        source = PgTableSource(pool, table_name="pairs", columns=["a"], **options)
        keys = [key for key, _ in await everything(source)]
        assert keys == [(f"2024-01-0{d}", n) for d in (1, 2) for n in (1, 2, 3)]


async def test_a_function_may_say_the_key(pool):
    source = PgTableSource(pool, table_name="items")
    keys = [key for key, _ in await everything(source, lambda row: row["title"])]
    assert sorted(keys) == sorted(f"title {i}" for i in range(1, 26))
    with pytest.raises(ValueError, match="rows 1 and 2 of items have the same key 'x'"):
        await everything(source, lambda _row: "x")


async def test_conditions_take_parameters(pool):
    for options in ({"order_by": "id DESC"}, {"snapshot": False, "page_size": 2}):
        source = PgTableSource(
            pool, table_name="items", where="id BETWEEN $1 AND $2", params=[3, 7], **options
        )
        keys = [key for key, _ in await everything(source)]
        assert keys == ([7, 6, 5, 4, 3] if "order_by" in options else [3, 4, 5, 6, 7])


async def test_a_view_needs_a_key_and_has_none(pool):
    await pool.execute("CREATE SCHEMA s; CREATE VIEW s.v AS SELECT id, title FROM items")
    source = PgTableSource(pool, table_name="v", pg_schema_name="s")
    assert len(await everything(source, lambda row: row["id"])) == 25
    with pytest.raises(ValueError, match=r"s\.v has no primary key"):
        await everything(source)


async def test_a_partitioned_table_is_read_whole(pool):
    await pool.execute(
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF parts FOR VALUES FROM (0) TO (5);"
        "CREATE TABLE p2 PARTITION OF parts FOR VALUES FROM (5) TO (10);"
        "INSERT INTO parts SELECT generate_series(0, 9)"
    )
    source = PgTableSource(pool, table_name="parts")
    assert sorted(key for key, _ in await everything(source)) == list(range(10))


async def test_an_empty_table_has_no_rows(pool):
    await pool.execute("TRUNCATE items")
    for snapshot in (True, False):
        assert await everything(PgTableSource(pool, table_name="items", snapshot=snapshot)) == []


async def test_vectors_are_arrays_whatever_codecs_the_pool_has(pg):
    async def own_codecs(connection):
        for kind, schema in (("jsonb", "pg_catalog"), ("vector", "public")):
            await connection.set_type_codec(kind, schema=schema, encoder=str, decoder=lambda _: "?")

    connection = await asyncpg.connect(pg)
    await connection.execute(
        "CREATE EXTENSION vector; CREATE TABLE v (id int PRIMARY KEY, emb vector(3), j jsonb);"
        "INSERT INTO v VALUES (1, '[1,2.5,-3]', '[1]'), (2, NULL, NULL)"
    )
    await connection.close()
    async with asyncpg.create_pool(pg, min_size=0, init=own_codecs) as pool:
        rows = dict(await everything(PgTableSource(pool, table_name="v")))
    assert rows[1]["emb"].dtype == np.float32
    assert rows[1]["emb"].tolist() == [1, 2.5, -3]
    assert rows[1]["j"] == [1]
    assert rows[2] == {"id": 2, "emb": None, "j": None}


async def test_all_rows_are_of_one_moment(pool):
    source = PgTableSource(pool, table_name="items", prefetch=5)
    seen = []
    async for row in source.fetch_rows():
        seen.append(row)
        if len(seen) == 7:
            await pool.execute("UPDATE items SET title = 'new'; DELETE FROM items WHERE id > 20")
    assert sorted(row["title"] for row in seen) == sorted(f"title {i}" for i in range(1, 26))


async def test_pages_hold_no_connection_while_rows_are_worked_on(pg):
    async with asyncpg.create_pool(pg, min_size=1, max_size=1) as pool:
        await pool.execute("CREATE TABLE items (id int PRIMARY KEY)")
        await pool.execute("INSERT INTO items SELECT generate_series(1, 10)")
        source = PgTableSource(pool, table_name="items", snapshot=False, page_size=3)
        count = 0
        async for _ in source.items():
            await asyncio.wait_for(pool.execute("SELECT 1"), 60)
            count += 1
        assert count == 10


async def test_a_pool_of_one_reads_and_writes(pg, tmp_path):
    """More rows than components may be at work, all waiting for a connection to write with."""
    environment = coco.Environment(coco.Settings(db_path=tmp_path))
    async with asyncpg.create_pool(pg, min_size=0, max_size=1) as pool:
        await pool.execute("CREATE TABLE items (id int PRIMARY KEY)")
        await pool.execute("INSERT INTO items SELECT generate_series(1, 3000)")
        environment.context_provider.provide(DB, pool)

        async def copy(row, target):
            target.declare_row(row=row)

        @coco.fn
        async def main():
            schema = postgres.TableSchema({"id": postgres.ColumnDef("int")}, ["id"])
            target = await postgres.mount_table_target(DB, "copies", schema)
            await coco.mount_each(copy, PgTableSource(pool, table_name="items").items(), target)

        app = coco.App(coco.AppConfig("pool", environment=environment), main)
        await asyncio.wait_for(app.update(), 60)
        assert await pool.fetchval("SELECT count(*) FROM copies") == 3000
    environment.close()


async def test_memory_does_not_grow_with_the_table(pool):
    await pool.execute(
        "INSERT INTO items (id, title) "
        "SELECT g, repeat('x', 1000) FROM generate_series(26, 20000) g"
    )
    source = PgTableSource(pool, table_name="items", columns=["id", "title"], prefetch=100)
    tracemalloc.start()
    try:
        count = 0
        async for _ in source.fetch_rows():
            count += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 3_000_000


async def test_a_script_without_loop_may_use_for(pg):
    def script(url):
        async def prepare():
            pool = asyncpg.create_pool(url, min_size=0)
            await pool
            await pool.execute("CREATE TABLE items (id int PRIMARY KEY)")
            await pool.execute("INSERT INTO items VALUES (1), (2)")
            await pool.close()
            return pool

        source = PgTableSource(asyncio.run(prepare()), table_name="items")
        return [row["id"] for row in source.fetch_rows()]

    assert await asyncio.to_thread(script, pg) == [1, 2]


async def test_for_is_refused_where_a_loop_runs(pool):
    with pytest.raises(RuntimeError, match="async for"):
        iter(PgTableSource(pool, table_name="items").fetch_rows())


# --- what can be wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"row_type": Item, "row_factory": dict}, ValueError, "Cannot specify both row_factory"),
        ({"row_type": int}, TypeError, "record type"),
        ({"row_type": Item, "columns": ["id", "nope"]}, ValueError, "nope"),
        ({"table_name": "a b"}, ValueError, "Invalid table name"),
        ({"table_name": 'a"; DROP TABLE x'}, ValueError, "Invalid table name"),
        ({"pg_schema_name": "s.t"}, ValueError, "Invalid schema name"),
        ({"columns": ["a-b"]}, ValueError, "Invalid column name"),
        ({"ordinal_column": "now()"}, ValueError, "Invalid column name"),
        ({"prefetch": 0}, ValueError, "at least 1"),
        ({"snapshot": False, "order_by": "id"}, ValueError, "order_by"),
    ],
)
def test_mistakes_are_told_at_construction(options, error, message):
    with pytest.raises(error, match=message):
        PgTableSource(None, **{"table_name": "items", **options})


def test_names_may_hold_a_dollar():
    assert str(PgSourceSpec("a$1", ("b$",), "c$")) == "c$.a$1"
    assert hash(PgSourceSpec("a", ["b"]))


async def test_a_table_or_column_that_is_not_there_is_named(pool):
    with pytest.raises(ValueError, match="no table nope"):
        await everything(PgTableSource(pool, table_name="nope"))
    with pytest.raises(ValueError, match=r"no columns \['nope'\]"):
        await everything(PgTableSource(pool, table_name="items", columns=["nope"]))


async def test_an_error_in_the_middle_is_no_end(pool):
    source = PgTableSource(
        pool, table_name="items", where="100 / (20 - id) < 1000", order_by="id", prefetch=3
    )
    with pytest.raises(
        SourceError, match="reading Postgres table items: division by zero"
    ) as raised:
        await everything(source)
    assert isinstance(raised.value.orig, asyncpg.DivisionByZeroError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": "pric > 1"}, 'column "pric" does not exist'),
        ({"where": "id > $1", "params": ["hunter2"]}, "reading Postgres table items: "),
    ],
)
async def test_a_query_that_the_server_refuses_names_the_table_and_no_values(
    pool, options, message
):
    with pytest.raises(SourceError, match="reading Postgres table items: ") as raised:
        await everything(PgTableSource(pool, table_name="items", **options))
    assert message in str(raised.value)
    assert "hunter2" not in str(raised.value)


async def test_a_server_that_can_not_be_reached_is_told_as_such(pg):
    url = pg.replace("/postgres:", "/nobody:", 1)
    async with asyncpg.create_pool(url, min_size=0) as pool:
        source = PgTableSource(pool, table_name="items")
        with pytest.raises(TargetConnectionError, match=r"^can't connect to Postgres at 127"):
            await everything(source)


# --- in an app -----------------------------------------------------------------------------


class Run:
    """Runs an app over the table, and tells which rows were worked on."""

    def __init__(self, pool, folder, **options):
        self.folder = folder
        self.source = PgTableSource(pool, table_name="items", **options)
        self.worked = Log()
        self.target = MemoryTarget(f"source/{uuid.uuid4()}")

    async def __call__(self):
        worked, target, source = self.worked, self.target, self.source

        @coco.fn(memo=True)
        async def convert(row):
            worked.note(row["id"])
            coco.declare_target_state(target.provider.target_state(row["id"], row["title"]))

        @coco.fn
        async def main():
            await coco.mount_each(convert, source.items())

        environment = coco.Environment(coco.Settings(db_path=self.folder))
        await coco.App(coco.AppConfig("source", environment=environment), main).update()
        environment.close()
        return worked.taken()


class Log:
    __slots__ = ("_ids",)

    def __init__(self):
        self._ids = []

    def note(self, number):
        self._ids.append(number)

    def taken(self):
        found, self._ids[:] = sorted(self._ids), []
        return found


@pytest.mark.parametrize("ordinal", [None, "at"])
async def test_only_changed_rows_are_worked_on(pool, tmp_path, ordinal):
    run = Run(pool, tmp_path, ordinal_column=ordinal)
    assert await run() == list(range(1, 26))
    assert await run() == []
    await pool.execute("UPDATE items SET title = 'new', at = now() WHERE id IN (3, 5)")
    await pool.execute("DELETE FROM items WHERE id = 7")
    assert await run() == [3, 5]
    await pool.execute("INSERT INTO items (id, title) VALUES (7, 'back')")
    assert await run() == [7]


async def test_with_an_ordinal_the_other_columns_are_not_looked_at(pool, tmp_path):
    run = Run(pool, tmp_path, ordinal_column="at")
    await run()
    await pool.execute("UPDATE items SET title = 'new'")
    assert await run() == []
    await pool.execute("UPDATE items SET at = now() WHERE id = 1")
    assert await run() == [1]


def upper(row):
    return {**row, "title": row["title"].upper()}


def ending(text):
    return lambda row: {**row, "title": f"{row['title']}{text}"}


FACTORIES = {
    "none": None,
    "upper": upper,
    "other code": lambda row: {**row, "title": row["title"].lower()},
    "captured": ending("?"),
    "captured, another": ending("!"),
    "partial": functools.partial(lambda row, end: {**row, "title": end}, end="?"),
    "partial, another": functools.partial(lambda row, end: {**row, "title": end}, end="!"),
}


async def test_with_an_ordinal_another_row_factory_makes_other_rows(pool, tmp_path):
    seen = set()
    for name, factory in FACTORIES.items():
        found = await everything(
            PgTableSource(pool, table_name="items", ordinal_column="at", row_factory=factory)
        )
        key = coco.memo_fingerprint(dict(found)[1])
        assert key not in seen, name
        seen.add(key)
    run = Run(pool, tmp_path, ordinal_column="at", row_factory=upper)
    assert await run() == list(range(1, 26))
    assert await run() == []
    run.source = PgTableSource(
        pool, table_name="items", ordinal_column="at", row_factory=ending("?")
    )
    assert await run() == list(range(1, 26))


async def test_rows_of_two_tables_are_never_taken_for_each_other(pool, tmp_path):
    await pool.execute("CREATE TABLE others AS SELECT * FROM items")
    await pool.execute("ALTER TABLE others ADD PRIMARY KEY (id); UPDATE others SET title = 'other'")
    one, other = (
        PgTableSource(pool, table_name=name, ordinal_column="at") for name in ("items", "others")
    )
    keys = [
        coco.memo_fingerprint(dict(await everything(source))[1]) for source in (one, other, one)
    ]
    assert keys[0] == keys[2] != keys[1]


def test_the_public_names():
    assert set(postgres.__all__) == {
        "ColumnDef", "PgSourceSpec", "PgTableSource", "PgType", "RowFetcher", "TableSchema",
        "TableTarget", "ValueEncoder", "create_pool", "declare_table_target",
        "mount_table_target", "table_target",
    }  # fmt: skip


async def test_create_pool_is_deprecated(pg):
    with pytest.warns(DeprecationWarning, match="asyncpg.create_pool"):
        pool = await postgres.create_pool(pg, min_size=1, max_size=1)
    assert await pool.fetchval("SELECT 1") == 1
    await pool.close()


@pytest.mark.parametrize("snapshot", [True, False])
async def test_a_connection_lost_while_reading_is_an_error_or_not_noticed(
    world, proxy, snapshot, monkeypatch
):
    """Never fewer rows: before the first row it is tried again, and so is every page."""
    from cocoindex.connectorkits.retry import retrying

    monkeypatch.setitem(retrying.__kwdefaults__, "backoff", lambda: lambda _attempt: 0.0)
    await world.execute("CREATE TABLE items (id int PRIMARY KEY)")
    await world.execute("INSERT INTO items SELECT generate_series(1, 50)")

    async def read():
        async with asyncpg.create_pool(proxy.url, min_size=0, max_size=1) as pool:
            source = PgTableSource(pool, table_name="items", prefetch=20, snapshot=snapshot)
            proxy.requests = 0
            return [key for key, _ in await everything(source)]

    assert await read() == list(range(1, 51))
    count, failures = proxy.requests, 0
    for number in range(1, count + 1):
        proxy.cut = {number: "before"}
        try:
            assert await read() == list(range(1, 51))
        except SourceError:
            failures += 1
    assert failures <= (5 if snapshot else 0)


async def test_keys_of_the_driver_s_own_types_can_be_keys(pool, tmp_path):
    """It has a UUID class of its own, and what no key can hold becomes text."""
    await pool.execute(
        "CREATE TABLE keys (u uuid, n numeric, f float8, t timestamptz, PRIMARY KEY (u, n, f, t));"
        "INSERT INTO keys VALUES (gen_random_uuid(), 1.50, 0.5, '2024-01-01 00:00:00Z')"
    )
    ((key, row),) = await everything(PgTableSource(pool, table_name="keys"))
    assert key[1:] == ("1.50", "0.5", "2024-01-01T00:00:00+00:00")
    done = []

    @coco.fn
    async def main():
        async def note(row):
            done.append(row)

        await coco.mount_each(note, [(key, row)])

    environment = coco.Environment(coco.Settings(db_path=tmp_path))
    await coco.App(coco.AppConfig("keys", environment=environment), main).update()
    environment.close()
    assert done == [row]
    assert coco.memo_fingerprint(row)


async def test_a_context_key_stands_for_the_pool(pool, tmp_path):
    source = PgTableSource(DB, table_name="items")  # where no component runs
    found = []

    async def main():
        found.extend([key async for key, _ in source.items()])

    environment = coco.Environment(coco.Settings(db_path=tmp_path / "state"))
    environment.context_provider.provide(DB, pool)
    await coco.App(coco.AppConfig("app", environment), main).update()
    assert found == [key for key, _ in await everything(PgTableSource(pool, table_name="items"))]
    environment.context_provider.provide(DB, "postgresql://hunter2@host/db")
    with pytest.raises(TypeError, match=r"needs a pool of asyncpg, .* not str"):
        await coco.App(coco.AppConfig("other", environment), main).update()
    environment.close()


def test_what_is_no_pool_is_refused():
    with pytest.raises(TypeError, match="needs a pool of asyncpg, or the context key of one"):
        PgTableSource("postgresql://localhost/db", table_name="items")


async def test_a_source_itself_is_no_list_of_items(pool, tmp_path):
    async def main():
        await coco.mount_each(main, PgTableSource(pool, table_name="items"))

    environment = coco.Environment(coco.Settings(db_path=tmp_path / "state"))
    with pytest.raises(TypeError, match=r"pass what items\(\) of PgTableSource gives"):
        await coco.App(coco.AppConfig("app", environment), main).update()
    environment.close()

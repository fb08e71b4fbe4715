"""Indexes and SQL commands that belong to a table."""

from __future__ import annotations

import dataclasses
import logging
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cocoindex.connectors.postgres import PgType
from cocoindex.errors import TargetError
from cocoindex.resources.schema import VectorSchema


@dataclasses.dataclass(frozen=True)
class Doc:
    id: int
    title: str
    emb: Annotated[NDArray[np.float32], VectorSchema(3)]


ROWS = [Doc(i, f"title {i}", np.full(3, i, np.float32)) for i in range(1, 30)]


def vector_index(**options):
    return lambda target: target.declare_vector_index(**{"column": "emb", **options})


# --- indexes of vectors --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "hnsw"}, "USING hnsw (emb vector_cosine_ops)"),
        ({"method": "hnsw", "metric": "l2"}, "USING hnsw (emb vector_l2_ops)"),
        ({"metric": "ip", "lists": 3}, "USING ivfflat (emb vector_ip_ops) WITH (lists='3')"),
        (
            {"method": "hnsw", "m": 8, "ef_construction": 32},
            "USING hnsw (emb vector_cosine_ops) WITH (m='8', ef_construction='32')",
        ),
        ({}, "USING ivfflat (emb vector_cosine_ops) WITH (lists='10')"),
        (
            {"method": "hnsw", "concurrently": True, "maintenance_work_mem": "64MB"},
            "USING hnsw (emb vector_cosine_ops)",
        ),
    ],
)
async def test_a_vector_index_is_built_as_declared(any_world, options, expected):
    world = any_world
    main = world.table(ROWS, Doc, attach=vector_index(**options))
    await world.update(main)
    assert await world.indexes() == {
        "docs__vector__emb": f"CREATE INDEX docs__vector__emb ON public.docs {expected}"
    }
    await world.update(main)
    assert world.connections == 0


async def test_an_index_is_built_after_the_rows(world):
    await world.update(world.table(ROWS, Doc))
    rows = [dataclasses.replace(row, title="new") for row in ROWS]
    await world.update(world.table(rows, Doc, attach=vector_index(method="hnsw")))
    order = [s.split()[0:2] for s in world.statements if s.startswith(("INSERT", "CREATE INDEX"))]
    assert order == [["INSERT", "INTO"], ["CREATE", "INDEX"]]


@pytest.mark.parametrize("concurrently", [False, True])
async def test_an_index_of_another_definition_is_noticed_without_the_store(
    world, world_at, concurrently
):
    """Its comment tells; the name is the same."""

    def attach(metric, unique, language):
        def declare(target):
            target.declare_vector_index(
                column="emb", method="hnsw", metric=metric, concurrently=concurrently
            )
            target.declare_index(columns=["title"], unique=unique, concurrently=concurrently)
            target.declare_fts_index(column="title", language=language)

        return world.table(ROWS, Doc, attach=declare)

    await world.update(attach("cosine", False, "english"))
    oids = "SELECT oid FROM pg_class WHERE relname LIKE 'docs\\_\\_%' ORDER BY relname"
    before = await world.fetch(oids)
    again = world_at(world.url)
    await again.update(attach("cosine", False, "english"))
    assert await world.fetch(oids) == before
    third = world_at(world.url)
    await third.update(attach("l2", True, "simple"))
    found = await world.indexes()
    assert "vector_l2_ops" in found["docs__vector__emb"]
    assert "UNIQUE" in found["docs__index__title"]
    assert await world.value("SELECT title__fts::text FROM docs WHERE id = 1") == "'1':2 'title':1"
    generated = (
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'docs'::regclass"
    )
    assert "simple" in await world.value(generated)


async def test_an_index_that_somebody_commented_is_left_alone(world, world_at):
    declare = lambda unique: world.table(  # noqa: E731
        ROWS, Doc, attach=lambda t: t.declare_index(columns=["title"], unique=unique)
    )
    await world.update(declare(False))
    await world.execute("COMMENT ON INDEX docs__index__title IS 'theirs'")
    await world_at(world.url).update(declare(True))
    assert "UNIQUE" not in (await world.indexes())["docs__index__title"]


@pytest.mark.parametrize(("parameter", "good"), [("lists", 9), ("m", 8), ("ef_construction", 64)])
async def test_parameters_of_an_index_are_numbers(world, parameter, good):
    method = "ivfflat" if parameter == "lists" else "hnsw"
    attach = vector_index(method=method, **{parameter: "1); DROP TABLE docs; --"})
    with pytest.raises(TypeError, match=f"{parameter} .* must be an int, not str"):
        await world.update(world.table(ROWS, Doc, attach=attach))
    attach = vector_index(method=method, **{parameter: np.int64(good)})
    await world.update(world.table(ROWS, Doc, attach=attach))


async def test_a_changed_index_replaces_the_old_one_in_the_schema_of_its_table(world):
    options: dict[str, Any] = {"pg_schema_name": "s"}
    await world.update(world.table(ROWS, Doc, attach=vector_index(lists=3), **options))
    await world.update(world.table(ROWS, Doc, attach=vector_index(method="hnsw"), **options))
    assert await world.indexes() == {
        "docs__vector__emb": "CREATE INDEX docs__vector__emb ON s.docs USING hnsw "
        "(emb vector_cosine_ops)"
    }
    await world.update(world.table(ROWS, Doc, **options))
    assert await world.indexes() == {}


async def test_how_an_index_is_built_is_no_change_of_it(world):
    await world.update(world.table(ROWS, Doc, attach=vector_index(method="hnsw")))
    attach = vector_index(method="hnsw", concurrently=True, maintenance_work_mem="32MB")
    await world.update(world.table(ROWS, Doc, attach=attach))
    assert world.connections == 0


async def test_an_ivfflat_index_waits_for_rows(world):
    await world.update(world.table([], Doc, attach=vector_index()))
    assert await world.indexes() == {}
    await world.update(world.table([], Doc, attach=vector_index()))
    assert await world.indexes() == {}
    await world.update(world.table(ROWS, Doc, attach=vector_index()))
    assert list(await world.indexes()) == ["docs__vector__emb"]
    await world.update(world.table(ROWS, Doc, attach=vector_index()))
    assert world.connections == 0


async def test_what_a_broken_concurrent_build_left_is_built_again(world):
    await world.update(world.table(ROWS, Doc, attach=vector_index(method="hnsw")))
    await world.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs__vector__emb'::regclass"
    )
    main = world.table(ROWS, Doc, attach=vector_index(method="hnsw"))
    await world.update(main, full_reprocess=True)
    assert await world.value(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = 'docs__vector__emb'::regclass"
    )


async def test_columns_of_half_precision_and_bits_have_operators_of_their_own(world):
    Row = dataclasses.make_dataclass(
        "Row",
        [
            ("id", int),
            ("h", Annotated[NDArray[np.float16], VectorSchema(np.float16, 2500)]),
            ("b", Annotated[Any, PgType("bit(8)")]),
            ("s", Annotated[Any, PgType("sparsevec(100)")]),
        ],
    )

    def attach(target):
        target.declare_vector_index(column="h", method="hnsw", metric="l1")
        target.declare_vector_index(column="b", method="hnsw", metric="hamming", name="bits")
        target.declare_vector_index(column="s", method="hnsw", metric="l2")

    rows = [Row(1, np.ones(2500, np.float16), "10000000", {5: 1.0})]
    await world.update(world.table(rows, Row, attach=attach))
    assert {name: text.split(" USING ")[1] for name, text in (await world.indexes()).items()} == {
        "docs__vector__h": "hnsw (h halfvec_l1_ops)",
        "docs__vector__bits": "hnsw (b bit_hamming_ops)",
        "docs__vector__s": "hnsw (s sparsevec_l2_ops)",
    }


def vectors(size):
    kind = Annotated[NDArray[np.float32], VectorSchema(size)]
    return dataclasses.make_dataclass("Row", [("id", int), ("emb", kind), ("t", str)])


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (3, {"column": "nope"}, "no column 'nope'"),
        (3, {"column": "t"}, "holds no vectors"),
        (3, {"metric": "manhattan"}, "unsupported metric 'manhattan'"),
        (3, {"metric": "hamming"}, "unsupported metric 'hamming'"),
        (3, {"method": "diskann"}, "method"),
        (3, {"method": "hnsw", "name": 'a"b'}, "Invalid index name"),
        (2001, {"method": "hnsw"}, "2,000 dimensions.*halfvec"),
    ],
)
async def test_an_impossible_index_is_refused_where_it_is_declared(world, size, options, message):
    main = world.table([], vectors(size), attach=vector_index(**options))
    with pytest.raises(ValueError, match=message):
        await world.update(main)


async def test_parameters_of_another_method_are_ignored_with_a_warning(world, caplog):
    with caplog.at_level(logging.WARNING):
        attach = vector_index(method="hnsw", lists=100)
        await world.update(world.table(ROWS, Doc, attach=attach))
    assert "hnsw has no lists" in caplog.text
    assert "WITH" not in (await world.indexes())["docs__vector__emb"]


# --- other indexes -------------------------------------------------------------------------


async def test_ordinary_indexes(world):
    def attach(target):
        target.declare_index(columns=["title"])
        target.declare_index(columns=["title", "id"], unique=True, where="id > 3", name="u")
        target.declare_index(columns=["id"], method="brin", concurrently=True)
        target.declare_index(columns=["id"], include=["title"], name="i")

    await world.update(world.table(ROWS, Doc, attach=attach))
    assert await world.indexes() == {
        "docs__index__title": "CREATE INDEX docs__index__title ON public.docs USING btree (title)",
        "docs__index__u": "CREATE UNIQUE INDEX docs__index__u ON public.docs "
        "USING btree (title, id) WHERE (id > 3)",
        "docs__index__id": "CREATE INDEX docs__index__id ON public.docs USING brin (id)",
        "docs__index__i": "CREATE INDEX docs__index__i ON public.docs "
        "USING btree (id) INCLUDE (title)",
    }
    await world.update(world.table(ROWS, Doc))
    assert await world.indexes() == {}


async def test_a_unique_value_may_move_to_another_row(world):
    def unique(target):
        target.declare_index(columns=["title"], unique=True)

    await world.update(world.table(ROWS, Doc, attach=unique))
    moved = [dataclasses.replace(ROWS[0], id=100), *ROWS[1:]]
    await world.update(world.table(moved, Doc, attach=unique))
    assert await world.value("SELECT id FROM docs WHERE title = 'title 1'") == 100


def search(target):
    target.declare_fts_index(column="title")


async def test_a_full_text_index_can_be_searched(world):
    rows = [dataclasses.replace(row, title=f"{row.id} running dogs") for row in ROWS[:3]]
    await world.update(world.table(rows, Doc, attach=search))
    query = "SELECT count(*) FROM docs WHERE title__fts @@ plainto_tsquery('english', 'dog run')"
    assert await world.value(query) == 3
    assert "gin (title__fts)" in (await world.indexes())["docs__fts__title"]
    await world.update(world.table(rows, Doc, attach=search))
    assert world.connections == 0
    await world.update(world.table(rows, Doc))
    assert list(await world.columns()) == ["id", "title", "emb"]


async def test_a_searched_column_can_change_its_type(world):
    Short = dataclasses.make_dataclass(
        "Short", [("id", int), ("title", Annotated[str, PgType("varchar(20)")])]
    )
    Long = dataclasses.make_dataclass("Long", [("id", int), ("title", str)])
    await world.update(world.table([Short(1, "one dog")], Short, attach=search))
    await world.update(world.table([Long(1, "two dogs")], Long, attach=search))
    query = "SELECT count(*) FROM docs WHERE title__fts @@ plainto_tsquery('english', 'two')"
    assert await world.value(query) == 1
    assert (await world.columns())["title"][0] == "text"


# --- SQL commands --------------------------------------------------------------------------


def command(setup, teardown=None, name="c", **options):
    return lambda target: target.declare_sql_command_attachment(
        name=name, setup_sql=setup, teardown_sql=teardown, **options
    )


LOG = "INSERT INTO log (what) VALUES ('{}');"


@pytest.fixture
async def log(world):
    await world.execute("CREATE TABLE log (n serial, what text)")

    async def taken():
        rows = await world.fetch("SELECT what FROM log ORDER BY n")
        await world.execute("TRUNCATE log")
        return [what for (what,) in rows]

    return taken


async def test_a_command_runs_once_and_is_undone_when_it_changes_or_goes(world, log):
    one = world.table(ROWS, Doc, attach=command(LOG.format("up 1"), LOG.format("down 1")))
    await world.update(one)
    await world.update(one)
    assert await log() == ["up 1"]
    two = command(LOG.format("up 2; it''s") + LOG.format("more"), LOG.format("down 2"))
    await world.update(world.table(ROWS, Doc, attach=two))
    assert await log() == ["down 1", "up 2; it's", "more"]
    await world.update(world.table(ROWS, Doc))
    assert await log() == ["down 2"]


async def test_a_command_without_teardown_is_not_undone(world, log):
    await world.update(world.table(ROWS, Doc, attach=command(LOG.format("up"))))
    await world.update(world.table(ROWS, Doc))
    assert await log() == ["up"]


async def test_every_teardown_that_may_be_due_runs_once(world, log):
    """Two changes whose setups failed: whether they left something behind is not known."""
    first = command(LOG.format("up 1"), LOG.format("down 1"))
    await world.update(world.table(ROWS, Doc, attach=first))
    for number in (2, 3):
        broken = command(LOG.format(number) + "SELECT 1/0", LOG.format(f"down {number}"))
        with pytest.raises(TargetError, match="setup of SQL command 'c' of table docs failed"):
            await world.update(world.table(ROWS, Doc, attach=broken))
        await log()
    good = command(LOG.format("up 4"), LOG.format("down 4"))
    await world.update(world.table(ROWS, Doc, attach=good))
    assert await log() == ["down 3", "down 2", "down 1", "up 4"]


async def test_a_teardown_whose_object_is_gone_is_accepted(world):
    trigger = command("CREATE VIEW v AS SELECT 1", "DROP VIEW v")
    await world.update(world.table(ROWS, Doc, attach=trigger))
    await world.execute("DROP VIEW v")
    await world.update(world.table(ROWS, Doc))


async def test_commands_that_can_not_be_in_a_transaction_run_one_by_one(world):
    setup = """
        -- a comment; with a semicolon
        CREATE INDEX CONCURRENTLY by_title ON docs (title);
        COMMENT ON INDEX by_title IS 'it''s; "quoted"';
        DO $body$ BEGIN PERFORM 1; END $body$;
    """
    teardown = "DROP INDEX CONCURRENTLY by_title"
    await world.update(world.table(ROWS, Doc, attach=command(setup, teardown, autocommit=True)))
    assert list(await world.indexes()) == ["by_title"]
    await world.update(world.table(ROWS, Doc))
    assert await world.indexes() == {}

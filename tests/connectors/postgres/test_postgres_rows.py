"""How rows get into the table: by which statements, and in how many round trips."""

from __future__ import annotations

import dataclasses
import random
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import cocoindex as coco
from cocoindex.connectors.postgres._literals import literal
from cocoindex.connectors.postgres._rows import RowStatements
from cocoindex.connectors.postgres._wire import wire_for
from cocoindex.resources.schema import VectorSchema


@dataclasses.dataclass(frozen=True)
class Plain:
    id: int
    title: str | None


@dataclasses.dataclass(frozen=True)
class Doc:
    id: int
    emb: Annotated[NDArray[np.float32], VectorSchema(3)]


def plain(ids, text="x"):
    return [Plain(i, f"{text} {i}") for i in ids]


def statements(world):
    """How the last update wrote rows."""
    names = {"INSERT": "insert", "DELETE": "delete", "COPY": "copy", "CREATE TEMP": "stage"}
    return [
        names[start]
        for statement in world.statements
        for start in names
        if statement.startswith(start)
    ]


async def test_few_rows_are_one_statement(world):
    await world.update(world.table(plain(range(5)), Plain))
    await world.update(world.table(plain(range(499), "new"), Plain))
    assert statements(world) == ["insert"]
    assert await world.value("SELECT count(*) FROM docs WHERE title LIKE 'new%'") == 499


async def test_many_rows_go_through_a_temporary_table(world):
    await world.update(world.table(plain(range(5)), Plain))
    await world.update(world.table(plain(range(600), "new"), Plain))
    assert statements(world) == ["stage", "insert"]
    assert await world.value("SELECT count(*) FROM docs WHERE title LIKE 'new%'") == 600


async def test_many_new_rows_are_copied_into_the_table_itself(world):
    await world.update(world.table(plain(range(600)), Plain))
    assert statements(world) == []
    assert await world.value("SELECT count(*) FROM docs") == 600


async def test_rows_that_are_there_after_all_are_updated(world, world_at):
    await world.update(world.table(plain(range(1000)), Plain))
    again = world_at(world.url)
    await again.update(world.table(plain(range(500, 1500), "new"), Plain))
    assert await world.value("SELECT count(*) FROM docs") == 1500
    assert await world.value("SELECT count(*) FROM docs WHERE title LIKE 'new%'") == 1000
    assert "stage" in statements(again)


@pytest.mark.parametrize("kind", ["double precision", "numeric", "text", "integer"])
async def test_a_column_that_was_changed_behind_our_back_gets_the_right_values(world, kind):
    """The bytes of an integer are no double: what stands in the catalog decides."""
    Number = dataclasses.make_dataclass("Number", [("id", int), ("n", int)])
    await world.update(world.table([Number(0, 0)], Number))
    await world.execute(f"ALTER TABLE docs ALTER n TYPE {kind}")
    await world.update(world.table([Number(i, i) for i in range(1, 1001)], Number))
    assert await world.value("SELECT sum(n::text::integer) FROM docs") == sum(range(1001))


async def test_rows_with_vectors_are_never_sent_as_text(world):
    await world.update(world.table([Doc(1, np.ones(3, np.float32))], Doc))
    await world.update(world.table([Doc(1, np.zeros(3, np.float32))], Doc))
    assert statements(world) == ["stage", "insert"]
    assert await world.value("SELECT emb::text FROM docs") == "[0,0,0]"


async def test_a_few_large_rows_are_copied_too(world):
    await world.update(world.table(plain([1]), Plain))
    await world.update(world.table([Plain(1, "x" * (2 << 20)), Plain(2, "y")], Plain))
    assert statements(world) == ["stage", "insert"]


async def test_what_goes_and_what_comes_is_one_transaction(world):
    await world.update(world.table(plain(range(10)), Plain))
    await world.update(world.table(plain(range(5, 15)), Plain))
    assert statements(world) == ["delete", "insert"]
    begins = [s for s in world.statements if s.startswith("BEGIN")]
    assert len(begins) == 1


async def test_a_table_of_key_columns_only_keeps_what_is_there(world):
    Key = dataclasses.make_dataclass("Key", [("a", int), ("b", str)])
    rows = [Key(i, "x") for i in range(5)]
    await world.update(world.table(rows, Key, ("a", "b")))
    await world.update(world.table([*rows, Key(9, "y")], Key, ("a", "b")), full_reprocess=True)
    assert await world.value("SELECT count(*) FROM docs") == 6


@pytest.mark.parametrize("size", [300, 3000])
async def test_round_trips_do_not_grow_with_rows(world, proxy, size):
    """One chunk to write and one to delete, however many rows and however many components."""
    first = plain(range(size))
    await world.update(world.table(first, Plain), url=proxy.url)
    proxy.requests = 0
    await world.update(world.table(plain(range(10, size + 10), "new"), Plain), url=proxy.url)
    assert proxy.requests <= 9
    proxy.requests = 0
    await world.update(world.table([], Plain), url=proxy.url)
    assert proxy.requests <= 5


async def test_the_statistics_tell_what_was_written(world, monkeypatch):
    RowStatements.of.cache_clear()  # what was found out about the table
    reports = []
    monkeypatch.setattr(coco, "report_target_stats", lambda *a, **k: reports.append((*a, k)))
    await world.update(world.table(plain(range(600)), Plain))
    await world.update(world.table(plain(range(10, 600), "new"), Plain))
    found = [(name, k["rows_upserted"], k["rows_deleted"], k["statements"]) for name, k in reports]
    assert found == [("Postgres table docs", 600, 0, 1), ("Postgres table docs", 590, 10, 4)]


@pytest.mark.parametrize("size", [300, 3000])
async def test_round_trips_of_a_swap_do_not_grow_with_rows(world, proxy, size):
    def unique(target):
        target.declare_index(columns=["title"], unique=True)

    rows = plain(range(size))
    await world.update(world.table(rows, Plain, attach=unique))
    swapped = [Plain(row.id, rows[row.id ^ 1].title) for row in rows]
    await world.update(world.table(swapped, Plain, attach=unique), url=proxy.url)
    assert await world.value("SELECT title FROM docs WHERE id = 7") == "x 6"
    assert proxy.requests <= 20


async def test_rows_are_written_in_the_order_of_their_keys(world):
    """So that two writers never wait for each other in a circle."""
    await world.execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, title text);"
        "CREATE TABLE log (n serial, id bigint);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO log (id) VALUES (new.id); RETURN new; END $$;"
        "CREATE TRIGGER note BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION note()"
    )
    for size in (50, 700):
        rows = plain(range(size))
        random.Random(0).shuffle(rows)
        await world.update(world.table(rows, Plain, managed_by="user"), full_reprocess=True)
        found = [i for (i,) in await world.fetch("SELECT id FROM log ORDER BY n")]
        assert found[-size:] == list(range(size))


async def test_a_chunk_of_rows_is_a_transaction_and_chunks_are_bounded(world, monkeypatch):
    from cocoindex.connectors.postgres._dialect import PostgresDialect

    monkeypatch.setattr(PostgresDialect, "max_rows", 100)
    await world.update(world.table(plain(range(450)), Plain))
    begins = [s for s in world.statements if s.startswith("BEGIN")]
    assert len(begins) == 1 + 5  # the table, and five times its rows
    assert await world.value("SELECT count(*) FROM docs") == 450


async def test_it_works_behind_a_pooler_without_prepared_statements(world):
    options = {"statement_cache_size": 0}
    Key = dataclasses.make_dataclass("Key", [("a", int), ("b", str)])
    rows = [Key(i, "x") for i in range(600)]
    await world.update(world.table(rows, Key, ("a", "b")), pool_options=options)
    await world.update(world.table(rows[:5], Key, ("a", "b")), pool_options=options)
    assert await world.value("SELECT count(*) FROM docs") == 5


# --- forms ---------------------------------------------------------------------------------


@given(
    st.recursive(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
        | st.integers(-9, 9)
        | st.none(),
        lambda items: st.lists(items, max_size=3),
        max_leaves=5,
    ).filter(lambda value: isinstance(value, list))
)
def test_array_literals_can_be_read_back(value):
    assert parse(literal(value)) == as_text(value)


def as_text(value):
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return None if value is None else str(value)


def parse(text):
    """What the server makes of an array literal, by the rules of its manual."""

    def array(at):
        assert text[at] == "{"
        at += 1
        items = []
        while text[at] != "}":
            if text[at] == "{":
                item, at = array(at)
            elif text[at] == '"':
                item, at = quoted(at + 1)
            else:
                end = min(text.index(c, at) for c in ",}" if c in text[at:])
                word, at = text[at:end], end
                item = None if word.upper() == "NULL" else word
            items.append(item)
            if text[at] == ",":
                at += 1
        return items, at + 1

    def quoted(at):
        found = []
        while text[at] != '"':
            at += text[at] == "\\"
            found.append(text[at])
            at += 1
        return "".join(found), at + 1

    return array(0)[0]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-1e9, max_value=1e9))
def test_numbers_of_a_scale_are_rounded_as_the_server_does(value):
    wire = wire_for("numeric(20, 2)")
    text = wire.plain(value)
    assert wire.plain(type(value)(text)) == text
    assert abs(type(value)(text) - value) <= type(value)("0.005")


@pytest.mark.parametrize(
    ("declared", "stage"),
    [
        ("BIGINT", "bigint"),
        ("int8", "bigint"),
        (" Character  Varying ( 50 ) ", "text"),
        ("timestamp(3) with time zone", "timestamp with time zone"),
        ("TIMESTAMPTZ", "timestamp with time zone"),
        ("bigserial", "bigint"),
        ("varbit(8)", "bit varying"),
        ("text[]", "text"),
        ('"my schema"."My Enum"', "text"),
    ],
)
def test_spellings_of_types_lead_to_their_staging_type(declared, stage):
    assert wire_for(declared).stage == stage

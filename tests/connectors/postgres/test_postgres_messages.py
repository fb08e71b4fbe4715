"""What a program is told about tables that are not what it takes them for."""

from __future__ import annotations

import dataclasses
import types

import asyncpg
import pytest

from cocoindex.connectors.postgres import _errors, _pool
from cocoindex.errors import TargetError


@dataclasses.dataclass(frozen=True)
class Doc:
    id: int
    title: str


@dataclasses.dataclass(frozen=True)
class Wider:
    id: int
    title: str
    more: str | None


async def test_rows_for_a_table_that_is_gone_say_what_to_do(world):
    await world.update(world.table([Doc(1, "a")], Doc))
    await world.execute("DROP TABLE docs")
    with pytest.raises(TargetError) as raised:
        await world.update(world.table([Doc(1, "b")], Doc))
    assert (
        "The table was dropped, or the context key 'tests/postgres' leads to another database now: "
        "run once with full_reprocess=True (--full-reprocess)" in str(raised.value)
    )
    await world.update(world.table([Doc(1, "b")], Doc), full_reprocess=True)
    assert await world.fetch("SELECT * FROM docs") == [(1, "b")]


async def test_a_table_that_others_dropped_is_not_silently_left_without_rows(world):
    """Nobody looks until there is something to do; then the rest of the rows must come back."""
    await world.update(world.table([Doc(1, "a")], Doc))
    await world.execute("DROP TABLE docs")
    program = world.table([Wider(1, "a", None)], Wider)
    with pytest.raises(TargetError, match=r"table docs is gone.*full_reprocess=True"):
        await world.update(program)
    await world.update(program, full_reprocess=True)
    assert await world.fetch("SELECT * FROM docs") == [(1, "a", None)]


async def test_the_keys_of_a_table_that_does_not_fit_are_shown(world):
    await world.execute("CREATE TABLE docs (id bigint, title text, PRIMARY KEY (id, title))")
    with pytest.raises(TargetError) as raised:
        await world.update(world.table([Doc(1, "a")], Doc))
    found, declared = "id bigint not null, title text not null", "id bigint not null"
    assert f"its primary key is ({found}), declared ({declared})" in str(raised.value)


async def test_a_full_text_index_is_called_by_what_it_is(world):
    def attach(target):
        target.declare_fts_index(column="title", language="klingon")

    with pytest.raises(TargetError, match=r"create full-text index of title on docs: .*klingon"):
        await world.update(world.table([Doc(1, "a")], Doc, attach=attach))


async def test_a_view_in_the_way_of_an_old_table_is_named_and_harms_nothing_else(world, caplog):
    await world.update(world.table([Doc(1, "a")], Doc))
    await world.execute("CREATE VIEW titles AS SELECT title FROM docs")
    await world.update(world.table([Doc(1, "b")], Doc, name="notes"))
    assert "(view titles depends on table docs); drop them first, or" in caplog.text
    assert await world.fetch("SELECT * FROM notes") == [(1, "b")]


def test_an_error_about_data_says_so_without_the_data():
    assert _errors.describe(asyncpg.DataError("secret")) == "invalid data [22000]"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://me:p@ss@h:1/db", "Postgres at h:1/db"),
        ("postgresql://h1:1,[::1]:2/db?password=hunter2", "Postgres at h1:1,[::1]:2/db"),
        ("postgresql://db.example.com", "Postgres at db.example.com"),
        ("postgresql:///db", "Postgres"),
        ("postgresql://me:hunter2", "Postgres"),
        ("postgresql://me:hun/ter2@h/db", "Postgres"),
        ("postgresql://me:hun?ter2@h/db", "Postgres"),
        ("postgresql://me:hun#ter2@h/db", "Postgres"),
        ("postgresql://me:hun[ter2@h/db", "Postgres"),
        ("hunter2", "Postgres"),
        (None, "Postgres"),
    ],
)
def test_a_place_is_named_without_any_part_of_a_password(url, place):
    pool = types.SimpleNamespace(_connect_args=(url,), _connect_kwargs={})
    assert _pool._place_of(pool) == place
    pool._connect_kwargs = {"host": "h", "port": 5, "database": "d", "password": "hunter2"}
    assert _pool._place_of(pool) == "Postgres at h:5/d"

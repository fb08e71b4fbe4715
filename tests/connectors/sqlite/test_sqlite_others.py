"""What others have in the same file: their tables, indexes and rows are not touched."""

from __future__ import annotations

import shutil
from dataclasses import make_dataclass
from typing import Any

import pytest

from cocoindex.connectors import sqlite
from cocoindex.errors import TargetError

R = make_dataclass("R", [("id", int), ("a", str | None)])


class Program:
    """Declares rows in ``t``, and what ``more`` says."""

    def __init__(self, database: Any, rows: Any, cls: Any = R, **options: Any) -> None:
        self.key, self.rows, self.cls, self.options = database.key, rows, cls, options
        self.more: Any = lambda target: None

    async def __call__(self) -> None:
        schema = await sqlite.TableSchema.from_class(self.cls, ["id"])
        target = await sqlite.mount_table_target(self.key, "t", schema, **self.options)
        self.more(target)
        for row in self.rows:
            target.declare_row(row=row)


async def nothing() -> None:
    pass


def replace_table(database, how):
    database.run("DROP TABLE t" if how == "dropped" else "ALTER TABLE t RENAME TO keep")
    database.run("CREATE TABLE t (id INTEGER PRIMARY KEY, theirs TEXT)")
    database.run("INSERT INTO t VALUES (1, 'precious')")


@pytest.mark.parametrize("how", ["dropped", "renamed"])
async def test_a_table_that_took_the_place_of_ours_stays_with_its_rows(database, caplog, how):
    await database.update(Program(database, [R(1, "x")]))
    replace_table(database, how)
    await database.update(nothing)
    assert database.query("SELECT * FROM t") == [(1, "precious")]
    assert "not the one that this app made" in caplog.text


async def test_a_table_that_took_the_place_of_ours_is_not_rebuilt(database):
    program = Program(database, [R(1, "x")])
    await database.update(program)
    database.run("DROP TABLE t")
    database.run("CREATE TABLE t (id TEXT PRIMARY KEY, theirs TEXT)")
    database.run("INSERT INTO t VALUES (1, 'precious')")
    with pytest.raises(TargetError, match="was not made by this app"):
        await database.update(program, full_reprocess=True)
    assert database.query("SELECT * FROM t") == [("1", "precious")]


async def test_an_adopted_table_keeps_its_constraints_when_it_gets_a_column(database):
    made = (
        'CREATE TABLE "t" (id INTEGER NOT NULL PRIMARY KEY, '
        "email TEXT UNIQUE COLLATE NOCASE CHECK (length(email) > 2)"
    )
    database.run(f"{made})")
    database.run("INSERT INTO t VALUES (100, 'theirs')")
    cls = make_dataclass("R", [("id", int), ("email", str | None), ("n", int)])
    program = Program(database, [cls(1, "abc", 5)], cls)
    await database.update(program)
    assert database.query("SELECT sql FROM sqlite_schema WHERE name = 't'") == [
        (f'{made}, "n" INTEGER)',)
    ]
    assert database.query("SELECT * FROM t ORDER BY id") == [(1, "abc", 5), (100, "theirs", None)]
    program.rows = []
    await database.update(program, full_reprocess=True)
    assert database.query("SELECT * FROM t") == [(100, "theirs", None)]


async def test_rows_of_a_user_table_that_is_gone_are_forgotten(database):
    database.run("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)")
    await database.update(Program(database, [R(1, "x")], managed_by="user"))
    database.run("DROP TABLE t")
    await database.update(nothing)
    database.run("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)")
    database.run("INSERT INTO t VALUES (1, 'theirs')")
    await database.update(nothing)
    assert database.query("SELECT * FROM t") == [(1, "theirs")]


def indexes(database):
    return set(database.query("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index' AND sql <> ''"))


def by_a(target):
    target.declare_index(name="by_a", columns=["a"])


async def test_an_index_of_another_table_is_neither_taken_nor_dropped(database):
    database.run("CREATE TABLE people (name)")
    database.run("CREATE INDEX by_a ON people (name)")
    program = Program(database, [R(1, "x")])
    program.more = by_a
    with pytest.raises(TargetError, match="index of people of that name"):
        await database.update(program)
    program.more = lambda target: None
    await database.update(program)
    assert indexes(database) == {("by_a", "people")}
    program.more = by_a
    database.run("DROP INDEX by_a")
    await database.update(program)
    assert indexes(database) == {("by_a", "t")}


def search(*columns):
    return lambda target: target.declare_fts_index(columns=columns)


async def test_a_table_with_the_name_of_a_full_text_table_is_neither_taken_nor_dropped(database):
    database.run("CREATE TABLE t__fts (x)")
    database.run("INSERT INTO t__fts VALUES ('precious')")
    program = Program(database, [R(1, "x")])
    program.more = search("a")
    with pytest.raises(TargetError, match="table of that name"):
        await database.update(program)
    program.more = lambda target: None
    await database.update(program)
    assert database.query("SELECT * FROM t__fts") == [("precious",)]


B = make_dataclass("B", [("id", int), ("a", str | None), ("b", str | None)])


async def test_a_full_text_table_goes_with_its_table(database):
    program = Program(database, [B(1, "x", "y")], B)
    program.more = search("a")
    await database.update(program)
    await database.update(nothing)
    assert database.query("SELECT name FROM sqlite_schema WHERE name LIKE 't%'") == []


@pytest.mark.parametrize("lost_store", [False, True])
async def test_a_full_text_table_on_other_columns_is_made_anew(database, lost_store):
    program = Program(database, [B(1, "x", "y")], B)
    program.more = search("a")
    await database.update(program)
    if lost_store:
        shutil.rmtree(database.folder / "state")
    program.more = search("b")
    program.rows = [B(1, "x", "z"), B(2, "x", "y")]
    await database.update(program)
    assert database.query("SELECT rowid FROM t__fts WHERE t__fts MATCH 'y'") == [(2,)]
    assert database.query("SELECT rowid FROM t__fts WHERE t__fts MATCH 'x'") == []

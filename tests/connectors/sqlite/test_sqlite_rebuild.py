"""Tables that are built anew keep what others have added to them, or are not built anew."""

from __future__ import annotations

from dataclasses import make_dataclass
from typing import Any

import pytest

from cocoindex.connectorkits.tables import LayoutColumn
from cocoindex.connectors import sqlite
from cocoindex.connectors.sqlite._table_sql import parse
from cocoindex.errors import TargetError

R = make_dataclass("R", [("id", int), ("a", str | None), ("b", str | None)])
LESS = make_dataclass("R", [("id", int), ("a", str | None)])
OTHER_TYPE = make_dataclass("R", [("id", int), ("a", int | None), ("b", str | None)])


class Program:
    def __init__(self, database: Any, rows: Any, cls: Any = R, **options: Any) -> None:
        self.key, self.rows, self.cls, self.options = database.key, rows, cls, options

    async def __call__(self) -> None:
        schema = await sqlite.TableSchema.from_class(self.cls, ["id"])
        target = await sqlite.mount_table_target(self.key, "t", schema, **self.options)
        for row in self.rows:
            target.declare_row(row=row)


THEIRS = """CREATE TABLE "t" (
  "id" INTEGER PRIMARY KEY AUTOINCREMENT, -- a comment, with a comma
  a TEXT NOT NULL ON CONFLICT FAIL DEFAULT 'x, (y' COLLATE NOCASE CHECK (length(a) < 9 OR a = ')'),
  [b] TEXT CONSTRAINT lone UNIQUE,
  made TEXT DEFAULT NULL,
  p INTEGER REFERENCES "parent" (b) ON DELETE SET NULL /* (( */,
  twice INTEGER GENERATED ALWAYS AS (id * 2) STORED,
  CONSTRAINT "a, b" CHECK (id > 0 OR made IS NOT NULL), UNIQUE (p, made)
)"""


async def made_by_hand(database, sql=THEIRS):
    """Our table, after somebody has given it more than columns."""
    await database.update(Program(database, []))
    database.run("CREATE TABLE parent (b INTEGER PRIMARY KEY)")
    database.run("INSERT INTO parent VALUES (7)")
    database.run("DROP TABLE t")
    database.run(sql)


def table_sql(database):
    return database.query("SELECT sql FROM sqlite_schema WHERE name = 't'")[0][0]


async def test_all_that_others_added_stays(database):
    await made_by_hand(database)
    database.run("INSERT INTO t (id, a, b, made, p) VALUES (1, '5', 'u', 'm', 7)")
    program = Program(database, [OTHER_TYPE(1, 6, "v")], OTHER_TYPE)
    await database.update(program)
    assert table_sql(database) == (
        'CREATE TABLE "t" ("id" INTEGER PRIMARY KEY AUTOINCREMENT, "a" INTEGER DEFAULT \'x, (y\' '
        "COLLATE NOCASE CHECK (length(a) < 9 OR a = ')'), [b] TEXT CONSTRAINT lone UNIQUE, "
        'made TEXT DEFAULT NULL, p INTEGER REFERENCES "parent" (b) ON DELETE SET NULL, '
        "twice INTEGER GENERATED ALWAYS AS (id * 2) STORED, "
        'CONSTRAINT "a, b" CHECK (id > 0 OR made IS NOT NULL), UNIQUE (p, made))'
    )
    assert database.query("SELECT * FROM t") == [(1, 6, "v", "m", 7, 2)]


async def test_a_column_goes_with_what_is_only_about_it(database):
    """Also if others refer to a column of that name in another table."""
    await made_by_hand(database)
    await database.update(Program(database, [], LESS))
    assert "[b]" not in table_sql(database)
    assert 'REFERENCES "parent" (b)' in table_sql(database)


@pytest.mark.parametrize("user", ["CHECK (b <> 'x')", 'UNIQUE (a, "B")', "c AS (upper([b]))"])
async def test_a_column_that_others_build_on_is_not_dropped(database, user):
    sql = f'CREATE TABLE "t" (id INTEGER PRIMARY KEY, a TEXT, b TEXT, {user})'
    await made_by_hand(database, sql)
    with pytest.raises(TargetError, match=r"table t: column b can't be dropped.*full_reprocess"):
        await database.update(Program(database, [], LESS))
    assert table_sql(database) == sql
    await database.update(Program(database, []))


async def test_a_value_that_a_check_refuses_stops_the_change(database):
    sql = "CREATE TABLE \"t\" (id INTEGER PRIMARY KEY, a TEXT CHECK (typeof(a) = 'text'), b TEXT)"
    await made_by_hand(database, sql)
    database.run("INSERT INTO t VALUES (1, 'text', NULL)")
    with pytest.raises(TargetError, match=r"change column a .*CHECK constraint failed"):
        await database.update(Program(database, [], OTHER_TYPE))
    assert table_sql(database) == sql


@pytest.mark.parametrize(
    "trigger",
    [
        "AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.b); END",
        "AFTER UPDATE OF a ON t BEGIN INSERT INTO log SELECT b FROM t; END",
        "AFTER DELETE ON t WHEN old.b > 1 BEGIN INSERT INTO log VALUES (1); END",
        "AFTER INSERT ON log BEGIN UPDATE t SET b = new.n; END",
        "INSTEAD OF INSERT ON v BEGIN INSERT INTO t (id, b) VALUES (new.id, 'x'); END",
    ],
)
@pytest.mark.parametrize("more", [False, True], ids=["in place", "rebuilt"])
async def test_a_trigger_that_needs_a_column_is_named(database, trigger, more):
    await database.update(Program(database, [R(1, "x", "y")]))
    database.run("CREATE TABLE log (n)")
    database.run("CREATE VIEW v AS SELECT id FROM t")
    database.run("CREATE TRIGGER fine AFTER INSERT ON t BEGIN SELECT new.a; END")
    database.run(f"CREATE TRIGGER noted {trigger}")
    before = table_sql(database)
    cls = make_dataclass("R", [("id", int), ("a", int | None)]) if more else LESS
    program = Program(database, [cls(1, 5 if more else "x")], cls)
    with pytest.raises(TargetError, match=r"table t: trigger noted needs a column.*make it again"):
        await database.update(program)
    assert table_sql(database) == before
    assert database.query("SELECT name FROM sqlite_schema WHERE type = 'trigger'") == [
        ("fine",),
        ("noted",),
    ]
    database.run("DROP TRIGGER noted")
    await database.update(program)
    assert database.query("SELECT * FROM t") == [(1, 5 if more else "x")]


async def test_triggers_that_never_worked_are_in_nobody_s_way(database):
    await database.update(Program(database, [R(1, "x", "y")]))
    database.run("CREATE TABLE log (n)")
    database.run("CREATE TRIGGER broken AFTER INSERT ON log BEGIN UPDATE t SET gone = 1; END")
    await database.update(Program(database, [LESS(1, "x")], LESS))
    assert database.query("SELECT * FROM t") == [(1, "x")]


@pytest.mark.parametrize("change", ["type", "key"])
async def test_rows_that_refer_to_the_table_stay(database, change):
    """``DROP TABLE`` would delete them."""
    await database.update(Program(database, [R(1, "5", "y")]))
    database.run("CREATE TABLE log (n REFERENCES t (id) ON DELETE CASCADE)")
    database.run("INSERT INTO log VALUES (1)")
    database.foreign_keys = True
    cls = OTHER_TYPE if change == "type" else make_dataclass("R", [("id", str), ("a", str | None)])
    program = Program(database, [cls(1, 5, "y") if change == "type" else cls("1", "5")], cls)
    with pytest.raises(TargetError, match="PRAGMA foreign_keys=OFF"):
        await database.update(program)
    assert database.query("SELECT * FROM log") == [(1,)]
    database.foreign_keys = False
    await database.update(program)
    assert database.query("SELECT * FROM log") == [(1,)]
    assert len(database.query("SELECT * FROM t")) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a TEXT", '"a" INTEGER'),
        ("a", '"a" INTEGER'),
        ("a VARCHAR (5, 2) NULL", '"a" INTEGER'),
        ("'a' TEXT NOT NULL UNIQUE", '"a" INTEGER UNIQUE'),
        ("`a` TEXT CONSTRAINT c NOT NULL ON CONFLICT IGNORE", '"a" INTEGER'),
        ("a TEXT DEFAULT NULL", '"a" INTEGER DEFAULT NULL'),
        ("a TEXT DEFAULT -1 NOT NULL", '"a" INTEGER DEFAULT -1'),
        ("a TEXT CHECK (a>=1 AND a IS NOT NULL)", '"a" INTEGER CHECK (a>=1 AND a IS NOT NULL)'),
        ("a CHECK(a<>)", '"a" INTEGER CHECK(a<>)'),
        ("a REFERENCES p ON UPDATE SET NULL", '"a" INTEGER REFERENCES p ON UPDATE SET NULL'),
        ("a REFERENCES p NOT DEFERRABLE", '"a" INTEGER REFERENCES p NOT DEFERRABLE'),
    ],
)
def test_another_type_keeps_the_rest_of_a_column(before, after):
    table = parse(f"CREATE TABLE t (id, {before}, PRIMARY KEY (id)) STRICT")
    changed = table.changed(LayoutColumn("a", "INTEGER", True))
    assert changed.create("t") == f'CREATE TABLE "t" (id, {after}, PRIMARY KEY (id)) STRICT'

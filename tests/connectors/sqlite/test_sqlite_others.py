"""What others have in the same file: their tables, indexes and rows are not touched."""

from __future__ import annotations

import shutil
from dataclasses import make_dataclass
from decimal import Decimal
from random import Random
from typing import Annotated, Any

import numpy as np
import pytest

from cocoindex.connectors import sqlite
from cocoindex.connectors.sqlite._dialect import SqliteDialect
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


async def test_rows_of_an_adopted_table_go_whatever_if_exists_says_by_then(database):
    database.run("CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a TEXT)")
    database.run("INSERT INTO t VALUES (100, 'theirs')")
    await database.update(Program(database, [R(1, "x")]))
    await database.update(Program(database, [R(1, "x")], if_exists="error"))
    await database.update(nothing)
    assert database.query("SELECT * FROM t") == [(100, "theirs")]


@pytest.mark.parametrize("by", ["system", "user"])
async def test_a_column_of_an_adopted_table_that_is_declared_again_has_no_old_values(database, by):
    database.run("CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a TEXT, b TEXT)")
    await database.update(Program(database, [B(1, "x", "old"), B(2, "y", "old")], B, managed_by=by))
    await database.update(Program(database, [R(1, "x"), R(2, "y")], managed_by=by))
    await database.update(Program(database, [B(1, "x", None), B(2, "y", "new")], B, managed_by=by))
    assert database.query("SELECT * FROM t") == [(1, "x", None), (2, "y", "new")]


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
    return set(
        database.query(
            "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index' AND sql <> ''"
        )
    )


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


@pytest.mark.parametrize("lost_store", [False, True])
async def test_an_index_of_another_definition_is_made_anew(database, lost_store):
    program = Program(database, [R(1, "x")])
    program.more = by_a
    await database.update(program)
    if lost_store:
        shutil.rmtree(database.folder / "state")
    program.more = lambda target: target.declare_index(name="by_a", columns=["a"], unique=True)
    await database.update(program)
    assert database.query("SELECT sql FROM sqlite_schema WHERE name = 'by_a'") == [
        ('CREATE UNIQUE INDEX "by_a" ON "t" ("a")',)
    ]


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


async def test_a_unique_value_moves_to_another_row_across_chunks(database, monkeypatch):
    monkeypatch.setattr(SqliteDialect, "max_rows", 1)
    program = Program(database, [R(1, "x"), R(5, "y")])
    program.more = lambda target: target.declare_index(columns=["a"], unique=True)
    await database.update(program)
    program.rows = [R(0, "y"), R(2, "x")]
    await database.update(program)
    assert database.query("SELECT * FROM t ORDER BY id") == [(0, "y"), (2, "x")]


@pytest.mark.parametrize("chunk", [10_000, 1])
async def test_rows_swap_unique_values(database, monkeypatch, chunk):
    monkeypatch.setattr(SqliteDialect, "max_rows", chunk)
    program = Program(database, [R(1, "x"), R(2, "y"), R(3, "z")])
    program.more = lambda target: target.declare_index(columns=["a"], unique=True)
    await database.update(program)
    program.rows = [R(1, "y"), R(2, "x"), R(3, "z")]
    await database.update(program)
    assert database.query("SELECT * FROM t ORDER BY id") == [(1, "y"), (2, "x"), (3, "z")]


@pytest.mark.parametrize("harm", ["reference", "column", "trigger"])
async def test_rows_are_not_written_anew_where_that_would_harm(database, harm):
    program = Program(database, [R(1, "x"), R(2, "y")])
    program.more = lambda target: target.declare_index(columns=["a"], unique=True)
    await database.update(program)
    if harm == "column":
        database.run("ALTER TABLE t ADD COLUMN theirs TEXT DEFAULT 'made'")
    elif harm == "trigger":
        database.run("CREATE TABLE notes (n)")
        database.run("INSERT INTO notes VALUES (1)")
        database.run(
            "CREATE TRIGGER theirs AFTER DELETE ON t BEGIN DELETE FROM notes WHERE n = old.id; END"
        )
    else:
        database.run("CREATE TABLE log (n REFERENCES t (id) ON DELETE CASCADE)")
        database.run("INSERT INTO log VALUES (1)")
        database.foreign_keys = True
    program.rows = [R(1, "y"), R(2, "x")]
    with pytest.raises(TargetError, match=r"UNIQUE constraint failed: t\.a"):
        await database.update(program)
    assert database.query("SELECT id, a FROM t ORDER BY id") == [(1, "x"), (2, "y")]
    if harm == "trigger":
        assert database.query("SELECT * FROM notes") == [(1,)]


async def test_rows_of_a_table_with_full_text_swap_unique_values(database):
    program = Program(database, [R(1, "x"), R(2, "y")])

    def more(target):
        target.declare_index(columns=["a"], unique=True)
        target.declare_fts_index(columns=["a"])

    program.more = more
    await database.update(program)
    program.rows = [R(1, "y"), R(2, "x")]
    await database.update(program)
    assert database.query("SELECT rowid FROM t__fts WHERE t__fts MATCH 'y'") == [(1,)]


async def test_a_column_of_others_has_no_foreign_values_once_it_is_declared(database):
    database.run("CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a TEXT, b TEXT DEFAULT 'made')")
    options = {"managed_by": "user"}
    await database.update(Program(database, [R(1, "x"), R(2, "y")], **options))
    await database.update(Program(database, [B(1, "x", None), B(2, "y", "new")], B, **options))
    assert database.query("SELECT * FROM t") == [(1, "x", None), (2, "y", "new")]


@pytest.mark.parametrize("columns", ["", ", b TEXT DEFAULT 'made'"])
async def test_a_column_that_others_added_is_not_taken_for_a_new_one(database, columns):
    """Neither in our table, where they add it, nor in theirs."""
    if columns:
        database.run(f"CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a TEXT{columns})")
    await database.update(Program(database, [R(1, "x")]))
    if not columns:
        database.run("ALTER TABLE t ADD COLUMN b TEXT DEFAULT 'made'")
    program = Program(database, [B(1, "x", None)], B)
    with pytest.raises(TargetError, match=r"has a column b with values.*full_reprocess=True"):
        await database.update(program)
    await database.update(program, full_reprocess=True)
    assert database.query("SELECT * FROM t") == [(1, "x", None)]


@pytest.mark.parametrize("n", [int, int | None])
async def test_a_table_taken_over_from_its_user_gets_the_columns_it_lacks(database, n):
    database.run("CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a TEXT)")
    await database.update(Program(database, [R(1, "x")], managed_by="user"))
    cls = make_dataclass("R", [("id", int), ("a", str | None), ("n", n)])
    program = Program(database, [cls(1, "x", 5)], cls)
    await database.update(program)
    await database.update(program)
    assert database.query("SELECT * FROM t") == [(1, "x", 5)]


@pytest.mark.parametrize("searched", [(), ("b",)])
async def test_a_searched_column_can_be_dropped(database, searched):
    program = Program(database, [B(1, "x", "y")], B)
    program.more = search("a", "b")
    await database.update(program)
    program.cls = make_dataclass("R", [("id", int), ("b", str | None)])
    program.rows = [program.cls(1, "y"), program.cls(2, "y z")]
    program.more = search(*searched) if searched else lambda target: None
    await database.update(program)
    assert database.query("SELECT * FROM t") == [(1, "y"), (2, "y z")]
    found = database.query("SELECT name FROM sqlite_schema WHERE name LIKE 't\\_%' ESCAPE '\\'")
    assert bool(found) == bool(searched)
    if searched:
        assert database.query("SELECT rowid FROM t__fts WHERE t__fts MATCH 'z'") == [(2,)]


async def test_a_table_is_rebuilt_under_views(database):
    await database.update(Program(database, [R(1, "5")]))
    database.run("CREATE VIEW v AS SELECT * FROM t")
    database.run("CREATE TABLE log (n)")
    database.run(
        "CREATE TRIGGER noted AFTER INSERT ON log BEGIN DELETE FROM t WHERE id = new.n; END"
    )
    cls = make_dataclass("R", [("id", int), ("a", int)])
    await database.update(Program(database, [cls(1, 5)], cls))
    assert database.query("SELECT * FROM v") == [(1, 5)]
    database.run("INSERT INTO log VALUES (1)")
    assert database.query("SELECT * FROM t") == []


@pytest.mark.parametrize("kind", ["TEXT COLLATE NOCASE", "NUMERIC", "decimal(5, 2)"])
async def test_keys_that_could_be_one_row_are_refused(database, kind):
    cls = make_dataclass("R", [("id", Annotated[str, sqlite.SqliteType(kind)]), ("a", str)])
    with pytest.raises(ValueError, match=r"column 'id' .* primary key"):
        await database.update(Program(database, [cls("a", "x"), cls("A", "y")], cls))


def of_type(kind, encoder=None):
    return make_dataclass(
        "R", [("id", int), ("a", Annotated[Any, sqlite.SqliteType(kind, encoder)])]
    )


@pytest.mark.parametrize(
    ("kind", "encoder"),
    [("NUMERIC", None), ("DECIMAL(5,2)", None), ("ANYTHING", None), ("TEXT", lambda value: value)],
)
async def test_a_value_that_sqlite_can_not_store_is_refused_where_it_is_declared(
    database, kind, encoder
):
    cls = of_type(kind, encoder)
    with pytest.raises(TypeError, match=r"column 'a', row 1: .*not Decimal.*encoder"):
        await database.update(Program(database, [cls(1, Decimal("1.5"))], cls))


async def test_columns_of_any_type_hold_what_sqlite_can_store(database):
    cls = of_type("NUMERIC")
    values = [1, True, 2.5, "text", b"bytes", bytearray(b"x"), np.int16(3), np.float32(0.5)]
    await database.update(Program(database, [cls(i, v) for i, v in enumerate(values)], cls))
    found = [value for (value,) in database.query("SELECT a FROM t ORDER BY id")]
    assert found == [1, 1, 2.5, "text", b"bytes", b"x", 3, 0.5]


@pytest.mark.parametrize("value", [2**63, float("nan"), "\ud800"])
async def test_values_out_of_range_are_refused_in_columns_of_any_type(database, value):
    cls = of_type("NUMERIC")
    with pytest.raises(ValueError, match="column 'a', row 1"):
        await database.update(Program(database, [cls(1, value)], cls))


async def test_a_table_without_row_ids_has_no_full_text_index(database):
    program = Program(database, [R(1, "x")], without_rowid=True)
    program.more = search("a")
    with pytest.raises(ValueError, match="without_rowid"):
        await database.update(program)


async def test_a_user_s_table_with_another_key_keeps_the_rows_of_others(database, caplog):
    """A deletion by the old key's value would hit the row of somebody else."""
    database.run("CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a TEXT NOT NULL UNIQUE)")
    database.run("INSERT INTO t VALUES (100, '1')")

    def program(key, *rows):
        async def main():
            schema = sqlite.TableSchema(
                {"id": sqlite.ColumnDef("INTEGER", False), "a": sqlite.ColumnDef("TEXT", False)},
                [key],
            )
            options = {"managed_by": "user"}
            target = await sqlite.mount_table_target(database.key, "t", schema, **options)
            for i, a in rows:
                target.declare_row(row={"id": i, "a": a})

        return main

    await database.update(program("id", (1, "x"), (2, "y")))
    await database.update(program("a", (1, "x"), (3, "z")))
    assert "known by (id INTEGER not null) and are by (a TEXT not null)" in caplog.text
    expected = [(1, "x"), (2, "y"), (3, "z"), (100, "1")]
    assert database.query("SELECT * FROM t ORDER BY id") == expected
    await database.update(program("a", (3, "z")))
    assert database.query("SELECT * FROM t ORDER BY id") == expected[1:]


@pytest.mark.parametrize("seed", range(5))
async def test_random_histories_of_a_table_of_others(database, seed):
    """Theirs is not touched, ours is as declared; what can't be done leaves a way out."""
    random = Random(seed)
    database.run("CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a TEXT, b TEXT DEFAULT 'made')")
    database.run("INSERT INTO t (id, a) VALUES (1000, 'theirs')")
    for step in range(14):
        names, rows = "", {}
        program = nothing
        if random.random() > 0.2:
            names = "".join(name for name in "abc" if random.random() < 0.7)
            cls = make_dataclass("R", [("id", int), *((name, str | None) for name in names)])
            rows = {
                i: tuple(random.choice([None, "p", "q"]) for _ in names)
                for i in random.sample(range(5), random.randint(0, 4))
            }
            program = Program(
                database,
                [cls(i, *values) for i, values in rows.items()],
                cls,
                managed_by=random.choice(["system", "system", "user"]),
                if_exists=random.choice(["adopt", "adopt", "error"]),
            )
        if not await managed(database, program):
            names, rows = "", {}
        columns = "".join(f", {name}" for name in names) if rows else ""
        found = {i: tuple(v) for i, *v in database.query(f"SELECT id{columns} FROM t")}
        theirs = found.pop(1000)
        assert found == rows, step
        assert "a" not in columns or theirs[names.index("a")] == "theirs"


async def managed(database, program):
    """Update, with what messages advise; else leave the table, which always works."""
    for options in ({}, {"full_reprocess": True}):
        try:
            await database.update(program, **options)
        except TargetError as error:
            if "full_reprocess=True" not in str(error):
                break
        else:
            return True
    await database.update(nothing)
    return False

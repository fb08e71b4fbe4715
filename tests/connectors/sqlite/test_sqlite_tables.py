"""What is particular to tables in SQLite."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass, make_dataclass
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.connectors import sqlite
from cocoindex.connectors.sqlite import connection as connections
from cocoindex.errors import TargetError, TransientError


@dataclass
class Row:
    id: int
    text: str


class Program:
    """Declares rows in ``t``, and what ``more`` says."""

    def __init__(self, key: Any, rows: Any, cls: Any = Row, **options: Any) -> None:
        self.key, self.cls, self.rows, self.options = key, cls, rows, options
        self.more: Any = lambda target: None

    async def __call__(self) -> None:
        schema = await sqlite.TableSchema.from_class(self.cls, ["id"])
        target = await sqlite.mount_table_target(self.key, "t", schema, **self.options)
        self.more(target)
        for row in self.rows:
            target.declare_row(row=row)


def schema_of(database, kind):
    rows = database.query(
        "SELECT name, sql FROM sqlite_schema WHERE type = ? AND sql IS NOT NULL AND "
        "name NOT LIKE '%fts%'",
        kind,
    )
    return dict(rows)


async def test_the_table_is_as_documented(database):
    cls = make_dataclass("R", [("id", int), ("name", str | None), ("score", float)])
    await database.update(Program(database.key, [], cls))
    assert schema_of(database, "table") == {
        "t": 'CREATE TABLE "t" ("id" INTEGER NOT NULL, "name" TEXT, "score" REAL NOT NULL, '
        'PRIMARY KEY ("id"))',
        "_cocoindex_objects": 'CREATE TABLE "_cocoindex_objects" '
        "(name TEXT PRIMARY KEY, marker TEXT NOT NULL)",
    }
    assert database.query("SELECT name, marker FROM _cocoindex_objects") == [
        ("t", 'cocoindex:app:/"tests/sqlite/db"/"t"')
    ]


@pytest.mark.parametrize(
    ("options", "tail"),
    [
        ({"strict": True}, " STRICT"),
        ({"without_rowid": True}, " WITHOUT ROWID"),
        ({"strict": True, "without_rowid": True}, " STRICT, WITHOUT ROWID"),
    ],
)
async def test_sqlites_own_options(database, options, tail):
    program = Program(database.key, [Row(1, "a")], **options)
    await database.update(program)
    assert schema_of(database, "table")["t"].endswith(f"){tail}")
    program.options = {}
    await database.update(program)
    assert schema_of(database, "table")["t"].endswith("))")
    assert database.query("SELECT * FROM t") == [(1, "a")]


async def test_a_rebuild_keeps_options_indexes_triggers_and_foreign_columns(database):
    program = Program(database.key, [Row(1, "1"), Row(2, "2")], strict=True)
    program.more = lambda target: target.declare_index(columns=["text"])
    await database.update(program)
    database.run("CREATE INDEX mine ON t (text, id)")
    database.run("CREATE TRIGGER noted AFTER DELETE ON t BEGIN SELECT 1; END")
    database.run("ALTER TABLE t ADD COLUMN theirs TEXT NOT NULL DEFAULT 'none'")
    database.run("UPDATE t SET theirs = 'x' WHERE id = 1")
    program.cls = make_dataclass("R", [("id", int), ("text", int), ("more", int)])
    program.rows = [program.cls(i, i, 5) for i in (1, 2, 3)]
    await database.update(program)
    assert database.query("SELECT id, text, more, theirs FROM t") == [
        (1, 1, 5, "x"),
        (2, 2, 5, "none"),
        (3, 3, 5, "none"),
    ]
    assert schema_of(database, "table")["t"].endswith("STRICT")
    assert set(schema_of(database, "index")) == {"mine", "t__text"}
    assert set(schema_of(database, "trigger")) == {"noted"}


async def test_a_column_in_a_view_is_not_dropped_and_the_view_is_named(database):
    cls = make_dataclass("R", [("id", int), ("text", str), ("more", int)])
    program = Program(database.key, [cls(1, "a", 5)], cls)
    await database.update(program)
    database.run("CREATE VIEW v AS SELECT more FROM t")
    program.cls, program.rows = Row, [Row(1, "a")]
    with pytest.raises(TargetError, match=r"table t: .*view v"):
        await database.update(program)
    assert database.query("SELECT more FROM v") == [(5,)]
    database.run("DROP VIEW v")
    await database.update(program)
    assert [name for _, name, *_ in database.query("PRAGMA table_info(t)")] == ["id", "text"]


async def test_an_indexed_column_is_dropped_with_its_index(database):
    cls = make_dataclass("R", [("id", int), ("text", str), ("more", int)])
    program = Program(database.key, [cls(1, "a", 5)], cls)
    await database.update(program)
    database.run("CREATE INDEX mine ON t (more)")
    program.cls, program.rows = Row, [Row(1, "a")]
    await database.update(program)
    assert schema_of(database, "index") == {}
    assert database.query("SELECT * FROM t") == [(1, "a")]


async def test_a_preview_reads_well(database):
    async def preview(program):
        environment = coco.Environment(coco.Settings(db_path=database.folder / "state"))
        app = coco.App(coco.AppConfig("app", environment), program)
        planned = await app.update(preview=True)
        environment.close()
        return [str(action) for action in planned]

    program = Program(database.key, [Row(1, "a")])
    program.more = lambda target: target.declare_index(columns=["text"])
    assert await preview(program) == [
        "create table t (id INTEGER not null, text TEXT not null, primary key (id))",
        "write row 1",
        "create index t__text (text) on t",
    ]
    await database.update(program)
    assert await preview(program) == ["keep table t"]
    program.cls = make_dataclass("R", [("id", int), ("text", int | None), ("more", str)])
    program.rows = [program.cls(1, 1, "x")]
    assert await preview(program) == [
        "change column text TEXT not null of t to text INTEGER; add column more TEXT not null to t",
        "write row 1",
        "create index t__text (text) on t",
    ]

    async def nothing() -> None:
        pass

    assert "drop table t" in await preview(nothing)


async def test_a_table_that_others_dropped_is_made_again_as_it_is_declared_now(database):
    program = Program(database.key, [Row(1, "a")])
    await database.update(program)
    database.run("DROP TABLE t")
    cls = make_dataclass("R", [("id", int), ("text", str), ("more", str | None)])
    program.cls, program.rows = cls, [cls(1, "a", None)]
    await database.update(program)
    assert database.query("SELECT * FROM t") == [(1, "a", None)]


async def test_a_table_that_others_rebuilt_is_not_dropped_without_need(database):
    program = Program(database.key, [Row(1, "a")])
    await database.update(program)
    database.run("DROP TABLE t")
    database.run("CREATE TABLE t (id INTEGER, text TEXT NOT NULL, PRIMARY KEY (text))")
    database.run("INSERT INTO t VALUES (5, 'theirs')")
    cls = make_dataclass("R", [("id", int), ("text", str), ("more", str | None)])
    program.cls, program.rows = cls, [cls(1, "a", None)]
    with pytest.raises(TargetError, match=r"has another primary key.*full_reprocess=True"):
        await database.update(program)
    assert database.query("SELECT * FROM t") == [(5, "theirs")]


# --- Attachments ---------------------------------------------------------------------------


async def test_indexes_come_change_and_go(database):
    program = Program(database.key, [Row(1, "a")])
    program.more = lambda target: target.declare_index(columns=["text"], where="id > 0")
    await database.update(program)
    index = 'CREATE INDEX "t__text" ON "t" ("text") WHERE id > 0'
    assert schema_of(database, "index") == {"t__text": index}
    program.more = lambda target: target.declare_index(columns=["text"], unique=True)
    await database.update(program)
    assert schema_of(database, "index") == {
        "t__text": 'CREATE UNIQUE INDEX "t__text" ON "t" ("text")'
    }
    program.more = lambda target: None
    await database.update(program)
    assert schema_of(database, "index") == {}


async def test_full_text_follows_the_rows(database):
    def found(word):
        sql = "SELECT id FROM t WHERE rowid IN (SELECT rowid FROM t__fts WHERE t__fts MATCH ?)"
        return [i for (i,) in database.query(sql, word)]

    program = Program(database.key, [Row(1, "green tree"), Row(2, "blue river")])
    program.more = lambda target: target.declare_fts_index(columns=["text"])
    await database.update(program)
    assert found("tree") == [1]
    program.rows = [Row(1, "dry stone"), Row(3, "tree house")]
    await database.update(program)
    assert (found("tree"), found("stone"), found("river")) == ([3], [1], [])
    program.more = lambda target: target.declare_fts_index(columns=["text"], tokenizer="porter")
    await database.update(program)
    assert found("trees") == [3]
    program.cls = make_dataclass("R", [("id", int), ("text", str), ("n", int)])
    program.rows = [program.cls(1, "dry stone", 1), program.cls(3, "tree house", 2)]
    await database.update(program)
    assert (found("trees"), found("stones")) == ([3], [1])
    program.more = lambda target: None
    await database.update(program)
    assert database.query("SELECT name FROM sqlite_schema WHERE name LIKE '%fts%'") == []


async def test_a_unique_value_may_move_to_another_row(database):
    program = Program(database.key, [Row(1, "a")])
    program.more = lambda target: target.declare_index(columns=["text"], unique=True)
    await database.update(program)
    program.rows = [Row(2, "a")]
    await database.update(program)
    assert database.query("SELECT * FROM t") == [(2, "a")]


async def test_a_user_s_table_needs_a_key_or_a_unique_index(database):
    database.run("CREATE TABLE t (id INTEGER NOT NULL, text TEXT NOT NULL)")
    program = Program(database.key, [Row(1, "a")], managed_by="user")
    with pytest.raises(TargetError, match=r"primary key \(id\): it has none"):
        await database.update(program)
    database.run("CREATE UNIQUE INDEX u ON t (id) WHERE id > 0")
    with pytest.raises(TargetError, match=r"primary key \(id\): it has none"):
        await database.update(program)
    database.run("CREATE UNIQUE INDEX v ON t (id)")
    await database.update(program)
    assert database.query("SELECT * FROM t") == [(1, "a")]


@pytest.mark.parametrize("columns", [[], ["x"], "text"])
async def test_attachments_are_checked_where_they_are_declared(database, columns):
    program = Program(database.key, [])
    for declare in ("declare_index", "declare_fts_index"):
        program.more = lambda target, declare=declare: getattr(target, declare)(columns=columns)
        with pytest.raises(ValueError, match="column"):
            await database.update(program)


async def test_a_table_that_goes_takes_its_attachments_along(database):
    program = Program(database.key, [Row(1, "a")])
    program.more = lambda target: target.declare_index(columns=["text"])
    await database.update(program)

    async def nothing() -> None:
        pass

    await database.update(nothing)
    assert schema_of(database, "index") == {}


# --- Others --------------------------------------------------------------------------------


async def test_many_rows_need_few_transactions(database, monkeypatch):
    begun = []
    begin = connections._begin
    monkeypatch.setattr(connections, "_begin", lambda db: (begun.append(1), begin(db)))
    program = Program(database.key, [Row(i, f"{i}") for i in range(20_000)])
    await database.update(program)
    assert len(begun) == 1 + 2  # the table, and 10,000 rows each
    begun.clear()
    program.rows[7] = Row(7, "changed")
    await database.update(program)
    await database.update(program)
    assert len(begun) == 1
    assert database.query("SELECT count(*), max(text) FROM t") == [(20_000, "changed")]


async def test_a_row_that_the_table_refuses_fails_its_component_only(database):
    """One of 40,000."""
    cls = make_dataclass("R", [("id", int), ("n", int)])
    failures = []

    @coco.fn
    async def part(numbers, target):
        for i in numbers:
            target.declare_row(row=cls(i, 2 * i))

    async def note(error, _context):
        failures.append(error)

    async def main():
        schema = await sqlite.TableSchema.from_class(cls, ["id"])
        target = await sqlite.mount_table_target(database.key, "t", schema)
        parts = [(i, range(i, i + 100)) for i in range(0, 40_000, 100)]
        async with coco.exception_handler(note):
            await coco.mount_each(part, parts, target)

    database.run(
        "CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, n INTEGER NOT NULL CHECK (n <> 26262))"
    )
    await database.update(main)
    assert database.query("SELECT count(*) FROM t") == [(39_900,)]
    assert database.query("SELECT count(*) FROM t WHERE id / 100 = 131") == [(0,)]
    (failure,) = failures
    assert "table t" in str(failure)
    assert "row 13131: CHECK constraint failed" in str(failure)
    assert str(failure).count("26262") == 1  # in the constraint, which SQLite quotes


async def test_the_statistics_tell_what_was_written(database):
    environment = coco.Environment(coco.Settings(db_path=database.folder / "state"))
    program = Program(database.key, [Row(i, "x" * 100) for i in range(50)])
    with database.open() as connection:
        environment.context_provider.provide(database.key, connection)
        app = coco.App(coco.AppConfig("app", environment), program)
        for rows, expected in [(program.rows, (50, 0)), (program.rows[10:], (0, 10))]:
            program.rows = rows
            handle = app.update()
            await handle
            done = handle.stats().by_target["SQLite table t"]
            assert (done.rows_upserted, done.rows_deleted) == expected
            assert (done.statements, done.retries) == (1, 0)
            assert (done.bytes > 5000) == (expected[0] > 0)
            assert done.seconds > 0
        await (handle := app.update())
        assert handle.stats().by_target == {}
    environment.close()


async def test_two_apps_that_start_at_once_create_the_table_once(tmp_path, database):
    other = type(database)(tmp_path / "other")
    other.file = database.file
    await asyncio.gather(
        database.update(Program(database.key, [Row(1, "a")])),
        other.update(Program(database.key, [Row(2, "b")])),
    )
    assert database.query("SELECT * FROM t") == [(1, "a"), (2, "b")]


async def test_the_lock_of_another_process_is_waited_for(database, monkeypatch):
    waiting = threading.Event()
    begin = connections._begin

    def begin_and_say_so(connection):
        waiting.set()
        begin(connection)

    monkeypatch.setattr(connections, "_begin", begin_and_say_so)
    with closing(sqlite3.connect(database.file, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=wal").fetchall()
        other.execute("BEGIN IMMEDIATE")
        update = asyncio.create_task(database.update(Program(database.key, [Row(1, "a")])))
        await asyncio.to_thread(waiting.wait, 10)
        other.execute("COMMIT")
        await update
    assert database.query("SELECT * FROM t") == [(1, "a")]


async def test_a_lock_that_is_never_given_up_is_told(database, monkeypatch):
    from cocoindex.connectorkits import retry

    monkeypatch.setattr(retry.retrying, "__kwdefaults__", {
        **retry.retrying.__kwdefaults__, "backoff": lambda: lambda _attempt: 0.0,
    })  # fmt: skip
    database.options["timeout"] = 0.01
    await database.update(Program(database.key, []))
    with closing(sqlite3.connect(database.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransientError, match=r"SQLite table t: .*locked.*gave up after 5"):
            await database.update(Program(database.key, [Row(1, "a")]))
    await database.update(Program(database.key, [Row(1, "a")]))
    assert database.query("SELECT * FROM t") == [(1, "a")]


async def test_a_read_only_database_is_told(database):
    await database.update(Program(database.key, []))
    database.options["uri"] = True
    file, database.file = database.file, f"file:{database.file}?mode=ro"
    with pytest.raises(TargetError, match=r"SQLite table t: .*readonly"):
        await database.update(Program(database.key, [Row(1, "a")]))
    database.file = file
    await database.update(Program(database.key, [Row(1, "a")]))
    assert database.query("SELECT * FROM t") == [(1, "a")]


async def test_a_full_disk_is_told_and_costs_nothing(database):
    await database.update(Program(database.key, []))
    original = connections._Opener.open

    def small(self, *, readonly=False):
        connection = original(self, readonly=readonly)
        connection.execute("PRAGMA max_page_count=20").fetchall()
        return connection

    rows = [Row(i, "x" * 1000) for i in range(1000)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections._Opener, "open", small)
        with pytest.raises(TargetError, match=r"SQLite table t: .*full"):
            await database.update(Program(database.key, rows))
    assert database.query("SELECT count(*) FROM t") == [(0,)]
    await database.update(Program(database.key, rows))
    assert database.query("SELECT count(*) FROM t") == [(1000,)]


@pytest.mark.parametrize("name", ["sqlite_mine", "SQLITE_x"])
async def test_names_that_sqlite_keeps_for_itself(database, name):
    schema = await sqlite.TableSchema.from_class(Row, ["id"])
    with pytest.raises(ValueError, match=r"Invalid table name.*sqlite_\*"):
        sqlite.table_target(database.key, name, schema)


async def test_columns_that_differ_in_case_only(database):
    cls = make_dataclass("R", [("id", int), ("a", int), ("A", int)])
    schema = await sqlite.TableSchema.from_class(cls, ["id"])
    with pytest.raises(ValueError, match="more than case"):
        sqlite.table_target(database.key, "t", schema)


async def test_quoted_names_may_be_anything(database):
    cls = make_dataclass("R", [("id", int)])
    schema = sqlite.TableSchema(
        {"an id": sqlite.ColumnDef("INTEGER"), "größe (m)": sqlite.ColumnDef("REAL")}, ["an id"]
    )
    assert cls

    async def main() -> None:
        target = await sqlite.mount_table_target(database.key, "my table", schema, quoted=True)
        target.declare_row(row={"an id": 1, "größe (m)": 1.5})

    await database.update(main)
    await database.update(main)
    assert database.query('SELECT "an id", "größe (m)" FROM "my table"') == [(1, 1.5)]


async def test_a_connection_of_another_kind_is_refused(database):
    environment = coco.Environment(coco.Settings(db_path=database.folder / "state"))
    with closing(sqlite3.connect(database.file)) as plain:
        environment.context_provider.provide(database.key, plain)
        app = coco.App(coco.AppConfig("a", environment), Program(database.key, []))
        with pytest.raises(TypeError, match=r"'tests/sqlite/db' should hold ManagedConnection"):
            await app.update()
    environment.close()


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
async def test_a_mount_that_nobody_awaits_fails_and_drops_nothing(database):
    await database.update(Program(database.key, [Row(1, "a")]))

    async def forgetful():
        schema = await sqlite.TableSchema.from_class(Row, ["id"])
        sqlite.mount_table_target(database.key, "t", schema)

    with pytest.raises(RuntimeError, match="without awaiting it"):
        await database.update(forgetful)
    gc.collect()  # while the warning is expected
    assert database.query("SELECT * FROM t") == [(1, "a")]

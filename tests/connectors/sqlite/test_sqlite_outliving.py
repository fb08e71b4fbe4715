"""Attachments that a dropped table would leave behind, on a dialect made for the test."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

import cocoindex as coco
from cocoindex.connectorkits import tables
from cocoindex.connectors import sqlite
from cocoindex.connectors.sqlite._dialect import SqliteDialect


class Command(NamedTuple):
    setup: str
    teardown: str


class Commands(tables.AttachmentKind[Command]):
    outlives_table = True

    def data(self, spec):
        return (spec.teardown,)

    async def create(self, client, layout, key, spec):
        await _run(client, spec.setup)
        return True

    async def drop(self, client, layout, key, data):
        await _run(client, data[0])


async def _run(client, sql):
    async with client.transaction_of_task() as tx:
        await tx.call(lambda db: db.execute(sql))


class Dependents(Exception):
    pass


class Dialect(SqliteDialect):
    """Refuses to drop a table as long as a view stands, as servers do."""

    name = "SQLite with commands"
    attachments = {"command": Commands()}

    def is_blocked(self, error):
        return isinstance(error, Dependents)

    async def apply(self, tx, existing, operations):
        if any(isinstance(op, tables.DropTable) for op in operations):
            await tx.call(_refuse_if_in_use)
        await super().apply(tx, existing, operations)


def _refuse_if_in_use(db):
    if db.execute("SELECT 1 FROM sqlite_schema WHERE type = 'view'").fetchall():
        raise Dependents("a view depends on it")


DIALECT = Dialect()


class Target(tables.TableTarget[Any, coco.MaybePendingS]):
    dialect = DIALECT

    def declare_command(self, name, setup, teardown):
        self._attach("command", name, Command(setup, teardown))


ROOT = coco.register_root_target_states_provider("tests/outliving", tables.TableHandler(DIALECT))

SCHEMA = sqlite.TableSchema(
    {"id": sqlite.ColumnDef("INTEGER"), "text": sqlite.ColumnDef("TEXT")}, ["id"]
)


@coco.fn
async def declare(row, target):
    target.declare_row(row=row)


class Program:
    def __init__(self, key, *, spread, command=True, **options):
        self.key, self.spread, self.command, self.options = key, spread, command, options

    async def __call__(self):
        state = tables.table_state(ROOT, DIALECT, self.key, ("t",), SCHEMA, self.options)
        target = await Target.mounted(state)
        if self.command:
            target.declare_command("v", "CREATE VIEW IF NOT EXISTS v AS SELECT 1", "DROP VIEW v")
        rows = [{"id": i, "text": "x"} for i in range(3)]
        if self.spread:
            await coco.mount_each(declare, [(row["id"], row) for row in rows], target)
        else:
            for row in rows:
                target.declare_row(row=row)


def names(database):
    return {
        name
        for (name,) in database.query("SELECT name FROM sqlite_schema WHERE type != 'index'")
        if name != "_cocoindex_objects"
    }


async def nothing():
    pass


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("runs", [1, 2])
async def test_they_go_before_the_table(database, spread, runs):
    program = Program(database.key, spread=spread)
    for _ in range(runs):
        await database.update(program)
    assert names(database) == {"t", "v"}
    await database.update(nothing)
    assert names(database) == set()


@pytest.mark.parametrize("spread", [False, True])
async def test_what_others_attached_keeps_the_table_until_it_is_gone(database, spread, caplog):
    program = Program(database.key, spread=spread, command=False)
    await database.update(program)
    database.run("CREATE VIEW theirs AS SELECT * FROM t")
    await database.update(nothing)
    assert "drop table t: a view depends on it (Dependents)" in caplog.text
    assert names(database) == {"t", "theirs"}
    await database.update(program)
    assert database.query("SELECT count(*) FROM t") == [(3,)]
    database.run("DROP VIEW theirs")
    await database.update(nothing)
    assert names(database) == set()


@pytest.mark.parametrize("managed_by", ["user", "system"])
async def test_they_go_from_a_table_in_which_rows_are_kept(database, managed_by):
    database.run("CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, text TEXT)")
    program = Program(database.key, spread=False, managed_by=managed_by, on_undeclare="keep")
    await database.update(program)
    assert names(database) == {"t", "v"}
    await database.update(nothing)
    assert names(database) == {"t"}
    assert database.query("SELECT count(*) FROM t") == [(3,)]

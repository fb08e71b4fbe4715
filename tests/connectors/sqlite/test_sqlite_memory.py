"""Failed runs leave nothing behind in memory, whatever their rows have met."""

from __future__ import annotations

import gc

import pytest

import cocoindex as coco
from cocoindex.connectorkits.tables.actions import TableRun
from cocoindex.connectors import sqlite

DB = coco.ContextKey[sqlite.ManagedConnection]("tests/sqlite/memory")
SCHEMA = sqlite.TableSchema(
    {"id": sqlite.ColumnDef("INTEGER"), "a": sqlite.ColumnDef("TEXT")}, primary_key=["id"]
)


def runs_alive() -> int:
    gc.collect()
    return sum(isinstance(thing, TableRun) for thing in gc.get_objects())


@pytest.mark.parametrize("why", ["rows share a unique value", "the user's table is missing"])
async def test_a_failed_run_keeps_none_of_its_rows(tmp_path, why):
    count = 0

    async def rows(table: sqlite.TableTarget[object]) -> None:
        for number in range(count):
            table.declare_row(row={"id": number, "a": "same"})

    async def main() -> None:
        by = "system" if why.startswith("rows") else "user"
        table = await sqlite.mount_table_target(DB, "t", SCHEMA, managed_by=by)
        if by == "system":
            table.declare_index(columns=["a"], unique=True)
        await coco.use_mount(coco.component_subpath("rows"), rows, table)

    env = coco.Environment(coco.Settings(db_path=tmp_path / "state"))
    with sqlite.managed_connection(tmp_path / "db", load_vec=False) as connection:
        env.context_provider.provide(DB, connection)
        app = coco.App(coco.AppConfig("memory", env), main)
        if why.startswith("rows"):
            await app.update()  # makes the index
        count, before = 3, runs_alive()
        for _ in range(4):
            with pytest.raises(coco.CocoIndexError):
                await app.update()
        assert runs_alive() <= before + 1  # of the last, for the error that is still there
    env.close()

"""What others have in the same file: their tables, indexes and rows are not touched."""

from __future__ import annotations

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

"""What is public, what importing costs, and that the page about it tells the truth."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import cocoindex as coco
from cocoindex.connectors import sqlite

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/connectors/sqlite.md").read_text(encoding="utf-8")


def test_the_public_names():
    assert set(sqlite.__all__) == {
        "ColumnDef", "ManagedConnection", "SqliteType", "TableSchema", "TableTarget",
        "ValueEncoder", "Vec0TableDef", "connect", "declare_table_target", "managed_connection",
        "mount_table_target", "table_target",
    }  # fmt: skip
    for function in (sqlite.table_target, sqlite.declare_table_target, sqlite.mount_table_target):
        assert [*inspect.signature(function).parameters] == [
            "db", "table_name", "table_schema", "virtual_table_def", "options",
        ]  # fmt: skip
    assert sqlite.ColumnDef("TEXT") == ("TEXT", True, None, False)
    assert sqlite.SqliteType("TEXT") == ("TEXT", None)
    assert sqlite.Vec0TableDef().module_name == "vec0"


def test_importing_it_is_cheap():
    program = (
        "import sys, threading, cocoindex.connectors.sqlite\n"
        "print([m for m in ('numpy', 'apsw', 'pysqlite3', 'sqlite_vec') if m in sys.modules], "
        "threading.active_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[] 1\n"


def test_names_on_the_page_exist():
    names = re.findall(r"\bsqlite\.([A-Za-z_]\w*)", PAGE)
    assert {name for name in names if not hasattr(sqlite, name)} <= {"md"}
    for option in re.findall(r"`(\w+)=", PAGE):
        known = {
            *inspect.signature(sqlite.connect).parameters,
            *sqlite.target.SqliteOptions.__annotations__,
            "column_overrides",
        }
        assert option in known, option


async def test_the_first_program_on_the_page_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (program,) = (b for b in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "app_main" in b)
    without_lifespan = program[: program.index("@coco")] + program[program.index("@dataclass") :]
    without_app = without_lifespan[: without_lifespan.index("app = ")]
    (tmp_path / "page.py").write_text(without_app, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import page

    environment = coco.Environment(coco.Settings(db_path=tmp_path / "state"))
    with sqlite.managed_connection("notes.sqlite") as connection:
        environment.context_provider.provide(page.DB, connection)
        await coco.App(coco.AppConfig("page", environment), page.app_main).update()
        with connection.readonly() as db:
            assert [tuple(row) for row in db.execute("SELECT * FROM notes")] == [
                ("trees", 7, '["green"]')
            ]
    environment.close()

"""Previews of tables: in the user's names, without what is in the rows."""

from __future__ import annotations

import json
from typing import Any

import pytest

PROGRAM = """
    import pathlib
    import sqlite3
    from dataclasses import dataclass
    import cocoindex as coco
    from cocoindex.connectors import sqlite

    DB = coco.ContextKey("db")

    @dataclass
    class Note:
        name: str
        text: str

    @coco.lifespan
    def lifespan(builder):
        builder.settings.db_path = pathlib.Path("store")
        with sqlite.managed_connection("notes.db") as connection:
            builder.provide(DB, connection)
            yield

    @coco.fn
    async def app_main():
        schema = await sqlite.TableSchema.from_class(Note, ["name"])
        table = await sqlite.mount_table_target(DB, "notes", schema)
        for path in sorted(pathlib.Path("in").iterdir()):
            table.declare_row(row=Note(path.name, path.read_text()))

    app = coco.App("Notes", app_main)
"""


@pytest.fixture
def notes(project: Any) -> Any:
    project.write("main.py", PROGRAM)
    project.write("in/a.txt", "SECRET")
    return project


def planned(project: Any) -> list[str]:
    lines = project.run("update", "main.py", "--preview").stdout.splitlines()
    return [line.strip() for line in lines[lines.index("Preview: planned target actions") + 1 :]]


def test_a_plan_names_tables_and_keys_but_no_values(notes: Any) -> None:
    assert planned(notes) == [
        "db:notes:",
        "create table (name, text)",
        "create row 'a.txt'",
        "Total: 2 actions: 2 create",
    ]


def test_a_plan_tells_changes_from_additions(notes: Any) -> None:
    assert notes.run("update", "main.py", "-q").returncode == 0
    notes.write("in/a.txt", "changed")
    notes.write("in/b.txt", "SECRET")
    assert planned(notes) == [
        "db:notes:",
        "keep table",
        "update row 'a.txt'",
        "create row 'b.txt'",
        "Total: 3 actions: 1 keep, 1 update, 1 create",
    ]
    text = notes.read("main.py").replace("        text: str\n", "        text: str | None\n")
    notes.write("main.py", text.replace("    text: str\n", "    text: str | None\n"))
    assert "alter table (text)" in planned(notes)
    (notes.root / "in/a.txt").unlink()
    assert "delete row 'a.txt'" in planned(notes)


def test_with_nothing_to_do_there_is_nothing_to_tell(notes: Any) -> None:
    assert notes.run("update", "main.py", "-q").returncode == 0
    assert notes.run("update", "main.py", "--preview", "--exit-code").returncode == 0
    done = notes.run("update", "main.py", "--preview", "--json")
    assert json.loads(done.stdout)["by_verb"] == {"keep": 1}
    notes.write("in/a.txt", "changed")
    assert notes.run("update", "main.py", "--preview", "--exit-code").returncode == 1

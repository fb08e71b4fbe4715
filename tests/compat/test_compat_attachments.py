"""Programs written after the guide's attachment providers keep working, over a real database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROWS = [{"pk": "1", "name": "Ada"}, {"pk": "2", "name": "Bob"}]


@pytest.fixture
def db(load: Callable[[str], ModuleType], tmp_path: Path) -> ModuleType:
    program = load("attachments")
    program.pool.database = str(tmp_path / "target.sqlite")
    program.pool.log.clear()
    program.commands_seen.clear()
    return program


@pytest.fixture
def update(db: ModuleType, host: Any) -> Any:
    """Update with these rows, indexes and commands; the statements apart from CREATE TABLE."""

    def run(
        rows: list[dict[str, str]],
        indexes: dict[str, dict[str, str]] | None = None,
        commands: dict[str, tuple[str, str | None]] | None = None,
    ) -> list[str]:
        async def main() -> None:
            target = await db.table_target("people", ("name",))
            for row in rows:
                target.declare_row(row=row)
            for name, spec in (indexes or {}).items():
                target.declare_vector_index(name=name, **spec)
            for name, (setup, teardown) in (commands or {}).items():
                target.declare_sql_command(name=name, setup_sql=setup, teardown_sql=teardown)

        db.pool.log.clear()
        db.commands_seen.clear()
        host.update(main)
        return [line for line in db.pool.log if not line.startswith("CREATE TABLE")]

    return run


def rows_of(db: ModuleType) -> list[Any]:
    return list(db.pool.query('SELECT pk, name FROM "people" ORDER BY pk'))


def schema(db: ModuleType, kind: str) -> list[str]:
    found = db.pool.query(
        f"SELECT name FROM sqlite_master WHERE type = '{kind}' AND sql IS NOT NULL ORDER BY name"
    )
    return [name for (name,) in found]


def test_rows_and_indexes_are_created(db: ModuleType, update: Any) -> None:
    update(ROWS, {"by_name": {"column": "name"}})
    assert rows_of(db) == [("1", "Ada"), ("2", "Bob")]
    assert schema(db, "index") == ["by_name"]


def test_nothing_is_done_when_nothing_changed(update: Any) -> None:
    update(ROWS, {"by_name": {"column": "name"}}, {"v": ("CREATE VIEW v AS SELECT 1", None)})
    again = update(
        ROWS, {"by_name": {"column": "name"}}, {"v": ("CREATE VIEW v AS SELECT 1", None)}
    )
    assert again == []


def test_an_index_with_another_spec_is_made_again(update: Any) -> None:
    update(ROWS, {"by_name": {"column": "name"}})
    assert update(ROWS, {"by_name": {"column": "name", "metric": "l2"}}) == [
        'DROP INDEX IF EXISTS "by_name"',
        'CREATE INDEX "by_name" ON "people" ("name")',
    ]


def test_rows_change_without_touching_the_index(db: ModuleType, update: Any) -> None:
    update(ROWS, {"by_name": {"column": "name"}})
    assert update(ROWS[:1], {"by_name": {"column": "name"}}) == [
        'DELETE FROM "people" WHERE pk = ?'
    ]
    assert rows_of(db) == [("1", "Ada")]


def test_an_index_no_longer_declared_is_dropped_though_nobody_asked_for_indexes(
    db: ModuleType, update: Any
) -> None:
    update(ROWS, {"by_name": {"column": "name"}})
    assert update(ROWS) == ['DROP INDEX IF EXISTS "by_name"']
    assert schema(db, "index") == []
    assert rows_of(db) == [("1", "Ada"), ("2", "Bob")]


def test_teardown_finds_the_full_spec_in_the_record(db: ModuleType, update: Any) -> None:
    setup, teardown = "CREATE VIEW names AS SELECT name FROM people", "DROP VIEW names"
    update(ROWS, commands={"names": (setup, teardown)})
    assert schema(db, "view") == ["names"]

    assert update(ROWS) == [teardown]
    assert db.commands_seen == [[db._SqlCommandSpec(setup, teardown)]]
    assert type(db.commands_seen[0][0]) is db._SqlCommandSpec
    assert schema(db, "view") == []


def test_a_changed_command_is_torn_down_and_set_up(db: ModuleType, update: Any) -> None:
    update(ROWS, commands={"v": ("CREATE VIEW v1 AS SELECT 1", "DROP VIEW v1")})
    statements = update(ROWS, commands={"v": ("CREATE VIEW v2 AS SELECT 2", None)})
    assert statements == ["DROP VIEW v1", "CREATE VIEW v2 AS SELECT 2"]
    assert schema(db, "view") == ["v2"]


def test_two_kinds_of_attachment_may_use_the_same_name(db: ModuleType, update: Any) -> None:
    update(ROWS, {"x": {"column": "name"}}, {"x": ("CREATE VIEW vx AS SELECT 1", "DROP VIEW vx")})
    update(ROWS, {"x": {"column": "name"}})
    assert (schema(db, "index"), schema(db, "view")) == (["x"], [])


def test_the_table_takes_rows_and_indexes_with_it(db: ModuleType, update: Any, host: Any) -> None:
    update(ROWS, {"by_name": {"column": "name"}})
    db.pool.log.clear()
    host.update(lambda: None)
    assert db.pool.log == ['DROP TABLE IF EXISTS "people"']
    assert schema(db, "table") == []

"""Programs that write into a SQLite file, as freshly started processes would."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.connectors import sqlite

DB = coco.ContextKey[sqlite.ManagedConnection]("tests/sqlite/db")


class Database:
    """A database file with an app in front of it."""

    key = DB

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.file = folder / "db.sqlite"
        self.options = options
        self.foreign_keys = False
        """Whether connections enforce them."""
        self.name = "app"

    async def update(
        self,
        main: Callable[[], Awaitable[Any]],
        *,
        provide: dict[coco.ContextKey[Any], Any] | None = None,
        **options: Any,
    ) -> None:
        """Run ``main`` once. ``provide`` adds values of context; ``...`` is the connection."""
        environment = coco.Environment(coco.Settings(db_path=self.folder / "state"))
        with self.open() as connection:
            for key, value in {DB: connection, **(provide or {})}.items():
                environment.context_provider.provide(key, connection if value is ... else value)
            try:
                await coco.App(coco.AppConfig(self.name, environment), main).update(**options)
            finally:
                environment.close()

    @contextlib.contextmanager
    def open(self, **options: Any) -> Iterator[sqlite.ManagedConnection]:
        with sqlite.managed_connection(
            self.file, synchronous="off", **{**self.options, **options}
        ) as connection:
            if self.foreign_keys:
                connection._connection.execute("PRAGMA foreign_keys=ON")
            yield connection

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.open() as connection, connection.readonly() as db:
            return [tuple(row) for row in db.execute(sql, values).fetchall()]

    def run(self, sql: str) -> None:
        with self.open() as connection, connection.transaction() as db:
            db.execute(sql)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path)


@pytest.fixture(params=["pysqlite3", "apsw"])
def vector_database(tmp_path: Path, request: pytest.FixtureRequest) -> Database:
    pytest.importorskip(request.param)
    return Database(tmp_path, driver=request.param, load_vec=True)

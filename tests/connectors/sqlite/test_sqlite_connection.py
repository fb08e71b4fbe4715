from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
from numpy.typing import NDArray

import cocoindex as coco
from cocoindex.connectors import sqlite
from cocoindex.connectors.sqlite import _drivers
from cocoindex.errors import TargetConnectionError
from cocoindex.resources.schema import VectorSchema

DB = coco.ContextKey[sqlite.ManagedConnection]("tests/sqlite/connection")


@dataclass
class Chunk:
    id: int
    embedding: Annotated[NDArray[np.float32], VectorSchema(3)]


CAN_LOAD = hasattr(sqlite3.Connection, "enable_load_extension")


@pytest.fixture(params=["sqlite3", "pysqlite3", "apsw"])
def driver(request):
    if request.param != "sqlite3":
        pytest.importorskip(request.param)
    return request.param


def test_a_transaction_is_all_or_nothing(tmp_path, driver):
    with sqlite.managed_connection(tmp_path / "db", driver=driver, load_vec=False) as connection:
        assert connection.driver == driver
        with connection.transaction() as db:
            db.execute("CREATE TABLE t (a)")
            db.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(LookupError), connection.transaction() as db:
            db.execute("INSERT INTO t VALUES (2)")
            raise LookupError
        with connection.readonly() as db:
            assert [*db.execute("SELECT a FROM t")] == [(1,)]


def test_readers_see_what_was_committed_and_do_not_wait(tmp_path, driver):
    with sqlite.managed_connection(tmp_path / "db", driver=driver) as connection:
        with connection.transaction() as db:
            db.execute("CREATE TABLE t (a)")
        with connection.transaction() as db:
            db.execute("INSERT INTO t VALUES (1)")
            with connection.readonly() as reader:
                assert reader.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
        with connection.readonly() as reader:
            assert reader.execute("SELECT count(*) FROM t").fetchall() == [(1,)]


def test_readers_can_not_write(tmp_path, driver):
    with sqlite.managed_connection(tmp_path / "db", driver=driver) as connection:
        with connection.transaction() as db:
            db.execute("CREATE TABLE t (a)")
        with connection.readonly() as db, pytest.raises(Exception, match="readonly"):
            db.execute("INSERT INTO t VALUES (1)")


def test_a_database_in_memory_has_one_connection(driver):
    with sqlite.managed_connection(":memory:", driver=driver) as connection:
        with connection.transaction() as db:
            db.execute("CREATE TABLE t (a)")
        with connection.readonly() as db:
            assert db.execute("SELECT count(*) FROM t").fetchall() == [(0,)]


def test_one_writer_at_a_time(tmp_path):
    with sqlite.managed_connection(tmp_path / "db") as connection:
        with connection.transaction() as db:
            db.execute("CREATE TABLE t (a)")

        def count() -> None:
            for _ in range(20):
                with connection.transaction() as db:
                    (n,) = db.execute("SELECT count(*) FROM t").fetchone()
                    db.execute("INSERT INTO t VALUES (?)", [n])

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with connection.readonly() as db:
            assert db.execute("SELECT a FROM t").fetchall() == [(i,) for i in range(80)]


def test_a_closed_connection_says_so(tmp_path):
    connection = sqlite.connect(tmp_path / "db")
    with connection.readonly():
        pass
    connection.close()
    connection.close()
    for use in (connection.transaction, connection.readonly):
        with pytest.raises(RuntimeError, match="is closed"), use():
            pass


def test_settings_of_the_file(tmp_path):
    with (
        sqlite.managed_connection(tmp_path / "db", timeout=1.5) as connection,
        connection.transaction() as db,
    ):
        pragmas = {
            name: db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 1500}


def test_an_unknown_driver(tmp_path):
    with pytest.raises(ValueError, match="driver must be"):
        sqlite.connect(tmp_path / "db", driver="mysql")


# --- sqlite-vec ----------------------------------------------------------------------------


def test_extensions_are_loaded_where_that_is_possible(tmp_path, driver):
    with sqlite.managed_connection(tmp_path / "db", driver=driver) as connection:
        assert connection.driver == driver
        if driver == "sqlite3" and not CAN_LOAD:
            assert connection.loaded_extensions == set()
            return
        assert connection.loaded_extensions == {"sqlite-vec"}
        with connection.readonly() as db:
            assert db.execute("SELECT vec_version()").fetchall()[0][0].startswith("v")


def test_pythons_own_is_used_where_it_can_load_extensions():
    class Standard:
        Error = sqlite3.Error

        class Connection:
            enable_load_extension = None

    assert _drivers._dbapi("sqlite3", Standard).loads_extensions


def test_nothing_is_loaded_unless_wanted(tmp_path):
    with sqlite.managed_connection(tmp_path / "db", load_vec=False) as connection:
        assert connection.loaded_extensions == set()
        assert connection.driver == "sqlite3"


def missing(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)


def test_without_sqlite_vec_connections_work_without_vectors(tmp_path, monkeypatch):
    missing(monkeypatch, "sqlite_vec")
    with sqlite.managed_connection(tmp_path / "db") as connection:
        assert connection.loaded_extensions == set()
    with pytest.raises(ImportError, match=r"sqlite-vec.*Please install cocoindex\[sqlite\]\."):
        sqlite.connect(tmp_path / "db", load_vec=True)


@pytest.mark.skipif(CAN_LOAD, reason="this Python's sqlite3 can load extensions")
def test_a_python_without_extensions_works_without_vectors_and_says_what_to_do(tmp_path):
    with sqlite.managed_connection(tmp_path / "db") as connection:
        assert connection.loaded_extensions == set()
    with pytest.raises(RuntimeError, match=r"(?s)extension must be loaded.*driver='apsw'"):
        sqlite.connect(tmp_path / "db", load_vec=True)


def without_extensions(monkeypatch):
    """As a Python whose sqlite3 can't load extensions."""
    standard = _drivers.choose("sqlite3")._replace(loads_extensions=False)
    monkeypatch.setitem(_drivers._MAKERS, "sqlite3", lambda: standard)


async def message_about_vectors(tmp_path, **options):
    """What the first program with a vector column is told."""

    async def main():
        schema = await sqlite.TableSchema.from_class(Chunk, ["id"])
        await sqlite.mount_table_target(DB, "chunks", schema)

    environment = coco.Environment(coco.Settings(db_path=tmp_path / "state"))
    with sqlite.managed_connection(tmp_path / "notes.sqlite", **options) as connection:
        environment.context_provider.provide(DB, connection)
        with pytest.raises(RuntimeError, match="sqlite-vec extension must be loaded") as raised:
            await coco.App(coco.AppConfig("app", environment), main).update()
        environment.close()
    return str(raised.value).replace(str(tmp_path), "")


async def test_a_program_with_vectors_is_told_the_line_to_change(tmp_path, monkeypatch):
    without_extensions(monkeypatch)
    said = await message_about_vectors(tmp_path)
    assert "the sqlite3 module of this Python can't load extensions" in said
    assert "sqlite.managed_connection('/notes.sqlite', driver='apsw')" in said


async def test_a_program_with_vectors_is_told_what_to_install(tmp_path, monkeypatch):
    missing(monkeypatch, "sqlite_vec")
    without_extensions(monkeypatch)
    said = await message_about_vectors(tmp_path)
    assert "pip install 'cocoindex[sqlite]'" in said
    assert "driver='apsw'" in said  # this would be the next obstacle
    assert "driver=" not in await message_about_vectors(tmp_path, driver="apsw")


async def test_a_program_with_vectors_is_told_that_it_did_not_want_them(tmp_path):
    assert "was opened with load_vec=False" in await message_about_vectors(tmp_path, load_vec=False)


# --- files that can't be opened ------------------------------------------------------------


def test_a_file_that_can_not_be_opened_is_named(tmp_path, driver):
    with pytest.raises(
        ConnectionError, match=r"can't open .*/none/db \(there is no folder .*/none"
    ):
        sqlite.connect(tmp_path / "none/db", driver=driver)
    with pytest.raises(TargetConnectionError, match=r"can't open .* \(it is a folder\): "):
        sqlite.connect(tmp_path, driver=driver)
    (tmp_path / "text").write_text("This is no database. " * 100)
    with pytest.raises(TargetConnectionError, match=r"can't open .*/text: .*not a database"):
        sqlite.connect(tmp_path / "text", driver=driver)


def test_a_driver_that_is_not_installed(tmp_path, monkeypatch):
    missing(monkeypatch, "apsw")
    with pytest.raises(ImportError, match=r"needs the package apsw\. Please install"):
        sqlite.connect(tmp_path / "db", driver="apsw")


# --- tasks ---------------------------------------------------------------------------------


async def test_a_cancelled_task_is_rolled_back_and_leaves_the_connection_usable(tmp_path, driver):
    with sqlite.managed_connection(tmp_path / "db", driver=driver) as connection:
        with connection.transaction() as db:
            db.execute("CREATE TABLE t (a)")
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def endless(db):
            db.execute("INSERT INTO t VALUES (1)")
            loop.call_soon_threadsafe(started.set)
            db.execute(
                "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
                "SELECT i FROM n"
            )

        async def work():
            async with connection.transaction_of_task() as tx:
                await tx.call(endless)

        task = asyncio.create_task(work())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with connection.transaction() as db:
            assert db.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
            db.execute("INSERT INTO t VALUES (2)")


async def test_a_task_cancelled_at_any_point_leaves_no_transaction_open(tmp_path, driver):
    with sqlite.managed_connection(tmp_path / "db", driver=driver, synchronous="off") as connection:

        async def use():
            async with connection.transaction_of_task() as tx:
                await tx.call(lambda db: db.execute("CREATE TABLE IF NOT EXISTS t (a)"))

        for attempt in range(60):
            task = asyncio.create_task(use())
            for _ in range(attempt % 8):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert not connection._connection.in_transaction
        await use()
        with connection.readonly() as db:
            assert db.execute("SELECT count(*) FROM t").fetchall() == [(0,)]

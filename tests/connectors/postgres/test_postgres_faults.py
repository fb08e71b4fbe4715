"""What can go wrong on the way, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import socket
from typing import Annotated
from urllib.parse import urlsplit

import asyncpg
import numpy as np
import pytest
from numpy.typing import NDArray

from cocoindex.connectors.postgres._rows import RowStatements
from cocoindex.errors import TargetConnectionError, TargetError, TransientError
from cocoindex.resources.schema import VectorSchema


@dataclasses.dataclass(frozen=True)
class Doc:
    id: int
    title: str
    emb: Annotated[NDArray[np.float32], VectorSchema(3)]


@dataclasses.dataclass(frozen=True)
class Wider:
    id: int
    title: str | None
    emb: Annotated[NDArray[np.float32], VectorSchema(3)]
    note: str | None


@dataclasses.dataclass(frozen=True)
class Plain:
    id: int
    n: int


def vector(number):
    return np.full(3, number, np.float32)


def with_index(target):
    target.declare_vector_index(column="emb", method="hnsw")


@pytest.fixture(autouse=True)
def _retries_do_not_wait(monkeypatch):
    from cocoindex.connectorkits.retry import retrying

    monkeypatch.setitem(retrying.__kwdefaults__, "backoff", lambda: lambda _attempt: 0.0)


async def history(world, **options):
    """Make, fill and index a table; change its columns and rows."""
    RowStatements.of.cache_clear()  # what was found out about the table
    first = [Doc(i, f"title {i}", vector(i)) for i in range(8)]
    await world.update(world.table(first, Doc, attach=with_index), **options)
    second = [Wider(i, f"title {i}", vector(i), f"note {i}") for i in range(4, 12)]
    await world.update(world.table(second, Wider, attach=with_index), **options)
    rows = await world.fetch("SELECT id, title, emb::text, note FROM docs ORDER BY id")
    return rows, await world.columns(), await world.indexes()


async def test_connections_lost_at_any_request_are_not_noticed(world, proxy):
    """One before a request, another one after one half a history away."""
    expected = await history(world)
    await world.update(world.nothing)
    await history(world, url=proxy.url)
    count = proxy.requests
    assert count > 20
    for number in range(1, count + 1):
        await world.update(world.nothing)
        assert await world.columns() == {}
        proxy.requests, proxy.cuts = 0, 0
        proxy.cut = {number: "before", (number + count // 2) % count + 1: "after"}
        assert await history(world, url=proxy.url) == expected, proxy.cut
        assert proxy.cuts == 2


@pytest.mark.parametrize("version", [18, 16])
async def test_a_server_that_restarts_in_the_middle_is_waited_for(world_at, version):
    from cocoindex.testing.postgres import temporary_postgres

    with temporary_postgres(version, settings={"synchronous_commit": "on"}) as server:
        world = world_at(server.create_database(vector=True))
        restarted = []

        def restart_before_writing(rows):
            yield from rows
            restarted.append(server.restart(immediately=True))

        rows = [Plain(i, i) for i in range(1000)]
        await world.update(world.table(rows[:10], Plain))
        await world.update(world.table(restart_before_writing(rows), Plain))
        assert restarted
        assert await world.value("SELECT count(*) FROM docs") == 1000


async def test_a_row_that_the_table_refuses_fails_its_component_only(any_world):
    world = any_world
    await world.execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, n bigint NOT NULL CHECK (n <> 26262))"
    )
    rows = [Plain(i, i * 2) for i in range(40_000)]
    seen = []
    main = world.in_parts(rows, Plain, size=100, failures=seen)
    await world.update(main)
    assert await world.value("SELECT count(*) FROM docs") == 39_900
    assert await world.value("SELECT count(*) FROM docs WHERE id / 100 = 131") == 0
    (failure,) = seen
    assert isinstance(failure, TargetError)
    assert re.search(r"table docs.*row 13131.*docs_n_check", str(failure))
    assert "26262" not in str(failure)


async def test_the_next_run_repairs_what_failed(world):
    await world.execute("CREATE TABLE docs (id bigint PRIMARY KEY, n bigint CHECK (n <> 3))")
    rows = [Plain(i, i) for i in range(6)]
    failures = []
    await world.update(world.in_parts(rows, Plain, size=2, failures=failures))
    assert await world.fetch("SELECT id FROM docs ORDER BY id") == [(0,), (1,), (4,), (5,)]
    await world.execute("ALTER TABLE docs DROP CONSTRAINT docs_n_check")
    failures.clear()
    await world.update(world.in_parts(rows, Plain, size=2, failures=failures))
    assert not failures
    assert await world.value("SELECT count(*) FROM docs") == 6


async def test_a_lock_of_another_session_is_waited_for(any_world):
    world = any_world
    await world.update(world.table([Plain(1, 1)], Plain))
    async with world.connected() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE docs SET n = 7 WHERE id = 1")
        update = asyncio.ensure_future(world.update(world.table([Plain(1, 2)], Plain)))
        await blocked(world)
        await transaction.commit()
        await update
    assert await world.fetch("SELECT * FROM docs") == [(1, 2)]


async def test_a_deadlock_is_resolved(any_world):
    """The other session wants our rows in the opposite order; the server ends one of the two."""
    world = any_world
    await world.execute("ALTER SYSTEM SET deadlock_timeout = '50ms'")
    await world.execute("SELECT pg_reload_conf()")
    await world.update(world.table([Plain(1, 1), Plain(2, 1)], Plain))
    async with world.connected() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE docs SET n = 7 WHERE id = 2")
        rows = [Plain(1, 2), Plain(2, 2)]
        update = asyncio.ensure_future(world.update(world.table(rows, Plain)))
        await blocked(world)
        try:
            await other.execute("UPDATE docs SET n = 7 WHERE id = 1")
        except asyncpg.DeadlockDetectedError:
            await transaction.rollback()
        else:
            await transaction.commit()
        await update
    assert await world.fetch("SELECT * FROM docs ORDER BY id") == [(1, 2), (2, 2)]


async def blocked(world):
    """Return as soon as a session waits for a lock."""
    while not await world.value(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    ):
        await asyncio.sleep(0.01)


async def test_a_server_that_only_reads_says_so_and_nothing_is_lost(any_world):
    world = any_world
    await world.update(world.table([Plain(1, 1)], Plain))
    read_only = "ALTER ROLE CURRENT_USER IN DATABASE {} SET default_transaction_read_only = {}"
    database = await world.value("SELECT quote_ident(current_database())")
    await world.execute(read_only.format(database, "on"))
    with pytest.raises(TargetError, match=r"table docs.*read-only transaction"):
        await world.update(world.table([Plain(1, 2), Plain(2, 2)], Plain))
    async with world.connected() as connection:
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(read_only.format(database, "off"))
    await world.update(world.table([Plain(1, 2), Plain(2, 2)], Plain))
    assert await world.fetch("SELECT * FROM docs ORDER BY id") == [(1, 2), (2, 2)]


async def test_a_full_disk_fails_with_the_table_and_not_with_values(any_world):
    world = any_world
    await world.update(world.table([Plain(1, 1)], Plain))
    await world.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;"
        "CREATE TRIGGER full_disk BEFORE UPDATE ON docs EXECUTE FUNCTION full_disk()"
    )
    with pytest.raises(TargetError, match=r"table docs.*could not extend file") as raised:
        await world.update(world.table([Plain(1, 424242)], Plain))
    assert "424242" not in str(raised.value)
    await world.execute("DROP FUNCTION full_disk CASCADE")
    await world.update(world.table([Plain(1, 424242)], Plain))
    assert await world.fetch("SELECT n FROM docs") == [(424242,)]


async def test_a_server_that_is_not_there_is_named_without_its_password(world_at, caplog):
    world = world_at("postgresql://user:hunter2@127.0.0.1:1/none")
    with pytest.raises(TransientError) as raised:
        await world.update(world.table([Plain(1, 1)], Plain))
    assert str(raised.value).startswith(
        "can't connect to Postgres at 127.0.0.1:1/none (context key 'tests/postgres'): "
    )
    assert "hunter2" not in str(raised.value)
    assert "create table docs failed" in caplog.text  # and tried again
    assert "id bigint" not in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("what", ["password", "database", "host", "url"])
async def test_a_wrong_connection_is_told_once_and_as_such(
    world, world_at, caplog, monkeypatch, what
):
    real = socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        if host == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    parts = urlsplit(world.url)
    wrong, said = {
        "password": (f"postgres:hunter2@{parts.hostname}:{parts.port}/postgres", "authentication"),
        "database": (f"{parts.netloc}/nowhere", 'database "nowhere" does not exist'),
        "host": ("postgres:hunter2@nowhere.invalid:5432/postgres", "Name or service not known"),
        "url": ("", "a URL is like postgresql://"),
    }[what]
    world = world_at(f"postgresql://{wrong}" if wrong else "hunter2")
    with pytest.raises(TargetConnectionError, match=said) as raised:
        await world.update(world.table([Plain(1, 1)], Plain))
    assert isinstance(raised.value, ConnectionError)
    message = str(raised.value)
    assert message.startswith("can't connect to Postgres")
    assert wrong.rpartition("@")[2] in message
    assert "(context key 'tests/postgres')" in message
    assert "hunter2" not in message + caplog.text
    assert parts.password not in message + caplog.text
    assert caplog.text == ""  # it is not tried again


def indexed(target):
    with_index(target)
    target.declare_fts_index(column="title")


async def test_two_processes_that_start_at_once_create_a_table_once(any_world, world_at):
    world = any_world
    worlds = [world, world_at(world.url), world_at(world.url)]
    options = {"pg_schema_name": "kb"}
    mains = [
        w.table([Doc(i, f"from {i}", vector(i))], Doc, attach=indexed, **options)
        for i, w in enumerate(worlds)
    ]
    await asyncio.gather(*(w.update(m) for w, m in zip(worlds, mains, strict=True)))
    assert await world.fetch("SELECT id FROM kb.docs ORDER BY id") == [(0,), (1,), (2,)]
    assert len(await world.indexes()) == 2

"""Opening a store in Postgres: what is made, what is refused, and what is never told."""

import threading
from contextlib import closing

import psycopg
import pytest

from cocoindex.errors import StoreError, StoreFormatError, UsageValueError
from cocoindex.state.open import open_store, store_exists
from cocoindex.state.postgres.location import PostgresLocation
from cocoindex.state.postgres.store import PostgresStore


def store_at(url: str) -> PostgresStore:
    return PostgresStore(PostgresLocation.of(url))


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_processes_that_start_at_once_make_the_tables_once(pg18):
    together = threading.Barrier(8)
    failures: list[BaseException] = []

    def start() -> None:
        together.wait()
        try:
            store_at(f"{pg18}?schema=new").close()
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_tables_are_named_as_promised(pg18):
    store_at(pg18).close()
    with psycopg.connect(pg18) as connection:
        names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        found = [row[0] for row in connection.execute(names)]
        columns = """SELECT table_name, column_name, data_type FROM information_schema.columns
            WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"""
        layout = connection.execute(columns).fetchall()
    assert found == ["cocoindex_state", "cocoindex_state_meta", "cocoindex_state_sections"]
    # A change of it is another format version.
    assert layout == [
        ("cocoindex_state", "section", "integer"),
        ("cocoindex_state", "key", "bytea"),
        ("cocoindex_state", "value", "bytea"),
        ("cocoindex_state_meta", "name", "text"),
        ("cocoindex_state_meta", "value", "text"),
        ("cocoindex_state_sections", "section", "integer"),
        ("cocoindex_state_sections", "name", "text"),
        ("cocoindex_state_sections", "epoch", "bigint"),
        ("cocoindex_state_sections", "seq", "bigint"),
        ("cocoindex_state_sections", "holder_pid", "integer"),
        ("cocoindex_state_sections", "holder_host", "text"),
        ("cocoindex_state_sections", "holder_process", "text"),
        ("cocoindex_state_sections", "expires", "timestamp with time zone"),
    ]


def test_looking_for_a_store_makes_none(pg18):
    assert not store_exists(pg18)
    with pytest.raises(StoreError, match="there is no state store at postgresql://127"):
        open_store(pg18, read_only=True)
    assert not store_exists(pg18)
    store_at(pg18).close()
    assert store_exists(pg18)


@pytest.mark.parametrize(
    ("value", "message"), [("99", "has format version 99"), ("no", "damaged"), ("0", "damaged")]
)
def test_a_store_of_another_format_is_refused(pg18, value, message):
    store_at(pg18).close()
    execute(pg18, f"UPDATE cocoindex_state_meta SET value = '{value}'")
    with pytest.raises(StoreFormatError, match=message):
        store_at(pg18)


def test_one_handle_per_process(pg18):
    with closing(open_store(pg18, holder="environment 'one'")):
        with pytest.raises(StoreError, match="already open in this process, held by environment"):
            open_store(pg18)
    open_store(pg18).close()


def test_a_database_with_another_encoding_is_refused(pg18_server):
    name = "latin"
    with pg18_server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0".encode())
    with pytest.raises(StoreError, match="must have the encoding UTF8, not LATIN1"):
        store_at(pg18_server.url_of(name))
    pg18_server.drop_database(pg18_server.url_of(name))


def test_settings_of_the_role_do_not_weaken_a_commit(pg18):
    database = pg18.rsplit("/")[-1]
    execute(
        pg18,
        f"ALTER DATABASE {database} SET synchronous_commit = off",
        f"ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'",
    )
    with closing(store_at(pg18)) as store, store.connections.use() as connection:
        for name, expected in (
            ("synchronous_commit", "on"),
            ("default_transaction_isolation", "read committed"),
        ):
            row = connection.execute(f"SHOW {name}".encode()).fetchone()
            assert row == (expected,)


# --- secrets -------------------------------------------------------------------------------------

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@127.0.0.1:1/db",
        f"postgresql://me@127.0.0.1:1/db?password={SECRET}",
        f"postgres://me:{SECRET}@no.such.host.invalid/db",
    ],
)
def test_a_wrong_url_fails_with_its_host_and_without_its_password(url):
    location = PostgresLocation.of(url)
    assert SECRET not in repr(location)
    assert SECRET not in str(location)
    with pytest.raises(StoreError, match="Failed to connect to database") as caught:
        open_store(url)
    assert location.host in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_wrong_password_is_told_without_it(pg18):
    location = PostgresLocation.of(pg18, password=SECRET)
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        PostgresStore(location)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__cause__)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:a/{SECRET}@host/db",
        f"postgresql://me:a#{SECRET}@host/db",
        f"postgresql://me:a@b@{SECRET}@host/db",
        f"mysql://me:{SECRET}@host/db",
        SECRET,
    ],
)
def test_a_url_that_cannot_be_read_is_not_quoted(url):
    with pytest.raises(UsageValueError) as caught:
        PostgresLocation.of(url)
    assert SECRET not in str(caught.value)


def test_the_parts_of_a_url_find_their_place():
    location = PostgresLocation.of(
        "postgres://m%40e:p%2Fw@host:5433/db?sslmode=disable&schema=my%20schema"
    )
    assert (location.user, location.password, location.schema) == ("m@e", "p/w", "my schema")
    assert location.url == "postgresql://host:5433/db?sslmode=disable"
    assert str(location) == "postgresql://host:5433/db?schema=my+schema"
    overridden = PostgresLocation.of("postgresql://u:p@h/d", user="v", password="q", schema="s")
    assert (overridden.user, overridden.password, overridden.schema) == ("v", "q", "s")
    socket = PostgresLocation.of("postgresql:///db?host=/run/pg")
    assert str(socket) == "postgresql:///db?host=/run/pg"
    assert socket.host == "/run/pg"

"""What can go wrong between a store and its database."""

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from cocoindex.errors import StoreError, StoreFullError
from cocoindex.state.postgres import connections, writing
from cocoindex.state.postgres.location import PostgresLocation
from cocoindex.state.postgres.store import PostgresStore
from cocoindex.testing.postgres import PostgresServer, temporary_postgres

BATCHES = (
    [(b"a", b"1"), (b"b", b"1")],
    [(b"a", None), (b"b", b"2"), (b"c", b"2")],
    [(b"c", b"3"), (b"d" * 600, b"3")],
)
RESULT = [(b"b", b"2"), (b"c", b"3"), (b"d" * 600, b"3")]


def store_at(url: str) -> PostgresStore:
    return PostgresStore(PostgresLocation.of(url))


def work(store: PostgresStore) -> None:
    section, other = store.section("app"), store.section("other")
    with section.acquire_lease():
        for batch in BATCHES:
            section.write(batch)
            store.flush()
        other.write([(b"a", b"1")])
        section.write([(b"e", b"1")])
        store.flush()
        other.clear()
        section.write([(b"e", None)])
        store.flush()
        assert section.scan(b"") == RESULT
    with section.snapshot() as view:
        assert list(view.scan(b"")) == RESULT
    assert section.get(b"b") == b"2"


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


# --- connections that break ----------------------------------------------------------------------


def count_of_requests(proxy) -> int:
    with closing(store_at(proxy.url)) as store:
        proxy.fail(0, "before")
        work(store)
    assert 15 < proxy.sent < 50
    return int(proxy.sent)


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_connection_lost_at_any_statement_loses_nothing(proxy, how):
    for at in range(1, count_of_requests(proxy) + 1):
        proxy.fail(0, how)
        with closing(store_at(proxy.url)) as store:
            store.section("app").clear()
            store.flush()
            proxy.fail(at, how)
            try:
                work(store)
            except StoreError as error:  # a snapshot can't be continued elsewhere
                assert "Failed to connect" in str(error)  # noqa: PT017 - one of two outcomes
            assert store.section("app").scan(b"") == RESULT
            assert store.section("other").scan(b"") == []


def test_a_batch_that_arrives_late_is_refused(proxy, monkeypatch):
    monkeypatch.setattr(connections, "_LONGEST_GAP", "50ms")
    for at in range(1, count_of_requests(proxy) + 1):
        proxy.fail(0, "late")
        with closing(store_at(proxy.url)) as store:
            store.section("app").clear()
            store.flush()
            proxy.fail(at, "late")
            section, other = store.section("app"), store.section("other")
            with section.acquire_lease():
                for batch in BATCHES:
                    section.write(batch)
                    store.flush()
                other.write([(b"a", b"1")])
                section.write([(b"e", b"3")])
                store.flush()
                proxy.deliver()
                section.clear()
                section.write([*RESULT, (b"e", b"4")])
                other.clear()
                store.flush()
            proxy.deliver()
            assert section.scan(b"") == [*RESULT, (b"e", b"4")]
            assert other.scan(b"") == []


def test_a_batch_of_unknown_fate_is_not_taken_for_the_next(proxy, monkeypatch):
    with closing(store_at(proxy.url)) as store:
        section = store.section("app")
        with section.acquire_lease():
            section.write([(b"a", b"1")])
            store.flush()
            section.write([(b"a", b"2")])
            with monkeypatch.context() as patch:
                patch.setattr(connections, "_PATIENCE", 0.0)
                proxy.fail(1, "after")
                with pytest.raises(StoreError, match="Failed to connect to database at 127"):
                    store.flush()
            section.reset_failure()
            assert section.get(b"a") == b"2"  # it has arrived, unknown to the store
            section.write([(b"b", b"3")])
            store.flush()
            assert section.scan(b"") == [(b"a", b"2"), (b"b", b"3")]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with temporary_postgres() as server:
        yield server


@pytest.mark.parametrize("immediately", [False, True])
def test_a_restart_of_the_server_is_waited_for(server, immediately):
    with closing(store_at(server.create_database())) as store:
        section = store.section("app")
        with section.acquire_lease():
            section.write(BATCHES[0])
            store.flush()
            server.stop(immediately=immediately)
            section.write(BATCHES[1])
            flush = threading.Thread(target=store.flush)
            flush.start()
            server.start()
            flush.join()
            server.restart(immediately=immediately)
            section.write(BATCHES[2])
            store.flush()
        server.restart()
        assert section.scan(b"") == RESULT


def test_a_lost_connection_ends_a_snapshot_with_an_error(pg18):
    with closing(store_at(pg18)) as store:
        section = store.section("app")
        section.write(BATCHES[0])
        store.flush()
        with section.snapshot() as view:
            execute(
                pg18,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()",
            )
            with pytest.raises(StoreError):
                view.get(b"a")
        assert section.get(b"a") == b"1"


# --- refusals of the server ----------------------------------------------------------------------

REFUSE = """
    CREATE SEQUENCE attempts;
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('attempts') <= {times} THEN RAISE SQLSTATE '{state}'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON cocoindex_state FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_conflict_with_another_transaction_is_tried_again(pg18, state):
    with closing(store_at(pg18)) as store:
        execute(pg18, REFUSE.format(times=3, state=state))
        store.section("app").write(BATCHES[0])
        store.flush()
        assert store.section("app").scan(b"") == BATCHES[0]


def test_a_full_disk_loses_only_what_is_told(pg18):
    with closing(store_at(pg18)) as store:
        section = store.section("app")
        execute(pg18, REFUSE.format(times=1, state="53100"))
        section.write(BATCHES[0])
        with pytest.raises(StoreFullError, match="no space left"):
            store.flush()
        section.reset_failure()
        assert section.scan(b"") == []
        section.write(BATCHES[0])
        store.flush()
        assert section.scan(b"") == BATCHES[0]


def test_errors_have_no_rows_in_them(pg18):
    with closing(store_at(pg18)) as store:
        execute(pg18, "ALTER TABLE cocoindex_state ADD CHECK (value <> 'secret')")
        store.section("app").write([(b"a", b"secret")])
        with pytest.raises(StoreError, match="SQL state 23514") as caught:
            store.flush()
        assert "secret" not in str(caught.value)
        store.section("app").reset_failure()


def test_a_read_only_server_is_told(pg18):
    execute(pg18, f"ALTER DATABASE {pg18.rsplit('/')[-1]} SET default_transaction_read_only = on")
    with pytest.raises(StoreError, match="standby, or in read-only mode"):
        store_at(pg18)


def test_missing_privileges_are_told(pg18):
    execute(pg18, "DROP ROLE IF EXISTS weak", "CREATE ROLE weak LOGIN PASSWORD 'w/ea:k@'")
    location = PostgresLocation.of(pg18, user="weak", password="w/ea:k@", schema="other")
    with pytest.raises(StoreError, match="needs USAGE and CREATE"):
        PostgresStore(location)
    store_at(f"{pg18}?schema=other").close()
    with pytest.raises(StoreError, match="needs USAGE and CREATE"):
        PostgresStore(location)
    execute(
        pg18,
        "GRANT USAGE ON SCHEMA other TO weak",
        "GRANT ALL ON ALL TABLES IN SCHEMA other TO weak",
    )
    with closing(PostgresStore(location)) as store:
        work(store)
    execute(pg18, "DROP OWNED BY weak", "DROP ROLE weak")


# --- large things --------------------------------------------------------------------------------


def test_a_batch_too_large_for_one_statement_stays_atomic(pg18, monkeypatch):
    monkeypatch.setattr(writing, "_CHUNK_ROWS", 3)
    with closing(store_at(pg18)) as store:
        section = store.section("app")
        section.write([(b"%02d" % n, b"old") for n in range(20)])
        store.flush()
        execute(pg18, "ALTER TABLE cocoindex_state ADD CHECK (key <> '19' OR value = 'old')")
        section.write([(b"%02d" % n, None if n % 2 else b"new") for n in range(19)])
        section.write([(b"19", b"refused")])
        with pytest.raises(StoreError):
            store.flush()
        section.reset_failure()
        assert {value for _, value in section.scan(b"")} == {b"old"}
        section.clear()
        section.write([(b"%02d" % n, b"newer") for n in range(10)])
        store.flush()
        assert section.scan(b"") == [(b"%02d" % n, b"newer") for n in range(10)]


def test_many_snapshots_need_many_connections(pg18, monkeypatch):
    monkeypatch.setattr(connections, "_ACQUIRE_SECONDS", 0.01)
    with closing(PostgresStore(PostgresLocation.of(pg18, max_connections=1))) as store:
        section = store.section("app")
        section.write(BATCHES[0])
        store.flush()
        open_ones = [section.snapshot() for _ in range(4)]
        for each in open_ones:
            each.__enter__()
        with pytest.raises(StoreError, match=r"all 4 connections .* are in use"):
            section.get(b"a")
        for each in open_ones:
            each.__exit__(None, None, None)
        assert section.get(b"a") == b"1"

"""Leases on Postgres: who may write, and what keeps everybody else from it."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from cocoindex.errors import AlreadyRunningError, StoreError
from cocoindex.state.open import open_store
from cocoindex.state.postgres import lease, process
from cocoindex.state.postgres.location import PostgresLocation
from cocoindex.state.postgres.store import PostgresStore


@contextmanager
def opened(url: str) -> Iterator[PostgresStore]:
    """Another store at the same place, as another process would open it."""
    with closing(PostgresStore(PostgresLocation.of(url))) as store:
        yield store


def change(url: str, what: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"UPDATE cocoindex_state_sections SET {what}".encode())


def expire(url: str) -> None:
    change(url, "expires = now() - interval '1 second'")


@pytest.fixture
def holder(hold, pg18):
    return hold(pg18)


def test_a_dead_holder_on_this_machine_is_replaced_at_once(holder, pg18):
    holder.kill()
    holder.wait()
    with opened(pg18) as store, store.section("app").acquire_lease():
        assert store.section("app").get(b"a") == b"holder"


def test_a_holder_elsewhere_is_replaced_only_when_its_lease_has_expired(holder, pg18):
    holder.kill()
    holder.wait()
    change(pg18, "holder_process = 'another boot 1 1 token', holder_host = 'elsewhere'")
    with opened(pg18) as store:
        with pytest.raises(AlreadyRunningError, match=r"on elsewhere.*ends within \d+ s"):
            store.section("app").acquire_lease()
        expire(pg18)
        with store.section("app").acquire_lease():
            pass


def test_a_process_is_gone_only_if_it_ran_on_this_machine(monkeypatch):
    machine, pid, started = process.identity().split(" ")
    assert pid == str(os.getpid())
    assert not process.is_gone(process.identity())
    assert process.is_gone(f"{machine} {pid} {int(started) + 1}")
    assert not process.is_gone(f"other {pid} {int(started) + 1}")
    assert not process.is_gone("")
    assert not process.is_gone("rubbish")
    assert process.is_gone(f"{machine} {2**22 + 1} {started}")
    monkeypatch.setattr(process, "_machine", lambda: "?")
    assert not process.is_gone(f"? {pid} 1")


def test_what_a_former_holder_writes_late_is_refused(pg18):
    with opened(pg18) as former, opened(pg18) as next_one:
        old = former.section("app")
        held = old.acquire_lease()
        old.write([(b"a", b"first")])
        former.flush()
        expire(pg18)
        new = next_one.section("app")
        with new.acquire_lease():
            new.write([(b"a", b"successor")])
            next_one.flush()
            old.write([(b"a", b"late"), (b"b", b"late")])
            with pytest.raises(StoreError, match=rf"taken over by process {os.getpid()}"):
                former.flush()
            assert new.scan(b"") == [(b"a", b"successor")]
        held.__exit__(None, None, None)
    with opened(pg18) as store:
        assert store.section("app").scan(b"") == [(b"a", b"successor")]


def test_a_former_holder_cannot_clear_either(pg18):
    with opened(pg18) as former, opened(pg18) as next_one:
        held = former.section("app").acquire_lease()
        former.section("app").write([(b"a", b"1")])
        former.flush()
        expire(pg18)
        with next_one.section("app").acquire_lease():
            former.section("app").clear()
            former.section("other").write([(b"a", b"1")])
            with pytest.raises(StoreError, match="taken over"):
                former.flush()
            assert next_one.section("app").get(b"a") == b"1"
            assert next_one.section("other").get(b"a") is None
        held.__exit__(None, None, None)


async def test_a_holder_that_lost_its_lease_learns_of_it_before_it_calls_a_sink(pg18):
    with opened(pg18) as former, opened(pg18) as next_one:
        old = former.section("app")
        held = old.acquire_lease()
        await old.flushed()
        expire(pg18)
        with next_one.section("app").acquire_lease():
            former.leases.renew()
            with pytest.raises(StoreError, match="taken over"):
                await old.flushed()
        held.__exit__(None, None, None)
        with old.acquire_lease():
            await old.flushed()


async def test_a_lease_that_could_not_be_renewed_is_not_trusted(pg18, monkeypatch):
    with opened(pg18) as store:
        section = store.section("app")
        with section.acquire_lease():
            now = lease.clock()
            monkeypatch.setattr(lease, "clock", lambda: now + 19)
            await section.flushed()
            monkeypatch.setattr(lease, "clock", lambda: now + 21)
            with pytest.raises(StoreError, match="could not be renewed for 21 s"):
                await section.flushed()
            store.leases.renew()
            await section.flushed()


def test_a_commit_renews_the_lease(pg18):
    with opened(pg18) as store, closing(psycopg.connect(pg18, autocommit=True)) as connection:
        section = store.section("app")
        left = "SELECT extract(epoch FROM expires - now()) > 5 FROM cocoindex_state_sections"
        with section.acquire_lease():
            change(pg18, "expires = now() + interval '5 seconds'")
            section.write([(b"a", b"1")])
            store.flush()
            assert connection.execute(left).fetchone() == (True,)
            change(pg18, "expires = now() + interval '5 seconds'")
            store.leases.renew()
            assert connection.execute(left).fetchone() == (True,)
        assert connection.execute(left).fetchone() == (None,)


def test_a_lease_lasts_until_its_last_use_ends(pg18):
    with opened(pg18) as store, opened(pg18) as other:
        section = store.section("app")
        with section.acquire_lease():
            with section.acquire_lease():
                pass
            with pytest.raises(AlreadyRunningError):
                other.section("app").acquire_lease()
        with other.section("app").acquire_lease():
            pass


def test_closing_the_store_ends_its_leases(pg18):
    with opened(pg18) as store:
        held = store.section("app").acquire_lease()
    with opened(pg18) as other, other.section("app").acquire_lease():
        held.__exit__(None, None, None)
        with opened(pg18) as third, pytest.raises(AlreadyRunningError):
            third.section("app").acquire_lease()


def test_without_a_lease_nobody_writes_while_somebody_has_it(holder, pg18):
    with opened(pg18) as store:
        section = store.section("app")
        section.write([(b"a", b"intruder")])
        with pytest.raises(StoreError, match=rf"being run by process {holder.pid}"):
            store.flush()
        assert section.get(b"a") == b"holder"


def test_stores_without_a_lease_may_write_in_turn(pg18):
    with opened(pg18) as one, opened(pg18) as two:
        for turn in range(3):
            for name, store in ((b"one", one), (b"two", two)):
                store.section("app").write([(name, b"%d" % turn)])
                store.flush()
        assert one.section("app").scan(b"") == [(b"one", b"2"), (b"two", b"2")]


def test_a_claimed_section_forgets_its_dead_holder(holder, pg18):
    holder.kill()
    holder.wait()
    expire(pg18)
    with opened(pg18) as store, opened(pg18) as other:
        store.section("app").write([(b"a", b"1")])
        store.flush()
        with other.section("app").acquire_lease():
            pass


def test_readers_see_what_is_durable_while_an_update_runs(holder, pg18):
    with opened(pg18) as reader:
        assert reader.section_names() == ["app"]
        assert reader.section("app").scan(b"") == [(b"a", b"holder")]
        with reader.section("app").snapshot() as view:
            assert view.get(b"a") == b"holder"


def test_a_read_only_store_writes_nothing(holder, pg18):
    with closing(open_store(pg18, read_only=True)) as reader:
        section = reader.section("app")
        assert section.get(b"a") == b"holder"
        with pytest.raises(StoreError, match="read-only"):
            section.write([(b"a", b"1")])
        with pytest.raises(StoreError, match="read-only"):
            section.acquire_lease()


def test_the_name_of_this_host_is_not_told(holder, pg18):
    with opened(pg18) as store, pytest.raises(AlreadyRunningError) as caught:
        store.section("app").acquire_lease()
    assert f"on {socket.gethostname()}" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_a_forked_child_can_use_nothing_and_disturbs_nothing(start, pg18):
    program = start(
        """
        import asyncio, os, sys, warnings
        from cocoindex.errors import UsageError
        from cocoindex.state.open import open_store
        warnings.simplefilter("ignore", DeprecationWarning)

        def refused(call):
            try:
                call()
            except UsageError as error:
                return "opened in another process" in str(error)
            return False

        store = open_store(sys.argv[1])
        section = store.section("app")
        section.write([(b"a", b"1")])
        store.flush()
        section.write([(b"b", b"2")])
        lease = section.acquire_lease()
        snapshot = section.snapshot()
        view = snapshot.__enter__()
        child = os.fork()
        if child == 0:
            calls = [
                lambda: section.get(b"a"), lambda: section.get(b"b"),
                lambda: section.get_many([b"a"]), lambda: section.scan(b""),
                lambda: section.scan_keys(b""), lambda: section.snapshot().__enter__(),
                lambda: section.write([(b"c", b"3")]), section.clear,
                lambda: asyncio.run(section.flushed()), section.acquire_lease,
                store.flush, store.close, store.section_names, lambda: store.section("app"),
                lambda: store.info, lambda: view.get(b"a"), lambda: list(view.scan(b"")),
            ]
            calls.append(lambda: open_store(sys.argv[1]))
            results = [refused(call) for call in calls]
            lease.release()
            snapshot.__exit__(None, None, None)
            other = open_store(sys.argv[1] + "?schema=child")
            other.section("app").write([(b"x", b"1")])
            other.close()
            del section, store, snapshot, view, calls
            sys.exit(0 if all(results) else 1 + results.index(False))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        sys.stdin.readline()
        section.write([(b"c", b"3")])
        store.flush()
        assert list(view.scan(b"")) == [(b"a", b"1"), (b"b", b"2")]
        snapshot.__exit__(None, None, None)
        store.close()
        """,
        pg18,
    )
    assert program.stdout.readline() == "0\n"
    with opened(pg18) as store:
        with pytest.raises(AlreadyRunningError, match=str(program.pid)):
            store.section("app").acquire_lease()
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.wait() == 0
        assert [key for key, _ in store.section("app").scan(b"")] == [b"a", b"b", b"c"]

"""Leases, and forks."""

import re
import sys
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from cocoindex.errors import AlreadyRunningError, StoreError
from cocoindex.state import lease
from cocoindex.state.open import open_store


@pytest.fixture(params=["folder", "pg18"])
def place(request, tmp_path):
    return tmp_path if request.param == "folder" else request.getfixturevalue(request.param)


@pytest.fixture
def holder(hold, place):
    return hold(place)


@pytest.fixture
def store(place):
    store = open_store(place)
    yield store
    store.close()


def test_the_lease_of_another_process_is_refused_naming_app_store_and_pid(store, holder, place):
    with pytest.raises(AlreadyRunningError) as caught:
        store.section("app").acquire_lease()
    message = str(caught.value)
    assert "'app'" in message
    assert store.location in message
    assert re.search(rf"\b{holder.pid}\b", message)
    password = urlsplit(str(place)).password
    assert password is None or password not in message


def test_waiting_for_a_lease_ends_with_the_same_error(store, holder):
    with pytest.raises(AlreadyRunningError):
        store.section("app").acquire_lease(wait_seconds=0.05)


def test_a_lease_can_be_waited_for(store, holder):
    holder.stdin.write("\n")
    holder.stdin.flush()
    with store.section("app").acquire_lease(wait_seconds=60):
        pass


def test_other_apps_are_free(store, holder):
    with store.section("other").acquire_lease():
        pass


def test_a_dead_holder_is_replaced_silently(store, holder):
    holder.kill()
    holder.wait()
    with store.section("app").acquire_lease():
        pass


def test_a_lease_lasts_until_its_last_use_ends(store, start, place):
    section = store.section("app")
    trial = """
        import sys
        from cocoindex.errors import AlreadyRunningError
        from cocoindex.state.open import open_store
        try:
            with open_store(sys.argv[1]).section("app").acquire_lease():
                print("free")
        except AlreadyRunningError:
            print("taken")
    """
    with section.acquire_lease():
        with section.acquire_lease():
            pass
        assert start(trial, place).stdout.readline() == "taken\n"
    assert start(trial, place).stdout.readline() == "free\n"


def test_closing_the_store_ends_its_leases(start, tmp_path):
    program = start(
        """
        import sys
        from cocoindex.state.open import open_store
        store = open_store(sys.argv[1])
        lease = store.section("app").acquire_lease()
        store.close()
        with lease:
            pass
        print("closed", flush=True)
        sys.stdin.readline()
        """,
        tmp_path,
    )
    assert program.stdout.readline() == "closed\n"
    store = open_store(tmp_path)
    with store.section("app").acquire_lease():
        pass
    store.close()


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def refuse(fd):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lease, "_lock", refuse)
    with (
        closing(open_store(tmp_path)) as store,
        pytest.raises(StoreError, match="working file locks"),
    ):
        store.section("app").acquire_lease()


posix = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")


@posix
def test_a_forked_child_can_use_nothing_and_disturbs_nothing(start, tmp_path):
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

        store = open_store(sys.argv[1], holder="the parent")
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
            other = open_store(sys.argv[1] + "/child")
            other.section("app").write([(b"x", b"1")])
            other.close()
            sys.exit(0 if all(results) else 1 + results.index(False))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        sys.stdin.readline()
        # The child must not have given up the parent's place among the readers.
        for number in range(20):
            section.write([(b"%d" % n, b"%d" % number) for n in range(500)])
            store.flush()
        assert list(view.scan(b"")) == [(b"a", b"1"), (b"b", b"2")]
        section.write([(b"%d" % n, None) for n in range(500)])
        snapshot.__exit__(None, None, None)
        store.close()
        """,
        tmp_path,
    )
    assert program.stdout.readline() == "0\n"
    store = open_store(tmp_path)
    assert store.section("app").scan(b"") == [(b"a", b"1")]
    with pytest.raises(AlreadyRunningError, match=str(program.pid)):
        store.section("app").acquire_lease()
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.wait() == 0
    assert store.section("app").scan(b"") == [(b"a", b"1"), (b"b", b"2")]
    store.close()


@posix
def test_a_surviving_child_does_not_keep_the_lease_of_its_parent(start, tmp_path):
    program = start(
        """
        import os, sys, warnings
        from cocoindex.state.open import open_store
        warnings.simplefilter("ignore", DeprecationWarning)
        lease = open_store(sys.argv[1]).section("app").acquire_lease()
        if os.fork() == 0:
            print("child", flush=True)
            sys.stdin.readline()
            os._exit(0)
        os._exit(0)
        """,
        tmp_path,
    )
    assert program.stdout.readline() == "child\n"
    assert program.wait() == 0
    store = open_store(tmp_path)
    with store.section("app").acquire_lease(wait_seconds=60):
        pass
    store.close()


def test_what_was_read_ahead_under_one_lease_is_read_again_under_the_next(store, start, place):
    keys = [b"%02d" % number for number in range(20)]
    section = store.section("app")
    section.write([(key, b"old") for key in keys])
    store.flush()
    with section.acquire_lease():
        assert [section.get(key, ahead=True) for key in keys[:3]] == [b"old"] * 3
    writer = start(
        """
        import sys
        from cocoindex.state.open import open_store
        store = open_store(sys.argv[1])
        section = store.section("app")
        with section.acquire_lease():
            section.write([(b"%02d" % number, b"new") for number in range(20)])
            store.flush()
        print("written", flush=True)
        """,
        place,
    )
    assert writer.stdout.readline() == "written\n"
    assert [section.get(key, ahead=True) for key in keys] == [b"new"] * 20
    with section.acquire_lease():
        assert [section.get(key, ahead=True) for key in keys] == [b"new"] * 20

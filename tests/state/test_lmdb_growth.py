"""The map grows under load, under readers, and under other processes."""

import threading

import pytest

from cocoindex.errors import StoreError
from cocoindex.state import lmdb_store
from cocoindex.state.open import open_store

READER = """
    import sys
    from cocoindex.state.open import open_store

    store = open_store(sys.argv[1], read_only=sys.argv[2] == "read-only", map_size=1)
    section = store.section("app")
    print("ready", flush=True)
    rounds = seen = 0
    while section.get(b"stop") is None:
        one, two = section.get_many([b"counter/1", b"counter/2"])
        assert one == two, (one, two)
        assert int(one or 0) >= seen
        seen = int(one or 0)
        with section.snapshot() as view:
            rows = list(view.scan(b"row/"))
            assert int(view.get(b"counter/1") or 0) == len(rows) // 10
        rounds += 1
    assert len(section.scan(b"row/")) == 3000
    store.close()
    print(rounds, flush=True)
"""


@pytest.mark.parametrize("mode", ["read-only", "read-write"])
def test_another_process_reads_consistent_states_while_the_store_grows(start, tmp_path, mode):
    store = open_store(tmp_path, map_size=1 << 16)
    section = store.section("app")
    section.write([(b"counter/1", b"0"), (b"counter/2", b"0")])
    store.flush()
    program = start(READER, tmp_path, mode)
    assert program.stdout.readline() == "ready\n"
    for number in range(1, 301):
        rows = [(b"row/%d/%d" % (number, n), b"x" * 1000) for n in range(10)]
        count = b"%d" % number
        section.write([*rows, (b"counter/1", count), (b"counter/2", count)])
        store.flush()
    section.write([(b"stop", b"")])
    store.flush()
    assert int(program.stdout.readline()) >= 0
    assert program.wait() == 0
    assert store.info.mapped_bytes > 3_000_000
    store.close()


def test_a_process_with_a_smaller_map_follows_the_growth_of_another(start, tmp_path):
    store = open_store(tmp_path, map_size=1 << 16)
    section = store.section("app")
    section.write([(b"mine", b"1")])
    store.flush()
    program = start(
        """
        import sys
        from cocoindex.state.open import open_store
        store = open_store(sys.argv[1], map_size=1)
        section = store.section("theirs")
        section.write([(b"%d" % n, b"x" * 1000) for n in range(5000)])
        store.close()
        """,
        tmp_path,
    )
    assert program.wait() == 0
    assert len(store.section("theirs").scan(b"")) == 5000
    section.write([(b"more", b"2")])
    store.flush()
    assert section.scan(b"") == [(b"mine", b"1"), (b"more", b"2")]
    store.close()


def test_a_write_follows_the_growth_of_another_process(start, tmp_path):
    store = open_store(tmp_path, map_size=1 << 16)
    program = start(
        """
        import sys
        from cocoindex.state.open import open_store
        store = open_store(sys.argv[1], map_size=1)
        store.section("theirs").write([(b"%d" % n, b"x" * 1000) for n in range(5000)])
        store.close()
        """,
        tmp_path,
    )
    assert program.wait() == 0
    store.section("app").write([(b"mine", b"1")])
    store.flush()
    with store.section("theirs").snapshot() as view:
        assert len(list(view.scan(b""))) == 5000
    store.close()


def test_snapshots_and_readers_survive_growth(tmp_path):
    store = open_store(tmp_path, map_size=1 << 16)
    section = store.section("app")
    section.write([(b"old/%04d" % n, b"x" * 10) for n in range(1500)])
    store.flush()
    stop = threading.Event()
    rounds: list[int] = []

    def read() -> None:
        while not stop.is_set():
            rounds.append(len(section.scan(b"old/")))

    reader = threading.Thread(target=read)
    reader.start()
    with section.snapshot() as view:
        rows = view.scan(b"")
        first = [next(rows) for _ in range(10)]
        for number in range(100):
            section.write([(b"new/%d/%d" % (number, n), b"y" * 1000) for n in range(50)])
            store.flush()
        assert store.info.mapped_bytes >= 1 << 22
        assert first + list(rows) == [(b"old/%04d" % n, b"x" * 10) for n in range(1500)]
    stop.set()
    reader.join()
    assert set(rounds) == {1500}
    store.close()


def test_growth_does_not_shrink_a_larger_map(tmp_path):
    store = open_store(tmp_path)
    store.section("app").write([(b"a", b"x" * 1_000_000)])
    store.flush()
    assert store.info.mapped_bytes == 1 << 32
    assert 1_000_000 < store.info.used_bytes < 2_000_000
    store.close()


def test_space_of_deleted_rows_is_used_again(tmp_path):
    store = open_store(tmp_path)
    section = store.section("app")
    sizes = []
    for _ in range(30):
        section.write([(b"%d" % n, b"x" * 5000) for n in range(100)])
        store.flush()
        section.clear()
        store.flush()
        sizes.append(store.info.used_bytes)
    assert sizes[-1] < 3 * sizes[2]
    store.close()


def test_many_snapshots_do_not_run_out_of_readers(tmp_path):
    store = open_store(tmp_path)
    section = store.section("app")
    section.write([(b"a", b"1")])
    store.flush()
    views = [section.snapshot() for _ in range(1000)]
    for view in views:
        assert view.__enter__().get(b"a") == b"1"
    for view in views:
        view.__exit__(None, None, None)
    store.close()


def test_a_snapshot_too_large_to_copy_ends_with_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_store, "_LARGEST_COPY", 1000)
    store = open_store(tmp_path, map_size=1 << 16)
    section = store.section("app")
    section.write([(b"a", b"x" * 2000)])
    store.flush()
    with section.snapshot() as view:
        assert view.get(b"a") == b"x" * 2000
        section.write([(b"b", b"x" * 1_000_000)])
        store.flush()
        with pytest.raises(StoreError, match="had to grow"):
            view.get(b"a")
    assert section.get(b"a") == b"x" * 2000
    store.close()

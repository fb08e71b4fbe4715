import logging
import sys

import lmdb
import pytest

from cocoindex.errors import StoreError, StoreFormatError, UsageValueError
from cocoindex.state import layout
from cocoindex.state.base import FORMAT_VERSION
from cocoindex.state.open import open_store, store_exists


def put_raw(directory, *rows):
    directory.mkdir(exist_ok=True)
    with (
        lmdb.open(str(directory / "state.lmdb"), subdir=False) as env,
        env.begin(write=True) as txn,
    ):
        for key, value in rows:
            txn.put(key, value)


def test_the_directory_is_made_with_its_parents_and_holds_our_names(tmp_path):
    location = tmp_path / "a" / "b"
    assert not store_exists(location)
    with_lease = open_store(location)
    with with_lease.section("app").acquire_lease():
        pass
    with_lease.close()
    names = sorted(path.name for path in location.iterdir())
    assert names == ["locks", "state.lmdb", "state.lmdb-lock"]
    assert store_exists(location)


def test_the_location_is_a_path_for_messages(tmp_path):
    store = open_store(tmp_path)
    assert store.location == str(tmp_path)
    store.close()


@pytest.mark.parametrize("sizes", [{"map_size": 0}, {"map_size": -1}, {"max_dbs": 0}])
def test_sizes_out_of_range_are_refused(tmp_path, sizes):
    with pytest.raises(UsageValueError, match=next(iter(sizes))):
        open_store(tmp_path / "store", **sizes)
    assert not (tmp_path / "store").exists()


def test_the_initial_size_is_rounded_up_to_pages(tmp_path):
    store = open_store(tmp_path, map_size=1_000_001)
    assert store.info.mapped_bytes == 1_003_520
    store.close()


def test_a_second_open_in_the_process_names_path_and_holder(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "store")
    first = open_store(tmp_path / "store", holder="environment 'x'")
    for name in ("store", "alias"):
        with pytest.raises(StoreError, match=rf"{name} .* held by environment 'x'"):
            open_store(tmp_path / name)
    first.close()
    open_store(tmp_path / "alias").close()


def test_a_failed_open_frees_the_location(tmp_path):
    (tmp_path / "state.lmdb").write_bytes(b"not a database" * 1000)
    for _ in range(2):
        with pytest.raises(StoreFormatError, match=r"state\.lmdb is not a CocoIndex state store"):
            open_store(tmp_path)
    (tmp_path / "state.lmdb").unlink()
    open_store(tmp_path).close()


def test_a_file_in_place_of_the_directory_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="db_path must be a directory"):
        open_store(tmp_path / "file")


def test_a_newer_format_is_refused_with_both_versions_and_the_remedy(tmp_path):
    header = layout.new_header().replace(b": %d" % FORMAT_VERSION, b": 99")
    put_raw(tmp_path, (layout.HEADER_KEY, header))
    with pytest.raises(StoreFormatError, match=rf"version 99; .* {FORMAT_VERSION}\. Upgrade"):
        open_store(tmp_path)


@pytest.mark.parametrize("rest", [b"", b"{", b"[]", b'{"format": "x"}', b'{"format": 0}', b"\xff"])
def test_a_damaged_header_is_told(tmp_path, rest):
    magic = layout.new_header().partition(b"{")[0]
    put_raw(tmp_path, (layout.HEADER_KEY, magic + rest))
    with pytest.raises(StoreFormatError, match="damaged"):
        open_store(tmp_path)


def test_a_foreign_database_is_refused_and_not_changed(tmp_path):
    put_raw(tmp_path, (b"theirs", b"1"))
    with pytest.raises(StoreFormatError, match="not a CocoIndex state store"):
        open_store(tmp_path)
    with lmdb.open(str(tmp_path / "state.lmdb"), subdir=False) as env, env.begin() as txn:
        assert list(txn.cursor()) == [(b"theirs", b"1")]


def test_files_of_another_release_are_left_alone_with_one_warning(tmp_path, caplog):
    (tmp_path / "mdb").mkdir()
    (tmp_path / "mdb" / "data.mdb").write_bytes(b"theirs")
    with caplog.at_level(logging.WARNING):
        open_store(tmp_path).close()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "will not be cleaned up" in record.getMessage()
    assert (tmp_path / "mdb" / "data.mdb").read_bytes() == b"theirs"


def test_read_only_needs_a_store_and_creates_nothing(tmp_path):
    with pytest.raises(StoreError, match="no state store at"):
        open_store(tmp_path / "missing", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_read_only_reads_and_refuses_to_write(tmp_path):
    store = open_store(tmp_path)
    store.section("app").write([(b"a", b"1")])
    store.close()
    before = sorted(path.name for path in tmp_path.iterdir())
    store = open_store(tmp_path, read_only=True)
    section = store.section("app")
    assert (section.get(b"a"), store.section_names()) == (b"1", ["app"])
    for call in (lambda: section.write([]), section.clear, section.acquire_lease):
        with pytest.raises(StoreError, match="read-only"):
            call()
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_damaged_store_file_is_told(tmp_path):
    store = open_store(tmp_path)
    store.section("app").write([(b"%d" % n, b"x" * 1000) for n in range(1000)])
    store.close()
    path = tmp_path / "state.lmdb"
    content = bytearray(path.read_bytes())
    content[2 * 4096 :] = b"\xee" * (len(content) - 2 * 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        open_store(tmp_path)


def test_importing_the_contract_loads_no_storage_library(start):
    program = start("import sys, cocoindex.state.open; print('lmdb' in sys.modules)")
    assert program.stdout.readline() == "False\n"
    assert sys.modules["lmdb"] is lmdb

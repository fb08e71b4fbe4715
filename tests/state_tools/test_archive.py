"""Exported files: portable, checked before anything is written, harmless if hostile."""

from __future__ import annotations

import gzip
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cocoindex.errors import MissingKeyError, StoreError, StoreFormatError, UsageValueError
from cocoindex.state import base
from cocoindex.state.memory import MemoryDisk, MemoryStore
from cocoindex.state.open import open_store
from cocoindex.state.tools.archive import export_store, import_archive
from cocoindex.state.tools.frames import MAGIC
from cocoindex.state.tools.transfer import check_complete, copy_store, filling


def contents(store: Any) -> dict[str, list[tuple[bytes, bytes]]]:
    return {name: store.section(name).scan(b"") for name in store.section_names()}


def filled(**sections: dict[bytes, bytes]) -> MemoryStore:
    store = MemoryStore()
    for name, rows in sections.items():
        store.section(name).write(list(rows.items()))
    return store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.coco"


class TestMoving:
    def test_a_round_trip_through_every_kind_of_store_keeps_every_byte(
        self, rich: Any, tmp_path: Path, file: Path
    ) -> None:
        rich.section.write([(b"long key " * 100, b"value"), (b"large", bytes(3_000_000))])
        wanted = contents(rich.store)
        on_disk, back = open_store(tmp_path / "store"), MemoryStore()

        copy_store(rich.store, on_disk)
        copy_store(on_disk, back)
        assert contents(on_disk) == contents(back) == wanted

        moved = export_store(on_disk, file)
        on_disk.close()
        assert moved.apps == ["golden", "interrupted"]
        assert moved.rows == sum(map(len, wanted.values()))
        again = MemoryStore()
        assert import_archive(file, again) == moved
        assert contents(again) == wanted

    def test_equal_states_make_equal_files(self, rich: Any, tmp_path: Path) -> None:
        again = MemoryStore()
        copy_store(rich.store, again)
        export_store(rich.store, tmp_path / "a")
        export_store(again, tmp_path / "b")
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_apps_can_be_chosen(self, file: Path) -> None:
        store = filled(a={b"k": b"1"}, b={b"k": b"2"}, c={b"k": b"3"})
        export_store(store, file, ["c", "a"])
        target = filled(b={b"other": b""})
        import_archive(file, target)
        assert contents(target) == {
            "a": [(b"k", b"1")],
            "b": [(b"other", b"")],
            "c": [(b"k", b"3")],
        }
        with pytest.raises(MissingKeyError, match=r"no app 'x'.*a, b, c"):
            export_store(store, file, ["x"], force=True)

    def test_an_empty_store_makes_an_empty_file(self, file: Path) -> None:
        export_store(MemoryStore(), file)
        assert import_archive(file, MemoryStore()).apps == []

    def test_existing_state_is_replaced_only_if_told_so(self, file: Path) -> None:
        export_store(filled(a={b"new": b""}), file)
        target = filled(a={b"old": b""}, b={b"k": b""})
        with pytest.raises(UsageValueError, match=r"has state of 'a' already.*--force"):
            import_archive(file, target)
        with pytest.raises(UsageValueError, match=r"has state of 'a' already.*--force"):
            copy_store(filled(a={b"new": b""}), target)
        assert target.section("a").scan(b"") == [(b"old", b"")]

        import_archive(file, target, force=True)
        assert contents(target) == {"a": [(b"new", b"")], "b": [(b"k", b"")]}

    def test_an_existing_file_is_replaced_only_if_told_so(self, file: Path) -> None:
        file.write_text("precious")
        with pytest.raises(UsageValueError, match="exists already"):
            export_store(MemoryStore(), file)
        assert file.read_text() == "precious"
        export_store(MemoryStore(), file, force=True)
        assert [path.name for path in file.parent.iterdir()] == [file.name]

    def test_a_failed_export_leaves_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="can't write to"):
            export_store(MemoryStore(), tmp_path / "no" / "file")

    def test_a_half_filled_section_is_never_taken_for_a_whole_one(self, file: Path) -> None:
        store = filled(a={b"k": b""})
        section = store.section("a")
        with pytest.raises(ZeroDivisionError), filling(section, store) as put:
            put(b"k", b"new")
            raise ZeroDivisionError
        for use in (
            lambda: check_complete(section),
            lambda: export_store(store, file),
            lambda: copy_store(store, MemoryStore()),
        ):
            with pytest.raises(StoreError, match=r"incomplete.*interrupted"):
                use()

    async def test_an_update_refuses_a_half_filled_section(self, rich: Any) -> None:
        with pytest.raises(ZeroDivisionError), filling(rich.section, rich.store):
            raise ZeroDivisionError
        with pytest.raises(StoreError, match="incomplete"):
            await rich.update()

    def test_memory_does_not_grow_with_the_store(self, tmp_path: Path, file: Path) -> None:
        rows = {f"{n:06}".encode(): bytes([n % 256]) * 1000 for n in range(60_000)}
        store = open_store(tmp_path / "big")
        store.section("a").write(list(rows.items()))
        store.flush()
        store.close()
        del rows
        done = run(
            f"""
            from cocoindex.state.open import open_store
            from cocoindex.state.tools.archive import export_store, import_archive
            from cocoindex.engine.fsck import check_section
            from cocoindex.engine.usage import measure
            import resource
            source = open_store({str(tmp_path / "big")!r})
            target = open_store({str(tmp_path / "copy")!r})
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            export_store(source, {str(file)!r})
            import_archive({str(file)!r}, target)
            with source.section("a").snapshot() as snapshot:
                measure(snapshot), list(check_section(snapshot))
            source.close(), target.close()
            # What is mapped counts too: both files, of 80 MB each.
            print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
            """
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 300


def run(program: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(base.__file__).parents[2])
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {source!r})\n{textwrap.dedent(program)}",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# --- hostile files -------------------------------------------------------------------------------


def frame(value: Any) -> bytes:
    data = msgspec.msgpack.encode(value)
    return len(data).to_bytes(8, "big") + data


HEADER = ["header", 1, base.FORMAT_VERSION, "2.0", ["a"]]


def packed(*frames: Any, magic: bytes = MAGIC) -> bytes:
    return gzip.compress(magic + b"".join(f if type(f) is bytes else frame(f) for f in frames))


HOSTILE = {
    "nothing": b"",
    "text": b"hello\n" * 100,
    "gzip of text": gzip.compress(b"hello\n" * 100),
    "only the magic": packed(),
    "a header alone": packed(HEADER),
    "a header that is no list": packed({"format": 1}),
    "a header without format": packed(["header"]),
    "a header with a text format": packed(["header", "1", 1, "", []]),
    "a header with a negative format": packed(["header", -1, 1, "", []]),
    "a header with numbers for names": packed(["header", 1, 1, "", [1]]),
    "a huge header": packed((1 << 40).to_bytes(8, "big")),
    "a deep header": packed((200_000).to_bytes(8, "big") + b"\x91" * 200_000),
    "a header of bad text": packed((5).to_bytes(8, "big") + b"\x92\xa2\xff\xff\x01"),
    "apps out of order": packed(["header", 1, 1, "", ["b", "a"]], ["end", 0, b""]),
    "an app twice": packed(["header", 1, 1, "", ["a", "a"]], ["end", 0, b""]),
    "an app without name": packed(["header", 1, 1, "", [""]], ["end", 0, b""]),
    "a huge frame": packed(HEADER, (1 << 62).to_bytes(8, "big")),
    "a negative length": packed(HEADER, b"\xff" * 8),
    "a frame that ends early": packed(HEADER, (1000).to_bytes(8, "big") + b"x"),
    "no msgpack": packed(HEADER, (3).to_bytes(8, "big") + b"\xc1\xc1\xc1"),
    "an unknown frame": packed(HEADER, ["system", "rm -rf"]),
    "rows before any app": packed(HEADER, ["rows", [[b"k", b"v"]]], ["end", 1, b""]),
    "rows of three": packed(HEADER, ["app", "a"], ["rows", [[b"k", b"v", b"x"]]]),
    "rows of text": packed(HEADER, ["app", "a"], ["rows", [["k", "v"]]]),
    "rows out of order": packed(HEADER, ["app", "a"], ["rows", [[b"k", b""], [b"j", b""]]]),
    "a row twice": packed(HEADER, ["app", "a"], ["rows", [[b"k", b""], [b"k", b""]]]),
    "an app of no header": packed(HEADER, ["app", "b"], ["end", 0, b""]),
    "deep nesting": packed(HEADER, (200_000).to_bytes(8, "big") + b"\x91" * 200_000),
    "a list of many": packed(HEADER, (5).to_bytes(8, "big") + b"\xdd\xff\xff\xff\xff"),
    "a wrong checksum": packed(HEADER, ["app", "a"], ["end", 0, bytes(32)]),
    "a short checksum": packed(HEADER, ["app", "a"], ["end", 0, b""]),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_foreign_and_hostile_files_are_refused_cleanly(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    target = filled(a={b"old": b""})
    with pytest.raises(StoreFormatError) as caught:
        import_archive(file, target, force=True)
    assert str(file) in str(caught.value)
    assert contents(target) == {"a": [(b"old", b"")]}


def test_newer_files_are_refused_with_advice(file: Path) -> None:
    file.write_bytes(packed(["header", 2, 1, "9.0", ["a"], "more"]))
    with pytest.raises(StoreFormatError, match=r"export format 2.*reads up to 1. Upgrade"):
        import_archive(file, MemoryStore())
    file.write_bytes(packed(["header", 1, base.FORMAT_VERSION + 1, "9.0", ["a"]]))
    with pytest.raises(StoreFormatError, match=r"format version .* Upgrade cocoindex"):
        import_archive(file, MemoryStore())


def test_every_truncation_and_flipped_bit_is_noticed(file: Path) -> None:
    export_store(filled(a={b"key": b"value" * 10, b"other": b"x"}), file)
    whole = file.read_bytes()
    damaged = [whole[:size] for size in range(len(whole))]
    damaged += [whole + b"x", whole + whole]
    for position in range(10, len(whole)):  # the gzip header before has fields nobody reads
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        if not is_same(flipped, whole):  # a few bits of compressed data mean nothing
            damaged.append(bytes(flipped))
    assert len(damaged) > 2 * len(whole) - 20
    for data in damaged:
        file.write_bytes(data)
        target = MemoryStore()
        with pytest.raises(StoreFormatError):
            import_archive(file, target)
        assert contents(target) == {}


def is_same(data: bytes, other: bytes) -> bool:
    try:
        return gzip.decompress(data) == gzip.decompress(other)
    except (EOFError, OSError, zlib.error):
        return False


def test_rows_beyond_the_limit_need_consent(file: Path) -> None:
    export_store(filled(a={b"k": bytes(5_000_000)}), file)
    with pytest.raises(StoreFormatError, match="--max-row-bytes"):
        import_archive(file, MemoryStore(), largest_row=1_000_000)
    import_archive(file, MemoryStore(), largest_row=5_000_100)


def test_a_bomb_costs_bounded_memory(tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte, offered as one row, and as many empty rows."""
    bombs = {
        "row": ["row", b"k", b""],
        "rows": ["rows", []],
    }
    for name in bombs:
        with gzip.open(tmp_path / name, "wb", compresslevel=1) as bomb:
            bomb.write(MAGIC + frame(HEADER) + frame(["app", "a"]))
            size = 1 << 30 if name == "row" else 1 << 26
            bomb.write(size.to_bytes(8, "big"))
            if name == "rows":
                bomb.write(b"\x92\xa4rows\xdd\x00\xcc\xcc\xcc")
            for _ in range(size >> 20):
                bomb.write(b"\x92\xc4\x00\xc4\x00" * ((1 << 20) // 5))
    done = run(
        f"""
        import resource
        from cocoindex.errors import StoreFormatError
        from cocoindex.state.memory import MemoryStore
        from cocoindex.state.tools.archive import import_archive
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name in ("row", "rows"):
            try:
                import_archive({str(tmp_path)!r} + "/" + name, MemoryStore())
            except StoreFormatError:
                continue
            raise SystemExit("not refused")
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
        """
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 256


def test_a_full_disk_leaves_the_section_marked(file: Path) -> None:
    export_store(filled(a={f"{n:05}".encode(): bytes(500) for n in range(100)}), file)
    target = MemoryStore(MemoryDisk())
    target.disk.failure = StoreError("no space left")
    with pytest.raises(StoreError, match="no space"):
        import_archive(file, target)
    assert target.disk.names() == []

"""Compacting rewrites a store in one step, and only while nobody has it open."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cocoindex.errors import StoreError, StoreFormatError
from cocoindex.state import base
from cocoindex.state.open import open_store
from cocoindex.state.tools.compact import compact_store

HOLDER = """
import sys
sys.path.insert(0, sys.argv[1])
from cocoindex.state.open import open_store
import cocoindex.state.lmdb_store
print("ready", flush=True)
store = open_store(sys.argv[2], read_only=sys.argv[3] == "reader")
print("open", flush=True)
sys.stdin.readline()
print(sum(len(store.section(name).scan(b"")) for name in store.section_names()), flush=True)
if sys.argv[3] == "writer":
    store.section("a").write([(b"from elsewhere", b"")])
store.close()
"""


@pytest.fixture
def bloated(tmp_path: Path) -> Path:
    """A store of which most pages are free."""
    path = tmp_path / "store"
    store = open_store(path)
    section = store.section("a")
    section.write([(f"{n:05}".encode(), bytes(1000)) for n in range(2000)])
    store.flush()
    section.write([(f"{n:05}".encode(), None) for n in range(10, 2000)])
    store.flush()
    store.close()
    return path


def hold(path: Path, how: str) -> subprocess.Popen[str]:
    source = str(Path(base.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, source, str(path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def count(path: Path) -> int:
    store = open_store(path)
    try:
        return len(store.section("a").scan(b""))
    finally:
        store.close()


def test_it_gives_free_space_back(bloated: Path) -> None:
    done = compact_store(bloated)
    assert done.before > 2_000_000
    assert done.after < 100_000
    assert (bloated / "state.lmdb").stat().st_size == done.after
    assert count(bloated) == 10
    assert not (bloated / "state.lmdb.compact").exists()


def test_the_store_goes_on_growing_afterwards(bloated: Path) -> None:
    for round_ in range(3):
        compact_store(bloated)
        store = open_store(bloated)
        rows: Any = [(f"{round_} {n}".encode(), bytes(100)) for n in range(500)]
        store.section("a").write(rows)
        store.close()
    assert count(bloated) == 10 + 3 * 500


@pytest.mark.parametrize("how", ["reader", "writer"])
def test_it_refuses_while_another_process_has_the_store_open(bloated: Path, how: str) -> None:
    holder = hold(bloated, how)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    size = (bloated / "state.lmdb").stat().st_size

    with pytest.raises(StoreError, match="open in another process"):
        compact_store(bloated)

    assert (bloated / "state.lmdb").stat().st_size == size
    out, _ = holder.communicate("\n")
    assert out == "10\n"
    compact_store(bloated)
    assert count(bloated) == 10 + (how == "writer")


def test_it_refuses_while_this_process_has_the_store_open(bloated: Path) -> None:
    store = open_store(bloated, holder="the test")
    with pytest.raises(StoreError, match="held by the test"):
        compact_store(bloated)
    store.close()
    compact_store(bloated)


@pytest.mark.parametrize("how", ["reader", "writer"])
def test_whoever_opens_it_meanwhile_waits_and_sees_everything(
    bloated: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cocoindex.state.tools import compact

    started: list[tuple[subprocess.Popen[str], threading.Thread]] = []
    replace = compact._replace

    def replace_while_somebody_opens(copy: Path, data: Path) -> None:
        holder = hold(bloated, how)
        assert holder.stdout is not None
        opened = threading.Thread(target=holder.stdout.readline)
        opened.start()
        started.append((holder, opened))
        opened.join(0.3)
        assert opened.is_alive(), "it did not wait"
        replace(copy, data)

    monkeypatch.setattr(compact, "_replace", replace_while_somebody_opens)
    compact_store(bloated)

    ((holder, opened),) = started
    opened.join()
    out, _ = holder.communicate("\n")
    assert out == "10\n"
    assert count(bloated) == 10 + (how == "writer")


@pytest.mark.parametrize("content", [b"", b"no store" * 1000])
def test_other_files_are_left_alone(tmp_path: Path, content: bytes) -> None:
    data = tmp_path / "state.lmdb"
    data.write_bytes(content)
    with pytest.raises((StoreError, StoreFormatError)):
        compact_store(tmp_path)
    assert data.read_bytes() == content


def test_without_a_store_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no state store"):
        compact_store(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []

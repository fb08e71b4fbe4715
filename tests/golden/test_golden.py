"""Stores of earlier formats stay readable: their memos hit, and nothing is done again."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import lmdb
import pytest

from cocoindex.engine.usage import TABLES
from cocoindex.errors import StoreFormatError
from cocoindex.state import base, layout
from cocoindex.state.memory import MemoryStore
from cocoindex.state.open import open_store
from cocoindex.state.tools.archive import import_archive
from cocoindex.testing import Severity, fsck

HERE = Path(__file__).resolve().parent
FORMATS = sorted(path for path in HERE.iterdir() if path.name.startswith("format"))


def load_builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_build", HERE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_builder()


@pytest.fixture(params=FORMATS, ids=lambda path: path.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def program(folder: Path) -> Any:
    program = build.load_program(folder)
    program.BODIES.clear()
    program.ROWS.take()
    program.TREE.take()
    return program


@pytest.fixture
def stored(folder: Path, tmp_path: Path) -> Path:
    """A copy of the golden store."""
    return Path(shutil.copytree(folder / build.STORE, tmp_path / "store"))


@pytest.fixture(params=["lmdb", "imported to lmdb", "imported to memory"])
def env(request: pytest.FixtureRequest, program: Any, folder: Path, stored: Path) -> Any:
    if request.param == "lmdb":
        return build.environment(program, stored)
    if request.param == "imported to memory":
        store: Any = MemoryStore()
        import_archive(folder / build.EXPORT, store)
        return build.environment(program, None, store)
    env = build.environment(program, stored.with_name("imported"))
    import_archive(folder / build.EXPORT, env.store)
    return env


async def test_an_update_finds_everything_in_place(program: Any, env: Any) -> None:
    assert fsck(env, "golden") == []
    with build.app_of(env, "golden", program.main) as app:
        assert await app.update() == [1, 2, 3]
        assert fsck(env, "golden") == []
    assert program.BODIES == []
    assert program.ROWS.take() == []
    assert program.TREE.take() == []


async def test_a_change_causes_just_what_it_must(program: Any, env: Any) -> None:
    with build.app_of(env, "golden", program.main, "five", 2) as app:
        await app.update()
        assert fsck(env, "golden") == []
    assert sorted(program.BODIES) == ["process", "tables"]
    assert program.ROWS.take() == []
    assert {action[1][0] for action in program.TREE.take()} == {"t", "u"}


async def test_what_was_interrupted_is_completed(program: Any, env: Any) -> None:
    assert {finding.severity for finding in fsck(env, "interrupted")} == {Severity.UNFINISHED}
    with build.app_of(env, "interrupted", program.interrupted, ("a",)) as app:
        await app.update()
        assert fsck(env, "interrupted") == []
    assert program.ROWS.take() == [("delete", ("interrupted", "b"), None)]


async def test_a_drop_leaves_nothing(program: Any, env: Any) -> None:
    with build.app_of(env, "golden", program.main) as app:
        await app.drop()
        assert env.store.section_names() == ["interrupted"]


def test_every_table_is_covered(stored: Path) -> None:
    store = open_store(stored)
    found = {key[:1] for name in store.section_names() for key, _ in store.section(name).scan(b"")}
    store.close()
    assert found == set(TABLES)


def test_the_files_are_small(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 200_000


PROGRAM = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import build
program = build.load_program(Path(sys.argv[2]))

async def main():
    env = build.environment(program, Path(sys.argv[3]))
    with build.app_of(env, "golden", program.main) as app:
        await app.update()
    print([program.BODIES, program.ROWS.take(), program.TREE.take()])

asyncio.run(main())
"""


@pytest.mark.parametrize("seed", ["0", "1234"])
def test_fingerprints_hold_in_other_processes(folder: Path, stored: Path, seed: str) -> None:
    source = Path(base.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(HERE), str(folder), str(stored)],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == "[[], [], []]\n", done.stderr


def test_a_store_of_the_next_format_is_refused(stored: Path) -> None:
    newer = base.FORMAT_VERSION + 1
    with lmdb.open(str(stored / "state.lmdb"), subdir=False) as env, env.begin(write=True) as txn:
        header = txn.get(layout.HEADER_KEY)
        assert header is not None
        magic, line, _ = header.partition(b"\n")
        txn.put(layout.HEADER_KEY, magic + line + json.dumps({"format": newer}).encode())
    with pytest.raises(StoreFormatError, match=f"format version {newer}.*Upgrade cocoindex"):
        open_store(stored)

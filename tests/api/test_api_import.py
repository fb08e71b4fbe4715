"""Importing the package is quick and does nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_WATCHED_IMPORT = """
import json, sys, threading
seen = []
def hook(event, args):
    if event.startswith(("socket.", "_thread.start", "subprocess.", "os.system", "os.mkdir")):
        seen.append(event)
    elif event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        seen.append(f"open {args[0]}")
sys.addaudithook(hook)
import cocoindex
heavy = [
    "numpy", "click", "rich", "lmdb", "pydantic", "psycopg", "asyncpg", "aiohttp", "httpx",
    "dotenv", "sqlite3", "pickle", "xml", "multiprocessing", "unittest",
    "cocoindex.cli", "cocoindex.connectors", "cocoindex.resources", "cocoindex.testing",
    "cocoindex.display", "cocoindex.engine.fsck", "cocoindex.core.unpickle",
]
print(json.dumps({
    "seen": seen,
    "heavy": [name for name in heavy if name in sys.modules],
    "threads": threading.active_count(),
}))
"""


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    import os
    import subprocess
    import sys

    cwd = tmp_path_factory.mktemp("empty")
    env = {k: v for k, v in os.environ.items() if not k.startswith("COCOINDEX_")}
    env |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "HOME": str(cwd)}
    done = subprocess.run(
        [sys.executable, "-B", "-c", _WATCHED_IMPORT],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=env,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    result["files"] = [path.name for path in cwd.iterdir()]
    return result


def test_it_opens_no_socket_and_starts_no_process_or_thread(observed: dict[str, Any]) -> None:
    assert [event for event in observed["seen"] if not event.startswith("open")] == []
    assert observed["threads"] == 1


def test_it_creates_no_file(observed: dict[str, Any]) -> None:
    assert [event for event in observed["seen"] if event.startswith(("open", "os.mkdir"))] == []
    assert observed["files"] == []


def test_it_loads_no_heavy_library(observed: dict[str, Any]) -> None:
    assert observed["heavy"] == []


_TIMED = """
import time
start = time.process_time()
import {modules}
print(time.process_time() - start)
"""

# What any asyncio program with typed values pays, so that a slow machine counts as slow for both.
_BASELINE = "asyncio, msgspec, dataclasses, inspect, typing, logging, uuid, hashlib, tempfile"


def test_it_is_quick(run_python: Callable[..., str], tmp_path: Path) -> None:
    """Processor time, compiled files at hand: neither a fresh clone nor a busy machine counts."""
    compiled = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}

    def took(modules: str) -> float:
        return float(run_python(_TIMED.format(modules=modules), **compiled))

    took("cocoindex"), took(_BASELINE)  # compiles
    for _ in range(20):
        ours, baseline = (min(took(m) for _ in range(5)) for m in ("cocoindex", _BASELINE))
        if ours < 3 * baseline:  # measured: 1.5
            return
    raise AssertionError(f"{ours:.3f} s, and {baseline:.3f} s for {_BASELINE}")

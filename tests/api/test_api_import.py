"""Importing the package is quick and does nothing else; a name is loaded when it is used."""

from __future__ import annotations

import ast
import json
import os
import pydoc
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco

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
imported = {name for name in sys.modules if name.startswith("cocoindex")}
at_import = [
    name for name in ("asyncio", "inspect", "logging", "msgspec", "pathlib") if name in sys.modules
]

def main(): ...

app = cocoindex.App("app", cocoindex.fn(memo=True)(main))
heavy = [
    "numpy", "click", "rich", "lmdb", "pydantic", "psycopg", "asyncpg", "aiohttp", "httpx",
    "dotenv", "sqlite3", "pickle", "xml", "multiprocessing", "unittest", "difflib", "tempfile",
    "cocoindex.cli", "cocoindex.connectors", "cocoindex.resources", "cocoindex.testing",
    "cocoindex.display", "cocoindex.engine.fsck", "cocoindex.core.unpickle",
    "cocoindex.state.postgres.location", "cocoindex.state.lmdb_store",
]
print(json.dumps({
    "seen": seen,
    "imported": sorted(imported),
    "at_import": at_import,
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


def test_it_loads_nothing_of_the_package(observed: dict[str, Any]) -> None:
    assert observed["imported"] == ["cocoindex"]
    assert observed["at_import"] == []


def test_an_app_is_made_without_any_heavy_library(observed: dict[str, Any]) -> None:
    assert observed["heavy"] == []


_TIMED = """
import time
start = time.process_time()
{code}
print(time.process_time() - start)
"""
_IMPORT = "import cocoindex"
_MAKE_AN_APP = """
import cocoindex as coco
@coco.fn(memo=True)
def main(): ...
coco.App("app", main)
"""
# What any such program pays, so that a slow machine counts as slow for both.
_TYPED = "import typing, importlib"
_ASYNC = "import asyncio, msgspec, dataclasses, inspect, logging, uuid, hashlib, pathlib"


@pytest.mark.parametrize(
    ("ours", "least", "times"),
    [
        (_IMPORT, _TYPED, 1.5),  # measured: 1.05
        (_MAKE_AN_APP, _ASYNC, 2.5),  # measured: 1.5
    ],
)
def test_it_is_quick(
    run_python: Callable[..., str], tmp_path: Path, ours: str, least: str, times: float
) -> None:
    """Processor time, compiled files at hand: neither a fresh clone nor a busy machine counts."""
    compiled = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}

    def took(code: str) -> float:
        return float(run_python(_TIMED.format(code=code), **compiled))

    took(ours), took(least)  # compiles
    for _ in range(20):
        here, there = (min(took(code) for _ in range(5)) for code in (ours, least))
        if here < times * there:
            return
    raise AssertionError(f"{here:.3f} s, and {there:.3f} s for {least}")


# --- Names are fetched when they are used ------------------------------------------------


def _imports_for_type_checkers() -> dict[str, str]:
    """Name -> module, as the imports below ``if TYPE_CHECKING`` have it."""
    tree = ast.parse(Path(str(coco.__file__)).read_text("utf-8"))
    block = next(
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_names_are_fetched_from_where_type_checkers_look_for_them() -> None:
    listed = _imports_for_type_checkers()
    assert listed.pop("connectorkits") == "cocoindex"
    assert listed == {name: f"cocoindex.{home}" for name, home in coco._HOME_OF.items()}
    assert sorted(listed) == sorted(coco.__all__)


def test_no_submodule_has_the_name_of_something_else() -> None:
    folder = Path(str(coco.__file__)).parent
    assert not {path.stem for path in folder.iterdir()} & set(coco.__all__)


_EACH_FIRST = """
import sys
import cocoindex
names = [*cocoindex.__all__, *cocoindex._SUBMODULES]
for name in names:
    for module in [m for m in sys.modules if m.startswith("cocoindex")]:
        del sys.modules[module]
    import cocoindex
    home = cocoindex._HOME_OF.get(name, name)
    found = getattr(cocoindex, name)
    module = sys.modules["cocoindex." + home]
    assert found is (module if name == home else getattr(module, name)), name
    assert vars(cocoindex)[name] is found, name
print(len(names))
"""


def test_any_name_may_be_the_first_to_be_used(run_python: Callable[..., str]) -> None:
    assert int(run_python(_EACH_FIRST)) > len(coco.__all__)


_ALL_AT_ONCE = """
import gc, sys, threading
sys.setswitchinterval(1e-5)
import cocoindex
found = {}
gate = threading.Barrier(len(cocoindex.__all__))

def use(name):
    gate.wait()
    found[name] = getattr(cocoindex, name)

threads = [threading.Thread(target=use, args=(name,)) for name in cocoindex.__all__]
[thread.start() for thread in threads], [thread.join() for thread in threads]
print(all(found[name] is getattr(cocoindex, name) for name in cocoindex.__all__))
assert gc.isenabled()
"""


def test_threads_may_use_their_first_names_at_once(run_python: Callable[..., str]) -> None:
    assert run_python(_ALL_AT_ONCE) == "True\n"


_LOOKED_AT = """
import pickle, sys
import cocoindex
assert sorted(cocoindex.__all__) == sorted(set(dir(cocoindex)) & set(cocoindex.__all__))
assert not hasattr(cocoindex, "no_such_name") and not hasattr(cocoindex, "cli")
assert pickle.loads(b"ccocoindex\\nLimits\\n.") is cocoindex.Limits
from cocoindex import *
assert map is sys.modules["cocoindex.engine.mapping"].map
"""


_WITHOUT_COLLECTING = """
import gc, sys
import cocoindex

class Watch:
    during = set()

    def find_spec(self, *_):
        self.during.add(gc.isenabled())

sys.meta_path.insert(0, Watch())
cocoindex.App
assert Watch.during == {False} and gc.isenabled()
gc.disable()
cocoindex.fn
assert not gc.isenabled()
gc.enable()
sys.modules.pop("cocoindex.engine.mapping", None)
try:
    sys.modules["cocoindex.engine.mapping"] = None
    cocoindex.map
except ImportError:
    print(gc.isenabled())
"""


def test_garbage_is_not_looked_for_while_a_name_is_loaded(run_python: Callable[..., str]) -> None:
    assert run_python(_WITHOUT_COLLECTING) == "True\n"


_FORKED_MEANWHILE = """
import gc, os, threading
import cocoindex

loading, forked = threading.Event(), threading.Event()

def load(name, load=cocoindex._import_module):
    loading.set()  # no lock of the import system is held, for which a fork would wait
    forked.wait()
    return load(name)

cocoindex._import_module = load
thread = threading.Thread(target=lambda: cocoindex.App)
thread.start()
loading.wait()
assert not gc.isenabled()
child = os.fork()
if not child:
    os._exit(not gc.isenabled())
forked.set()
thread.join()
print(os.waitpid(child, 0)[1], gc.isenabled())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_a_name_is_loaded_looks_for_garbage(
    run_python: Callable[..., str],
) -> None:
    assert run_python(_FORKED_MEANWHILE) == "0 True\n"


def test_names_not_used_yet_are_listed_pickled_and_star_imported(
    run_python: Callable[..., str],
) -> None:
    run_python(_LOOKED_AT)


def test_help_names_everything() -> None:
    text = pydoc.plain(pydoc.render_doc(coco))
    assert [name for name in coco.__all__ if name not in text] == []


def test_the_rooms_are_attributes_of_the_package() -> None:
    for name in coco._SUBMODULES:
        assert getattr(coco, name) is import_module(f"cocoindex.{name}")

"""What the command line loads, and that garbage is collected once it has."""

from __future__ import annotations

from typing import Any

PROGRAM = """
import atexit, gc, sys
import cocoindex as coco

assert gc.isenabled() and gc.get_freeze_count() > 10_000
UNNEEDED = [
    "rich", "dotenv", "json", "pickle", "shutil", "tempfile", "random", "sysconfig",
    "cocoindex.cli.actions", "cocoindex.cli.stuck", "cocoindex.core.unpickle",
    "cocoindex.display.terminal", "cocoindex.engine.fsck", "cocoindex.engine.inspection",
    "cocoindex.state.memory", "cocoindex.state.postgres.location",
]
known = set(sys.modules)

@coco.lifespan
def lifespan(builder):
    builder.settings.db_path = "store"
    yield

@coco.fn(memo=True)
async def component(number: int) -> None: ...

@coco.fn
async def main() -> None:
    await coco.mount_each(component, [(1, 1), (2, 2)])

app = coco.App("app", main)

@atexit.register
def tell():
    print([name for name in UNNEEDED if name in sys.modules])
    print(sorted(name for name in sys.modules.keys() - known if name.startswith("cocoindex")))
"""


def test_an_update_loads_nothing_that_it_does_not_use(project: Any) -> None:
    project.write("main.py", PROGRAM)
    for _ in range(2):
        done = project.run("update", "main.py", "-q")
        assert (done.returncode, done.stdout) == (0, "[]\n[]\n"), done.stderr


VERSION = """
import sys
from cocoindex.cli.main import main
sys.argv = ["cocoindex", "--version"]
try:
    main()
finally:
    print([name for name in ("lmdb", "rich", "cocoindex.engine") if name in sys.modules])
"""


def test_the_version_is_told_without_the_engine(run_python: Any) -> None:
    assert run_python("-c", VERSION).stdout.endswith("\n[]\n")

"""Write the golden store of the present format: ``python tests/golden/build.py``.

Run it before a release that changes the format, never afterwards: the files of released formats
must stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cocoindex as coco
from cocoindex.state.open import open_store
from cocoindex.state.tools.archive import export_store
from cocoindex.state.tools.compact import compact_store

HERE = Path(__file__).resolve().parent
PRESENT = HERE / "format1"
STORE, EXPORT = "store", "state.coco"


def load_program(folder: Path) -> ModuleType:
    """The program of a format, always under the same module name: names are stored."""
    name = f"golden_{folder.name}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, folder / "program.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def environment(program: Any, db_path: Path | None, store: Any = None) -> coco.Environment:
    context = coco.ContextProvider()
    context.provide(program.STYLE, "-")
    settings = coco.Settings(db_path=db_path)
    return coco.Environment(settings, name="golden", context_provider=context, store=store)


@contextlib.contextmanager
def app_of(
    env: coco.Environment, name: str, function: Any, *args: Any
) -> Iterator[coco.App[Any, Any]]:
    """An app on an environment that is closed at the end."""
    try:
        yield coco.App(coco.AppConfig(name=name, environment=env), function, *args)
    finally:
        env.close()


async def write(program: Any, db_path: Path) -> None:
    def opened() -> coco.Environment:
        return environment(program, db_path)

    with app_of(opened(), "golden", program.main, "", 0) as app:
        await app.update()
    with app_of(opened(), "golden", program.main) as app:
        await app.update()
    with app_of(opened(), "interrupted", program.interrupted, ("a", "b")) as app:
        await app.update()
    failing = program.ROWS.failing(key=("interrupted", "b"))
    with app_of(opened(), "interrupted", program.interrupted, ("a",)) as app, failing:
        await app.update()


def main() -> None:
    program = load_program(PRESENT)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch, STORE)
        asyncio.run(write(program, made))
        compact_store(made)
        store = open_store(made, read_only=True)
        export_store(store, PRESENT / EXPORT, force=True)
        store.close()
        shutil.rmtree(PRESENT / STORE, ignore_errors=True)
        (PRESENT / STORE).mkdir()
        shutil.copy(made / "state.lmdb", PRESENT / STORE)


if __name__ == "__main__":
    main()

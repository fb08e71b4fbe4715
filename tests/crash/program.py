"""An app with three targets, for the tests of this directory to kill, starve and stop.

``home/source`` is walked; every file gives a large file in ``home/out`` and a row of a table (both
the product's own targets) and a small file in ``home/rows`` (a target written here, which also
logs each action). The table is in ``home/db.sqlite``, or on a Postgres server.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

import cocoindex as coco
from cocoindex import inspect
from cocoindex.connectors import localfs, postgres, sqlite
from cocoindex.engine import faults
from cocoindex.testing import checks

HOME = coco.ContextKey[Path]("crash/home")
DB = coco.ContextKey[Any]("crash/db")
LINES = 400
ran: list[str] = []
synchronous: Any = "off"
"""How SQLite flushes: what is killed here is the process, and not the system below it."""


def derived(text: str) -> str:
    """Long enough that half of it could be on disk, and telling if only half of it is."""
    return f"{text}\n" * LINES + "END"


@dataclass(frozen=True)
class Note:
    """A row that shows by itself whether it is whole."""

    name: str
    text: str
    digest: str


class Action(NamedTuple):
    op: str
    key: str
    value: str = ""


class RowHandler:
    """Rows that are files; the record of a row is its value."""

    def reconcile(
        self, key: str, desired: Any, prev: Collection[str], may_be_missing: bool, /
    ) -> Any:
        if coco.is_non_existence(desired):
            if not prev and not may_be_missing:
                return None
            return coco.TargetReconcileOutput(Action("delete", key), SINK, coco.NON_EXISTENCE)
        if not may_be_missing and prev and all(record == desired for record in prev):
            return None
        return coco.TargetReconcileOutput(Action("put", key, desired), SINK, desired)


def apply(context: coco.ContextProvider, actions: Sequence[Action]) -> None:
    home = context.get(HOME)
    log = os.open(home / "actions.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        for action in actions:
            os.write(log, f"{action.op} {action.key}\n".encode())
            apply_one(home / "rows", action)
            faults.reach(faults.FaultPoint.AFTER_SINK, action.key)
    finally:
        os.close(log)


def apply_one(rows: Path, action: Action) -> None:
    path = rows / action.key.replace("/", "%")
    if action.op == "delete":
        path.unlink(missing_ok=True)
        return
    beside = path.with_name(f"new-{path.name}")
    beside.write_text(action.value)
    beside.replace(path)


SINK: coco.TargetActionSink[Action, None] = coco.TargetActionSink.from_fn(apply)
rows = coco.register_root_target_states_provider("crash/rows", RowHandler())


@coco.fn(memo=True)
async def process(file: localfs.File, out: localfs.DirTarget, notes: Any) -> None:
    name = file.file_path.path.relative_to("source").as_posix()
    ran.append(name)
    text = await file.read_text()
    out.declare_file(f"{name}.txt", derived(text), create_parent_dirs=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    notes.declare_row(row=Note(name, text, digest))
    coco.declare_target_state(rows.target_state(name, digest))


async def main(tables: Any) -> None:
    source = localfs.FilePath("source", base_dir=HOME)
    out = await localfs.mount_dir_target(localfs.FilePath("out", base_dir=HOME))
    schema = await tables.TableSchema.from_class(Note, ["name"])
    notes = await tables.mount_table_target(DB, "notes", schema)
    files = localfs.walk_dir(source, recursive=True)
    await coco.mount_each(coco.component_subpath("files"), process, files.items(), out, notes)


def connected(home: Path) -> contextlib.AbstractContextManager[sqlite.ManagedConnection]:
    return sqlite.managed_connection(home / "db.sqlite", load_vec=False, synchronous=synchronous)


def open_app(home: Path, *, server: bool = False) -> tuple[coco.Environment, coco.App[Any, None]]:
    """The app in ``home``; ``server``: with its table on one, which is provided later."""
    context = coco.ContextProvider()
    context.provide(HOME, home)
    if not server:
        context.provide_with(DB, connected(home))
    settings = coco.Settings(db_path=home / "store", lmdb_map_size=1 << 20)
    env = coco.Environment(settings, name="crash", context_provider=context)
    tables = postgres if server else sqlite
    return env, coco.App(coco.AppConfig("crash", env), main, tables)


async def inconsistencies(app: coco.App[Any, None]) -> list[str]:
    """What is wrong in the store at rest, as its readers see it."""
    owners = [entry async for entry in inspect.iter_target_states(app)]
    found = [entry.readable_path for entry in owners if entry.dangling]
    async for detail in inspect.iter_stable_path_details(app):
        found += [
            f"{item.target_state_path}: {item.states}"
            for item in detail.target_state_items
            if [state.state for state in item.states] != ["Existing"]
        ]
    return found


def update(home: Path, url: str = "") -> dict[str, Any]:
    """One update of the app in ``home``; what came of it."""
    ran.clear()
    return asyncio.run(_update(home, url))


async def _update(home: Path, url: str) -> dict[str, Any]:
    error = None
    wrong: list[str] = []
    async with contextlib.AsyncExitStack() as exits:
        try:
            env, app = open_app(home, server=bool(url))
            exits.callback(env.close)
            if url:
                pool = await exits.enter_async_context(asyncpg.create_pool(url, min_size=0))
                env.context_provider.provide(DB, pool)
            else:
                exits.push_async_callback(env.context_provider.aclose)
            await app.update()
        except Exception as caught:  # noqa: BLE001 - whatever it is, the test wants to see it
            error = f"{type(caught).__name__}: {caught}"
        else:
            wrong = await inconsistencies(app) + list(map(str, checks.fsck(env, "crash")))
    return {"ran": sorted(ran), "error": error, "wrong": wrong}


class Countdown:
    """Sends this process a signal at the N-th fault point, of all or of one kind."""

    def __init__(self, at: int, name: str, only: faults.FaultPoint | None = None) -> None:
        self.count = 0
        self._at = at
        self._name = name
        self._only = only

    def __call__(self, point: faults.FaultPoint, _where: object) -> None:
        if self._only not in (None, point):
            return
        self.count += 1
        if self.count == self._at:
            os.kill(os.getpid(), getattr(signal, self._name))
            if self._name != "SIGSTOP":
                signal.pause()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        faults.install(Countdown(int(sys.argv[2]), sys.argv[3]))
    print("started", flush=True)
    sys.stdout.write(json.dumps(update(Path(sys.argv[1]))) + "\n")
elif "CRASH_HOME" in os.environ:
    if "STOP_AFTER_SINK" in os.environ:
        number = int(os.environ["STOP_AFTER_SINK"])
        faults.install(Countdown(number, "SIGSTOP", faults.FaultPoint.AFTER_SINK))
    app = open_app(Path(os.environ["CRASH_HOME"]))[1]  # for the command line

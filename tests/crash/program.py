"""An app with two targets, for the tests of this directory to kill, starve and stop.

``home/source`` is walked; every file gives a large file in ``home/out`` (the product's own
target) and a small one in ``home/rows`` (a target written here, which also logs each action).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cocoindex as coco
from cocoindex import inspect
from cocoindex.connectors import localfs
from cocoindex.engine import faults
from cocoindex.testing import checks

HOME = coco.ContextKey[Path]("crash/home")
LINES = 400
ran: list[str] = []


def derived(text: str) -> str:
    """Long enough that half of it could be on disk, and telling if only half of it is."""
    return f"{text}\n" * LINES + "END"


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
async def process(file: localfs.File, out: localfs.DirTarget) -> None:
    name = file.file_path.path.relative_to("source").as_posix()
    ran.append(name)
    text = await file.read_text()
    out.declare_file(f"{name}.txt", derived(text), create_parent_dirs=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    coco.declare_target_state(rows.target_state(name, digest))


async def main() -> None:
    source = localfs.FilePath("source", base_dir=HOME)
    out = await localfs.mount_dir_target(localfs.FilePath("out", base_dir=HOME))
    files = localfs.walk_dir(source, recursive=True)
    await coco.mount_each(coco.component_subpath("files"), process, files.items(), out)


def open_app(home: Path, **options: Any) -> tuple[coco.Environment, coco.App[[], None]]:
    context = coco.ContextProvider()
    context.provide(HOME, home)
    settings = coco.Settings(db_path=home / "store", lmdb_map_size=1 << 20)
    env = coco.Environment(settings, name="crash", context_provider=context)
    return env, coco.App(coco.AppConfig("crash", env, **options), main)


async def inconsistencies(app: coco.App[[], None]) -> list[str]:
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


def update(home: Path) -> dict[str, Any]:
    """One update of the app in ``home``; what came of it."""
    ran.clear()
    env, app = open_app(home)
    error = None
    try:
        app.update_blocking()
    except Exception as caught:  # noqa: BLE001 - whatever it is, the test wants to see it
        error = f"{type(caught).__name__}: {caught}"
    wrong = []
    if error is None:
        wrong = asyncio.run(inconsistencies(app)) + list(map(str, checks.fsck(env, "crash")))
    env.close()
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

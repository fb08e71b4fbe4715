"""The outside world of a simulated program, and the connectors that change it.

The connectors are as picky as real systems: a row whose old content the engine vouches for is
only patched, a row needs its container, a directory must be empty to be removed. What the
engine gets wrong therefore shows at once, as a violation, and not only at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import cocoindex as coco
from cocoindex.engine.faults import FaultPoint
from cocoindex.testing.simulation import InjectedFault, Killed

Path = tuple[str, ...]
LOST = "<lost>"


class Action(NamedTuple):
    op: str
    path: Path
    value: str | None = None
    columns: tuple[int, ...] = ()


class Outside:
    """Everything beyond the process; survives kills."""

    def __init__(self) -> None:
        self.rows: dict[Path, str] = {}
        self.foreign = {("rows", "foreign"): "theirs", ("table", "foreign"): "theirs"}
        self.rows.update(self.foreign)
        self.log: list[Action] = []
        self.violations: list[str] = []
        self.reach: Callable[[str, str], None] = lambda _point, _where: None
        self.delay: Callable[[], float] = lambda: 0.0
        self.is_severed = False

    def ours(self) -> dict[Path, str]:
        return {path: value for path, value in self.rows.items() if path not in self.foreign}

    def changes(self) -> list[Action]:
        return [action for action in self.log if action.op != "keep"]

    def copy(self) -> Outside:
        twin = Outside()
        twin.rows = dict(self.rows)
        return twin

    # --- sinks -----------------------------------------------------------------------------------

    async def apply(self, actions: list[Action]) -> None:
        for action in actions:
            delay = self.delay()
            if delay:
                await asyncio.sleep(delay)
            self._pass(action)
            self.act(action)
        self._pass(actions[-1])

    def apply_now(self, actions: list[Action]) -> None:
        for action in actions:
            self._pass(action)
            self.act(action)
        self._pass(actions[-1])

    def _pass(self, action: Action) -> None:
        if self.is_severed:
            raise Killed
        try:
            self.reach(FaultPoint.INSIDE_SINK, "/".join(action.path))
        except InjectedFault as fault:
            if len(action.path[-1]) % 2:
                raise ConnectionError("simulated: the system went away") from fault
            raise

    def act(self, action: Action) -> None:
        self.log.append(action)
        if action.path in self.foreign:
            self.violations.append(f"{action} touches what is not ours")
        getattr(self, f"_{action.op}")(action)

    def _put(self, action: Action) -> None:
        self._needs_container(action)
        self.rows[action.path] = str(action.value)

    def _patch(self, action: Action) -> None:
        self._needs_container(action)
        old = self.rows.get(action.path)
        if old is None or old == LOST:
            self.violations.append(f"{action} patches a row that is {old or 'missing'}")
            return
        columns = old.split("|")
        new = str(action.value).split("|")
        for index in action.columns:
            columns[index] = new[index]
        self.rows[action.path] = "|".join(columns)

    def _delete(self, action: Action) -> None:
        below = self._below(action.path)
        if below and action.path[0] == "dir":
            self.violations.append(f"{action}: the directory still holds {below}")
        self._clear(action.path)
        self.rows.pop(action.path, None)

    def _keep(self, action: Action) -> None:
        if self.rows.get(action.path) != action.value:
            self.violations.append(f"{action}: there is {self.rows.get(action.path)}")

    def _create(self, action: Action) -> None:
        self._needs_container(action)
        self.rows[action.path] = str(action.value)

    def _alter(self, action: Action) -> None:
        for path in self._below(action.path):
            self.rows[path] = LOST if len(self.rows[path].split("|")) > 2 else self.rows[path]
        self.rows[action.path] = str(action.value)

    def _replace(self, action: Action) -> None:
        self._clear(action.path)
        self.rows[action.path] = str(action.value)

    def _below(self, path: Path) -> list[Path]:
        return [row for row in self.rows if len(row) > len(path) and row[: len(path)] == path]

    def _clear(self, path: Path) -> None:
        for row in self._below(path):
            del self.rows[row]

    def _needs_container(self, action: Action) -> None:
        path = tuple(part for part in action.path[:-1] if not part.startswith("@"))
        if len(path) > 1 and path not in self.rows:
            self.violations.append(f"{action}: there is no {'/'.join(path)}")


class Present:
    """The outside that the connectors talk to now (they are registered once per process)."""

    def __init__(self) -> None:
        self.outside = Outside()


present = Present()


async def _apply_rows(_provider: Any, actions: list[Action]) -> None:
    await present.outside.apply(list(actions))


async def _apply_table_rows(_provider: Any, actions: list[Action]) -> None:
    await present.outside.apply(list(actions))


def _apply_attachments(_provider: Any, actions: list[Action]) -> None:
    present.outside.apply_now(list(actions))


def _apply_containers(_provider: Any, actions: list[Action]) -> None:
    present.outside.apply_now(list(actions))


async def _apply_dirs(_provider: Any, actions: list[Action]) -> None:
    await present.outside.apply(list(actions))


def _children(_provider: Any, action: Action) -> Any:
    kind = action.path[0]
    if kind == "nest" and len(action.path) == 2:
        return Containers(action.path)
    return TableRows(action.path) if kind == "table" else Rows(action.path, table_rows)


root_rows = coco.TargetActionSink.from_async_fn(_apply_rows)
table_rows = coco.TargetActionSink.from_async_fn(_apply_table_rows)
attachments = coco.TargetActionSink.from_fn(_apply_attachments)
containers = coco.TargetActionSink.from_fn(_apply_containers, child_handler=_children)
directories = coco.TargetActionSink.from_async_fn(_apply_dirs, child_handler=_children)


class Rows:
    """Rows ``source|code|source``, patched column by column where their content is known."""

    def __init__(self, path: Path, sink: Any) -> None:
        self.path = path
        self.sink = sink

    def reconcile(self, key: Any, desired: Any, prev: Collection[str], missing: bool, /) -> Any:
        path = (*self.path, key)
        if coco.is_non_existence(desired):
            return coco.TargetReconcileOutput(Action("delete", path), self.sink, coco.NON_EXISTENCE)
        if missing or not prev:
            return coco.TargetReconcileOutput(Action("put", path, desired), self.sink, desired)
        columns = desired.split("|")
        known = [record.split("|") for record in prev]
        changed = tuple(
            i for i, column in enumerate(columns) if any(old[i] != column for old in known)
        )
        if not changed:
            return None
        return coco.TargetReconcileOutput(
            Action("patch", path, desired, changed), self.sink, desired
        )


class TableRows(Rows):
    """The rows of a table, which also has an index."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, table_rows)

    def attachments(self) -> dict[str, Any]:
        return {"idx": Rows((*self.path, "@idx"), attachments)}


class Containers:
    """Tables ``shape|minor``: another shape replaces the table, another minor may lose rows."""

    def __init__(self, path: Path, sink: Any = None) -> None:
        self.path = path
        self.sink = sink or containers
        self.reconcile_children_on_delete = path[0] == "dir"

    def reconcile(self, key: Any, desired: Any, prev: Collection[str], missing: bool, /) -> Any:
        path = (*self.path, key)
        if coco.is_non_existence(desired):
            return coco.TargetReconcileOutput(Action("delete", path), self.sink, coco.NON_EXISTENCE)
        op, harm = _container_change(desired, prev, missing)
        return coco.TargetReconcileOutput(Action(op, path, desired), self.sink, desired, harm)


def _container_change(desired: str, prev: Collection[str], missing: bool) -> tuple[str, Any]:
    if not prev:
        return "create", None
    shape = desired.split("|", maxsplit=1)[0]
    if any(record.split("|")[0] != shape for record in prev):
        return "replace", "destructive"
    if any(record != desired for record in prev):
        return "alter", "lossy"
    return ("create", "lossy") if missing else ("keep", None)


register = coco.register_root_target_states_provider
roots: dict[str, Any] = {
    "rows": register("simulation/rows", Rows(("rows",), root_rows)),
    "table": register("simulation/table", Containers(("table",))),
    "nest": register("simulation/nest", Containers(("nest",))),
    "dir": register("simulation/dir", Containers(("dir",), directories)),
}

"""Target systems in memory, for testing programs and the engine without a database.

:class:`MemoryTarget` holds rows, :class:`MemoryTree` holds containers that hold rows (or
further containers). Both show what the outside world looks like, log every sink call, and
can be told to fail or to pause at a named point of a call.

Example::

    target = MemoryTarget()


    async def main() -> None:
        target.declare("greeting", "hello")


    with target.failing("after"):  # applied, but the sink raises
        await app.update()
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import cocoindex as coco
from cocoindex.connectorkits.fingerprint import fingerprint_object
from cocoindex.testing.scripted import (
    ANY_KEY,
    Action,
    Gate,
    InjectedFailure,
    Reconciled,
    ScriptedSink,
)

__all__ = [
    "ANY_KEY",
    "LOST",
    "Action",
    "Gate",
    "InjectedFailure",
    "MemoryTarget",
    "MemoryTree",
    "Reconciled",
    "ScriptedSink",
]

LOST: Final = "<lost>"
"""What a row of a container holds after a *lossy* change, until it is written again."""

_names = itertools.count(1)


class MemoryTarget(ScriptedSink):
    """A table in memory whose rows are target states.

    Args:
        name: name of the root provider; unique by default. Give one when several processes
            share a state store.
        sync: use a synchronous sink, which the engine runs on a worker thread.
        record: what to track for a value. With the default, any value works that can be
            fingerprinted.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        sync: bool = False,
        record: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__()
        self.rows: dict[Any, Any] = {}
        """The outside world: value by key."""
        self._record = record or fingerprint_object
        self._sink: coco.TargetActionSink[Action, None] = (
            coco.TargetActionSink.from_fn(self._apply_blocking)
            if sync
            else coco.TargetActionSink.from_async_fn(self._apply)
        )
        self.provider = _register(name, self)

    def row(self, key: coco.StableKey, value: Any) -> coco.TargetState[None]:
        """The target state of one row."""
        return self.provider.target_state(key, value)

    def declare(self, key: coco.StableKey, value: Any) -> None:
        """Declare one row in the current component."""
        coco.declare_target_state(self.row(key, value))

    def reconcile(
        self, key: Any, desired: Any, prev_records: Collection[Any], prev_may_be_missing: bool, /
    ) -> coco.TargetReconcileOutput[Action, Any] | None:
        """The handler side; called by the engine."""
        self.reconciled.append(Reconciled(key, desired, tuple(prev_records), prev_may_be_missing))
        return _reconcile_row(
            key, desired, prev_records, prev_may_be_missing, self._sink, self._record
        )

    async def _apply(self, _provider: coco.ContextProvider, actions: Sequence[Action]) -> None:
        await self.run(actions, self._apply_one)

    def _apply_blocking(self, provider: coco.ContextProvider, actions: Sequence[Action]) -> None:
        asyncio.run(self._apply(provider, actions))

    def _apply_one(self, action: Action) -> None:
        if action.op == "delete":
            self.rows.pop(action.key, None)
        else:
            self.rows[action.key] = action.value


class MemoryTree(ScriptedSink):
    """Containers in memory, whose children are rows or, with ``levels > 1``, containers again.

    A container is declared with :meth:`container` (best through ``coco.mount_target``), its
    children through the provider that comes back.

    Args:
        name: name of the root provider; unique by default.
        levels: how many levels of containers lie above the rows.
        sync: use synchronous sinks.
        handlers_from: ``"sink"``: the container sink returns ``ChildTargetDef``s;
            ``"factory"``: the sink has a ``child_handler`` factory, so previews work.
        attachments: names of attachment types that every provider below a container offers.
        attachments_on_demand: offer them through ``attachment(type)`` instead of
            ``attachments()``.
        children_first: a container can't be dropped while it has children, so the engine has
            to delete those first (``reconcile_children_on_delete``).
        record: what to track for a value.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        levels: int = 1,
        sync: bool = False,
        handlers_from: Literal["sink", "factory"] = "sink",
        attachments: Sequence[str] = (),
        attachments_on_demand: bool = False,
        children_first: bool | Callable[[Any, Any], bool] = False,
        record: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__()
        self.rows: dict[tuple[Any, ...], Any] = {}
        """The outside world: value by path; containers included."""
        self.invalidations: dict[tuple[Any, ...], Literal["lossy", "destructive"]] = {}
        """Containers, by path, whose next change harms their children; cleared when applied."""
        self._levels = levels
        self._from_factory = handlers_from == "factory"
        self._handler_type = _handler_type(bool(attachments), attachments_on_demand)
        row_sink, container_sink = self._sinks(sync)
        self._rules = _TreeRules(
            row_sink,
            container_sink,
            record or fingerprint_object,
            tuple(attachments),
            children_first,
        )
        self.provider = _register(name, self._handler((), levels))

    def container(self, key: coco.StableKey, value: Any = None) -> coco.TargetState[Any]:
        """The target state of an outermost container."""
        return self.provider.target_state(key, value)

    def children(self, *path: coco.StableKey) -> dict[Any, Any]:
        """The direct children of the container at ``path``, without attachments: value by key."""
        depth = len(path)
        return {
            row[depth]: value
            for row, value in self.rows.items()
            if len(row) == depth + 1 and row[:depth] == path
        }

    def attached(self, *path: coco.StableKey, kind: str) -> dict[Any, Any]:
        """What is attached to the container at ``path``: value by key."""
        return self.children(*path, coco.Symbol(kind))

    def _sinks(
        self, sync: bool
    ) -> tuple[coco.TargetActionSink[Action, None], coco.TargetActionSink[Action, Any]]:
        factory = self._child_handler if self._from_factory else None
        if sync:
            return (
                coco.TargetActionSink.from_fn(self._apply_rows_blocking),
                coco.TargetActionSink.from_fn(
                    self._apply_containers_blocking, child_handler=factory
                ),
            )
        return (
            coco.TargetActionSink.from_async_fn(self._apply_rows),
            coco.TargetActionSink.from_async_fn(self._apply_containers, child_handler=factory),
        )

    def _handler(self, path: tuple[Any, ...], levels: int) -> _TreeHandler:
        return self._handler_type(self, self._rules, path, levels)

    def _child_handler(self, _provider: coco.ContextProvider, action: Action) -> _TreeHandler:
        return self._handler(action.key, self._levels - len(action.key))

    async def _apply_rows(self, _provider: coco.ContextProvider, actions: Sequence[Action]) -> None:
        await self.run(actions, self._apply_one)

    def _apply_rows_blocking(
        self, provider: coco.ContextProvider, actions: Sequence[Action]
    ) -> None:
        asyncio.run(self._apply_rows(provider, actions))

    async def _apply_containers(
        self, provider: coco.ContextProvider, actions: Sequence[Action]
    ) -> list[coco.ChildTargetDef[Any] | None] | None:
        call = await self.run(actions, self._apply_one)
        if self._from_factory:
            return None
        return [
            None
            if action.op == "delete"
            else coco.ChildTargetDef(handler=self._child_handler(provider, action))
            for action in call
        ]

    def _apply_containers_blocking(
        self, provider: coco.ContextProvider, actions: Sequence[Action]
    ) -> list[coco.ChildTargetDef[Any] | None] | None:
        return asyncio.run(self._apply_containers(provider, actions))

    def _apply_one(self, action: Action) -> None:
        below = [row for row in self.rows if len(row) > len(action.key) and _under(row, action.key)]
        if action.op == "delete" and below and self._wants_children_first(action.key):
            raise InjectedFailure(f"container {action.key} is not empty")
        if action.op in ("delete", "replace"):
            for row in below:
                del self.rows[row]
        if action.op == "alter":
            self.rows.update(dict.fromkeys(below, LOST))
        if action.op == "delete":
            self.rows.pop(action.key, None)
        elif action.op != "keep":
            self.rows[action.key] = action.value
            self.invalidations.pop(action.key, None)

    def _wants_children_first(self, path: tuple[Any, ...]) -> bool:
        wants = self._rules.children_first
        if not callable(wants):
            return wants
        return path in self.rows and wants(path[-1], self._rules.record(self.rows[path]))


class _TreeRules(NamedTuple):
    """What every handler of one tree goes by."""

    row_sink: coco.TargetActionSink[Action, None]
    container_sink: coco.TargetActionSink[Action, Any]
    record: Callable[[Any], Any]
    attachments: tuple[str, ...]
    children_first: bool | Callable[[Any, Any], bool]


class _TreeHandler:
    """Handler of the children of one path; ``levels`` > 0: these are containers."""

    def __init__(
        self, tree: MemoryTree, rules: _TreeRules, path: tuple[Any, ...], levels: int
    ) -> None:
        self.tree = tree
        self.rules = rules
        self.path = path
        self.levels = levels
        if levels > 0:
            self.reconcile_children_on_delete = rules.children_first

    def reconcile(
        self, key: Any, desired: Any, prev_records: Collection[Any], prev_may_be_missing: bool, /
    ) -> coco.TargetReconcileOutput[Action, Any] | None:
        tree, rules, path = self.tree, self.rules, (*self.path, key)
        tree.reconciled.append(Reconciled(path, desired, tuple(prev_records), prev_may_be_missing))
        sink = rules.container_sink if self.levels > 0 else rules.row_sink
        output = _reconcile_row(
            path, desired, prev_records, prev_may_be_missing, sink, rules.record
        )
        if self.levels == 0 or coco.is_non_existence(desired):
            return output
        return self._declared_container(path, desired, output)

    def _declared_container(
        self,
        path: tuple[Any, ...],
        desired: Any,
        output: coco.TargetReconcileOutput[Action, Any] | None,
    ) -> coco.TargetReconcileOutput[Action, Any]:
        """A declared container always has an action, because its children need a handler."""
        invalidation = self.tree.invalidations.get(path)
        if invalidation is not None:
            action = Action("replace" if invalidation == "destructive" else "alter", path, desired)
        else:
            action = output.action if output is not None else Action("keep", path, desired)
        return coco.TargetReconcileOutput(
            action, self.rules.container_sink, self.rules.record(desired), invalidation
        )

    def _attachment(self, kind: str) -> _TreeHandler | None:
        if kind not in self.rules.attachments:
            return None
        return _TreeHandler(self.tree, self.rules, (*self.path, coco.Symbol(kind)), 0)


class _ListsAttachments(_TreeHandler):
    def attachments(self) -> Mapping[str, Any]:
        return {kind: self._attachment(kind) for kind in self.rules.attachments}


class _FindsAttachments(_TreeHandler):
    def attachment(self, att_type: str) -> Any:
        return self._attachment(att_type)


def _handler_type(attachments: bool, on_demand: bool) -> type[_TreeHandler]:
    if not attachments:
        return _TreeHandler
    return _FindsAttachments if on_demand else _ListsAttachments


def _reconcile_row(
    key: Any,
    desired: Any,
    prev_records: Collection[Any],
    prev_may_be_missing: bool,
    sink: coco.TargetActionSink[Action, Any],
    record_of: Callable[[Any], Any],
) -> coco.TargetReconcileOutput[Action, Any] | None:
    if coco.is_non_existence(desired):
        return coco.TargetReconcileOutput(Action("delete", key), sink, coco.NON_EXISTENCE)
    record = record_of(desired)
    if not prev_may_be_missing and all(prev == record for prev in prev_records):
        return None
    return coco.TargetReconcileOutput(Action("put", key, desired), sink, record)


def _register(name: str | None, handler: Any) -> coco.TargetStateProvider[Any, Any, Any]:
    if name is None:
        name = f"cocoindex/testing/memory_{next(_names)}"
    return coco.register_root_target_states_provider(name, handler)


def _under(row: tuple[Any, ...], path: tuple[Any, ...]) -> bool:
    return row[: len(path)] == path

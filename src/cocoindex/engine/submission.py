"""What one execution is about to do to its target states."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from cocoindex.engine import rows
from cocoindex.engine.entry import Entry, Group, GroupKey
from cocoindex.engine.execution import Provider
from cocoindex.engine.rows import Item, State
from cocoindex.engine.targets import TargetActionSink

__all__ = ["Kept", "SinkActions", "Submission", "actions_for", "in_order"]

Sink = TargetActionSink[Any, Any]

Kept = dict[GroupKey, AbstractSet[bytes]]
"""Keys of tracked items, by group."""


class SinkActions(msgspec.Struct, eq=False, gc=False):
    """The actions of one submission for one sink, in the order in which they must arrive."""

    sink: Sink
    actions: list[Any] = msgspec.field(default_factory=list)
    children: dict[int, Provider] = msgspec.field(default_factory=dict)
    """Pending child providers by the position of their container's action."""


def actions_for(by_sink: list[SinkActions], sink: Sink) -> SinkActions:
    """Those of ``by_sink`` that go to ``sink``."""
    for actions in by_sink:  # a component has one or two sinks
        if actions.sink is sink or actions.sink.key == sink.key:
            return actions
    actions = SinkActions(sink)
    by_sink.append(actions)
    return actions


def in_order(by_sink: list[SinkActions]) -> list[SinkActions]:
    """In the order of their first action; sinks marked ``last`` after all others."""
    if len(by_sink) <= 1:
        return by_sink
    return sorted(by_sink, key=lambda actions: actions.sink.last)


class Submission(msgspec.Struct, eq=False, gc=False):
    """The rows to write before any sink is called, the actions by sink, and what becomes true
    once the sinks have succeeded. What is new stands in ``Group.unsure``.
    """

    entry: Entry
    by_sink: list[SinkActions] = msgspec.field(default_factory=list)
    extra_rows: list[tuple[bytes, bytes | None]] | None = None
    """Rows that must be written no later than the possible states."""
    final: list[tuple[Group, Item, tuple[State, ...], int]] | None = None
    """States and schema version of touched items once the sinks have succeeded."""
    gone: list[tuple[Group, list[bytes]]] | None = None
    """Keys of items that are tracked no more once the sinks have succeeded."""
    is_changed: bool = False
    kept: Kept = msgspec.field(default_factory=dict)
    """What stays for now although it is not declared."""
    robbed_memos: AbstractSet[bytes] = frozenset()
    """Contained target paths that another component has taken meanwhile."""
    component_id: int = 0
    version: int = 0

    def __post_init__(self) -> None:
        self.component_id = self.entry.component_id
        self.version = self.entry.version + 1

    @property
    def has_actions(self) -> bool:
        return bool(self.by_sink)

    def sinks(self) -> list[SinkActions]:
        """In the order of their first action; sinks marked ``last`` after all others."""
        return in_order(self.by_sink)

    def actions_for(self, sink: Sink) -> SinkActions:
        return actions_for(self.by_sink, sink)

    def add_action(self, sink: Sink, action: Any) -> None:
        # Mostly the sink of the action before; comparing keys calls user code.
        by_sink = self.by_sink
        actions = by_sink[-1] if by_sink and by_sink[-1].sink is sink else self.actions_for(sink)
        actions.actions.append(action)

    def add_container_action(self, sink: Sink, action: Any, child: Provider) -> None:
        actions = self.actions_for(sink)
        actions.children[len(actions.actions)] = child
        actions.actions.append(action)

    def settle(
        self, group: Group, item: Item, states: tuple[State, ...], schema_version: int
    ) -> None:
        """An item is to be in these states once the sinks have succeeded."""
        if self.final is None:
            self.final = []
        # The schema version too: until then, the item is as it was.
        self.final.append((group, item, states, schema_version))
        self.is_changed = True

    def forget(self, group: Group, keys: list[bytes]) -> None:
        """Items are to be tracked no more once the sinks have succeeded."""
        if not keys:
            return
        if self.gone is None:
            self.gone = []
        self.gone.append((group, keys))
        self.is_changed = True

    def add_rows(self, extra_rows: list[tuple[bytes, bytes | None]]) -> None:
        self.extra_rows = extra_rows if self.extra_rows is None else self.extra_rows + extra_rows

    def take_rows(self) -> list[tuple[bytes, bytes | None]]:
        """The extra rows, once: for the pre-commit, or the commit if there was none."""
        extra_rows, self.extra_rows = self.extra_rows, None
        return [] if extra_rows is None else extra_rows

    def precommit_rows(self) -> list[tuple[bytes, bytes | None]]:
        """Every state the outside world may soon be in. Empty if no state is in question."""
        batch = self.take_rows()
        if self.is_changed or batch:
            self.entry.version = self.version
            batch.append((rows.tracking_key(self.component_id), self.entry.encode()))
        return batch

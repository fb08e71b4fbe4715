"""Pre-commit: compare what was declared with what is tracked, and decide what to do.

:func:`plan` is one synchronous step over a snapshot of the store: it calls ``reconcile`` for
every declared and every previously tracked target state, and returns a :class:`Submission`:
the rows to write before any sink is called, the actions by sink, and what becomes true once
the sinks have succeeded. It writes nothing itself, so an error leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from cocoindex.core.keys import decode_key
from cocoindex.core.sentinels import NON_EXISTENCE
from cocoindex.core.serde import serialize
from cocoindex.engine import rows
from cocoindex.engine.absent_providers import AbsentProviders, Verdict
from cocoindex.engine.entry import Entry, Group, GroupKey
from cocoindex.engine.execution import Provider
from cocoindex.engine.providers import FIRST_GENERATION, Generation, HandlerInfo
from cocoindex.engine.rows import Item, State
from cocoindex.engine.takeover import MustWait, Takeovers
from cocoindex.engine.targets import (
    TargetActionSink,
    TargetReconcileOutput,
    TargetState,
    invalid_invalidation,
)
from cocoindex.errors import DeserializationError, SerializationError, UsageTypeError

if TYPE_CHECKING:
    from collections.abc import Collection

    from cocoindex.engine.run import Run

__all__ = ["InFlight", "Kept", "MustWait", "SinkActions", "Submission", "plan", "plan_leftovers"]

_logger = logging.getLogger("cocoindex.engine")

Sink = TargetActionSink[Any, Any]

Mode = Literal["build", "delete"]

Kept = dict[GroupKey, list[bytes]]
"""Keys of tracked items, by group."""

Spared = Callable[[Group], AbstractSet[bytes]]
"""The target paths of a group's items that stay."""

_ABSENT: State = (0, None)


class SinkActions(msgspec.Struct, eq=False, gc=False):
    """The actions of one submission for one sink, in the order in which they must arrive."""

    sink: Sink
    actions: list[Any] = msgspec.field(default_factory=list)
    children: dict[int, Provider] = msgspec.field(default_factory=dict)
    """Pending child providers by the position of their container's action."""


class InFlight(msgspec.Struct, eq=False, gc=False):
    """A component between pre-commit and commit; claimants of its unsettled items wait."""

    entry: Entry
    _done: asyncio.Event | None = None
    """Made by the first who waits: hardly anybody does."""

    async def ended(self) -> None:
        """Wait until the component has committed, or failed."""
        if self._done is None:
            self._done = asyncio.Event()
        await self._done.wait()

    def end(self) -> None:
        if self._done is not None:
            self._done.set()


class Submission(msgspec.Struct, eq=False, gc=False):
    """What one execution is about to do to its target states."""

    entry: Entry
    takeovers: Takeovers | None
    by_sink: list[SinkActions] = msgspec.field(default_factory=list)
    extra_rows: list[tuple[bytes, bytes | None]] = msgspec.field(default_factory=list)
    """Rows that must be written no later than the possible states."""
    final: list[tuple[Group, Item, tuple[State, ...], int]] = msgspec.field(default_factory=list)
    """States and schema version of touched items once the sinks have succeeded; no states: the
    item goes."""
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
        if len(self.by_sink) == 1:
            return self.by_sink
        return sorted(self.by_sink, key=lambda actions: actions.sink.last)

    def actions_for(self, sink: Sink) -> SinkActions:
        for actions in self.by_sink:  # a component has one or two sinks
            if actions.sink is sink or actions.sink.key == sink.key:
                return actions
        actions = SinkActions(sink)
        self.by_sink.append(actions)
        return actions

    def add_action(self, sink: Sink, action: Any, child: Provider | None) -> None:
        # Mostly the sink of the action before; comparing keys calls user code.
        by_sink = self.by_sink
        if by_sink and by_sink[-1].sink is sink:
            actions = by_sink[-1]
        else:
            actions = self.actions_for(sink)
        if child is not None:
            actions.children[len(actions.actions)] = child
        actions.actions.append(action)

    def claim_rows(self) -> list[tuple[bytes, bytes | None]]:
        """What goes with the possible states, or with the commit if there are none."""
        claims = [] if self.takeovers is None else self.takeovers.rows()
        return [*self.extra_rows, *claims]

    def unwritten_rows(self) -> list[tuple[bytes, bytes | None]]:
        """What no pre-commit has written, and the commit has to."""
        return [] if self.has_actions else self.claim_rows()

    def precommit_rows(self) -> list[tuple[bytes, bytes | None]]:
        """Every state the outside world may soon be in. Empty if no state is in question."""
        batch = self.claim_rows()
        if self.is_changed or batch:
            self.entry.version = self.version
            batch.append((rows.tracking_key(self.component_id), self.entry.encode()))
        return batch


def plan(
    run: Run,
    entry: Entry,
    declarations: Collection[TargetState[Any]],
    contained: set[bytes],
    *,
    mode: Mode,
) -> Submission:
    """Reconcile everything this component declares or tracks.

    Raises:
        MustWait: a claimed item belongs to a component that is just applying it; wait, then
            plan again.
    """
    if not declarations and not entry.groups and not contained:
        return Submission(entry, None)
    takeovers = Takeovers(run, entry)
    submission = Submission(entry, takeovers)
    planner = _Planner(run, submission, takeovers, mode)
    planner.declare_all(declarations)
    planner.undeclared(declarations, contained)
    takeovers.apply()
    return submission


def plan_leftovers(run: Run, entry: Entry, kept: Kept) -> Submission:
    """Reconcile the deletion of items that an earlier plan of this run has kept.

    Raises:
        MustWait: as :func:`plan`.
    """
    takeovers = Takeovers(run, entry)
    submission = Submission(entry, takeovers)
    spared = {
        key: {group.path_of(item) for item in group.items.keys() - kept.get(key, ())}
        for key, group in entry.groups.items()
    }
    planner = _Planner(run, submission, takeovers, "build")
    planner.leave_all_but(lambda group: spared.get((group.path, group.provider_id), frozenset()))
    takeovers.apply()
    return submission


class _Planner:
    def __init__(
        self,
        run: Run,
        submission: Submission,
        takeovers: Takeovers,
        mode: Mode,
    ) -> None:
        self.run = run
        self.submission = submission
        self.entry = submission.entry
        self.takeovers = takeovers
        self.absent = AbsentProviders(run, self.entry, mode)
        self.full_reprocess = run.full_reprocess
        self.untouched = sum(len(group.items) for group in self.entry.groups.values())
        """Tracked items that no declaration has met yet."""

    # --- declared ----------------------------------------------------------------------------

    def declare_all(self, declarations: Collection[TargetState[Any]]) -> None:
        """Reconcile every declaration, in order."""
        provider: Provider | None = None
        for declaration in declarations:
            if declaration.provider is not provider:  # neighbours mostly share their provider
                provider = declaration.provider
                info = provider.require_info()
                group = self.entry.group((provider.encoded_path, provider.provider_id))
                schema_version = provider.schema_version
            item = group.items.get(declaration.encoded_key)
            if item is None:
                item = self._claim(declaration, group, declarations)
            else:
                self.untouched -= 1
            previous, missing = self.previous(info, item, schema_version, group)
            key = info.key(declaration.key) if info.rebuilds_keys else declaration.key
            output = info.reconcile(key, declaration.value, previous, missing)
            if output is None:
                self._keep(declaration, group, item)
            else:
                self._act(declaration, group, item, _checked(output, declaration.__str__))

    def _claim(
        self,
        declaration: TargetState[Any],
        group: Group,
        declarations: Collection[TargetState[Any]],
    ) -> Item | None:
        """The item of a newly declared path, if another component tracks it.

        The first one looks up the owners of all new paths at once.
        """
        if not self.takeovers.has_looked_up:
            entry = self.entry
            self.takeovers.look_up(
                [
                    d.target_path
                    for d in declarations
                    if entry.find((d.provider.encoded_path, d.provider.provider_id), d.encoded_key)
                    is None
                ]
            )
        return self.takeovers.claim(declaration, group)

    def previous(
        self, info: HandlerInfo, item: Item | None, schema_version: int, group: Group
    ) -> tuple[list[Any], bool]:
        """``prev_records`` and ``prev_may_be_missing`` of one item."""
        if item is None:
            return [], True
        missing = self.full_reprocess or item.schema_version != schema_version
        records: list[Any] = []
        for _, payload in item.states:
            if payload is None:
                missing = True
                continue
            try:
                records.append(info.decode_record(payload))
            except DeserializationError as error:
                missing = True
                self.run.warn_once(
                    ("record", group.target_path),
                    "tracking records of %s can't be read any more and count as missing: %s",
                    group,
                    error,
                )
        return records, missing

    def _keep(self, declaration: TargetState[Any], group: Group, item: Item | None) -> None:
        provider, child = declaration.provider, declaration.child
        if child is not None:
            child.fail_to_resolve(
                f"container {declaration}: reconcile() returned None, so its child "
                "provider has no handler; return a no-op action"
            )
            if item is not None and item.generation is not None:
                child.generation = item.generation
        if item is None:
            return
        states = item.states
        settled = len(states) == 1 and states[0][1] is not None
        if settled and item.schema_version == provider.schema_version:
            group.items[item.key] = item
            return
        group.items[item.key] = item
        self._settle(group, item, _deduplicated(item.states), provider.schema_version)

    def _act(
        self,
        declaration: TargetState[Any],
        group: Group,
        item: Item | None,
        output: TargetReconcileOutput[Any, Any, Any],
    ) -> None:
        provider, child = declaration.provider, declaration.child
        record = self._serialized(output.tracking_record, declaration.__str__)
        generation, children_first = None, False
        if child is not None:
            generation = self._next_generation(declaration, item, output.child_invalidation)
            child.generation = generation
            children_first = record is not None and provider.require_info().wants_children_first(
                declaration.key, output.tracking_record
            )
        self.submission.add_action(output.sink, output.action, child)
        version = self.submission.version
        schema_version = provider.schema_version
        if item is None:
            if record is None:
                return
            self.takeovers.claim_new(declaration.target_path)
            state: State = (version, record)
            item = Item(
                declaration.encoded_key,
                (_ABSENT, state),
                schema_version,
                generation,
                children_first,
            )
            group.items[item.key] = item
            self._settle(group, item, (state,), schema_version)
            return
        if item.children_first and child is None:
            self.absent.emptied[declaration.target_path] = copy(item)
        group.items[item.key] = item
        unchanged = (
            item.is_settled
            and item.states[0][1] == record
            and item.schema_version == schema_version
            and item.generation == generation
            and item.children_first == children_first
        )
        if unchanged:
            return
        item.generation = generation
        item.children_first = children_first
        state = (version, record)
        item.states = (*item.states, state)
        self._settle(group, item, () if record is None else (state,), schema_version)

    def _serialized(self, record: Any, where: Callable[[], str]) -> bytes | None:
        if record is NON_EXISTENCE:
            return None
        try:
            return serialize(record)
        except SerializationError as error:
            raise SerializationError(f"tracking record of {where()}: {error}") from error

    def _next_generation(
        self, declaration: TargetState[Any], item: Item | None, invalidation: str | None
    ) -> Generation:
        current = FIRST_GENERATION
        if item is not None and item.generation is not None:
            current = item.generation
        elif self.takeovers.tracks_below(declaration.target_path):
            # Leftovers of an earlier life of this container must not pass for its children.
            return (self.run.app.new_provider_id(), 0)
        if invalidation == "destructive":
            return (self.run.app.new_provider_id(), 0)
        # A container that may be missing may have lost its children with it.
        if invalidation == "lossy" or (item is not None and item.has_absent):
            return (current[0], current[1] + 1)
        return current

    def _settle(
        self, group: Group, item: Item, states: tuple[State, ...], schema_version: int = 0
    ) -> None:
        # The schema version too: until the sinks have run, the item is as it was.
        self.submission.final.append((group, item, states, schema_version))
        self.submission.is_changed = True

    # --- undeclared --------------------------------------------------------------------------

    def undeclared(self, declarations: Collection[TargetState[Any]], contained: set[bytes]) -> None:
        """Every other tracked item: kept if a reused memo covers it, else on its way out."""
        if not self.untouched and not contained and not self.absent.emptied:
            return
        declared = {declaration.target_path for declaration in declarations}
        spared = declared | contained
        self.leave_all_but(
            lambda group: spared if self.absent.is_current(group) else contained,
        )
        if contained:
            tracked = self.entry.settled_paths()
            self.submission.robbed_memos = contained - declared - tracked.keys()

    def leave_all_but(self, spared: Spared) -> None:
        """Reconcile the deletion of all other items."""
        leaving = self._leaving(spared)
        emptied = [
            group.path_of(item.key)
            for group, items in leaving
            for item in items
            if item.children_first
        ]
        emptied += self.absent.emptied
        if emptied:
            leaving = self._with_children_first(emptied, spared)
        for group, items in leaving:
            self._leave(group, items)

    def _leaving(self, spared: Spared) -> list[tuple[Group, list[Item]]]:
        leaving: list[tuple[Group, list[Item]]] = []
        for group in self.entry.groups.values():
            kept = spared(group)
            items = list(group.items.values())
            if kept:
                items = [item for item in items if group.path_of(item.key) not in kept]
            leaving.append((group, items))
        return leaving

    def _with_children_first(
        self, emptied: list[bytes], spared: Spared
    ) -> list[tuple[Group, list[Item]]]:
        """Also what others track below containers that must be emptied, innermost first."""
        for container in emptied:
            self.takeovers.claim_below(container)
        leaving = self._leaving(spared)
        return sorted(leaving, key=lambda entry: -len(entry[0].target_path))

    def _leave(self, group: Group, items: list[Item]) -> None:
        """Reconcile the deletion of undeclared items of one group."""
        if not items:
            return
        verdict, provider, info = self.absent.judge(group)
        if verdict is Verdict.KEEP:
            self.submission.kept[group.path, group.provider_id] = [item.key for item in items]
            return
        if verdict is Verdict.FORGET or info is None:
            for item in items:
                self._settle(group, item, ())
            return
        version = self.submission.version
        for item in items:
            schema_version = item.schema_version if provider is None else provider.schema_version
            previous, missing = self.previous(info, item, schema_version, group)
            key = info.key(decode_key(item.key))
            returned = info.reconcile(key, NON_EXISTENCE, previous, missing)
            if returned is None:
                self._settle(group, item, ())
                continue
            output = _checked(returned, partial(group.text_of, item.key))
            record = None
            if output.tracking_record is not NON_EXISTENCE:
                record = self._serialized(output.tracking_record, partial(group.text_of, item.key))
            self.submission.add_action(output.sink, output.action, None)
            state = (version, record)
            item.states = (*item.states, state)
            kept = () if record is None else (state,)
            self._settle(group, item, kept, schema_version)


def _checked(returned: Any, where: Callable[[], str]) -> TargetReconcileOutput[Any, Any, Any]:
    if type(returned) is TargetReconcileOutput:
        output: TargetReconcileOutput[Any, Any, Any] = returned
    else:
        try:
            output = TargetReconcileOutput(*returned)
        except TypeError:
            raise UsageTypeError(
                f"reconcile() of {where()} must return None or a TargetReconcileOutput, "
                f"not {type(returned).__name__}"
            ) from None
    if output.child_invalidation not in (None, "destructive", "lossy"):
        raise invalid_invalidation(output.child_invalidation)
    if not isinstance(output.sink, TargetActionSink):
        raise UsageTypeError(
            f"reconcile() of {where()}: the sink must be a TargetActionSink, "
            f"not {type(output.sink).__name__}"
        )
    return output


def _deduplicated(states: tuple[State, ...]) -> tuple[State, ...]:
    """States without ABSENT markers and without byte-identical repetitions."""
    if len(states) == 1 and states[0][1] is not None:
        return states
    latest = {payload: version for version, payload in states if payload is not None}
    return tuple((version, payload) for payload, version in latest.items())

"""Pre-commit: compare what was declared with what is tracked, and decide what to do.

:func:`plan` is one synchronous step over a snapshot of the store: it calls ``reconcile`` for
every declared and every previously tracked target state, and returns a :class:`Submission`:
the rows to write before any sink is called, the actions by sink, and what becomes true once
the sinks have succeeded. It writes nothing itself, so an error leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import logging
from copy import copy
from typing import TYPE_CHECKING, Any, Literal

from cocoindex.core.keys import decode_key
from cocoindex.core.sentinels import NON_EXISTENCE
from cocoindex.core.serde import serialize
from cocoindex.engine import rows
from cocoindex.engine.absent_providers import AbsentProviders, Verdict
from cocoindex.engine.entry import Entry, Group, GroupKey
from cocoindex.engine.execution import Declaration, Provider, describe
from cocoindex.engine.providers import FIRST_GENERATION, Generation, HandlerInfo
from cocoindex.engine.rows import Item, State
from cocoindex.engine.takeover import MustWait, Takeovers
from cocoindex.engine.targets import TargetActionSink, TargetReconcileOutput, invalid_invalidation
from cocoindex.errors import DeserializationError, SerializationError, UsageTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cocoindex.engine.run import Run

__all__ = ["InFlight", "MustWait", "SinkActions", "Submission", "plan"]

_logger = logging.getLogger("cocoindex.engine")

Sink = TargetActionSink[Any, Any]


class SinkActions:
    """The actions of one submission for one sink, in the order in which they must arrive."""

    __slots__ = ("actions", "children", "sink")

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.actions: list[Any] = []
        self.children: dict[int, Provider] = {}
        """Pending child providers by the position of their container's action."""


class InFlight:
    """A component between pre-commit and commit; claimants of its unsettled items wait."""

    __slots__ = ("done", "entry")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.done = asyncio.Event()


class Submission:
    """What one execution is about to do to its target states."""

    __slots__ = (
        "by_sink",
        "component_id",
        "entry",
        "final",
        "is_changed",
        "kept_undeclared",
        "robbed_memos",
        "takeovers",
        "version",
    )

    def __init__(self, entry: Entry, takeovers: Takeovers) -> None:
        self.entry = entry
        self.component_id = entry.component_id
        self.version = entry.version + 1
        self.takeovers = takeovers
        self.by_sink: dict[object, SinkActions] = {}
        self.final: dict[tuple[GroupKey, bytes], list[State]] = {}
        """States of touched items once the sinks have succeeded; empty: the item goes."""
        self.is_changed = False
        self.kept_undeclared = False
        """An item stays although it is not declared: a later run has to look again."""
        self.robbed_memos: set[bytes] = set()
        """Contained target paths that another component has taken meanwhile."""

    @property
    def has_actions(self) -> bool:
        return bool(self.by_sink)

    def sinks(self) -> list[SinkActions]:
        """In the order of their first action; sinks marked ``last`` after all others."""
        return sorted(self.by_sink.values(), key=lambda actions: actions.sink.last)

    def add_action(self, sink: Sink, action: Any, child: Provider | None) -> None:
        actions = self.by_sink.get(sink.key)
        if actions is None:
            actions = self.by_sink[sink.key] = SinkActions(sink)
        if child is not None:
            actions.children[len(actions.actions)] = child
        actions.actions.append(action)

    def precommit_rows(self) -> list[tuple[bytes, bytes | None]]:
        """Every state the outside world may soon be in. Empty if no state is in question."""
        batch = self.takeovers.rows()
        if self.is_changed or batch:
            self.entry.version = self.version
            batch.append((rows.tracking_key(self.component_id), self.entry.encode()))
        return batch


def plan(
    run: Run,
    entry: Entry,
    declarations: Collection[Declaration],
    contained: set[bytes],
    *,
    mode: Literal["build", "delete"],
) -> Submission:
    """Reconcile everything this component declares or tracks.

    Raises:
        MustWait: a claimed item belongs to a component that is just applying it; wait, then
            plan again.
    """
    submission = Submission(entry, Takeovers(run, entry))
    planner = _Planner(run, submission, mode)
    for declaration in declarations:
        planner.declared(declaration)
    planner.undeclared({d.target_path for d in declarations}, contained)
    submission.takeovers.apply()
    return submission


class _Planner:
    def __init__(self, run: Run, submission: Submission, mode: Literal["build", "delete"]) -> None:
        self.run = run
        self.submission = submission
        self.entry = submission.entry
        self.takeovers = submission.takeovers
        self.absent = AbsentProviders(run, self.entry, mode)
        self.full_reprocess = run.full_reprocess

    # --- declared ----------------------------------------------------------------------------

    def declared(self, declaration: Declaration) -> None:
        provider = declaration.provider
        info = provider.require_info()
        group_key = (provider.encoded_path, provider.provider_id)
        item = self.entry.find(group_key, declaration.encoded_key)
        if item is None:
            item = self.takeovers.claim(
                declaration.target_path, group_key, lambda: describe(declaration)
            )
        previous, missing = self.previous(info, item, provider.schema_version, provider)
        output = info.reconcile(info.key(declaration.key), declaration.value, previous, missing)
        if output is None:
            self._keep(declaration, group_key, item)
        else:
            self._act(declaration, group_key, item, _checked(output))

    def previous(
        self, info: HandlerInfo, item: Item | None, schema_version: int, namespace: Provider | Group
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
                    ("record", namespace.target_path),
                    "tracking records of %s can't be read any more and count as missing: %s",
                    namespace,
                    error,
                )
        return records, missing

    def _keep(self, declaration: Declaration, group_key: GroupKey, item: Item | None) -> None:
        provider, child = declaration.provider, declaration.child
        if child is not None:
            child.fail_to_resolve(
                f"container {describe(declaration)}: reconcile() returned None, so its child "
                "provider has no handler; return a no-op action"
            )
            if item is not None and item.generation is not None:
                child.generation = item.generation
        if item is None:
            return
        self.entry.group(group_key).items[item.key] = item
        schema_version = provider.schema_version
        settled = _deduplicated(item.states)
        if settled != item.states or item.schema_version != schema_version:
            item.schema_version = schema_version
            self._settle(group_key, item, settled)

    def _act(
        self,
        declaration: Declaration,
        group_key: GroupKey,
        item: Item | None,
        output: TargetReconcileOutput[Any, Any, Any],
    ) -> None:
        provider, child = declaration.provider, declaration.child
        record = self._serialized(output.tracking_record, lambda: describe(declaration))
        generation = None
        if child is not None:
            generation = self._next_generation(declaration, item, output.child_invalidation)
            child.generation = generation
        self.submission.add_action(output.sink, output.action, child)
        if item is None:
            if record is None:
                return
            item = Item(declaration.encoded_key, [(0, None)])
            self.takeovers.claim_new(declaration.target_path)
        children_first = record is not None and provider.require_info().wants_children_first(
            declaration.key, output.tracking_record
        )
        if item.children_first and child is None:
            self.absent.emptied[declaration.target_path] = copy(item)
        self.entry.group(group_key).items[item.key] = item
        unchanged = (
            [payload for _, payload in item.states] == [record]
            and item.schema_version == provider.schema_version
            and item.generation == generation
            and item.children_first == children_first
        )
        item.schema_version = provider.schema_version
        item.generation = generation
        item.children_first = children_first
        if not unchanged:
            version = self.submission.version
            item.states = [*item.states, (version, record)]
            self._settle(group_key, item, [] if record is None else [(version, record)])

    def _serialized(self, record: Any, where: Callable[[], str]) -> bytes | None:
        if record is NON_EXISTENCE:
            return None
        try:
            return serialize(record)
        except SerializationError as error:
            raise SerializationError(f"tracking record of {where()}: {error}") from error

    def _next_generation(
        self, declaration: Declaration, item: Item | None, invalidation: str | None
    ) -> Generation:
        current = FIRST_GENERATION
        if item is not None and item.generation is not None:
            current = item.generation
        elif self.takeovers.tracks_below(declaration.target_path):
            # Leftovers of an earlier life of this container must not pass for its children.
            return (self.run.app.new_provider_id(), 0)
        if invalidation == "destructive":
            return (self.run.app.new_provider_id(), 0)
        if invalidation == "lossy":
            return (current[0], current[1] + 1)
        return current

    def _settle(self, group_key: GroupKey, item: Item, states: list[State]) -> None:
        self.submission.final[group_key, item.key] = states
        self.submission.is_changed = True

    # --- undeclared --------------------------------------------------------------------------

    def undeclared(self, declared: set[bytes], contained: set[bytes]) -> None:
        """Every other tracked item: kept if a reused memo covers it, else on its way out."""
        leaving = self._leaving(declared, contained)
        emptied = [group.path_of(item.key) for _, group, item in leaving if item.children_first]
        emptied += self.absent.emptied
        if emptied:
            leaving = self._with_children_first(emptied, declared, contained)
        for group_key, group, item in leaving:
            self._leave(group_key, group, item)
        self.submission.robbed_memos = contained - declared - self._tracked(contained)

    def _tracked(self, paths: set[bytes]) -> set[bytes]:
        return set(self.entry.settled_paths()) if paths else set()

    def _leaving(
        self, declared: set[bytes], contained: set[bytes]
    ) -> list[tuple[GroupKey, Group, Item]]:
        return [
            (group_key, group, item)
            for group_key, group in self.entry.groups.items()
            for item in group.items.values()
            if (path := group.path_of(item.key)) not in contained
            and not (path in declared and self.absent.is_current(group))
        ]

    def _with_children_first(
        self, emptied: list[bytes], declared: set[bytes], contained: set[bytes]
    ) -> list[tuple[GroupKey, Group, Item]]:
        """Also what others track below containers that must be emptied, innermost first."""
        for container in emptied:
            self.takeovers.claim_below(container)
        leaving = self._leaving(declared, contained)
        return sorted(leaving, key=lambda entry: -len(entry[1].target_path))

    def _leave(self, group_key: GroupKey, group: Group, item: Item) -> None:
        found = self.absent.judge(group)
        if found.verdict is Verdict.KEEP:
            self.submission.kept_undeclared = True
            return
        if found.verdict is Verdict.FORGET or found.info is None:
            self._settle(group_key, item, [])
            return
        info = found.info
        version = item.schema_version if found.provider is None else found.provider.schema_version
        previous, missing = self.previous(info, item, version, group)
        output = info.reconcile(info.key(decode_key(item.key)), NON_EXISTENCE, previous, missing)
        if output is None:
            self._settle(group_key, item, [])
            return
        output = _checked(output)
        record = self._serialized(output.tracking_record, lambda: group.text_of(item.key))
        self.submission.add_action(output.sink, output.action, None)
        next_version = self.submission.version
        item.states = [*item.states, (next_version, record)]
        self._settle(group_key, item, [] if record is None else [(next_version, record)])


def _checked(returned: Any) -> TargetReconcileOutput[Any, Any, Any]:
    try:
        output: TargetReconcileOutput[Any, Any, Any] = TargetReconcileOutput(*returned)
    except TypeError:
        raise UsageTypeError(
            "reconcile() must return None or a TargetReconcileOutput, "
            f"not {type(returned).__name__}"
        ) from None
    if output.child_invalidation not in (None, "destructive", "lossy"):
        raise invalid_invalidation(output.child_invalidation)
    if not isinstance(output.sink, TargetActionSink):
        raise UsageTypeError(
            f"the sink of a TargetReconcileOutput must be a TargetActionSink, "
            f"not {type(output.sink).__name__}"
        )
    return output


def _deduplicated(states: list[State]) -> list[State]:
    """States without ABSENT markers and without byte-identical repetitions."""
    if len(states) == 1 and states[0][1] is not None:
        return states
    latest = {payload: version for version, payload in states if payload is not None}
    return [(version, payload) for payload, version in latest.items()]

"""Pre-commit: compare what was declared with what is tracked, and decide what to do.

:func:`plan` is one synchronous step over a snapshot of the store: it calls ``reconcile`` for
every declared and every previously tracked target state, and returns a :class:`Submission`.
It writes nothing itself, so an error leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from copy import copy
from typing import TYPE_CHECKING, Any

import msgspec

from cocoindex.core.sentinels import NON_EXISTENCE
from cocoindex.engine.declarations import Declarations, Declared, Stretch
from cocoindex.engine.entry import Entry, Group
from cocoindex.engine.leaving import Leaving, Mode
from cocoindex.engine.providers import FIRST_GENERATION, Generation, TargetState
from cocoindex.engine.reconciling import Output, checked, previous, serialized
from cocoindex.engine.rows import ABSENT, Item, State
from cocoindex.engine.submission import Kept, Submission
from cocoindex.engine.takeover import Takeovers
from cocoindex.engine.targets import TargetActionSink, TargetReconcileOutput
from cocoindex.errors import DeserializationError

if TYPE_CHECKING:
    from cocoindex.engine.run import Run

__all__ = ["plan", "plan_leftovers"]


def plan(
    run: Run,
    entry: Entry,
    declarations: Declarations,
    contained: set[bytes],
    *,
    mode: Mode,
    taken: AbstractSet[bytes] | None = None,
) -> Submission:
    """Reconcile everything this component declares or tracks.

    ``taken``: the owner rows that exist, of those of new items, if that is known.

    Raises:
        MustWait: a claimed item belongs to a component that is just applying it; wait, then
            plan again.
    """
    if not declarations.stretches and not entry.groups and not contained:
        return Submission(entry)
    submission, takeovers = Submission(entry), Takeovers(run, entry)
    leaving = Leaving(run, submission, takeovers, mode)
    if declarations.stretches:
        Planner(run, submission, takeovers, leaving).declare_all(declarations, taken)
    leaving.undeclared(declarations, contained)
    takeovers.apply()
    submission.add_rows(takeovers.rows())
    return submission


def plan_leftovers(run: Run, entry: Entry, kept: Kept) -> Submission:
    """Reconcile the deletion of items that an earlier plan of this run has kept.

    Raises:
        MustWait: as :func:`plan`.
    """
    submission, takeovers = Submission(entry), Takeovers(run, entry)
    spared = {
        key: {*group.keys()}.difference(kept.get(key, ())) for key, group in entry.groups.items()
    }
    leaving = Leaving(run, submission, takeovers, "build")
    leaving.all_but(lambda group: spared.get(group.group_key, frozenset()))
    takeovers.apply()
    submission.add_rows(takeovers.rows())
    return submission


class Planner(msgspec.Struct, eq=False):
    """Reconciles what was declared.

    Most target states are no containers, and either new or in one known state: for these,
    :meth:`_declare` does as little as can be. :meth:`_declare_one` knows all cases.
    """

    run: Run
    submission: Submission
    takeovers: Takeovers
    leaving: Leaving

    def declare_all(self, declarations: Declarations, taken: AbstractSet[bytes] | None) -> None:
        """Reconcile every declaration, in order."""
        stretches = [
            (stretch, self._group(stretch, declarations)) for stretch in declarations.stretches
        ]
        groups = {id(group): group for _, group in stretches}
        self.takeovers.look_up(groups.values(), taken)
        # Once for each group: its stretches may be many, and short.
        special = {key: self._special(declarations, group) for key, group in groups.items()}
        for stretch, group in stretches:
            self._declare(stretch, group, special[id(group)])

    def _group(self, stretch: Stretch, declarations: Declarations) -> Group:
        """Where the items of a stretch are tracked, with those noted that are new."""
        provider = stretch.provider
        provider_id, schema_version = provider.generation or (None, 0)
        group = self.submission.entry.group((provider.encoded_path, provider_id))
        if group.schema_version != schema_version:
            group.use_schema_version(schema_version)
        if group.owner_keys is None:
            group.note_untracked(declarations.first_like(stretch))
        return group

    def _special(self, declarations: Declarations, group: Group) -> AbstractSet[bytes]:
        """Keys of declarations that are more than a known record, or none, and a value."""
        declared = declarations.below(group.target_path)
        if declared is None:
            return frozenset()
        if self.run.full_reprocess:
            return declared.known.keys()
        contested = self.takeovers.contested(group)
        if not group.others and not declared.children:
            return contested
        return {*group.others, *declared.children, *contested}

    def _declare(self, stretch: Stretch, group: Group, special: AbstractSet[bytes]) -> None:
        info = stretch.provider.require_info()
        reconcile, decode = info.reconcile, info.decode_record
        as_asked = info.key if info.rebuilds_keys else None
        settled, unsure, changing = group.settled, group.unsure, group.changing
        sink: TargetActionSink[Any, Any] | None = None
        actions: list[Any] = []
        for declared in stretch.states:
            encoded, key, value = declared
            if encoded in special:
                self._declare_one(stretch, group, declared)
                continue
            record = settled.get(encoded)
            try:
                records = [] if record is None else [decode(record)]
            except DeserializationError:
                self._declare_one(stretch, group, declared)
                continue
            if as_asked is not None:
                key = as_asked(key)
            output = reconcile(key, value, records, record is None)
            if output is None:
                continue
            # With the sink of the output before, only the rest needs a look.
            if (
                sink is None
                or type(output) is not TargetReconcileOutput
                or output.sink is not sink
                or output.child_invalidation is not None
            ):
                output = checked(output, group, encoded)
                sink = output.sink
                actions = self.submission.actions_for(sink).actions
            actions.append(output.action)
            if output.tracking_record is NON_EXISTENCE:
                if record is not None:
                    unsure[encoded] = settled.pop(encoded)
                    self.submission.forget(group, [encoded])
                continue
            tracked = serialized(output.tracking_record, group, encoded)
            if record is None:
                unsure[encoded] = tracked
            elif tracked != record:
                changing[encoded] = tracked
        if unsure or changing:
            self.submission.is_changed = True

    def _declare_one(self, stretch: Stretch, group: Group, declared: Declared) -> None:
        declaration, info = stretch.state(declared), stretch.provider.require_info()
        item = group.get(declaration.encoded_key) or self.takeovers.claim(declaration, group)
        schema_version = stretch.provider.schema_version
        records, missing = previous(self.run, info, item, schema_version, group)
        output = info.reconcile(info.key(declaration.key), declaration.value, records, missing)
        if output is None:
            self._keep(declaration, group, item)
        else:
            output = checked(output, group, declaration.encoded_key)
            self._act(declaration, group, item, output)

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
        group.put(item)
        if not item.is_settled or item.schema_version != provider.schema_version:
            states = _deduplicated(item.states)
            self.submission.settle(group, item, states, provider.schema_version)

    def _act(
        self,
        declaration: TargetState[Any],
        group: Group,
        item: Item | None,
        output: Output,
    ) -> None:
        key, child = declaration.encoded_key, declaration.child
        record = None
        if output.tracking_record is not NON_EXISTENCE:
            record = serialized(output.tracking_record, group, key)
        generation, children_first = None, False
        if child is None:
            self.submission.add_action(output.sink, output.action)
        else:
            generation = self._next_generation(declaration, item, output.child_invalidation)
            child.generation = generation
            info = declaration.provider.require_info()
            children_first = record is not None and info.wants_children_first(
                declaration.key, output.tracking_record
            )
            self.submission.add_container_action(output.sink, output.action, child)
        if item is not None:
            self._change(declaration, group, item, record, generation, children_first)
        elif record is not None:
            self.takeovers.claim_new(declaration.target_path)
            state: State = (self.submission.version, record)
            schema_version = declaration.provider.schema_version
            item = Item(key, (ABSENT, state), schema_version, generation, children_first)
            group.put(item)
            self.submission.settle(group, item, (state,), schema_version)

    def _change(
        self,
        declaration: TargetState[Any],
        group: Group,
        item: Item,
        record: bytes | None,
        generation: Generation | None,
        children_first: bool,
    ) -> None:
        """An item gets a new state."""
        if item.children_first and declaration.child is None:
            self.leaving.absent.emptied[declaration.target_path] = copy(item)
        schema_version = declaration.provider.schema_version
        unchanged = (
            item.is_settled
            and item.states[0][1] == record
            and item.schema_version == schema_version
            and item.generation == generation
            and item.children_first == children_first
        )
        if not unchanged:
            item.generation = generation
            item.children_first = children_first
            state = (self.submission.version, record)
            item.states = (*item.states, state)
        group.put(item)
        if unchanged:
            return
        if record is None:
            self.submission.forget(group, [item.key])
        else:
            self.submission.settle(group, item, (state,), schema_version)

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


def _deduplicated(states: tuple[State, ...]) -> tuple[State, ...]:
    """States without ABSENT markers and without byte-identical repetitions."""
    latest = {payload: version for version, payload in states if payload is not None}
    return tuple((version, payload) for payload, version in latest.items())

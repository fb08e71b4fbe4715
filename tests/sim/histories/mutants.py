"""Deliberate mistakes in the engine. The simulator must find every one of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest.mock import patch

from cocoindex.callables import captured, identity
from cocoindex.callables.source import Body
from cocoindex.core.keys import encode_path
from cocoindex.engine import (
    absent_providers,
    app_state,
    component_memo,
    dependencies,
    frames,
    function_memos,
    leftovers,
    lifecycle,
    memo_call,
    operations,
    planner,
    protocol,
    reconciling,
    rows,
    sinks,
    submission,
    submit,
    sweep,
    takeover,
    tree,
    user_state,
)
from cocoindex.engine import run as runs
from cocoindex.engine.rows import NodeKind
from cocoindex.testing.simulation import store as simulated
from histories.history import Divergence, History, steps_of


class Mutant(NamedTuple):
    """A mistake: what it is, and how to make it."""

    name: str
    mistake: str
    patches: Callable[[], list[Any]]


MUTANTS: list[Mutant] = []


def mutant(mistake: str) -> Callable[[Callable[[], list[Any]]], Callable[[], list[Any]]]:
    def note(make: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
        MUTANTS.append(Mutant(make.__name__, mistake, make))
        return make

    return note


@contextlib.contextmanager
def applied(chosen: Mutant) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for change in chosen.patches():
            stack.enter_context(change)
        yield


# --- the submit protocol -------------------------------------------------------------------------


@mutant("possible states are not written before the sinks")
def no_possible_states():
    return [patch.object(submission.Submission, "precommit_rows", lambda self: self.claim_rows())]


@mutant("commits before the sinks run")
def commit_before_sink():
    async def carry_out(run, planned, commit, *, where):
        commit()
        if run.is_preview:
            return
        for actions in planned.sinks():
            await run.sinks.apply(actions)

    return [patch.object(module, "carry_out", carry_out) for module in (submit, sweep)]


@mutant("calls sinks before the possible states are durable")
def sink_before_durable():
    async def flushed(self):
        if self.pending_bytes:
            self._store._start_commit(self._store._accepting)

    return [patch.object(simulated._Section, "flushed", flushed)]


@mutant("takes a failed sink for a successful one")
def failed_sink_is_success():
    original = sinks.Sinks.apply

    async def apply(self, actions):
        with contextlib.suppress(Exception):
            await original(self, actions)

    return [patch.object(sinks.Sinks, "apply", apply)]


@mutant("tells handlers only of the newest possible state")
def only_newest_state():
    original = reconciling.Reconciling.previous

    def previous(self, *args):
        records, missing = original(self, *args)
        return records[-1:], missing

    return [patch.object(reconciling.Reconciling, "previous", previous)]


@mutant("never says that a target state may be missing")
def never_missing():
    original = reconciling.Reconciling.previous

    def previous(self, info, item, *rest):
        records, missing = original(self, info, item, *rest)
        return records, missing and not records

    return [patch.object(reconciling.Reconciling, "previous", previous)]


@mutant("leaves all possible states behind after a success")
def unsettled_commit():
    def settle(planned):
        return []

    return [patch.object(module, "settle", settle) for module in (submit, sweep)]


@mutant("does not release the owner rows of what is gone")
def owner_rows_stay():
    original = protocol.settle

    def settle(planned):
        original(planned)
        return []

    return [patch.object(module, "settle", settle) for module in (submit, sweep)]


@mutant("takes the targets of a body that failed for its declaration")
def failed_body_is_empty():
    original = lifecycle._process

    async def process(execution):
        try:
            return await original(execution)
        except Exception:  # noqa: BLE001 - the mistake
            return None

    return [patch.object(lifecycle, "_process", process)]


@mutant("a preview does not see what other components take over")
def preview_without_takeovers():
    original = protocol.carry_out

    async def carry_out(run, planned, commit, *, where):
        if not run.is_preview:
            await original(run, planned, commit, where=where)
            return
        for actions in planned.sinks():
            run.planned_actions += actions.actions
            run.sinks.plan(actions)
        commit()

    return [patch.object(module, "carry_out", carry_out) for module in (submit, sweep)]


# --- memos ---------------------------------------------------------------------------------------


@mutant("reuses a function memo over an unsettled item")
def memo_over_unsettled():
    original = function_memos.FunctionMemos._is_settled

    def is_settled(self, path):
        original(self, path)
        return path in self._settled

    return [patch.object(function_memos.FunctionMemos, "_is_settled", is_settled)]


@mutant("keeps the component memo while the body runs")
def memo_kept_during_body():
    return [patch.object(component_memo.ComponentMemo, "drop", lambda self: None)]


@mutant("stores a component memo although something below failed")
def memo_despite_failure():
    return [patch.object(submit, "_may_memoize", lambda execution: True)]


@mutant("a hit does not hand its dependencies to the caller")
def hit_drops_dependencies():
    def hand_over(entry, scope):
        if entry.is_new:
            scope.frame.receive_call(entry.terms.deps, entry.row.fingerprint)
        else:
            scope.frame.refs[entry.row.fingerprint] = None
        return entry.value

    return [patch.object(memo_call, "hand_over", hand_over)]


@mutant("a parent does not depend on the code of its children")
def child_logic_lost():
    return [patch.object(frames.Frame, "receive_child", lambda self, deps: self._receive(deps))]


@mutant("changed context values do not reach callers")
def context_lost():
    def receive(self, deps):
        for path, *generation in deps.providers:
            self.providers[path] = tuple(generation)

    return [patch.object(frames.Frame, "_receive", receive)]


@mutant("provider generations do not reach callers")
def generations_lost():
    def receive(self, deps):
        self.context[deps.context] = None

    return [patch.object(frames.Frame, "_receive", receive)]


@mutant("does not ask memo states")
def states_ignored():
    valid = property(lambda self: True)
    return [patch.object(dependencies.StateAnswers, "all_valid", valid)]


@mutant("deletes what a reused memo covers")
def covered_items_deleted():
    return [patch.object(function_memos.FunctionMemos, "contained", lambda self: set())]


@mutant("keeps function memos that were not reached")
def unreached_memos_kept():
    original = function_memos.FunctionMemos.commit_rows

    def commit_rows(self, robbed):
        return [row for row in original(self, robbed) if row[1] is not None]

    return [patch.object(function_memos.FunctionMemos, "commit_rows", commit_rows)]


# --- ownership -----------------------------------------------------------------------------------


@mutant("keeps the old owner's component memo after a take-over")
def old_owners_memo_kept():
    original = takeover.Takeovers.rows

    def kept(self):
        return [row for row in original(self) if row[0][:1] != b"C"]

    return [patch.object(takeover.Takeovers, "rows", kept)]


@mutant("leaves a taken item with its old owner, who deletes it")
def taken_item_stays():
    return [patch.object(takeover.Takeovers, "apply", lambda self: None)]


@mutant("takes an item over while its owner is applying it")
def no_waiting_for_owner():
    return [patch.object(takeover.Takeovers, "_check_idle", lambda self, owner_id, item: None)]


@mutant("forgets what a take-over was taken from")
def takeover_without_records():
    original = takeover._renumbered

    def renumbered(item):
        copy = original(item)
        copy.states = copy.states[-1:]
        return copy

    return [patch.object(takeover, "_renumbered", renumbered)]


# --- containers ----------------------------------------------------------------------------------


@mutant("forgets the generation bump")
def no_generation_bump():
    original = planner.Planner._next_generation

    def next_generation(self, declaration, item, invalidation):
        return original(self, declaration, item, None)

    return [patch.object(planner.Planner, "_next_generation", next_generation)]


@mutant("a lossy change is like none for rows that are known")
def lossy_ignored():
    original = planner.Planner._next_generation

    def next_generation(self, declaration, item, invalidation):
        kind = None if invalidation == "lossy" else invalidation
        return original(self, declaration, item, kind)

    return [patch.object(planner.Planner, "_next_generation", next_generation)]


@mutant("looks for a container that is gone in the one around it")
def container_of_container():
    def container_row(run, keys):
        for end in range(len(keys), 1, -1):
            path = rows.target_path_of(encode_path(keys[:end]))
            raw = run.app.section.get(rows.owner_key(path))
            if raw is not None:
                return raw
        return None

    return [patch.object(module, "container_row", container_row)
            for module in (absent_providers, leftovers)]  # fmt: skip


@mutant("does not come back to what had to wait for a container")
def leftovers_forgotten():
    async def clear_leftovers(run):
        return False

    return [patch.object(operations, "clear_leftovers", clear_leftovers)]


@mutant("does not pass over the tree again for a container that was reused")
def no_second_pass():
    original = operations.clear_leftovers

    async def clear_leftovers(run):
        await original(run)
        return False

    return [patch.object(operations, "clear_leftovers", clear_leftovers)]


# --- deletion ------------------------------------------------------------------------------------


@mutant("loses tombstones")
def tombstones_lost():
    def removal_rows(owner_id, removed):
        return [row for row in tree.removal_rows(owner_id, removed) if row[0][:1] != b"T"]

    return [patch.object(module, "removal_rows", removal_rows) for module in (submit, sweep)]


@mutant("deletes a component that is mounted again, for an old tombstone")
def remounted_deleted():
    original = sweep.Deletion._delete

    async def delete(self):
        raw = self._run.app.section.get(rows.existence_key(self._place.parent_id, self._place.key))
        if raw is not None and rows.decode_node(raw).kind == NodeKind.COMPONENT:
            await self._delete_own(rows.decode_node(raw))
            self._run.app.section.write([(self._tombstone_key, None)])
            return True
        return await original(self)

    return [patch.object(sweep.Deletion, "_delete", delete)]


@mutant("forgets a deleted component's records without deleting its target states")
def delete_without_sinks():
    async def carry_out(run, planned, commit, *, where):
        commit()

    return [patch.object(sweep, "carry_out", carry_out)]


@mutant("a deletion removes its tombstone before its children are gone")
def children_not_buried():
    return [patch.object(sweep, "_bury_children", lambda run, component_id, node: [])]


@mutant("takes what could not be listed for gone")
def unlisted_is_gone():
    return [patch.object(tree.EachCall, "is_unlisted", lambda self, key: False)]


@mutant("ignores the deletion guard")
def guard_ignored():
    original = tree.MountTree.diff
    return [patch.object(tree.MountTree, "diff", lambda self, guard: original(self, None))]


@mutant("leaves directories behind that nothing stands in")
def hollow_directories_stay():
    return [patch.object(tree.MountTree, "_is_hollow", lambda self, *place: False)]


@mutant("memoizes a component that saw an incomplete listing")
def partial_listing_memoized():
    original = tree.MountTree.diff

    def diff(self, guard):
        found = original(self, guard)
        found.kept_any = False
        return found

    return [patch.object(tree.MountTree, "diff", diff)]


# --- user state and code -------------------------------------------------------------------------


@mutant("keeps states that the component does not ask for any more")
def states_stay():
    original = user_state.UserState.commit_rows

    def commit_rows(self):
        return [row for row in original(self) if row[1] is not None]

    return [patch.object(user_state.UserState, "commit_rows", commit_rows)]


@mutant("stores a component's state before its targets are applied")
def state_before_sinks():
    original = user_state.UserState.commit_rows

    def commit_rows(self):
        batch = original(self)
        section = sys._getframe(1).f_locals["run"].app.section
        section.write(batch)
        return batch

    return [patch.object(user_state.UserState, "commit_rows", commit_rows)]


@mutant("does not look at the text of functions")
def body_ignored():
    body = property(lambda self: Body(b"", frozenset()))
    return [patch.object(captured.FunctionParts, "body", body)]


@mutant("does not look at version numbers")
def version_ignored():
    return [patch.object(identity.Logic, "_version_content", identity.Logic._head)]


@mutant("does not look at closures and constants")
def data_ignored():
    return [patch.object(captured.Watch, "read", lambda self: b"")]


# --- cancellation and counters -------------------------------------------------------------------


@mutant("cancels tasks that have not begun")
def cancel_unstarted():
    import asyncio

    def start_task(self, coro):
        task = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    return [
        patch.object(runs, "_cancel", lambda task: task.cancel()),
        patch.object(runs.Run, "start_task", start_task),
    ]


@mutant("goes on counting from a reservation that was lost")
def lost_reservation():
    original = app_state.Counter.next

    def next_id(self):
        self._failures = self._section.failures
        return original(self)

    return [
        patch.object(app_state.Counter, "next", next_id),
        patch.object(app_state.Counter, "refresh", lambda self: None),
    ]


FOUND_BY = {
    "no_possible_states": 2,
    "commit_before_sink": 0,
    "sink_before_durable": 0,
    "failed_sink_is_success": 0,
    "only_newest_state": 2,
    "never_missing": 2,
    "unsettled_commit": 0,
    "owner_rows_stay": 2,
    "failed_body_is_empty": 1,
    "preview_without_takeovers": 18,
    "memo_over_unsettled": 12,
    "memo_kept_during_body": 2,
    "memo_despite_failure": 1,
    "hit_drops_dependencies": 263,
    "child_logic_lost": 193,
    "context_lost": 14,
    "generations_lost": 80,
    "states_ignored": 43,
    "covered_items_deleted": 2,
    "unreached_memos_kept": 2,
    "old_owners_memo_kept": 20,
    "taken_item_stays": 0,
    "no_waiting_for_owner": 17,
    "takeover_without_records": 125,
    "no_generation_bump": 3,
    "lossy_ignored": 17,
    "container_of_container": 231,
    "leftovers_forgotten": 24,
    "no_second_pass": 2789,
    "tombstones_lost": 0,
    "remounted_deleted": 10,
    "delete_without_sinks": 1,
    "children_not_buried": 0,
    "unlisted_is_gone": 42,
    "guard_ignored": 20,
    "hollow_directories_stay": 25,
    "partial_listing_memoized": 191,
    "states_stay": 133,
    "state_before_sinks": 10,
    "body_ignored": 132,
    "version_ignored": 248,
    "data_ignored": 4,
    "cancel_unstarted": 216,
    "lost_reservation": 21,
}
"""Seeds that found them, tried first; a change of the engine's fault points moves them."""


def find(chosen: Mutant, *, first: int | None = None, seeds: int = 2000) -> int | None:
    """The first seed whose history the mistake spoils. ``chosen`` must be applied."""
    tried = range(seeds) if first is None else (first, *range(seeds))
    for seed in tried:
        try:
            History().run(steps_of(seed))
        except Divergence:
            return seed
    return None


__all__ = ["FOUND_BY", "MUTANTS", "Mutant", "applied", "find"]

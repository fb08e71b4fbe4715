"""Mistakes about what is gone, or only seems to be."""

from __future__ import annotations

from unittest.mock import patch

from cocoindex.engine import rows, submit, sweep, tree
from cocoindex.engine.rows import NodeKind
from histories.mutants.mutant import mutant


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

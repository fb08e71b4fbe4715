"""Mistakes about who owns a target state."""

from __future__ import annotations

from unittest.mock import patch

from cocoindex.engine import takeover
from histories.mutants.mutant import mutant


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

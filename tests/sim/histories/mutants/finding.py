"""Which seeds find which mistake."""

from __future__ import annotations

from histories.history import Divergence, History, steps_of
from histories.mutants.mutant import Mutant

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

"""Which seeds find which mistake."""

from __future__ import annotations

from histories.history import Divergence, History, steps_of
from histories.mutants.mutant import Mutant

FOUND_BY = {
    "no_possible_states": 0,
    "commit_before_sink": 0,
    "sink_before_durable": 0,
    "failed_sink_is_success": 15,
    "only_newest_state": 6,
    "never_missing": 2,
    "unsettled_commit": 0,
    "owner_rows_stay": 3,
    "failed_body_is_empty": 13,
    "preview_without_takeovers": 20,
    "memo_over_unsettled": 12,
    "memo_kept_during_body": 6,
    "memo_despite_failure": 13,
    "hit_drops_dependencies": 308,
    "child_logic_lost": 38,
    "context_lost": 9,
    "generations_lost": 38,
    "states_ignored": 6,
    "covered_items_deleted": 2,
    "unreached_memos_kept": 2,
    "old_owners_memo_kept": 26,
    "taken_item_stays": 0,
    "no_waiting_for_owner": 58,
    "takeover_without_records": 71,
    "no_generation_bump": 38,
    "lossy_ignored": 151,
    "container_of_container": 128,
    "leftovers_forgotten": 7,
    "no_second_pass": 38,
    "held_memos_lost": 7,
    "memo_over_leftovers": 38,
    "tombstones_lost": 0,
    "remounted_deleted": 152,
    "delete_without_sinks": 0,
    "children_not_buried": 5,
    "unlisted_is_gone": 36,
    "guard_ignored": 275,
    "hollow_directories_stay": 1,
    "partial_listing_memoized": 275,
    "states_stay": 185,
    "state_before_sinks": 9,
    "body_ignored": 8,
    "version_ignored": 88,
    "data_ignored": 4,
    "cancel_unstarted": 471,
    "lost_reservation": 59,
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

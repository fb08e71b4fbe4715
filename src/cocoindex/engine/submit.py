"""The submit phase of a build: pre-commit, sinks, commit, sweep, memo."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cocoindex.engine import rows
from cocoindex.engine.declarations import NO_DECLARATIONS
from cocoindex.engine.faults import FaultPoint, reach
from cocoindex.engine.leftovers import Undecided, delete_kept
from cocoindex.engine.planner import plan
from cocoindex.engine.protocol import carry_out, prepare, settle
from cocoindex.engine.run import Decided
from cocoindex.engine.stats import Counter
from cocoindex.engine.sweep import sweep
from cocoindex.engine.tree import Guard, removal_rows

if TYPE_CHECKING:
    from cocoindex.engine.entry import Entry
    from cocoindex.engine.execution import Execution
    from cocoindex.engine.submission import Submission
    from cocoindex.state.base import Batch

WritableBatch = list[tuple[bytes, bytes | None]]


async def submit(execution: Execution, with_memo: bytes | None) -> None:
    """Bring the target states of a component that has run in step with what it declared.

    ``with_memo``: the row of its memo, written once everything else has succeeded.
    """
    run = execution.run
    state_rows = () if execution.user_state is None else execution.user_state.commit_rows()
    # What a component holds while it waits for disk and sinks counts a thousandfold: no closures.
    submission = await prepare(partial(_plan, execution), where=execution)
    has_containers = execution.declarations.has_containers
    execution.declarations = NO_DECLARATIONS  # while others wait, what actions need is enough
    run.mark_decided(execution.id, Decided.EXECUTED)
    has_below = execution.has_below
    # Nothing comes between the commit and the memo of a leaf: one batch for both.
    at_once = with_memo if not has_below and not submission.kept else None
    commit = partial(_commit, execution, submission, state_rows, at_once)
    await carry_out(run, submission, commit, where=execution)
    kept = submission.kept
    if kept and has_containers:
        # The component's own containers were pending in the first plan; they are resolved now.
        kept = (
            await delete_kept(run, partial(run.entry_of, execution.id), kept, where=execution)
        ).kept
    if kept:
        run.undecided[execution.id] = Undecided.of(execution, kept)
    execution.waits |= bool(kept)
    execution.kept_any |= bool(submission.robbed_memos)
    if has_below:
        reach(FaultPoint.BEFORE_SWEEP, execution)
        await sweep(run, execution.id, execution.path, execution)
        reach(FaultPoint.AFTER_SWEEP, execution)
    if with_memo is not None and at_once is None and _may_memoize(execution):
        if execution.waits:
            run.held_memos[execution.id] = with_memo
        else:
            reach(FaultPoint.BEFORE_MEMO, execution)
            run.app.section.write([(rows.component_memo_key(execution.id), with_memo)])
            reach(FaultPoint.AFTER_MEMO, execution)
    existed = submission.entry.existed
    execution.stats.count(execution.name, Counter.REPROCESSES if existed else Counter.ADDS)
    if run.has_much_pending():
        await run.app.section.flushed()


def _plan(execution: Execution) -> Submission:
    contained = set() if execution.memos is None else execution.memos.contained()
    declared = execution.declarations
    submission = plan(execution.run, execution.take_entry(), declared, contained, mode="build")
    submission.extra_rows += execution.birth_rows()
    return submission


def _may_memoize(execution: Execution) -> bool:
    return not (
        execution.subtree_failed
        or execution.kept_any
        or execution.id in execution.run.spoiled
        or execution.run.cancelled_by is not None
    )


# --- commit --------------------------------------------------------------------------------------


def _commit(
    execution: Execution, submission: Submission, state_rows: Batch, memo: bytes | None
) -> None:
    run, entry = execution.run, submission.entry
    batch: WritableBatch = submission.take_rows()
    is_changed = submission.is_changed or not entry.existed or bool(batch)
    batch += settle(submission)
    is_changed |= _commit_memos(execution, submission, batch)
    is_changed |= _commit_user_state(execution, entry, state_rows, batch)
    _commit_existence(execution, batch)
    if (entry.processor, entry.is_memoized) != (execution.name, execution.function.memo):
        entry.processor, entry.is_memoized = execution.name, execution.function.memo
        is_changed = True
    if is_changed:
        entry.version = submission.version
        batch.append((rows.tracking_key(entry.component_id), entry.encode()))
    if memo is not None and not submission.robbed_memos and _may_memoize(execution):
        batch.append((rows.component_memo_key(execution.id), memo))
    if batch:
        run.app.section.write(batch)


def _commit_memos(execution: Execution, submission: Submission, batch: WritableBatch) -> bool:
    """Flush function memos; whether the entry's note of having some has changed."""
    entry, memos = submission.entry, execution.memos
    has_memos = memos is not None and memos.keeps_any
    if memos is not None:
        batch += memos.commit_rows(submission.robbed_memos)
    elif entry.has_memos:
        prefix = rows.function_memo_prefix(execution.id)
        batch += [(key, None) for key in execution.run.app.section.scan_keys(prefix)]
    changed = entry.has_memos != has_memos
    entry.has_memos = has_memos
    return changed


def _commit_user_state(
    execution: Execution, entry: Entry, state_rows: Batch, batch: WritableBatch
) -> bool:
    has_state = execution.user_state is not None and len(execution.user_state) > 0
    batch += state_rows
    if execution.user_state is None and entry.has_state:
        prefix = rows.user_state_prefix(execution.id, rows.REGULAR_STATE)
        batch += [(key, None) for key in execution.run.app.section.scan_keys(prefix)]
    changed = entry.has_state != has_state
    entry.has_state = has_state
    return changed


def _commit_existence(execution: Execution, batch: WritableBatch) -> None:
    if execution.is_leaf:
        return
    run = execution.run
    guard: Guard | None = None if run.guard is None else run.guard.withholds
    diff = execution.tree.diff(guard)
    batch += diff.hollow
    for removed in diff.removed:
        batch += removal_rows(execution.id, removed)
    for withheld in diff.withheld:
        path = execution.path + withheld.relative_path
        run.note_withheld(path, withheld.removed, withheld.had)
    # What an incomplete listing has not shown may be new.
    is_incomplete = any(call.unlisted for call in execution.tree.each.values())
    execution.kept_any |= diff.kept_any or is_incomplete

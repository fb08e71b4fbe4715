"""The submit phase of a build: pre-commit, sinks, commit, sweep, memo."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TYPE_CHECKING

from cocoindex.engine import rows
from cocoindex.engine.declarations import NO_DECLARATIONS
from cocoindex.engine.ending import Ready, note_failure
from cocoindex.engine.faults import AFTER_MEMO, BEFORE_MEMO, BEFORE_PRECOMMIT, FaultPoint, reach
from cocoindex.engine.leftovers import Undecided, delete_kept
from cocoindex.engine.planner import plan
from cocoindex.engine.protocol import Applying, begin_now, carry_out, prepare, settle
from cocoindex.engine.run import EXECUTED
from cocoindex.engine.stats import ADDS, REPROCESSES
from cocoindex.engine.sweep import sweep
from cocoindex.engine.takeover import MustWait
from cocoindex.engine.tree import Guard, removal_rows

if TYPE_CHECKING:
    from contextvars import Context

    from cocoindex.engine.ending import Then
    from cocoindex.engine.entry import Entry
    from cocoindex.engine.execution import Execution
    from cocoindex.engine.submission import Submission
    from cocoindex.state.base import Batch

MOST_KEYS_AHEAD = 1024
"""Of one component: more are no faster to read together with those of others."""

WritableBatch = list[tuple[bytes, bytes | None]]


class Submit:
    """One component that has run, on its way to targets in step with what it declared.

    :meth:`apply` is followed by :meth:`finish`. If it :attr:`needs_no_task`, it can be
    :meth:`put_off` instead.
    """

    __slots__ = (
        "_at_once",
        "_execution",
        "_has_below",
        "_has_containers",
        "_is_known",
        "_memo",
        "_state_rows",
        "_submission",
        "_then",
    )

    def __init__(self, execution: Execution, memo: bytes | None) -> None:
        self._execution = execution
        self._memo = memo
        """The row of its memo, written once everything else has succeeded."""
        state = execution.user_state
        self._state_rows: Batch = () if state is None else state.commit_rows()
        self._has_containers = execution.declarations.has_containers
        self._has_below = execution.has_below
        self._is_known = False
        """Whether :meth:`rows_to_read` has told all of them."""

    @property
    def needs_no_task(self) -> bool:
        """Whether nothing has to be awaited but the sinks."""
        return not (self._has_below or self._has_containers)

    async def apply(self) -> None:
        """Bring the target states in step."""
        execution = self._execution
        self._keep(await prepare(self._plan, where=execution))
        await carry_out(execution.run, self._submission, self.commit, where=execution)

    # --- with nobody waiting -------------------------------------------------------------------

    def put_off(self, then: Then, context: Context | None = None) -> None:
        """Do all of it from the end of this turn on, in ``context`` or a copy of the current one;
        ``then`` hears how it ended.

        Raises:
            asyncio.CancelledError: the run is being cancelled.
        """
        self._then = then
        self._execution.run.turn.put_off(self, context)

    def rows_to_read(self) -> Sequence[bytes]:
        """The owner rows that the plan asks the store for, if these are known, and not too many."""
        execution = self._execution
        declared = execution.declarations
        self._is_known = execution.place.is_fresh and len(declared) <= MOST_KEYS_AHEAD
        return declared.owner_keys() if self._is_known else ()

    def __call__(self, taken: set[bytes] | None) -> None:
        run = self._execution.run
        try:
            run.check_not_cancelled()
            applying = self._begin(taken)
        except MustWait:
            run.lanes.put(Submit._apply_patiently, self)
        except BaseException as error:  # noqa: BLE001 - handed on
            self.applied(error)
        else:
            if applying is None:
                self.applied(None)
            else:
                applying.start()

    def _begin(self, taken: set[bytes] | None) -> Applying | None:
        execution = self._execution
        reach(BEFORE_PRECOMMIT, execution)
        self._keep(self._plan(taken if self._is_known else None))
        if taken is not None and not self._is_known:
            taken.update(key for key, _ in self._submission.extra_rows or ())
        return begin_now(execution.run, self._submission, self, where=execution)

    async def _apply_patiently(self, _: object) -> None:
        try:
            await self.apply()
        except BaseException as error:  # noqa: BLE001 - handed on
            self.applied(error)
        else:
            self.applied(None)

    def applied(self, error: BaseException | None) -> None:
        """The sinks have answered, and all is committed; or it has failed."""
        ready: Ready | None = None
        if error is None:
            try:
                self._note_kept()
                self._note_end()
                ready = Ready.of(self._execution, None)
            except BaseException as raised:  # noqa: BLE001 - handed on
                error = raised
        if error is not None:
            note_failure(self._execution, error, counted=True)
        self._then(self._execution, ready, error)

    # --- parts ---------------------------------------------------------------------------------

    def _keep(self, submission: Submission) -> None:
        execution = self._execution
        self._submission = submission
        execution.declarations = NO_DECLARATIONS  # while others wait, what actions need is enough
        execution.run.mark_decided(execution.id, EXECUTED)
        # Nothing comes between the commit and the memo of a leaf: one batch for both.
        self._at_once = not (self._has_below or submission.kept)

    def _plan(self, taken: AbstractSet[bytes] | None = None) -> Submission:
        execution = self._execution
        contained = set() if execution.memos is None else execution.memos.contained()
        declared = execution.declarations
        entry = execution.take_entry()
        submission = plan(execution.run, entry, declared, contained, mode="build", taken=taken)
        if execution.needs_birth_row:
            place = execution.place
            key = rows.existence_key(place.parent_id, place.key)
            submission.add_rows([(key, place.node.encode())])
        return submission

    async def finish(self) -> None:
        """Do what comes after the sinks."""
        execution, run = self._execution, self._execution.run
        kept = self._submission.kept
        if kept and self._has_containers:
            # The component's own containers were pending in the first plan; they are resolved now.
            load = partial(run.entry_of, execution.id)
            self._submission.kept = (await delete_kept(run, load, kept, where=execution)).kept
        self._note_kept()
        if self._has_below:
            reach(FaultPoint.BEFORE_SWEEP, execution)
            await sweep(run, execution.id, execution.path, execution)
            reach(FaultPoint.AFTER_SWEEP, execution)
        self._note_end()
        if run.has_much_pending():
            await run.app.section.flushed()

    def _note_kept(self) -> None:
        execution, kept = self._execution, self._submission.kept
        if kept:
            execution.run.undecided[execution.id] = Undecided.of(execution, kept)
            execution.waits = True
        if self._submission.robbed_memos:
            execution.kept_any = True

    def _note_end(self) -> None:
        execution, memo = self._execution, self._memo
        if memo is not None and not self._at_once and _may_memoize(execution):
            self._store_memo(memo)
        existed = self._submission.entry.existed
        execution.stats.count(execution.name, REPROCESSES if existed else ADDS)

    def _store_memo(self, memo: bytes) -> None:
        execution, run = self._execution, self._execution.run
        if execution.waits:
            run.held_memos[execution.id] = memo
            return
        reach(BEFORE_MEMO, execution)
        run.app.section.write([(rows.component_memo_key(execution.id), memo)])
        reach(AFTER_MEMO, execution)

    def commit(self) -> None:
        """Write down that the target states are as declared."""
        execution, submission = self._execution, self._submission
        run, entry = execution.run, submission.entry
        batch: WritableBatch = submission.take_rows()
        is_changed = submission.is_changed or not entry.existed or bool(batch)
        batch += settle(submission)
        if execution.memos is not None or entry.has_memos:
            is_changed |= _commit_memos(execution, submission, batch)
        if execution.user_state is not None or entry.has_state:
            is_changed |= _commit_user_state(execution, entry, self._state_rows, batch)
        if not execution.is_leaf:
            _commit_existence(execution, batch)
        is_memoized = execution.function.memo
        if entry.processor != execution.name or entry.is_memoized is not is_memoized:
            entry.processor, entry.is_memoized = execution.name, is_memoized
            is_changed = True
        if is_changed:
            entry.version = submission.version
            batch.append((rows.tracking_key(entry.component_id), entry.encode()))
        memo = self._memo if self._at_once else None
        if memo is not None and not submission.robbed_memos and _may_memoize(execution):
            batch.append((rows.component_memo_key(execution.id), memo))
        if batch:
            run.app.section.write(batch)


def _may_memoize(execution: Execution) -> bool:
    return not (
        execution.subtree_failed
        or execution.kept_any
        or execution.id in execution.run.spoiled
        or execution.run.cancelled_by is not None
    )


# --- commit --------------------------------------------------------------------------------------


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

"""What had to wait for the rest of the run: undeclared items and deletions left open.

A component that does not declare an item any more can't always tell what to do with it: the
item's container may be declared, moved or deleted by a component that has not come to it yet.
At the end of the run that is known: items below a container that is live now are deleted by
its handler, items below one that is gone are forgotten, like everything that a container's own
deletion takes down, and what is open even then stays tracked for a later run. Components are
memoized only when nothing of them or below them is open any more.
If a container was not met because its component was reused, the run passes over the tree again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from cocoindex.engine import rows
from cocoindex.engine.absent_providers import ContainerUnavailable, container_row
from cocoindex.engine.exception_handlers import HandlerChain, route_in_run
from cocoindex.engine.faults import AFTER_MEMO, BEFORE_MEMO, reach
from cocoindex.engine.planner import plan_leftovers
from cocoindex.engine.protocol import carry_out, prepare, settle
from cocoindex.engine.stats import ERRORS, StatsGroup
from cocoindex.engine.submission import Kept, Submission
from cocoindex.engine.sweep import Deletion, any_in_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cocoindex.engine.entry import Entry
    from cocoindex.engine.exception_context import ExceptionContext
    from cocoindex.engine.execution import Execution
    from cocoindex.engine.run import Run


class Undecided(NamedTuple):
    """A component that waits for what becomes of a container, and who hears of its failures."""

    component_id: int
    kept: Kept
    context: ExceptionContext
    handlers: HandlerChain | None
    stats: StatsGroup

    @classmethod
    def of(cls, execution: Execution, kept: Kept) -> Undecided:
        context = execution.exception_context()
        return cls(execution.id, kept, context, execution.handlers, execution.stats)

    def __str__(self) -> str:
        return self.context.stable_path

    async def report(self, run: Run, error: Exception) -> None:
        """Its items stay tracked, and a later run tries again."""
        name = self.context.processor_name or ""
        self.stats.count(name, ERRORS)
        run.spoil_memos(self.component_id)
        run.note_failure(str(self), name, error)
        await route_in_run(run, self.handlers, error, self.context)


async def clear_leftovers(run: Run) -> bool:
    """Decide what the run has left open, round by round, as long as a round settles something.

    Returns whether another pass over the tree would settle more: the component of some container
    was reused, and only its execution tells how what is below the container is deleted. Its
    memos are gone then.
    """
    settled = True
    while settled and (run.deferred or run.undecided):
        settled = await _retry_deletions(run)
        settled |= await _retry_items(run)
    _store_held_memos(run)
    reused = {owner for owner in _awaited_owners(run) if run.was_reused(owner)}
    for owner_id in reused:
        run.forget_memos_around(owner_id)
    return bool(reused)


def report_leftovers(run: Run) -> None:
    """Say what stays for a later run, and why."""
    for deletion in run.deferred:
        deletion.give_up()


def _store_held_memos(run: Run) -> None:
    """Memoize the components for which everything is decided."""
    if run.held_memos and run.cancelled_by is None:
        for component_id in run.undecided:
            run.spoil_memos(component_id)
        for deletion in run.deferred:
            run.spoil_memos(deletion.swept_by)
        done = run.held_memos.keys() - run.spoiled
        reach(BEFORE_MEMO, "what had to wait")
        run.app.section.write([(rows.component_memo_key(id_), run.held_memos[id_]) for id_ in done])
        reach(AFTER_MEMO, "what had to wait")
    run.held_memos = {}


def _awaited_owners(run: Run) -> Iterator[int]:
    """Owners of the containers on which the rest depends."""
    for deletion in run.deferred:
        if isinstance(deletion.obstacle, ContainerUnavailable):
            yield deletion.obstacle.owner_id
    for undecided in run.undecided.values():
        for path, _ in undecided.kept:
            raw = container_row(run, rows.provider_keys(path))
            if raw is not None and rows.unpack_id(raw) != undecided.component_id:
                yield rows.unpack_id(raw)


async def _retry_deletions(run: Run) -> bool:
    waiting, run.deferred = run.deferred, []
    return await any_in_chunks(waiting, Deletion.retry)


async def _retry_items(run: Run) -> bool:
    waiting, run.undecided = list(run.undecided.values()), {}
    return await any_in_chunks(waiting, partial(_decide, run))


async def _decide(run: Run, undecided: Undecided) -> bool:
    """Delete what one component has kept; a failure is reported like one of the component."""
    load = partial(run.entry_of, undecided.component_id)
    try:
        submission = await delete_kept(run, load, undecided.kept, where=undecided)
    except (KeyboardInterrupt, SystemExit) as error:  # must not reach the event loop
        run.cancel(error)
        return False
    except Exception as error:  # noqa: BLE001 - of a sink or a handler, for the exception handlers
        await undecided.report(run, error)
        return False
    if submission.kept:
        run.undecided[undecided.component_id] = undecided._replace(kept=submission.kept)
    return submission.is_changed


async def delete_kept(
    run: Run, load: Callable[[], Entry], kept: Kept, *, where: object
) -> Submission:
    """Delete what can be decided by now of the items that a component has kept."""
    submission = await prepare(lambda: plan_leftovers(run, load(), kept), where=where)

    def commit() -> None:
        batch = submission.take_rows()
        batch += settle(submission)
        if submission.is_changed:
            entry = submission.entry
            entry.version = submission.version
            batch.append((rows.tracking_key(entry.component_id), entry.encode()))
        run.app.section.write(batch)

    await carry_out(run, submission, commit, where=where)
    return submission

"""What had to wait for the rest of the run: undeclared items and deletions left open.

A component that does not declare an item any more can't always tell what to do with it: the
item's container may be declared, moved or deleted by a component that has not come to it yet.
At the end of the run that is known: items below a container that is live now are deleted by
its handler, items below one that is gone are forgotten, like everything that a container's own
deletion takes down, and what is open even then stays tracked for a later run.
If a container was not met because its component was reused, the run passes over the tree again.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from cocoindex.engine import rows
from cocoindex.engine.absent_providers import ContainerUnavailable, container_row
from cocoindex.engine.protocol import carry_out, prepare, settle
from cocoindex.engine.submission import Kept, Submission, plan_leftovers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cocoindex.engine.entry import Entry
    from cocoindex.engine.run import Run

CHUNK = 1024
"""Deletions that run at the same time."""


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
    reused = {owner for owner in _awaited_owners(run) if run.was_reused(owner)}
    for owner_id in reused:
        run.forget_memos_around(owner_id)
    return bool(reused)


def report_leftovers(run: Run) -> None:
    """Say what stays for a later run, and why."""
    for deletion in run.deferred:
        deletion.give_up()


def _awaited_owners(run: Run) -> Iterator[int]:
    """Owners of the containers on which the rest depends."""
    for deletion in run.deferred:
        if isinstance(deletion.obstacle, ContainerUnavailable):
            yield deletion.obstacle.owner_id
    for component_id, kept in run.undecided.items():
        for path, _ in kept:
            raw = container_row(run, rows.provider_keys(path))
            if raw is not None and rows.unpack_id(raw) != component_id:
                yield rows.unpack_id(raw)


async def _retry_deletions(run: Run) -> bool:
    waiting, run.deferred = run.deferred, []
    settled = False
    for start in range(0, len(waiting), CHUNK):
        chunk = waiting[start : start + CHUNK]
        settled |= any(await asyncio.gather(*(deletion.retry() for deletion in chunk)))
    return settled


async def _retry_items(run: Run) -> bool:
    waiting, run.undecided = run.undecided, {}
    settled = False
    for component_id, kept in waiting.items():
        load = partial(run.entry_of, component_id)
        submission = await delete_kept(run, load, kept, where=component_id)
        settled |= submission.is_changed
        if submission.kept:
            run.undecided[component_id] = submission.kept
    return settled


async def delete_kept(
    run: Run, load: Callable[[], Entry], kept: Kept, *, where: object
) -> Submission:
    """Delete what can be decided by now of the items that a component has kept."""
    submission = await prepare(lambda: plan_leftovers(run, load(), kept), where=where)

    def commit() -> None:
        batch = [] if submission.has_actions else submission.unwritten_rows()
        batch += settle(submission)
        if submission.is_changed:
            entry = submission.entry
            entry.version = submission.version
            batch.append((rows.tracking_key(entry.component_id), entry.encode()))
        run.app.section.write(batch)

    await carry_out(run, submission, commit, where=where)
    return submission

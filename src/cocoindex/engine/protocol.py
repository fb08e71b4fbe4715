"""The submit protocol that builds and deletions share.

plan -> possible states on disk -> sinks -> settled states. Each boundary is a fault point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cocoindex.engine import rows
from cocoindex.engine.faults import FaultPoint, reach
from cocoindex.engine.submission import InFlight, MustWait, Submission

if TYPE_CHECKING:
    from cocoindex.engine.entry import Entry, Group
    from cocoindex.engine.run import Run
    from cocoindex.state.base import Batch


async def prepare(attempt: Callable[[], Submission], *, where: object) -> Submission:
    """Plan until nothing that the plan needs is in the middle of being applied by its owner."""
    while True:
        reach(FaultPoint.BEFORE_PRECOMMIT, where)
        try:
            return attempt()
        except MustWait as wait:
            reach(FaultPoint.WAITING_FOR_OWNER, where)
            await wait.owner.done.wait()


async def carry_out(
    run: Run, submission: Submission, commit: Callable[[], None], *, where: object
) -> None:
    """Write down the possible states, call the sinks, then commit what became true."""
    if run.is_preview:
        for actions in submission.sinks():
            run.planned_actions += actions.actions
            run.sinks.plan(actions)
        if submission.has_actions:  # what is taken over must be gone for its old owner here too
            run.app.section.write(submission.precommit_rows())
        commit()
        return
    if not submission.has_actions:
        commit()
        return
    batch = submission.precommit_rows()
    in_flight = InFlight(submission.entry)
    run.app.in_flight[submission.component_id] = in_flight
    try:
        if batch:
            run.app.section.write(batch)
            reach(FaultPoint.AFTER_PRECOMMIT, where)
            await run.app.section.flushed()
            reach(FaultPoint.PRECOMMIT_DURABLE, where)
        for actions in submission.sinks():
            reach(FaultPoint.BEFORE_SINK, where)
            await run.sinks.apply(actions, run.app.section.check_lease, run.stats)
            reach(FaultPoint.AFTER_SINK, where)
        reach(FaultPoint.BEFORE_COMMIT, where)
        commit()
        reach(FaultPoint.AFTER_COMMIT, where)
    finally:
        del run.app.in_flight[submission.component_id]
        in_flight.done.set()


def settle(submission: Submission) -> Batch:
    """Give touched items their final states; the rows that release what is tracked no more."""
    entry = submission.entry
    batch: list[tuple[bytes, bytes | None]] = []
    for group, item, states, schema_version in submission.final:
        if group.items.get(item.key) is not item:
            continue  # taken over by another component meanwhile
        if states:
            item.states = states
            item.schema_version = schema_version
            continue
        del group.items[item.key]
        path = group.path_of(item.key)
        if not any(item.key in other.items for other in _others(entry, group)):
            batch.append((rows.owner_key(path), None))
    return batch


def _others(entry: Entry, group: Group) -> Iterator[Group]:
    """Groups of other generations of the same provider: they may hold the same path."""
    if len(entry.groups) > 1:
        yield from (g for g in entry.groups.values() if g is not group and g.path == group.path)

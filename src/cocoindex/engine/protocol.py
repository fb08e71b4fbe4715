"""The submit protocol that builds and deletions share.

plan -> possible states on disk -> sinks -> settled states. Each boundary is a fault point.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Literal

from cocoindex.engine import rows
from cocoindex.engine.faults import FaultPoint, reach
from cocoindex.engine.submission import InFlight, MustWait, Submission, plan

if TYPE_CHECKING:
    from cocoindex.engine.entry import Entry
    from cocoindex.engine.execution import Declaration
    from cocoindex.engine.run import Run
    from cocoindex.state.base import Batch


async def prepare(
    run: Run,
    load: Callable[[], Entry],
    declarations: Collection[Declaration],
    contained: set[bytes],
    *,
    mode: Literal["build", "delete"],
    where: object,
) -> Submission:
    """Plan until no claimed item is in the middle of being applied by its owner."""
    while True:
        reach(FaultPoint.BEFORE_PRECOMMIT, where)
        try:
            return plan(run, load(), declarations, contained, mode=mode)
        except MustWait as wait:
            await wait.owner.done.wait()


async def carry_out(
    run: Run, submission: Submission, commit: Callable[[], None], *, where: object
) -> None:
    """Write down the possible states, call the sinks, then commit what became true."""
    if run.is_preview:
        for actions in submission.sinks():
            run.planned_actions += actions.actions
            run.sinks.plan(actions)
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
            await run.sinks.apply(actions)
            reach(FaultPoint.AFTER_SINK, where)
        reach(FaultPoint.BEFORE_COMMIT, where)
        commit()
        reach(FaultPoint.AFTER_COMMIT, where)
    finally:
        del run.app.in_flight[submission.component_id]
        in_flight.done.set()


def settle(run: Run, submission: Submission) -> Batch:
    """Give touched items their final states; the rows that release what is tracked no more."""
    entry = submission.entry
    gone: list[bytes] = []
    for (group_key, item_key), states in submission.final.items():
        group = entry.groups.get(group_key)
        item = None if group is None else group.items.get(item_key)
        if group is None or item is None:
            continue  # taken over by another component meanwhile
        if states:
            item.states = states
        else:
            del group.items[item_key]
            gone.append(group.path_of(item_key))
    me = rows.pack_id(entry.component_id)
    return [
        (rows.owner_key(path), None)
        for path in gone
        if not any(entry.at(path)) and run.app.section.get(rows.owner_key(path)) == me
    ]

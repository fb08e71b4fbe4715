"""The submit protocol that builds and deletions share.

plan -> possible states on disk -> sinks -> settled states. Each boundary is a fault point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cocoindex.core.keys import key_segment
from cocoindex.engine import rows
from cocoindex.engine.faults import FaultPoint, reach
from cocoindex.engine.sinks import resolve_children
from cocoindex.engine.submission import InFlight, Submission
from cocoindex.engine.takeover import MustWait

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
            await wait.owner.ended()


async def carry_out(
    run: Run, submission: Submission, commit: Callable[[], None], *, where: object
) -> None:
    """Write down the possible states, call the sinks, then commit what became true."""
    if run.is_preview:
        for actions in submission.sinks():
            run.planned_actions += actions.actions
            run.sinks.plan(actions)
    if run.is_preview or not submission.has_actions:
        commit()
        return
    section = run.app.section
    in_flight = run.app.in_flight[submission.component_id] = InFlight(submission.entry)
    try:
        _precommit(run, submission, where)
        if run.has_much_pending():
            await section.flushed()
        for actions in submission.sinks():
            children = await run.sinks.apply(actions, section, run.stats, where)
            resolve_children(actions, children)
            reach(FaultPoint.AFTER_SINK, where)
        reach(FaultPoint.BEFORE_COMMIT, where)
        commit()
        reach(FaultPoint.AFTER_COMMIT, where)
    finally:
        del run.app.in_flight[submission.component_id]
        in_flight.end()


def _precommit(run: Run, submission: Submission, where: object) -> None:
    batch = submission.precommit_rows()
    if batch:
        run.app.section.write(batch)
        reach(FaultPoint.AFTER_PRECOMMIT, where)


def settle(submission: Submission) -> Batch:
    """Give touched items their final states; the rows that release what is tracked no more."""
    entry = submission.entry
    for group in entry.groups.values():
        group.arrive()
    for group, item, states, schema_version in submission.final:
        if group.others.get(item.key) is item:  # else taken over by another component meanwhile
            item.states = states
            item.schema_version = schema_version
            group.put(item)
    batch: list[tuple[bytes, bytes | None]] = []
    for group, keys in submission.gone:
        prefix, others = rows.owner_key(group.target_path), _of_same_path(entry, group)
        batch += [
            (prefix + key_segment(key), None)
            for key in keys
            if group.remove(key) and not (others and any(key in other for other in others))
        ]
    return batch


def _of_same_path(entry: Entry, group: Group) -> list[Group]:
    """Groups of other generations of the same provider: they may hold the same path."""
    if len(entry.groups) == 1:
        return []
    return [g for g in entry.groups.values() if g is not group and g.path == group.path]

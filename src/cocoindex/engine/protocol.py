"""The submit protocol that builds and deletions share.

plan -> possible states on disk -> sinks -> settled states. Each boundary is a fault point.

Thousands of components wait for their sinks at a time. So what waits is no coroutine, but an
:class:`Applying`, which a sink calls back; whoever has nothing else to do may await it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from cocoindex.core.keys import key_segment
from cocoindex.engine import rows
from cocoindex.engine.faults import (
    AFTER_COMMIT,
    AFTER_PRECOMMIT,
    AFTER_SINK,
    BEFORE_COMMIT,
    BEFORE_PRECOMMIT,
    FaultPoint,
    reach,
)
from cocoindex.engine.sinks import Children, resolve_children
from cocoindex.engine.submission import SinkActions, Submission
from cocoindex.engine.takeover import MustWait

if TYPE_CHECKING:
    from cocoindex.engine.entry import Entry, Group
    from cocoindex.engine.run import Run
    from cocoindex.state.base import Batch


class Submitter(Protocol):
    """Whoever has target states brought in step."""

    def commit(self) -> None:
        """Write down that what might be true is true."""

    def applied(self, error: BaseException | None) -> None:
        """Hears once how it ended: ``None``, the failure, or ``CancelledError``."""


class _Awaiting:
    """A submitter that awaits the end."""

    __slots__ = ("commit", "ended")

    def __init__(self, commit: Callable[[], None]) -> None:
        self.commit = commit
        self.ended = asyncio.get_running_loop().create_future()

    def applied(self, error: BaseException | None) -> None:
        tell(self.ended, error)


async def prepare(attempt: Callable[[], Submission], *, where: object) -> Submission:
    """Plan until nothing that the plan needs is in the middle of being applied by its owner."""
    while True:
        reach(BEFORE_PRECOMMIT, where)
        try:
            return attempt()
        except MustWait as wait:
            reach(FaultPoint.WAITING_FOR_OWNER, where)
            await wait.owner.ended()


async def carry_out(
    run: Run, submission: Submission, commit: Callable[[], None], *, where: object
) -> None:
    """Write down the possible states, call the sinks, then commit what became true."""
    submitter = _Awaiting(commit)
    applying = begin_now(run, submission, submitter, where=where)
    if applying is None:
        return
    if run.has_much_pending():
        try:
            await run.app.section.flushed()
        except BaseException:
            applying.end()
            raise
    applying.start()
    try:
        await submitter.ended
    except asyncio.CancelledError:
        applying.cancel()
        raise


def begin_now(
    run: Run, submission: Submission, submitter: Submitter, *, where: object
) -> Applying | None:
    """Write down the possible states; what is to be applied now.

    Without actions, and in a preview, there is nothing to wait for, and all is committed.
    """
    if run.is_preview:
        for actions in submission.sinks():
            run.planned_actions += actions.actions
            run.sinks.plan(actions)
    if run.is_preview or not submission.has_actions:
        submitter.commit()
        return None
    applying = Applying(run, submission, submitter, where)
    run.app.in_flight[submission.component_id] = applying
    try:
        _precommit(run, submission, where)
    except BaseException:
        applying.end()
        raise
    return applying


def _precommit(run: Run, submission: Submission, where: object) -> None:
    batch = submission.precommit_rows()
    if batch:
        run.app.section.write(batch)
        reach(AFTER_PRECOMMIT, where)


class Applying(msgspec.Struct, eq=False):
    """A submission between pre-commit and commit; claimants of its unsettled items wait."""

    run: Run
    _submission: Submission
    _submitter: Submitter
    _where: object
    _sinks: Sequence[SinkActions] = ()
    _answers: int = 0
    """How many of the sinks have succeeded."""
    is_waiting: bool = False
    _ended: asyncio.Event | None = None
    """Made by the first who waits: hardly anybody does."""

    @property
    def entry(self) -> Entry:
        return self._submission.entry

    def start(self) -> None:
        """Call the sinks, one after the other, and commit; then tell the submitter."""
        self.is_waiting = True
        try:
            self._sinks = self._submission.sinks()
            self._call_next()
        except BaseException as error:  # noqa: BLE001 - comparing sinks calls user code
            self._finish(error)

    def cancel(self) -> None:
        """Don't wait for the sinks any more. What they do may still happen."""
        if self.is_waiting:
            self._finish(asyncio.CancelledError())

    def _call_next(self) -> None:
        run, actions = self.run, self._sinks[self._answers]
        run.sinks.apply(actions, run.app.section, run.stats, self._where, self)

    def answered(self, children: Children | None, error: BaseException | None) -> None:
        """A sink has succeeded or failed."""
        if error is None:
            try:
                resolve_children(self._sinks[self._answers], children)
                self._answers += 1
                reach(AFTER_SINK, self._where)
                if self._answers < len(self._sinks):
                    self._call_next()
                    return
                reach(BEFORE_COMMIT, self._where)
                self._submitter.commit()
                reach(AFTER_COMMIT, self._where)
            except BaseException as raised:  # noqa: BLE001 - told to whom it concerns
                error = raised
        self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        self.end()
        self.is_waiting = False
        self._submitter.applied(error)

    def end(self) -> None:
        """Let claimants go on."""
        self.run.app.in_flight.pop(self._submission.component_id, None)
        if self._ended is not None:
            self._ended.set()

    async def ended(self) -> None:
        """Wait until the component has committed, or failed."""
        if self._ended is None:
            self._ended = asyncio.Event()
        await self._ended.wait()


def tell(future: asyncio.Future[None], error: BaseException | None) -> None:
    """Let whoever awaits ``future`` know how it ended."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    elif isinstance(error, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(error)


def settle(submission: Submission) -> Batch:
    """Give touched items their final states; the rows that release what is tracked no more."""
    entry = submission.entry
    for group in entry.groups.values():
        group.arrive()
    for group, item, states, schema_version in submission.final or ():
        if group.others.get(item.key) is item:  # else taken over by another component meanwhile
            item.states = states
            item.schema_version = schema_version
            group.put(item)
    batch: list[tuple[bytes, bytes | None]] = []
    for group, keys in submission.gone or ():
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

"""Counters of what a run did, by processor and by target, and who watches them."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import threading
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final, Generic, NamedTuple, TypeVar

R = TypeVar("R")


class ComponentStats(NamedTuple):
    """How many executions of one processor did what."""

    num_execution_starts: int = 0
    num_unchanged: int = 0
    num_adds: int = 0
    num_deletes: int = 0
    num_reprocesses: int = 0
    num_errors: int = 0

    @property
    def num_processed(self) -> int:
        return self.num_unchanged + self.num_adds + self.num_deletes + self.num_reprocesses

    @property
    def num_finished(self) -> int:
        return self.num_processed + self.num_errors

    @property
    def num_in_progress(self) -> int:
        return max(0, self.num_execution_starts - self.num_finished)

    @property
    def num_errored(self) -> int:
        return self.num_errors


class TargetStats(NamedTuple):
    """What sinks did to one target, as they report it.

    Attributes:
        rows_upserted: rows, points or files that were written.
        rows_deleted: the same, removed.
        bytes: how much data was sent, about.
        statements: requests that carried it.
        retries: attempts that failed for a passing reason.
        seconds: how long it took.
    """

    rows_upserted: int = 0
    rows_deleted: int = 0
    bytes: int = 0
    statements: int = 0
    retries: int = 0
    seconds: float = 0.0


class UpdateStats(NamedTuple):
    """A consistent snapshot of all counters of one operation."""

    by_component: dict[str, ComponentStats]
    by_target: Mapping[str, TargetStats] = MappingProxyType({})

    @property
    def total(self) -> ComponentStats:
        """The sum over all processors."""
        rows = self.by_component.values()
        return ComponentStats(*(sum(column) for column in zip(*rows, strict=True)))


class UpdateStatus(StrEnum):
    """Whether the root component is ready."""

    RUNNING = "running"
    READY = "ready"


class UpdateSnapshot(NamedTuple, Generic[R]):
    """One element of ``watch()``; ``result`` is set in the last one only."""

    stats: UpdateStats | None
    status: UpdateStatus
    result: R | None = None


class Counter(IntEnum):
    """Columns of :class:`ComponentStats`."""

    STARTS = 0
    UNCHANGED = 1
    ADDS = 2
    DELETES = 3
    REPROCESSES = 4
    ERRORS = 5


# Before Python 3.12, a member is looked up ten times as fast in a module as in its class.
STARTS: Final = Counter.STARTS
ADDS: Final = Counter.ADDS
DELETES: Final = Counter.DELETES
REPROCESSES: Final = Counter.REPROCESSES
ERRORS: Final = Counter.ERRORS
_UNCHANGED: Final = Counter.UNCHANGED


class StatsGroup:
    """Counters of one operation or ``stats_group``. Belongs to the environment's loop."""

    def __init__(self, title: str | None = None) -> None:
        self.title = title
        self.status = UpdateStatus.RUNNING
        self.terminated = False
        self._rows: dict[str, list[int]] = {}
        self._targets: dict[str, TargetStats] = {}
        self._targets_lock = threading.Lock()  # synchronous sinks run on threads
        self._changes = 0
        self._watchers: set[_Watcher] = set()
        self._members = 0
        self._is_closed = False

    def count(self, processor: str, counter: Counter, times: int = 1) -> None:
        row = self._rows.get(processor) or self._row(processor)
        row[counter] += times
        self._changes += 1
        if self._watchers:
            self._wake()

    def _row(self, processor: str) -> list[int]:
        row = self._rows.get(processor)
        if row is None:
            row = self._rows[processor] = [0] * len(Counter)
        return row

    def count_reused(self, processor: str) -> None:
        """An execution that has started, and found nothing to do."""
        row = self._rows.get(processor) or self._row(processor)
        row[STARTS] += 1
        row[_UNCHANGED] += 1
        self._changes += 1
        if self._watchers:
            self._wake()

    def count_target(self, name: str, done: TargetStats) -> None:
        """What a sink reports; from any thread."""
        with self._targets_lock:
            known = self._targets.get(name, TargetStats())
            self._targets[name] = TargetStats(*map(operator.add, known, done))
        self._changed()

    def finish_cancelled(self, processor: str) -> None:
        """A cancelled execution counts nowhere, but it is not in progress any more."""
        row = self._rows.get(processor)
        if row is not None and row[Counter.STARTS]:
            row[Counter.STARTS] -= 1
            self._changed()

    def member_started(self) -> None:
        self._members += 1

    def member_finished(self) -> None:
        self._members -= 1
        if self._is_closed:
            self._end_if_done()

    def close(self) -> None:
        """Nothing more will be mounted into this group; it ends with its last member."""
        self._is_closed = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._is_closed and self._members == 0 and not self.terminated:
            self.set_ready()
            self.terminate()

    def set_ready(self) -> None:
        self.status = UpdateStatus.READY
        self._changed()

    def terminate(self) -> None:
        self.terminated = True
        self._changed()

    def snapshot(self) -> UpdateStats | None:
        if not self._rows:
            return None
        rows = {name: ComponentStats(*row) for name, row in list(self._rows.items())}
        return UpdateStats(rows, dict(self._targets))

    def _changed(self) -> None:
        self._changes += 1
        if self._watchers:
            self._wake()

    def _wake(self) -> None:
        for watcher in tuple(self._watchers):  # one on another loop may leave meanwhile
            watcher.wake()

    async def changes(self) -> AsyncIterator[UpdateSnapshot[None]]:
        """Snapshots, coalesced while the consumer is busy, until the group has terminated."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            seen = -1
            while not self.terminated:
                if self._changes == seen:
                    await watcher.wait()
                seen = self._changes
                if not self.terminated:
                    yield UpdateSnapshot(self.snapshot(), self.status)
        finally:
            self._watchers.discard(watcher)


reporting_to: ContextVar[StatsGroup | None] = ContextVar("reporting_to", default=None)
"""Whose counters the sink call of this context belongs to."""


def report_target_stats(
    name: str,
    *,
    rows_upserted: int = 0,
    rows_deleted: int = 0,
    bytes: int = 0,
    statements: int = 0,
    retries: int = 0,
    seconds: float = 0.0,
) -> None:
    """Add to what progress displays and ``UpdateStats.by_target`` tell about a target.

    For sinks. If a call carries actions of several updates that run at once, it counts for one
    of them. Outside of a sink call it does nothing.

    Args:
        name: of the target, as users know it (``"postgres table kb.docs"``).
        rows_upserted: rows written since the last report, and so on.
        rows_deleted: see :class:`TargetStats`.
        bytes: see :class:`TargetStats`.
        statements: see :class:`TargetStats`.
        retries: see :class:`TargetStats`.
        seconds: see :class:`TargetStats`.
    """
    group = reporting_to.get()
    if group is not None:
        done = TargetStats(rows_upserted, rows_deleted, bytes, statements, retries, seconds)
        group.count_target(name, done)


class _Watcher:
    """Wakes one consumer, which may live on another loop than the run."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._woken = False

    def wake(self) -> None:
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the consumer's loop is closed
                self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        await self._event.wait()
        self._event.clear()
        self._woken = False

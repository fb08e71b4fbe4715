"""Statistics groups: a title over the components mounted in a block."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

from cocoindex.engine.scope import current_scope, entered
from cocoindex.engine.stats import StatsGroup, UpdateSnapshot, UpdateStats, UpdateStatus
from cocoindex.errors import UsageValueError


class StatsGroupHandle:
    """The counters of one ``stats_group`` block."""

    def __init__(self, group: StatsGroup) -> None:
        self._group = group

    def stats(self) -> UpdateStats | None:
        """The latest counters; None if nothing was counted."""
        return self._group.snapshot()

    async def watch(self) -> AsyncIterator[UpdateSnapshot[None]]:
        """Snapshots on every change (coalesced); the last one is READY."""
        async for snapshot in self._group.changes():
            yield snapshot
        yield UpdateSnapshot(self.stats(), UpdateStatus.READY)


@contextlib.contextmanager
def stats_group(
    title: str, *, report_to_stdout: bool | timedelta = False
) -> Iterator[StatsGroupHandle]:
    """Count everything mounted in this block (and below it) apart, under ``title``.

    Args:
        title: shown in progress reports.
        report_to_stdout: show the group's progress (an interval, or True for every second).
    """
    if isinstance(report_to_stdout, timedelta) and report_to_stdout <= timedelta(0):
        raise UsageValueError("report_to_stdout needs a positive duration")
    scope = current_scope()
    group = StatsGroup(title)
    handle = StatsGroupHandle(group)
    if report_to_stdout:
        interval = report_to_stdout if isinstance(report_to_stdout, timedelta) else None
        scope.execution.run.spawn(_show(handle, title, interval))
    try:
        with entered(scope.derive(stats=group)):
            yield handle
    finally:
        group.close()


async def _show(handle: StatsGroupHandle, title: str, interval: timedelta | None) -> None:
    from cocoindex.display.progress import display

    with contextlib.suppress(asyncio.CancelledError):
        await display(handle, title=title, refresh_interval=interval)

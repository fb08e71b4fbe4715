"""Mistakes about tasks and counters."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

from cocoindex.engine import app_state, lanes
from cocoindex.engine import run as runs
from histories.mutants.mutant import mutant


@mutant("cancels tasks that have not begun, and forgets what they were to do")
def cancel_unstarted():
    def start_task(self, coro):
        task = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    return [
        patch.object(runs.Run, "start_task", start_task),
        patch.object(lanes.Lanes, "_has_ended", lambda self, lane: None),
    ]


@mutant("goes on counting from a reservation that was lost")
def lost_reservation():
    original = app_state.Counter.next

    def next_id(self):
        self._failures = self._section.failures
        return original(self)

    return [
        patch.object(app_state.Counter, "next", next_id),
        patch.object(app_state.Counter, "refresh", lambda self: None),
    ]
